"""The plain tables below the figures: the same numbers, for readers without a script and for copying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from syndicate.cli.render.quantities import duration_text
from syndicate.cli.report.logs import shortened
from syndicate.cli.report.numbers import QUANTILES, recoveries, rows
from syndicate.cli.report.run import FaultLine, Run
from syndicate.cli.report.windows import Window

_MOST_LOG_ROWS = 400
_MOST_ROWS = 600


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column."""

    word: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One value; ``shape`` is ``number``, ``number none`` for one that asks for attention, or empty."""

    text: str
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page."""

    name: str
    title: str
    note: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False


def tables(run: Run, found: Sequence[Window]) -> list[Table]:
    """Those that the run has something for."""
    made = []
    if run.recording is not None:
        made.append(_quantiles(run, found))
        if found:
            made.append(_recoveries(run, found))
    if run.verdict.metrics:
        made.append(_metrics(run))
    if len(run.verdict.clients) > 1:
        made.append(_clients(run))
    if run.lanes:
        made.append(_tasks(run))
    if run.faults:
        made.append(_ledger(run))
    if run.logs.lines:
        made.append(_lines(run))
    return [_bounded(table) for table in made]


def _bounded(table: Table) -> Table:
    """The table with at most so many rows, and a word about the others."""
    left = len(table.rows) - _MOST_ROWS
    if left <= 0:
        return table
    note = f"{table.note} The last {left:,} rows are left out.".strip()
    return replace(table, rows=table.rows[:_MOST_ROWS], note=note)


def number(text: str) -> Cell:
    """A cell that is aligned at its end."""
    return Cell(text, "number")


def _count(value: int, needed: bool = False) -> Cell:
    return Cell(f"{value:,}", "number none" if needed and not value else "number")


def _quantiles(run: Run, found: Sequence[Window]) -> Table:
    names = {0.5: "median", 1.0: "slowest"}
    heads = [Head("kind"), Head("when"), *(Head(word, True) for word in ("ok", "fail", "unknown"))]
    heads += [Head(names.get(share, f"{share:g}"), True) for share in QUANTILES]
    told = []
    for row in rows(run.recording.operations if run.recording else (), found):
        latencies = [number(duration_text(value)) for value in row.latencies_s]
        told.append(
            (
                Cell(row.kind),
                Cell(row.where),
                _count(row.ok, needed=bool(row.fail + row.info)),
                _count(row.fail),
                _count(row.info),
                *(latencies or [number("–")] * len(QUANTILES)),
            )
        )
    note = (
        "Latencies of successes. An operation is in a fault if it was open in one; at an edge where the"
        " clocks cannot tell."
    )
    return Table("latency", "Latency in and out of faults", note, tuple(heads), tuple(told))


def _recoveries(run: Run, found: Sequence[Window]) -> Table:
    heads = (
        Head("fault"),
        Head("kind"),
        Head("ok in it", True),
        Head("fail", True),
        Head("unknown", True),
        Head("recovered after", True),
    )
    told = []
    for one in recoveries(run.recording.operations if run.recording else (), found):
        ok, fail, info = one.inside
        if one.after_s is not None:
            after = number(duration_text(one.after_s))
        else:
            after = Cell("no success" if one.window.healed else "not healed", "number none")
        name = f"{one.window.number}  {one.window.name}"
        told.append(
            (Cell(name, "text"), Cell(one.kind), _count(ok, needed=True), _count(fail), _count(info), after)
        )
    note = "From the heal to the end of the first success after it. Other faults may have been in force then."
    return Table("recovery", "Recovery after each fault", note, heads, tuple(told), folded=len(told) > 40)


def _metrics(run: Run) -> Table:
    told = tuple((Cell(name), number(f"{value:,.10g}")) for name, value in run.verdict.metrics)
    return Table("metrics", "Metrics", "", (Head("name"), Head("value", True)), told, folded=len(told) > 20)


def _clients(run: Run) -> Table:
    told = tuple(
        (
            Cell(said.task),
            Cell(said.outcome or "said nothing"),
            number("" if said.score is None else f"{said.score:g}"),
            Cell(shortened(said.text[0]) if said.text else "", "text"),
        )
        for said in run.verdict.clients
    )
    heads = (Head("client"), Head("outcome"), Head("score", True), Head("what it said"))
    return Table("clients", "Clients", "", heads, told, folded=len(told) > 20)


def _tasks(run: Run) -> Table:
    told = tuple(
        (
            Cell(lane.task),
            Cell(lane.address),
            Cell(lane.volunteer),
            number(str(time.generation)),
            number(f"{time.start_s:.3f} s"),
            number("" if time.end_s is None else f"{time.end_s:.3f} s"),
            Cell(time.ending),
        )
        for lane in run.lanes
        for time in lane.times
    )
    heads = ("task", "address", "volunteer", "generation", "started", "ended", "how")
    numbers = ("generation", "started", "ended")
    columns = tuple(Head(word, word in numbers) for word in heads)
    return Table("tasks", "Tasks", "", columns, told, folded=True)


def _ledger(run: Run) -> Table:
    told = tuple(
        (
            number(str(fault.fault_id)),
            Cell(fault.text, "text"),
            Cell(fault.by),
            _held(fault),
            number(duration_text(fault.duration_s) if fault.duration_s else ""),
            number("" if fault.healed_s is None else f"{fault.healed_s:.3f} s"),
            Cell(fault.healed_by),
        )
        for fault in run.faults
    )
    heads = ("line", "fault", "asked by", "held from", "applied in", "healed", "healed by")
    numbers = ("line", "held from", "applied in", "healed")
    columns = tuple(Head(word, word in numbers) for word in heads)
    return Table("ledger", "Ledger of faults", "", columns, told, folded=len(told) > 12)


def _held(fault: FaultLine) -> Cell:
    if fault.failure:
        return Cell(f"failed: {fault.failure}", "text")
    if fault.applied_s is None:
        return Cell("never", "number")
    error = f" ± {fault.error_s * 1e3:.1f} ms" if fault.error_s else ""
    return number(f"{fault.applied_s:.3f} s{error}")


def _lines(run: Run) -> Table:
    """Faults among the lines of output."""
    every = [(line.at_s, line.task, line.text) for line in run.logs.lines]
    step = -(-len(every) // _MOST_LOG_ROWS)
    shown = every[::step]
    shown += [(fault.applied_s, "*", fault.text) for fault in run.faults if fault.applied_s is not None]
    shown.sort(key=lambda one: one[0])
    left = run.logs.left_out + len(every) - len(every[::step])
    note = f"{left:,} lines are left out, evenly: syndicatectl logs {run.job_id}" if left else ""
    told = tuple((number(f"{at:.3f} s"), Cell(task), Cell(text, "text")) for at, task, text in shown)
    heads = (Head("at", True), Head("task"), Head("line"))
    return Table("log", "Output and faults", note, heads, told, folded=True)
