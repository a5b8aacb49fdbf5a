"""Draws the faults: a bar for each, from when it held until it was healed."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import ColumnDataSource, Range1d
from bokeh.plotting import figure
from syndicate.cli.report import colours
from syndicate.cli.report.canvas import AXES, Canvas, Drawn, hover, window_columns
from syndicate.cli.report.logs import shortened
from syndicate.cli.report.series import MOST_ROWS, window_rows

_ROW = 20
_LEAST_TEXT_ROW = 13
_MOST_ROWS_PIXELS = 420
_MOST_NAME = 44


def windows_figure(canvas: Canvas, left: int) -> Drawn:
    """A bar for each fault; `left` more are not drawn."""
    rows = window_rows(canvas.windows)
    count = max(rows) + 1
    row = min(_ROW, _MOST_ROWS_PIXELS / count)
    made = canvas.figure("faults", "", AXES + int(row * count), y_range=Range1d(start=count - 0.5, end=-0.5))
    made.yaxis.visible = False
    made.ygrid.visible = False
    columns = window_columns(canvas)
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
    hover(made, [bars], ("fault", "@name"), ("in force", "@when"))
    legend = tuple(
        ("area", colour, family)
        for family, colour in colours.FAMILIES.items()
        if any(window.family == family for window in canvas.windows)
    )
    note = f"The last {left:,} faults are not drawn." if left else ""
    return Drawn("faults", "Faults", note, legend, made)


def _window_names(canvas: Canvas, made: figure, rows: Sequence[int], right: bool) -> None:
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
