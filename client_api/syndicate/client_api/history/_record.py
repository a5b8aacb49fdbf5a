"""`History`: what clients did, written down while they do it."""

from __future__ import annotations

import itertools
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from syndicate.client_api._calls import monotonic_now, own_boot_id
from syndicate.client_api._results import ClockBound, Pong
from syndicate.client_api.history._clock import ClockReading
from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._lines import Header, clock_line, encode, member
from syndicate.client_api.history._operation import Outcome
from syndicate.client_api.history._pages import Pages

# Of an error's text; the rest is for the client's own log.
MOST_ERROR_CHARACTERS = 200
_MOST_NAMES = 1000


class Invocation:
    """An operation that was invoked. It ends once: by `ok`, `fail` or `info`."""

    __slots__ = ("_history", "index", "kind", "process")

    def __init__(self, history: History, index: int, process: int | str, kind: str) -> None:
        self._history = history
        self.index = index
        """Its number in its history."""
        self.process = process
        """Who invoked it."""
        self.kind = kind
        """What it does."""

    @property
    def ended(self) -> bool:
        """Whether its end was told."""
        return self.index not in self._history._pending

    def ok(self, result: Any = None) -> None:
        """It happened, and gave `result` (a JSON value). Raises HistoryError."""
        self._history._end(self, Outcome.OK, member("v", result, f"the result of {self}"))

    def fail(self, error: str | BaseException = "") -> None:
        """It did not happen and never will: only what the system refused for certain. Raises HistoryError."""
        self._history._end(self, Outcome.FAIL, _error_member(error))

    def info(self, error: str | BaseException = "") -> None:
        """Nobody knows whether it happened, or will: a time-out, a lost connection. Raises HistoryError."""
        self._history._end(self, Outcome.INFO, _error_member(error))

    def __str__(self) -> str:
        return f"{self.kind!r} (operation {self.index}) of process {self.process!r}"


class History:
    """Records operations of many threads or tasks, as JSON lines that outlive a killed client.

    An invocation is in the file before `invoke` returns, a completion before `ok`, `fail` or `info` do: a
    SIGKILL loses nothing that was told. (Nothing is synced: a machine that stops may lose the last seconds.)
    While the history is open its file ends in up to 256 KiB of NUL bytes, which `read` knows.

    A process (a number or a name) is one logical thread: it has one operation open at a time. After an INFO
    it may go on; that operation stays open for ever in the eyes of a checker.

    Wrong calls raise HistoryError and write nothing: a second operation of a process that has one open, a
    second completion, a value that is no JSON, a history that is closed. So does a full disk. A fork's child
    cannot go on with its parent's history; it opens one of its own, and `merge` puts them together.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        replace: bool = False,
        task: str | None = None,
        now_ns: Callable[[], int] = monotonic_now,
    ) -> None:
        """Makes the file.

        Args:
            path: where to; in a job the client's disk, for instance `history.jsonl`.
            replace: whether a file that is there may be lost; else it is an error.
            task: who records; SYNDICATE_TASK unless given.
            now_ns: the clock, CLOCK_BOOTTIME unless given.

        Raises:
            HistoryError: there is a file already, or no room.
            OSError: the file cannot be made.
        """
        self._path = os.fspath(path)
        self._now_ns = now_ns
        # Each of these is touched by one step of the interpreter at a time, so that no lock is needed.
        self._numbers = itertools.count()
        self._open: dict[int | str, int] = {}
        self._pending: set[int] = set()
        self._header = Header(
            own_boot_id(),
            socket.gethostname(),
            os.environ.get("SYNDICATE_TASK", "") if task is None else task,
            os.getpid(),
            now_ns(),
            time.time_ns(),
        )
        self._start_ns = self._header.start_ns
        try:
            self._pages = Pages(self._path, self._header.line(), replace=replace)
        except FileExistsError:
            raise HistoryError(
                f"{self._path}: there is a file already; name another, or replace it"
            ) from None
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forked(me))

    @classmethod
    def open(cls, directory: str | os.PathLike[str] = ".", *, task: str | None = None) -> Self:
        """Makes the first of `history.jsonl`, `history-2.jsonl`, … that is not there yet.

        So a client that was killed and revived with its disk keeps what it recorded before. Errors as above.
        """
        number = 1
        while True:
            path = Path(directory) / ("history.jsonl" if number == 1 else f"history-{number}.jsonl")
            number += 1
            if number > _MOST_NAMES:
                raise HistoryError(f"{directory}: there are {_MOST_NAMES} histories already")
            if not path.exists():
                return cls(path, task=task)

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def closed(self) -> bool:
        """Whether it was closed: nothing more is recorded."""
        return self._pages.closed

    @property
    def header(self) -> Header:
        """Its first line: the clock's boot id and start among it."""
        return self._header

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def invoke(self, process: int | str, kind: str, key: Any = None, argument: Any = None) -> Invocation:
        """Writes down that `process` is about to do `kind`; call it before the operation is sent.

        Args:
            process: one logical thread, a number or a name.
            kind: the model's word: `get`, `put`, `cas`.
            key: which object; a JSON value, None where there is only one.
            argument: what it is called with; a JSON value.

        Raises:
            HistoryError: the process has an operation open, a value is no JSON, or there is no room.
        """
        if type(process) is not int and type(process) is not str:
            raise HistoryError(f"process {process!r} is neither a number nor a name")
        if type(kind) is not str or not kind:
            raise HistoryError(f"kind {kind!r} of process {process!r} is no name")
        what = "" if key is None else member("k", key, f"the key of {kind!r} of process {process!r}")
        if argument is not None:
            what += member("v", argument, f"the argument of {kind!r} of process {process!r}")
        who = f'"p":{encode(process)},"f":{encode(kind)}{what}'
        index = next(self._numbers)
        busy = self._open.setdefault(process, index)
        if busy != index:
            raise HistoryError(f"process {process!r} invokes {kind!r}, but its operation {busy} is open")
        self._pending.add(index)
        try:
            self._pages.append(
                f'{{"i":{index},"t":{self._now_ns() - self._start_ns},{who}}}\n'.encode("ascii")
            )
        except HistoryError:
            del self._open[process]
            raise
        return Invocation(self, index, process, kind)

    @contextmanager
    def operation(
        self,
        process: int | str,
        kind: str,
        key: Any = None,
        argument: Any = None,
        *,
        definite: tuple[type[BaseException], ...] = (),
    ) -> Iterator[Invocation]:
        """`invoke`, and an end for every way out of the block::

            with history.operation(3, "put", key="x", argument=5, definite=(Refused,)) as op:
                store.put("x", 5)
                op.ok()

        An exception that leaves the block is recorded as INFO, since a time-out may have taken effect; as
        FAIL only where it is one of `definite`, which say for certain that nothing happened. It is raised
        on. A block that ends without `ok`, `fail` or `info` is recorded as INFO and raises HistoryError.
        """
        invocation = self.invoke(process, kind, key, argument)
        try:
            yield invocation
        except BaseException as error:
            if not invocation.ended:
                end = invocation.fail if isinstance(error, definite) else invocation.info
                end(error)
            raise
        if not invocation.ended:
            invocation.info("not told")
            raise HistoryError(f"the block of {invocation} has ended without ok, fail or info")

    def set_clock(self, bound: ClockBound | Pong) -> None:
        """Writes down how this clock stands to the manager's: `history.set_clock(chaos.ping())`.

        To be called at once after it was measured; at the beginning, at the end, and in long runs every
        minute or so: between two readings the clocks drift, and the closer a reading is, the more exactly
        are histories of several hosts merged. Raises HistoryError for a bound of another machine.
        """
        manager = ""
        if isinstance(bound, Pong):
            manager, bound = bound.manager_at.boot_id, bound.clock
        if bound.boot_id != self._header.boot_id:
            raise HistoryError(
                f"the bound is of the clock {bound.boot_id!r}, not of {self._header.boot_id!r}"
            )
        if bound.error_ns < 0:
            raise HistoryError(f"the bound's error is {bound.error_ns} ns, which is less than 0")
        reading = ClockReading(bound.boot_id, self._now_ns(), bound.offset_ns, bound.error_ns, manager)
        self._pages.append(clock_line(reading, self._start_ns))

    def close(self) -> None:
        """Gives the file back. Operations that are open stay so, for ever."""
        self._pages.close(f"{self._path}: the history is closed")

    def _end(self, invocation: Invocation, outcome: Outcome, rest: str) -> None:
        at = self._now_ns() - self._start_ns
        try:
            # Before it is written: an exception in between leaves it open, and it never ends twice.
            self._pending.remove(invocation.index)
        except KeyError:
            raise HistoryError(f"{invocation} is completed ({outcome}), but has ended before") from None
        self._pages.append(f'{{"{outcome._value_}":{invocation.index},"t":{at}{rest}}}\n'.encode("ascii"))
        del self._open[invocation.process]

    def _disown(self) -> None:
        """In a fork's child."""
        self._pages.abandon(
            f"{self._path}: process {self._header.pid} opened it; a fork opens a history of its own"
        )


def _forked(reference: weakref.ref[History]) -> None:
    history = reference()
    if history is not None:
        history._disown()


def _error_member(error: str | BaseException) -> str:
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}".removesuffix(": ")
    return member("e", error[:MOST_ERROR_CHARACTERS] or None, "the error")
