"""Draws the figures with Bokeh. Imported only when a page is made: it costs half a second."""

from __future__ import annotations

from bokeh.models import Range1d
from bokeh.models.annotations.geometry import Span
from syndicate.cli.report import colours
from syndicate.cli.report.canvas import Canvas, Drawn
from syndicate.cli.report.draw_lanes import lanes_figure
from syndicate.cli.report.draw_operations import latency_figure, rate_figure
from syndicate.cli.report.draw_windows import windows_figure
from syndicate.cli.report.run import Run
from syndicate.cli.report.windows import Window

_MOST_WINDOWS = 400


def draw(run: Run, found: tuple[Window, ...]) -> list[Drawn]:
    """All figures that the run has something for, on one time line."""
    left = max(0, len(found) - _MOST_WINDOWS)
    found = found[:_MOST_WINDOWS]
    end = run.length_s
    if not end:
        return []
    pad = end * 0.01
    x_range = Range1d(start=-pad, end=end + pad, bounds=(-end * 0.1, end * 1.1), min_interval=end / 1e6)
    canvas = Canvas(run, found, x_range, Span(dimension="height", line_width=1, line_color=colours.NEUTRAL))
    drawn = []
    if found:
        drawn.append(windows_figure(canvas, left))
    if run.recording is not None and run.recording.operations:
        drawn += [latency_figure(canvas, run.recording), rate_figure(canvas, run.recording)]
    if run.lanes:
        drawn.append(lanes_figure(canvas))
    return drawn
