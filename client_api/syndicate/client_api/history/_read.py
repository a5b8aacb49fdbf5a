"""`read`: a history from its file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from syndicate.client_api.history._clock import ClockReading
from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._lines import MOST, Header, decode, header_of, number_of, shown, text_of
from syndicate.client_api.history._operation import Operation, Outcome
from syndicate.client_api.history._pairing import Pairing

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one client recorded."""

    source: str
    """The file it was read from."""
    header: Header
    """Who recorded it, and on which clock."""
    operations: tuple[Operation, ...]
    """In the order of their invocations; times on the client's own clock."""
    clocks: tuple[ClockReading, ...] = ()
    """How that clock stood to the manager's, each time that it was measured."""
    torn: int = 0
    """How many bytes of a last line were ignored that was being written when the client was killed."""


def read(path: str | os.PathLike[str]) -> Recorded:
    """Reads a history, also one that is still being recorded.

    Only the last line may be torn, and NUL bytes may follow it: so a killed client leaves its file. All else
    raises HistoryError, which names file and line. OSError where the file cannot be read.
    """
    source = os.fspath(path)
    with open(source, "rb") as file:
        reading = _Reading(source)
        for number, raw in _lines(source, file, reading):
            reading.take(number, raw)
    return reading.recorded()


def _lines(source: str, file: BinaryIO, reading: _Reading) -> Iterator[tuple[int, bytes]]:
    """The lines that are whole, and what is left."""
    for number, raw in enumerate(file, 1):
        nul = raw.find(b"\0")
        if nul >= 0:
            # The rest was never written, but for a line that was being copied when the client was killed.
            _require_empty(f"{source}:{number}", raw, file)
            reading.torn = len(raw.rstrip(b"\0"))
        elif raw.endswith(b"\n") or _whole(raw):
            yield number, raw
        else:
            reading.torn = len(raw)


def _whole(raw: bytes) -> bool:
    """Whether a last line without its newline is complete all the same, as hand-made files have it."""
    try:
        decode("", raw)
    except HistoryError:
        return False
    return True


def _require_empty(where: str, raw: bytes, file: BinaryIO) -> None:
    """Raises HistoryError where something stands behind the line that holds the first NUL byte."""
    while block := file.read(_BLOCK):
        if block.strip(b"\0"):
            raise HistoryError(f"{where}: a NUL byte before the end")


class _Reading:
    """One file, line after line."""

    def __init__(self, source: str) -> None:
        self.torn = 0
        self._source = source
        self._header: Header | None = None
        self._pairing = Pairing()
        self._clocks: list[ClockReading] = []

    def take(self, number: int, raw: bytes) -> None:
        where = f"{self._source}:{number}"
        line = decode(where, raw)
        if self._header is None:
            self._header = header_of(where, line)
            return
        at_ns = self._header.start_ns + number_of(where, line, "t")
        if "i" in line:
            self._invocation(where, line, at_ns)
        elif "clock" in line:
            self._clocks.append(_clock(where, line, at_ns, self._header.boot_id))
        else:
            self._completion(where, line, at_ns)

    def _invocation(self, where: str, line: dict[str, Any], at_ns: int) -> None:
        _require_only(where, line, {"i", "t", "p", "f", "k", "v"})
        process, kind = line.get("p"), line.get("f")
        if type(process) is not int and type(process) is not str:
            raise HistoryError(f"{where}: the process 'p' must be a number or a name, not {shown(process)}")
        if type(kind) is not str or not kind:
            raise HistoryError(f"{where}: the kind 'f' must be a name, not {shown(kind)}")
        ident = number_of(where, line, "i")
        self._pairing.invoke(where, process, kind, line.get("k"), line.get("v"), at_ns, ident)

    def _completion(self, where: str, line: dict[str, Any], at_ns: int) -> None:
        outcomes = [outcome for outcome in Outcome if outcome.value in line]
        if len(outcomes) != 1:
            raise HistoryError(f"{where}: neither an invocation, nor one completion, nor a clock's reading")
        outcome = outcomes[0]
        _require_only(where, line, {outcome.value, "t", "v" if outcome is Outcome.OK else "e"})
        ident = number_of(where, line, outcome.value)
        error = text_of(where, line, "e", "")
        self._pairing.complete_by_id(where, ident, outcome, line.get("v"), error, at_ns)

    def recorded(self) -> Recorded:
        if self._header is None:
            raise HistoryError(f"{self._source}:1: no header: the file is empty, or its first line is torn")
        return Recorded(
            self._source, self._header, self._pairing.operations(), tuple(self._clocks), self.torn
        )


def _clock(where: str, line: dict[str, Any], at_ns: int, boot_id: str) -> ClockReading:
    _require_only(where, line, {"clock", "error", "t", "manager"})
    offset = line["clock"]
    if type(offset) is not int:
        raise HistoryError(f"{where}: the clock's offset must be a whole number, not {shown(offset)}")
    if abs(offset) > MOST:
        raise HistoryError(f"{where}: the clock's offset must be at most {MOST}, not {shown(offset)}")
    error = number_of(where, line, "error")
    return ClockReading(boot_id, at_ns, offset, error, text_of(where, line, "manager", ""))


def _require_only(where: str, line: dict[str, Any], known: set[str]) -> None:
    if strange := line.keys() - known:
        raise HistoryError(f"{where}: {min(strange)!r} does not belong into this line")
