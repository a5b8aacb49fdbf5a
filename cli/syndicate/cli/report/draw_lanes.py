"""Draws the tasks: when each ran, what it suffered, and what it said."""

from __future__ import annotations

from typing import Any

from bokeh.models import ColumnDataSource, FixedTicker, Range1d
from bokeh.plotting import figure
from syndicate.cli.report import colours
from syndicate.cli.report.canvas import AXES, Canvas, Drawn, floats, hover, shade

_LANE = 34
_MOST_LANE_PIXELS = 900
_MOST_MARKS = 2000


def lanes_figure(canvas: Canvas) -> Drawn:
    """A lane for each task."""
    lanes = canvas.run.lanes
    count = len(lanes)
    height = AXES + min(_MOST_LANE_PIXELS, max(2, count) * _LANE)
    made = canvas.figure("lanes", "", height, y_range=Range1d(start=count - 0.4, end=-0.6))
    step = -(-count // 60)
    ticks = list(range(0, count, step))
    made.yaxis.ticker = FixedTicker(ticks=ticks)
    made.yaxis.major_label_overrides = {place: lanes[place].task for place in ticks}
    made.ygrid.visible = False
    shade(canvas, made, "lanes")
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


def _runs(canvas: Canvas, made: figure) -> None:
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
    hover(made, [marks], ("task", "@task"), ("", "@where"), ("", "@what"), ("end", "@ending"))


def _sufferings(canvas: Canvas, made: figure) -> list[tuple[str, str, str]]:
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
        hover(
            made,
            [marks],
            ("task", "@task"),
            ("", "@what"),
            ("from", "@left{0.000} s"),
            ("to", "@right{0.000} s"),
        )
        legend.append(("bar", colour, family))
    return legend


def _moments(canvas: Canvas, made: figure) -> list[tuple[str, str, str]]:
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
        hover(made, [marks], ("task", "@task"), ("", "@what"), ("at", "@x{0.000} s"))
        legend.append((sign, colour, name))
    return legend


def _log_lines(canvas: Canvas, made: figure) -> None:
    place_of = {lane.task: place for place, lane in enumerate(canvas.run.lanes)}
    lines = [line for line in canvas.run.logs.lines if line.task in place_of]
    source = ColumnDataSource(
        {
            "x": floats([line.at_s for line in lines]),
            "y": floats([place_of[line.task] + 0.26 for line in lines]),
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
    hover(made, [marks], ("@task", "@text"), ("at", "@x{0.000} s"))
