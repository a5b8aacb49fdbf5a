"""Histories on their way to the manager and back, as steps that Chaos and AioChaos take alike.

Steps are generators: each yields a call, is sent what it answered or thrown the ChaosError that it raised,
and returns what all of them come to.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from syndicate.client_api._calls import Call, Exchange
from syndicate.client_api._errors import (
    BadField,
    DeadlineExceeded,
    HistoriesMissing,
    HistoryClosed,
    SchedulerError,
    Unavailable,
)
from syndicate.client_api._results import Pong
from syndicate.client_api.history import History, Recorded, read
from syndicate.v1 import chaos_pb2, scheduler_pb2

T = TypeVar("T")
Steps = Generator[Call[Any], Any, T]

PIECE_BYTES = 192 << 10
"""Of one call: a volunteer relays messages of 256 KiB."""
# Of one wait: shorter than one try of a call may take.
_WAIT_S = 8.0
_MOST_NAMES = 16
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_TASK = re.compile(r"[a-z0-9-]{1,63}")
_NO_NAME = re.compile(r"[^a-z0-9.-]+")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A history that the manager has."""

    name: str
    """What it is called among its task's histories."""
    size: int
    """Bytes."""
    sha256: str
    """Its digest."""


@dataclass(frozen=True, slots=True)
class GatheredHistory:
    """A history of one of the job's clients, in a file here."""

    task: str
    """Who handed it over."""
    name: str
    """What it is called among that client's histories."""
    path: Path
    """Where it is now."""
    size: int
    """Bytes."""
    whole: bool
    """Whether it was handed over to its end; its client may have been killed before."""

    def read(self) -> Recorded:
        """What it says. Raises HistoryError, and OSError where the file is gone."""
        return read(self.path)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The histories of all clients, in files that are removed when a ``with`` block or ``close`` ends."""

    histories: tuple[GatheredHistory, ...]
    """By task and name."""
    missing: tuple[str, ...]
    """Clients that ended, or finished, and did not hand everything over."""
    _folder: Path | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def lacking(self) -> tuple[str, ...]:
        """Why this is not everything: a few words for each client or history; empty where it is."""
        torn = (f"{one.task} ({one.name} is not whole)" for one in self.histories if not one.whole)
        return (*self.missing, *(text for text in torn if text.split(" ", 1)[0] not in self.missing))

    def read(self) -> list[Recorded]:
        """All histories, for ``merge``. Raises HistoryError."""
        return [history.read() for history in self.histories]

    def close(self) -> None:
        """Removes the files, unless the caller named a folder for them."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def measure(history: History | str | os.PathLike[str], ping: Callable[[], Call[Pong]]) -> Steps[str]:
    """Ends a History, with a last reading of its clock; gives its file."""
    if not isinstance(history, History):
        return os.fspath(history)
    if not history.closed:
        history.set_clock((yield ping()))
        history.close()
    return history.path


def hand_over(path: str, name: str | None, final: bool) -> Steps[HandedOver]:
    """Sends a file. Raises ChaosError, ValueError for a name that is none, OSError for the file."""
    wanted = _name_of(path) if name is None else name
    if _NAME.fullmatch(wanted) is None:
        raise ValueError(f"{name!r} names no history: up to 63 of a-z, 0-9, . and -, a letter or digit first")
    number = 1
    while True:
        called = wanted if number == 1 else f"{wanted[:59]}.{number}"
        try:
            return (yield from _send(path, called, final))
        except HistoryClosed as error:
            # Another one of this name: this client was revived without its disk.
            if name is not None or "name" not in error.metadata or number == _MOST_NAMES:
                raise
        number += 1


def _send(path: str, name: str, final: bool) -> Steps[HandedOver]:
    again = True
    while True:
        try:
            size, sha256 = 0, ""
            for request in _pieces(path, name, final):
                size = yield put(request)
                sha256 = request.sha256
            return HandedOver(name, size, sha256)
        except BadField as error:
            # The manager's machine crashed and lost what it had: again, what is there is skipped.
            if not again or "have" not in error.metadata:
                raise
        again = False


def _pieces(path: str, name: str, final: bool) -> Iterator[chaos_pb2.PutHistoryRequest]:
    """All of a file, but for the NUL bytes at the end that a killed client leaves."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        size = _recorded(file.fileno())
        offset = 0
        while True:
            data = file.read(min(PIECE_BYTES, size - offset))
            digest.update(data)
            last = offset + len(data) >= size or not data
            yield chaos_pb2.PutHistoryRequest(
                name=name,
                offset=offset,
                data=data,
                sha256=digest.hexdigest() if last else "",
                final=last and final,
            )
            offset += len(data)
            if last:
                return


def _recorded(descriptor: int) -> int:
    """How many bytes there are before the NUL bytes at the end."""
    end = os.fstat(descriptor).st_size
    while end:
        begin = max(0, end - _BLOCK)
        if rest := os.pread(descriptor, end - begin, begin).rstrip(b"\0"):
            return begin + len(rest)
        end = begin
    return 0


def _name_of(path: str) -> str:
    """``history-2`` of ``out/history-2.jsonl``."""
    name = _NO_NAME.sub("-", Path(path).stem.lower()).lstrip(".-")[:60]
    return name or "history"


def gather(wait_s: float, folder: str | os.PathLike[str] | None, timeout_s: float) -> Steps[Gathered]:
    """Waits for everybody and fetches what there is. Raises ChaosError and OSError.

    `timeout_s` is that of each call: what is asked to wait is to answer before.
    """
    found = yield from _wait(wait_s, min(_WAIT_S, timeout_s / 2))
    own = Path(tempfile.mkdtemp(prefix="syn-histories-")) if folder is None else None
    try:
        histories = []
        for info in found.histories:
            histories.append((yield from _fetch(info, own or Path(folder or "."))))
        return Gathered(tuple(histories), tuple(found.missing), own)
    except BaseException:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
        raise


def _wait(wait_s: float, each_s: float) -> Steps[chaos_pb2.GatherHistoriesResponse]:
    until = time.monotonic() + wait_s
    while True:
        left = max(0.0, until - time.monotonic())
        try:
            found: chaos_pb2.GatherHistoriesResponse = yield wait(min(left, each_s))
        except (HistoriesMissing, Unavailable, DeadlineExceeded):
            if left <= each_s:
                raise
        else:
            return found


def _fetch(info: chaos_pb2.HistoryInfo, folder: Path) -> Steps[GatheredHistory]:
    if _TASK.fullmatch(info.task) is None or _NAME.fullmatch(info.name) is None:
        raise BadField(f"the manager tells of a history {info.name!r} of {info.task!r}, which cannot be")
    path = _path(folder, info.task, info.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        while size < info.size:
            data: bytes = (yield part(info.task, info.name, size))[: info.size - size]
            if not data:
                break
            file.write(data)
            digest.update(data)
            size += len(data)
    whole = bool(info.sha256) and digest.hexdigest() == info.sha256
    return GatheredHistory(info.task, info.name, path, size, whole)


def write_all(
    answers: Iterable[scheduler_pb2.ReadHistoriesResponse | None], folder: Path
) -> tuple[GatheredHistory, ...]:
    """Writes what Scheduler sends into files; None stands for a stream that begins, or begins anew.

    Raises SchedulerError for a name that cannot be, and OSError.
    """
    begun: dict[tuple[str, str], scheduler_pb2.ReadHistoriesResponse] = {}
    for answer in answers:
        if answer is None:
            begun.clear()
            continue
        key = answer.task, answer.name
        if _TASK.fullmatch(answer.task) is None or _NAME.fullmatch(answer.name) is None:
            raise SchedulerError(f"the manager tells of a history {answer.name!r} of {answer.task!r}")
        path = _path(folder, *key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if key in begun else "wb") as file:
            file.write(answer.data)
        begun.setdefault(key, answer)
    return tuple(_written(folder, answer) for answer in begun.values())


def _written(folder: Path, first: scheduler_pb2.ReadHistoriesResponse) -> GatheredHistory:
    path = _path(folder, first.task, first.name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    return GatheredHistory(first.task, first.name, path, size, whole=digest == first.sha256)


def _path(folder: Path, task: str, name: str) -> Path:
    return folder / task / f"{name}.jsonl"


def put(request: chaos_pb2.PutHistoryRequest) -> Call[int]:
    """PutHistory, as a call: how many bytes of it the manager has."""

    def size(answer: chaos_pb2.PutHistoryResponse, _: Exchange) -> int:
        return answer.size

    return Call("PutHistory", request, size)


def wait(wait_s: float) -> Call[chaos_pb2.GatherHistoriesResponse]:
    """GatherHistories, as a call."""
    request = chaos_pb2.GatherHistoriesRequest(wait_s=wait_s)
    return Call("GatherHistories", request, lambda answer, _: answer)


def part(task: str, name: str, offset: int) -> Call[bytes]:
    """ReadHistory, as a call."""

    def data(answer: chaos_pb2.ReadHistoryResponse, _: Exchange) -> bytes:
        return answer.data

    return Call("ReadHistory", chaos_pb2.ReadHistoryRequest(task=task, name=name, offset=offset), data)
