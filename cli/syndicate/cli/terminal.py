"""The two streams that a command writes to: what is said, and what is said about it."""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from syndicate.cli.render.fit import UNLIMITED, elided
from syndicate.cli.render.lanes import ASCII_GLYPHS, UNICODE_GLYPHS, Glyphs
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.show import Page


class OutputClosed(Exception):
    """The reader of standard output went away, as ``| head`` does. Nothing is left to be said.

    Not a BrokenPipeError: Typer would end the command with 1 for one, which here means that a job failed.
    """


_ECHO = 2
"""Columns that a Ctrl-C takes which the terminal shows."""


@dataclass(slots=True)
class _Hint:
    """What stands on standard error's last line, to be taken back. Whoever writes holds the lock."""

    columns: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Standard output and error with what is known about them. Usable from several threads."""

    out: TextIO
    err: TextIO
    width: int
    palette: Palette
    glyphs: Glyphs
    out_is_terminal: bool
    err_is_terminal: bool
    _hint: _Hint = field(default_factory=_Hint, init=False)

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
            self._write(self.out, lines)
        except BrokenPipeError:
            raise OutputClosed from None

    def note(self, lines: Iterable[str] | str) -> None:
        """Progress and errors, on standard error."""
        self._write(self.err, lines)

    def hint(self, line: str) -> None:
        """A line on standard error, if a terminal, until something else is told; empty takes it back."""
        if not self.err_is_terminal or _in_background(self.err):
            return
        with self._hint.lock:
            self._take_back()
            shown = elided(line, self.width - _ECHO - 1, self.glyphs.more)
            self.err.write(shown)
            self.err.flush()
            self._hint.columns = len(shown)

    def _write(self, stream: TextIO, lines: Iterable[str] | str) -> None:
        for line in (lines,) if isinstance(lines, str) else lines:  # which may be long in coming, each
            with self._hint.lock:
                self._take_back()
                stream.write(line + "\n")
        stream.flush()

    def _take_back(self) -> None:
        if self._hint.columns:
            # With blanks, which every terminal knows.
            self.err.write("\r" + " " * (self._hint.columns + _ECHO) + "\r")
            self.err.flush()
            self._hint.columns = 0

    def page(self) -> Page:
        """What pages are drawn for."""
        return Page(self.width, self.room, self.glyphs, self.palette)


def _in_background(stream: TextIO) -> bool:
    """Whether the shell's user types on this terminal meanwhile."""
    try:
        return os.tcgetpgrp(stream.fileno()) != os.getpgrp()
    except (OSError, ValueError):  # no terminal of this process's own, as for one that a test has made
        return False


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
