"""Processes that outlive the command that started them: started in their own session, ended by exact pid."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from types import FrameType

_KILL_S = 10.0
_STATUS_FD = 3


class Ending(enum.Enum):
    """How a process came to its end."""

    GONE = "gone"
    """It was not there any more."""
    ENDED = "ended"
    """It ended when it was asked to."""
    KILLED = "killed"
    """It did not, and had to be killed: what it would have cleared up may be left."""


class StartFailed(Exception):
    """The process was not started; the text says why."""


@dataclass(frozen=True, slots=True)
class Process:
    """A pid with the time of its start (clock ticks since boot): together they name one process for good."""

    pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Whether it runs; one that ended and was not reaped does not."""
        return _state_of(self.pid) == (True, self.start_ticks)


def start(command: Sequence[str], log: Path, environ: dict[str, str]) -> Process:
    """Starts ``command`` in a session of its own, its output appended to ``log``. Raises StartFailed."""
    return _named(_spawn(command, log, environ, status_fd=None))


def start_wrapped(command: Sequence[str], log: Path, environ: dict[str, str], deadline_s: float) -> Process:
    """Starts a bubblewrap ``command`` that tells its child's pid at fd 3, and returns that child."""
    reader, writer = os.pipe()
    with signals_held() as came, open(reader, "rb", buffering=0) as status:
        try:
            wrapper = _spawn(command, log, environ, status_fd=writer)
        finally:
            os.close(writer)
        try:
            with _ctrl_c_let_in(came):
                line = _first_line(status, deadline_s)
            return _named(int(json.loads(line)["child-pid"]))
        except BaseException as error:  # Ctrl-C too: nobody else knows of the wrapper yet
            # Its whole group, which it leads and nobody has reaped: its child would wait for it for ever.
            os.killpg(wrapper, signal.SIGKILL)
            os.waitpid(wrapper, 0)
            if isinstance(error, (ValueError, KeyError)):
                raise StartFailed(f"{command[0]} did not start {command[-1]}") from None
            raise


@contextlib.contextmanager
def signals_held() -> Iterator[list[int]]:
    """Keeps Ctrl-C, TERM and HUP waiting, so that a process which was started is also written down.

    Gives those that have come so far.

    By handlers and not by a mask, which holds for one thread only: another may take the signal. Main thread.
    """
    came: list[int] = []
    try:
        with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda number, _: came.append(number)):
            yield came
    finally:
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Makes TERM, and HUP of a terminal that was closed, the KeyboardInterrupt that Ctrl-C is. Main thread.

    HUP that is ignored, as by `nohup`, stays ignored.
    """
    with _handled((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler):
        yield


@contextlib.contextmanager
def _handled(numbers: Sequence[int], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handles these signals so, but for those that are ignored; as before afterwards."""
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


@contextlib.contextmanager
def _ctrl_c_let_in(came: Sequence[int]) -> Iterator[None]:
    # TERM stays out: it would end this process before it could end what it has started.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if signal.SIGINT in came:  # a moment too early to be let in: what is waited for here may never come
            raise KeyboardInterrupt
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def stop(process: Process, deadline_s: float) -> Ending:
    """Ends a process and waits until it has ended: TERM first, KILL after ``deadline_s`` seconds.

    Another process that got its pid meanwhile is left alone.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return Ending.GONE
    try:
        # From here on the pid cannot change hands unseen: the descriptor stays with its process.
        if not process.is_alive():
            return Ending.GONE
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if _ended(pidfd, deadline_s):
            return Ending.ENDED
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not _ended(pidfd, _KILL_S):
            raise TimeoutError(f"process {process.pid} does not end")
        return Ending.KILLED
    finally:
        os.close(pidfd)
        _reap(process.pid)


def wait_for_end(process: Process, deadline_s: float) -> bool:
    """Whether the process ended within ``deadline_s`` seconds; a pause that a death cuts short."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not process.is_alive() or _ended(pidfd, deadline_s)
    finally:
        os.close(pidfd)


def _first_line(status: RawIOBase, deadline_s: float) -> bytes:
    """What comes up to a newline or the end; bubblewrap writes its line in parts."""
    until = time.monotonic() + deadline_s
    line = b""
    while b"\n" not in line:
        ready, _, _ = select.select([status], [], [], max(0.0, until - time.monotonic()))
        piece = status.read(4096) if ready else b""
        if not piece:
            break
        line += piece
    return line.partition(b"\n")[0]


def _spawn(command: Sequence[str], log: Path, environ: dict[str, str], status_fd: int | None) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # What this command was itself started with is nothing to a daemon, least of all to one that runs tasks.
    actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited()]
    if status_fd is not None:
        actions.append((os.POSIX_SPAWN_DUP2, status_fd, _STATUS_FD))
    try:
        return os.posix_spawnp(
            command[0],
            list(command),
            environ,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP),
        )
    except OSError as error:
        raise StartFailed(f"{command[0]}: {(error.strerror or str(error)).lower()}") from None


def _inherited() -> list[int]:
    """Open descriptors behind standard error that a program started from here would get."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _named(pid: int) -> Process:
    # Nobody but this process has reaped it yet, so the pid is still its own (a wrapped child's parent is
    # bubblewrap, which ends only after it).
    return Process(pid, _state_of(pid)[1])


def _state_of(pid: int) -> tuple[bool, int]:
    """Whether a process of this pid runs, and when it was started."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False, 0
    fields = text.rpartition(")")[2].split()  # the name before may hold anything, blanks and brackets too
    return fields[0] not in "ZX", int(fields[19])


def _ended(pidfd: int, deadline_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    until = time.monotonic() + deadline_s
    while True:
        left = until - time.monotonic()
        if poll.poll(max(0.0, left) * 1000):
            return True
        if left <= 0:
            return False


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # another's child, as in any later command
        os.waitpid(pid, os.WNOHANG)
