"""The two streams that a command writes to: what is said, and what is said about it."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TextIO

from syndicate.cli.render.fit import UNLIMITED
from syndicate.cli.render.lanes import ASCII_GLYPHS, UNICODE_GLYPHS, Glyphs
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.show import Page


class OutputClosed(Exception):
    """The reader of standard output went away, as ``| head`` does. Nothing is left to be said.

    Not a BrokenPipeError: Typer would end the command with 1 for one, which here means that a job failed.
    """


@dataclass(frozen=True, slots=True)
class Terminal:
    """Standard output and error with what is known about them."""

    out: TextIO
    err: TextIO
    width: int
    palette: Palette
    glyphs: Glyphs
    out_is_terminal: bool
    err_is_terminal: bool

    @property
    def room(self) -> int:
        """Columns that text is broken and cut for: a pipe gets all of it."""
        return self.width if self.out_is_terminal else UNLIMITED

    @property
    def err_room(self) -> int:
        """The same for standard error."""
        return self.width if self.err_is_terminal else UNLIMITED

    def say(self, lines: Iterable[str] | str) -> None:
        """Answers, on standard output."""
        try:
            for line in (lines,) if isinstance(lines, str) else lines:
                self.out.write(line + "\n")
            self.out.flush()
        except BrokenPipeError:
            raise OutputClosed from None

    def note(self, lines: Iterable[str] | str) -> None:
        """Progress and errors, on standard error."""
        for line in (lines,) if isinstance(lines, str) else lines:
            self.err.write(line + "\n")
        self.err.flush()

    def page(self) -> Page:
        """What pages are drawn for."""
        return Page(self.width, self.room, self.glyphs, self.palette)


def this_terminal(environ: Mapping[str, str] = os.environ) -> Terminal:
    """The terminal of this process. 80 columns where there is none and COLUMNS says nothing."""
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end the command.
            stream.reconfigure(errors="backslashreplace")
    is_terminal = out.isatty()
    coloured = is_terminal and "NO_COLOR" not in environ and environ.get("TERM") != "dumb"
    try:
        "━╌╳┏▮–…".encode(out.encoding or "ascii")
        glyphs = UNICODE_GLYPHS
    except (UnicodeEncodeError, LookupError):
        glyphs = ASCII_GLYPHS
    width = shutil.get_terminal_size((80, 24)).columns
    palette = Palette(enabled=True) if coloured else PLAIN
    return Terminal(out, err, width, palette, glyphs, is_terminal, err.isatty())
