"""Numbers and ends in words, for the lines that people read."""

from __future__ import annotations

from dataclasses import replace

from .model import Annotation, Reason, TaskExit

_MET = {
    Annotation.DISK_FULL: "its disk was full",
    Annotation.PIDS_LIMIT: "it was denied processes",
    Annotation.LOG_LIMIT: "the middle of its output was dropped",
}


def count(number: int, noun: str) -> str:
    """`1 slot`, `2 slots`, `1,200 slots`."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def size(number: int) -> str:
    """`512 MiB`, `1.5 GiB`, `1,000,000 bytes`: never rounded, since these are bounds."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit and number * 10 % unit == 0:
            return f"{number / unit:,.10g} {name}"
    return count(number, "byte")


def duration(ns: int) -> str:
    """`0.9 ms`, `19 ms`, `3.1 s`, `4 min 10 s`, `2 h 5 min`."""
    if ns < 10_000_000:
        return f"{ns / 1e6:.1f} ms"
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.0f} ms"
    if ns < 60_000_000_000:
        return f"{ns / 1e9:.1f} s"
    # Rounded up: these are bounds ("at most").
    seconds = -(-ns // 1_000_000_000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s" if seconds % 60 else f"{seconds // 60} min"
    minutes = -(-seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def ending(end: TaskExit) -> str:
    """How a task ended: its own line where there is one, else its reason and status; with bounds it met."""
    met = ", ".join(_MET[each] for each in end.annotations)
    return f"{_ending(end)} ({met})" if met else _ending(end)


def unquoted(end: TaskExit) -> TaskExit:
    """The end without what it quotes of the task's own output: what may be told of a client to everybody."""
    return replace(end, detail="") if end.reason is Reason.EXITED_NONZERO else end


def _ending(end: TaskExit) -> str:
    if end.detail:
        return end.detail
    match end.reason:
        case Reason.EXITED_ZERO:
            return "make exited with status 0"
        case Reason.EXITED_NONZERO if end.recipe_status:
            return f"make exited with status {end.exit_status} (the recipe's was {end.recipe_status})"
        case Reason.EXITED_NONZERO:
            return f"make exited with status {end.exit_status}"
        case Reason.SIGNALED:
            return f"make was ended by signal {max(end.exit_status - 128, 0)}"
        case Reason.KILLED_BY_FAULT:
            return "killed by a fault"
        case Reason.STOPPED:
            return "stopped with its job"
        case other:
            return other.name.lower().replace("_", " ")


def first_line(text: str, limit: int = 200) -> str:
    """The first line of a text that may be long, cut to `limit` characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"
