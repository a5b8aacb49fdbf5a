"""Draws the operations of a history: how long they took, and how many ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d, NumeralTickFormatter
from bokeh.plotting import figure
from syndicate.cli.report import colours
from syndicate.cli.report.canvas import Canvas, Drawn, floats, hover, shade
from syndicate.cli.report.numbers import kinds, latency
from syndicate.cli.report.run import Recording
from syndicate.cli.report.series import MOST_POINTS, Point, bands, points, rates, slice_s, thinned


def latency_figure(canvas: Canvas, recording: Recording) -> Drawn:
    """Each operation where it began, in milliseconds; of very many their bands."""
    made = canvas.figure("latency", "latency (ms)", 320, y_axis_type="log")
    made.yaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    shade(canvas, made, "latency")
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
            "x": floats([point.op.begin_s for point in found]),
            "y": floats([point.latency_s * 1e3 for point in found]),
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
    hover(made, [marks], *tips)


def _bands(canvas: Canvas, made: figure, found: Sequence[Point], colour: str, place: int, kind: str) -> None:
    told = bands(found, slice_s(canvas.run.length_s))
    source = ColumnDataSource(
        {
            "x": floats([band.at_s for band in told]),
            "median": floats([band.median_s * 1e3 for band in told]),
            "high": floats([band.high_s * 1e3 for band in told]),
            "most": floats([band.most_s * 1e3 for band in told]),
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
    hover(made, [marks], *tips, ("slowest", "@most{0.000} ms"))


def rate_figure(canvas: Canvas, recording: Recording) -> Drawn:
    """How many ended in a second, by outcome."""
    made = canvas.figure("throughput", "ended (1/s)", 230, y_range=DataRange1d(start=0))
    shade(canvas, made, "throughput")
    legend, marks = [], []
    width = slice_s(canvas.run.length_s, 100)
    for outcome, colour in colours.OUTCOMES.items():
        if not any(op.outcome == outcome for op in recording.operations):
            continue
        told = rates(recording.operations, outcome, canvas.run.length_s, width)
        source = ColumnDataSource(
            {
                "x": floats([rate.at_s for rate in told]),
                "y": floats([rate.per_s for rate in told]),
                "word": [colours.WORDS[outcome]] * len(told),
            }
        )
        style: dict[str, Any] = {"line_color": colour, "line_width": 2, "mode": "center"}
        marks.append(made.step("x", "y", source=source, name=f"throughput-{outcome}", **style))
        legend.append(("line", colour, colours.WORDS[outcome]))
    hover(made, marks, ("", "@word"), ("at", "@x{0.000} s"), ("a second", "@y{0,0.0}"))
    note = f"Slices of {width:g} s."
    return Drawn("throughput", "Throughput by outcome", note, tuple(legend), made)
