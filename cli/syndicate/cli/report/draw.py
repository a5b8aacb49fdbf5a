"""Draws the figures with Bokeh. Imported only when a page is made: it costs half a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CrosshairTool,
    DataRange1d,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    WheelZoomTool,
)
from bokeh.models.annotations.geometry import Span
from bokeh.plotting import figure
from syndicate.cli.report import colours
from syndicate.cli.report.logs import shortened
from syndicate.cli.report.numbers import kinds, latency
from syndicate.cli.report.run import Recording, Run
from syndicate.cli.report.series import (
    MOST_POINTS,
    MOST_ROWS,
    Point,
    bands,
    most_at_once,
    points,
    rates,
    slice_s,
    thinned,
    window_rows,
)
from syndicate.cli.report.windows import Window

_LEFT = 78
_ROW = 20
_LEAST_TEXT_ROW = 13
_MOST_ROWS_PIXELS = 420
_AXES = 78
"""Pixels that a figure needs beside its frame: its tools above, its axis below."""
_LANE = 34
_MOST_NAME = 44
_MOST_LANE_PIXELS = 900
_MOST_WINDOWS = 400
_MOST_MARKS = 2000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure with what the page says around it."""

    name: str
    title: str
    note: str
    legend: tuple[tuple[str, str, str], ...]
    """(shape, colour, word): ``dot``, ``bar``, ``area`` or a sign."""
    figure: figure


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What all figures share."""

    run: Run
    windows: tuple[Window, ...]
    x_range: Range1d
    cursor: Span

    def figure(self, name: str, label: str, height: int, **more: Any) -> figure:
        """An empty one on the common time line."""
        made = figure(
            name=name,
            height=height,
            sizing_mode="stretch_width",
            x_range=self.x_range,
            x_axis_label="seconds since the start",
            y_axis_label=label,
            toolbar_location="above",
            tools=[],
            min_border_left=_LEFT,
            min_border_right=14,
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=None,
            lod_threshold=None,
            **more,
        )
        pan = PanTool(dimensions="width")
        made.add_tools(
            pan,
            BoxZoomTool(dimensions="width"),
            # With a key: a wheel without one scrolls the page.
            WheelZoomTool(dimensions="width", modifiers="ctrl"),
            ResetTool(),
            SaveTool(),
            CrosshairTool(overlay=self.cursor),
        )
        made.toolbar.logo = None
        made.toolbar.active_drag = pan
        made.xaxis.axis_label_standoff = 2
        made.xgrid.grid_line_alpha = made.ygrid.grid_line_alpha = 0.35
        made.xaxis.minor_tick_line_color = made.yaxis.minor_tick_line_color = None
        return made


def draw(run: Run, found: tuple[Window, ...]) -> list[Drawn]:
    """All figures that the run has something for, on one time line."""
    left = max(0, len(found) - _MOST_WINDOWS)
    found = found[:_MOST_WINDOWS]
    end = run.length_s
    if not end:
        return []
    pad = end * 0.01
    x_range = Range1d(start=-pad, end=end + pad, bounds=(-end * 0.1, end * 1.1), min_interval=end / 1e6)
    canvas = _Canvas(run, found, x_range, Span(dimension="height", line_width=1, line_color=colours.NEUTRAL))
    drawn = []
    if found:
        drawn.append(_windows_figure(canvas, left))
    if run.recording is not None and run.recording.operations:
        drawn += [_latency_figure(canvas, run.recording), _rate_figure(canvas, run.recording)]
    if run.lanes:
        drawn.append(_lanes_figure(canvas))
    return drawn


def _hover(made: figure, marks: Sequence[Any], *tips: tuple[str, str]) -> None:
    made.add_tools(HoverTool(renderers=list(marks), tooltips=list(tips), point_policy="follow_mouse"))


# -- faults ------------------------------------------------------------------------------------------------


def _window_columns(canvas: _Canvas) -> dict[str, list[Any]]:
    found = canvas.windows
    return {
        "left": [window.start_s for window in found],
        "right": [window.end_s for window in found],
        "name": [f"{window.number}  {window.name}" for window in found],
        "colour": [colours.FAMILIES[window.family] for window in found],
        "when": [_when(window) for window in found],
    }


def _when(window: Window) -> str:
    if not window.healed:
        return f"{window.start_s:.3f} s until the end"
    by = f" by {window.healed_by}" if window.healed_by else ""
    return f"{window.start_s:.3f} – {window.end_s:.3f} s, healed{by}"


def _windows_figure(canvas: _Canvas, left: int) -> Drawn:
    rows = window_rows(canvas.windows)
    count = max(rows) + 1
    row = min(_ROW, _MOST_ROWS_PIXELS / count)
    made = canvas.figure("faults", "", _AXES + int(row * count), y_range=Range1d(start=count - 0.5, end=-0.5))
    made.yaxis.visible = False
    made.ygrid.visible = False
    columns = _window_columns(canvas)
    source = ColumnDataSource(
        columns | {"top": [row - 0.42 for row in rows], "bottom": [row + 0.42 for row in rows]}
    )
    bars = made.quad(
        left="left",
        right="right",
        top="top",
        bottom="bottom",
        fill_color="colour",
        line_color="colour",
        fill_alpha=0.45,
        source=source,
        name="fault-bars",
    )
    for right in (False, True) if row >= _LEAST_TEXT_ROW else ():
        _window_names(canvas, made, rows, right)
    _hover(made, [bars], ("fault", "@name"), ("in force", "@when"))
    legend = tuple(
        ("area", colour, family)
        for family, colour in colours.FAMILIES.items()
        if any(window.family == family for window in canvas.windows)
    )
    note = f"The last {left:,} faults are not drawn." if left else ""
    return Drawn("faults", "Faults", note, legend, made)


def _window_names(canvas: _Canvas, made: figure, rows: Sequence[int], right: bool) -> None:
    """The names, within early ones and before late ones, so that none is cut off; of many the numbers."""
    alone = len(canvas.windows) <= MOST_ROWS
    half = canvas.run.length_s / 2
    chosen = [
        (window, row)
        for window, row in zip(canvas.windows, rows, strict=True)
        if (alone and window.start_s > half) is right
    ]
    at = [window.start_s for window, _ in chosen]
    source = ColumnDataSource(
        {
            "x": at,
            "y": [row for _, row in chosen],
            "text": [
                f"{window.number}  {shortened(window.name, _MOST_NAME)}" if alone else str(window.number)
                for window, _ in chosen
            ],
        }
    )
    made.text(
        x="x",
        y="y",
        text="text",
        source=source,
        x_offset=-4 if right else 4,
        text_align="right" if right else "left",
        text_baseline="middle",
        text_font_size="11px",
        name=f"fault-names-{'right' if right else 'left'}",
    )


def _shade(canvas: _Canvas, made: figure, name: str) -> None:
    if canvas.windows:
        depth = most_at_once(canvas.windows)
        strips = made.vstrip(
            x0="left",
            x1="right",
            fill_color="colour",
            line_color="colour",
            fill_alpha=min(0.13, 0.3 / depth),
            line_alpha=min(0.5, 1.5 / depth),
            source=ColumnDataSource(_window_columns(canvas)),
            name=f"{name}-windows",
            level="underlay",
        )
        _hover(made, [strips], ("fault", "@name"), ("in force", "@when"))


# -- operations --------------------------------------------------------------------------------------------


def _latency_figure(canvas: _Canvas, recording: Recording) -> Drawn:
    made = canvas.figure("latency", "latency (ms)", 320, y_axis_type="log")
    made.yaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    _shade(canvas, made, "latency")
    found = points(recording.operations, canvas.run.length_s)
    good = [point for point in found if point.op.outcome == "ok"]
    one_by_one = len(good) <= MOST_POINTS
    legend = []
    for place, kind in enumerate(kinds(recording.operations)):
        mine = [point for point in good if point.op.kind == kind]
        colour = colours.of_kind(place)
        if not mine:
            continue
        if one_by_one:
            _points(made, mine, colour, f"latency-ok-{place}", "circle")
            legend.append(("dot", colour, kind))
        else:
            _bands(canvas, made, mine, colour, place, kind)
            legend.append(("line", colour, kind))
    note = "" if one_by_one else "Lines: median; shaded up to the 0.95 quantile; dots: the slowest."
    for outcome, marker, sign in (("fail", "x", "✕"), ("info", "triangle", "▲")):
        odd = [point for point in found if point.op.outcome == outcome]
        if odd:
            shown = thinned(odd)
            _points(made, shown, colours.OUTCOMES[outcome], f"latency-{outcome}", marker)
            legend.append((sign, colours.OUTCOMES[outcome], colours.WORDS[outcome]))
            if len(shown) < len(odd):
                note += (
                    f" {len(odd) - len(shown):,} of {len(odd):,} ({colours.WORDS[outcome]}) are not drawn."
                )
    bad = [found[place] for place in recording.bad]
    if bad:
        _points(made, bad, colours.BAD, "latency-bad", "diamond", 14)
        legend.append(("◆", colours.BAD, "counterexample"))
    return Drawn("latency", "Latency by kind and outcome", note.strip(), tuple(legend), made)


def _points(made: figure, found: Sequence[Point], colour: str, name: str, marker: str, size: int = 5) -> None:
    source = ColumnDataSource(
        {
            "x": _floats([point.op.begin_s for point in found]),
            "y": _floats([point.latency_s * 1e3 for point in found]),
            "what": [point.op.words for point in found],
            "who": [point.op.process for point in found],
            "end": ["never answered" if latency(point.op) is None else point.op.outcome for point in found],
        }
    )
    marks = made.scatter(
        "x",
        "y",
        source=source,
        marker=marker,
        size=size if marker == "circle" else size + 3,
        line_color=colour,
        fill_color=colour,
        fill_alpha=0.5,
        line_alpha=0.8,
        line_width=2 if marker == "x" else 1,
        name=name,
    )
    tips = [
        ("", "@what"),
        ("process", "@who"),
        ("end", "@end"),
        ("at", "@x{0.000} s"),
        ("took", "@y{0.000} ms"),
    ]
    _hover(made, [marks], *tips)


def _bands(canvas: _Canvas, made: figure, found: Sequence[Point], colour: str, place: int, kind: str) -> None:
    told = bands(found, slice_s(canvas.run.length_s))
    source = ColumnDataSource(
        {
            "x": _floats([band.at_s for band in told]),
            "median": _floats([band.median_s * 1e3 for band in told]),
            "high": _floats([band.high_s * 1e3 for band in told]),
            "most": _floats([band.most_s * 1e3 for band in told]),
            "count": [band.count for band in told],
            "kind": [kind] * len(told),
        }
    )
    made.varea(
        "x", "median", "high", source=source, fill_color=colour, fill_alpha=0.25, name=f"latency-band-{place}"
    )
    made.line("x", "median", source=source, line_color=colour, line_width=1.5, name=f"latency-median-{place}")
    marks = made.scatter(
        "x", "most", source=source, size=3, fill_color=colour, line_color=None, name=f"latency-most-{place}"
    )
    tips = [("", "@kind, @count successes"), ("median", "@median{0.000} ms"), ("0.95", "@high{0.000} ms")]
    _hover(made, [marks], *tips, ("slowest", "@most{0.000} ms"))


def _rate_figure(canvas: _Canvas, recording: Recording) -> Drawn:
    made = canvas.figure("throughput", "ended (1/s)", 230, y_range=DataRange1d(start=0))
    _shade(canvas, made, "throughput")
    legend, marks = [], []
    width = slice_s(canvas.run.length_s, 100)
    for outcome, colour in colours.OUTCOMES.items():
        if not any(op.outcome == outcome for op in recording.operations):
            continue
        told = rates(recording.operations, outcome, canvas.run.length_s, width)
        source = ColumnDataSource(
            {
                "x": _floats([rate.at_s for rate in told]),
                "y": _floats([rate.per_s for rate in told]),
                "word": [colours.WORDS[outcome]] * len(told),
            }
        )
        style: dict[str, Any] = {"line_color": colour, "line_width": 2, "mode": "center"}
        marks.append(made.step("x", "y", source=source, name=f"throughput-{outcome}", **style))
        legend.append(("line", colour, colours.WORDS[outcome]))
    _hover(made, marks, ("", "@word"), ("at", "@x{0.000} s"), ("a second", "@y{0,0.0}"))
    note = f"Slices of {width:g} s."
    return Drawn("throughput", "Throughput by outcome", note, tuple(legend), made)


def _floats(values: Sequence[float]) -> Any:
    """Packed: half the size of text, and of 32 bits, which is finer than a screen."""
    import numpy as np

    return np.asarray(values, dtype=np.float32)


# -- tasks -------------------------------------------------------------------------------------------------


def _lanes_figure(canvas: _Canvas) -> Drawn:
    lanes = canvas.run.lanes
    count = len(lanes)
    height = _AXES + min(_MOST_LANE_PIXELS, max(2, count) * _LANE)
    made = canvas.figure("lanes", "", height, y_range=Range1d(start=count - 0.4, end=-0.6))
    step = -(-count // 60)
    ticks = list(range(0, count, step))
    made.yaxis.ticker = FixedTicker(ticks=ticks)
    made.yaxis.major_label_overrides = {place: lanes[place].task for place in ticks}
    made.ygrid.visible = False
    _shade(canvas, made, "lanes")
    legend: list[tuple[str, str, str]] = [("bar", colours.RUNNING, "runs")]
    _runs(canvas, made)
    legend += _sufferings(canvas, made)
    legend += _moments(canvas, made)
    logs = canvas.run.logs
    if logs.lines:
        _log_lines(canvas, made)
        legend.append(("|", colours.NEUTRAL, "line of output"))
    note = (
        f"{logs.left_out:,} of {logs.left_out + len(logs.lines):,} lines of output are not drawn."
        if logs.left_out
        else ""
    )
    return Drawn("lanes", "Tasks", note, tuple(legend), made)


def _bars(
    made: figure, name: str, columns: dict[str, list[Any]], top: float, bottom: float, **style: Any
) -> Any:
    places = columns.pop("place")
    columns |= {"top": [p + top for p in places], "bottom": [p + bottom for p in places]}
    return made.quad(
        left="left",
        right="right",
        top="top",
        bottom="bottom",
        source=ColumnDataSource(columns),
        name=name,
        **style,
    )


def _runs(canvas: _Canvas, made: figure) -> None:
    told = [(place, lane, time) for place, lane in enumerate(canvas.run.lanes) for time in lane.times]
    told = told[:_MOST_MARKS]
    end = canvas.run.length_s
    marks = _bars(
        made,
        "lanes-runs",
        {
            "place": [place for place, _, _ in told],
            "left": [time.start_s for _, _, time in told],
            "right": [end if time.end_s is None else time.end_s for _, _, time in told],
            "task": [lane.task for _, lane, _ in told],
            "where": [f"{lane.address} on {lane.volunteer}" for _, lane, _ in told],
            "what": [f"generation {time.generation}" for _, _, time in told],
            "ending": [time.ending or "runs on" for _, _, time in told],
        },
        -0.34,
        0.1,
        fill_color=colours.RUNNING,
        fill_alpha=0.55,
        line_color=colours.RUNNING,
    )
    _hover(made, [marks], ("task", "@task"), ("", "@where"), ("", "@what"), ("end", "@ending"))


def _sufferings(canvas: _Canvas, made: figure) -> list[tuple[str, str, str]]:
    legend = []
    for family, colour in colours.FAMILIES.items():
        told = [
            (place, lane, span)
            for place, lane in enumerate(canvas.run.lanes)
            for span in lane.sufferings
            if span.what == family
        ][:_MOST_MARKS]
        if not told:
            continue
        marks = _bars(
            made,
            f"lanes-{family.replace(' ', '-')}",
            {
                "place": [place for place, _, _ in told],
                "left": [span.start_s for _, _, span in told],
                "right": [canvas.run.length_s if span.end_s is None else span.end_s for _, _, span in told],
                "task": [lane.task for _, lane, _ in told],
                "what": [span.text for _, _, span in told],
            },
            -0.34,
            0.1,
            fill_color=colour,
            fill_alpha=0.7,
            line_color=colour,
            hatch_pattern="right_diagonal_line",
            hatch_color="#ffffff",
            hatch_alpha=0.25,
            hatch_scale=6,
        )
        _hover(
            made,
            [marks],
            ("task", "@task"),
            ("", "@what"),
            ("from", "@left{0.000} s"),
            ("to", "@right{0.000} s"),
        )
        legend.append(("bar", colour, family))
    return legend


def _moments(canvas: _Canvas, made: figure) -> list[tuple[str, str, str]]:
    """Starts, kills, revivals, signals and ends."""
    lanes = list(enumerate(canvas.run.lanes))
    groups: list[tuple[str, str, str, str, list[tuple[int, float, str]]]] = [
        ("start", "inverted_triangle", "▼", colours.RUNNING, [
            (place, lane.times[0].start_s, "started") for place, lane in lanes if lane.times
        ]),
        ("revive", "triangle", "▲", "#2b8cd9", [
            (place, at, f"revived, {disk}") for place, lane in lanes for at, disk in lane.revivals
        ]),
        ("signal", "diamond", "◆", "#a64ac9", [
            (place, at, text) for place, lane in lanes for at, text in lane.signals
        ]),
        ("end", "square", "■", colours.NEUTRAL, [
            (place, lane.ended_s, lane.ending) for place, lane in lanes if lane.ended_s is not None
        ]),
        ("kill", "x", "✕", colours.FAMILIES["killed"], [
            (place, at, "killed") for place, lane in lanes for at in lane.kills_s
        ]),
    ]  # fmt: skip
    legend = []
    for name, marker, sign, colour, every in groups:
        told = every[:_MOST_MARKS]
        if not told:
            continue
        source = ColumnDataSource(
            {
                "x": [at for _, at, _ in told],
                "y": [place - 0.12 for place, _, _ in told],
                "task": [canvas.run.lanes[place].task for place, _, _ in told],
                "what": [text for _, _, text in told],
            }
        )
        marks = made.scatter(
            "x",
            "y",
            source=source,
            marker=marker,
            size=10,
            fill_color=colour,
            line_color=colour,
            line_width=3 if marker == "x" else 1,
            name=f"lanes-{name}",
        )
        _hover(made, [marks], ("task", "@task"), ("", "@what"), ("at", "@x{0.000} s"))
        legend.append((sign, colour, name))
    return legend


def _log_lines(canvas: _Canvas, made: figure) -> None:
    place_of = {lane.task: place for place, lane in enumerate(canvas.run.lanes)}
    lines = [line for line in canvas.run.logs.lines if line.task in place_of]
    source = ColumnDataSource(
        {
            "x": _floats([line.at_s for line in lines]),
            "y": _floats([place_of[line.task] + 0.26 for line in lines]),
            "task": [line.task for line in lines],
            "text": [line.text for line in lines],
        }
    )
    marks = made.scatter(
        "x",
        "y",
        source=source,
        marker="dash",
        angle=1.5707963,
        size=9,
        line_color=colours.NEUTRAL,
        line_alpha=0.8,
        name="log-lines",
    )
    _hover(made, [marks], ("@task", "@text"), ("at", "@x{0.000} s"))
