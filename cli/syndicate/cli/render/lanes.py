"""Draws a job's time line: one lane a task, one column a slice of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from syndicate.cli.render.quantities import duration_text, plural
from syndicate.cli.render.timeline import Lane, Suffers, Timeline

_LABEL = 12
_GAP = 3
_MIN_LANE = 24
_MAX_LANE = 60
_MIN_TICK = 10
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs of a lane, one column each."""

    run: str = "━"
    cut: str = "╌"
    paused: str = "░"
    degraded: str = "≈"
    disk_full: str = "▄"
    signal: str = "!"
    kill: str = "╳"
    revive: str = "┏"
    end: str = "▮"
    dash: str = "–"
    more: str = "…"


UNICODE_GLYPHS = Glyphs()
# For an output that cannot carry the others.
ASCII_GLYPHS = Glyphs(
    run="=",
    cut="-",
    paused=":",
    degraded="%",
    disk_full="_",
    kill="X",
    revive="[",
    end="#",
    dash="-",
    more="~",
)


def draw_lanes(line: Timeline, width: int, glyphs: Glyphs = UNICODE_GLYPHS) -> list[str]:
    """The axis, then a lane and its note for each task, fitted into ``width`` columns (80 at least)."""
    width = max(80, width)
    label = max([_LABEL, *(len(lane.task) + 2 for lane in line.lanes)])
    room = width - label - _GAP
    notes = [_note(lane, glyphs, room - _MIN_LANE) for lane in line.lanes]
    columns = max(_MIN_LANE, min(_MAX_LANE, room - max([0, *map(len, notes)])))
    drawn = [" " * label + _axis(line.length_s, columns)]
    for lane, note in zip(line.lanes, notes, strict=True):
        cells = _cells(lane, line.length_s, columns, glyphs)
        drawn.append(f"{lane.task:<{label}}{cells}{' ' * _GAP}{note}".rstrip())
    return drawn


def _column(seconds: float, length_s: float, columns: int) -> int:
    return max(0, min(columns - 1, int(seconds / length_s * columns)))


def _cells(lane: Lane, length_s: float, columns: int, glyphs: Glyphs) -> str:
    def at(seconds: float) -> int:
        return _column(seconds, length_s, columns)

    cells = [" "] * columns
    for run in lane.runs:
        last = at(run.end_s) if run.end_s is not None else columns - 1
        for column in range(at(run.start_s), last + 1):
            cells[column] = glyphs.run
    glyph_of = {
        Suffers.DEGRADED: glyphs.degraded,
        Suffers.DISK_FULL: glyphs.disk_full,
        Suffers.CUT: glyphs.cut,
        Suffers.PAUSED: glyphs.paused,
    }
    for span in sorted(lane.spans, key=lambda span: list(Suffers).index(span.what)):
        last = at(span.end_s) if span.end_s is not None else columns - 1
        # The slice in which it healed is a running one again, unless the cut is no longer than that.
        for column in range(at(span.start_s), max(last, at(span.start_s) + 1)):
            if cells[column] != " ":
                cells[column] = glyph_of[span.what]
    for run in lane.runs[1:]:
        cells[at(run.start_s)] = glyphs.revive
    if lane.ended_s is not None:
        cells[at(lane.ended_s)] = glyphs.end
    for seconds, _ in lane.signals:
        cells[at(seconds)] = glyphs.signal
    for seconds in lane.kills_s:
        cells[at(seconds)] = glyphs.kill
    return "".join(cells)


def _note(lane: Lane, glyphs: Glyphs, room: int) -> str:
    """Every fault with its time; only how many, where there is no room for all."""
    events = [(seconds, f"killed {seconds:.2f}") for seconds in lane.kills_s]
    for seconds, kept in lane.revivals:
        events.append((seconds, f"revived {seconds:.2f} ({'disk kept' if kept else 'fresh disk'})"))
    for span in lane.spans:
        end = f"{span.end_s:.2f}" if span.end_s is not None else ""
        by = f" ({span.healed_by})" if span.healed_by and span.healed_by != "job end" else ""
        events.append((span.start_s, f"{span.text} {span.start_s:.2f}{glyphs.dash}{end}{by}"))
    events += [(seconds, f"{text} {seconds:.2f}") for seconds, text in lane.signals]
    events.sort()
    ending = [lane.ending] if lane.ending else []
    full = ", ".join([text for _, text in events] + ending)
    if len(full) <= room:
        return full
    counts = [
        f"{word} {plural(count, 'time')}"
        for word, count in (
            ("killed", len(lane.kills_s)),
            ("revived", len(lane.revivals)),
            *(
                (what.value, sum(span.what is what for span in lane.spans))
                for what in reversed(list(Suffers))
            ),
            ("signalled", len(lane.signals)),
        )
        if count
    ]
    short = ", ".join(counts + ending)
    return short if len(short) <= room else short[: max(0, room - 1)] + glyphs.more


def _axis(length_s: float, columns: int) -> str:
    step, text = _step(length_s, columns)
    axis = ""
    tick = 0
    while True:
        seconds = tick * step
        label = text(seconds)
        column = int(seconds / length_s * columns)
        if column >= columns:  # the last label may reach into the notes' columns: this line has none
            return axis
        axis = axis.ljust(column) + label
        tick += 1


def _step(length_s: float, columns: int) -> tuple[float, Callable[[float], str]]:
    """The finest round step whose ticks stand apart."""
    fine = length_s * _MIN_TICK / columns
    if fine <= 0.5:
        for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
            if step >= fine:
                return step, _fine_tick if step < 0.1 else _tick
    step = next((float(step) for step in _STEPS if step >= fine), 0.0)
    if not step:
        step = 86400.0 * (int(fine // 86400) + 1)
    return step, _tick


def _tick(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else duration_text(seconds)


def _fine_tick(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms"
