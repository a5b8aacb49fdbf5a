"""What all figures share: the time line, the hints, and the faults behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CrosshairTool,
    HoverTool,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    WheelZoomTool,
)
from bokeh.models.annotations.geometry import Span
from bokeh.plotting import figure
from syndicate.cli.report import colours
from syndicate.cli.report.run import Run
from syndicate.cli.report.series import most_at_once
from syndicate.cli.report.windows import Window

_LEFT = 78
AXES = 78
"""Pixels that a figure needs beside its frame: its tools above, its axis below."""


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
class Canvas:
    """Whose figures they are, and what holds them together."""

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


def hover(made: figure, marks: Sequence[Any], *tips: tuple[str, str]) -> None:
    """Says the tips, each a name and a text, where the pointer is over one of the marks."""
    made.add_tools(HoverTool(renderers=list(marks), tooltips=list(tips), point_policy="follow_mouse"))


def window_columns(canvas: Canvas) -> dict[str, list[Any]]:
    """The faults as columns of a source of data; times in seconds."""
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


def shade(canvas: Canvas, made: figure, name: str) -> None:
    """Draws the faults behind what the figure shows, from top to bottom."""
    if canvas.windows:
        depth = most_at_once(canvas.windows)
        strips = made.vstrip(
            x0="left",
            x1="right",
            fill_color="colour",
            line_color="colour",
            fill_alpha=min(0.13, 0.3 / depth),
            line_alpha=min(0.5, 1.5 / depth),
            source=ColumnDataSource(window_columns(canvas)),
            name=f"{name}-windows",
            level="underlay",
        )
        hover(made, [strips], ("fault", "@name"), ("in force", "@when"))


def floats(values: Sequence[float]) -> Any:
    """Packed: half the size of text, and of 32 bits, which is finer than a screen."""
    import numpy as np

    return np.asarray(values, dtype=np.float32)
