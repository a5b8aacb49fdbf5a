"""Network namespaces that no name holds, only file descriptors: they end with the keeper.

A thread that has entered a namespace is never used again: all entering happens in threads made for one call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ._contract import NetworkError

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_OWN = "/proc/thread-self/ns/net"


class _Call(Generic[T]):
    """One call and what came of it, carried out of the thread that made it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result.append(self._work())
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error = error

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]


def _in_own_thread(work: Callable[[], T]) -> T:
    call = _Call(work)
    thread = threading.Thread(target=call.run, name="netns")
    thread.start()
    thread.join()
    return call.outcome()


def _libc_call(what: str, function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # Python 3.11 has neither os.setns nor os.unshare
    if getattr(libc, function)(*arguments) != 0:
        raise NetworkError.refused(what, ctypes.get_errno())


def in_namespace(netns_fd: int | None, work: Callable[[], T]) -> T:
    """Run `work` in the namespace of `netns_fd` (None: the caller's own) and return what it returns.

    A socket that `work` makes belongs to that namespace for good, whichever thread uses it later.
    Raises NetworkError if the namespace cannot be entered, and whatever `work` raises.
    """
    if netns_fd is None:
        return work()

    def enter() -> T:
        _libc_call("enter a network namespace", "setns", netns_fd, _CLONE_NEWNET)
        return work()

    return _in_own_thread(enter)


def make_namespace(prepare: Callable[[], T]) -> tuple[int, T]:
    """Make a namespace, run `prepare` in it, and return a descriptor that holds it and `prepare`'s result.

    The caller owns the descriptor. Raises NetworkError if none can be made, and whatever `prepare` raises;
    the namespace is then gone.
    """

    def make() -> tuple[int, T]:
        _libc_call("make a network namespace", "unshare", _CLONE_NEWNET)
        try:
            netns_fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NetworkError.refused("hold a network namespace", error.errno or 0) from error
        try:
            return netns_fd, prepare()
        except BaseException:
            os.close(netns_fd)
            raise

    return _in_own_thread(make)


def identity(netns_fd: int) -> int:
    """The number by which the kernel shows the namespace, as in `net:[4026531840]`."""
    return os.fstat(netns_fd).st_ino


def held_namespaces() -> dict[int, int]:
    """Network namespaces that descriptors of this process hold: descriptor to identity."""
    held: dict[int, int] = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue  # the descriptor of this listing, or one that another thread closed just now
        if target.startswith("net:["):
            held[int(entry)] = int(target[len("net:[") : -1])
    return held


class Sockets:
    """How many TCP sockets a namespace has, told from outside. Made in a thread that is in the namespace.

    A connection whose peer does not answer outlives its process, for minutes, and the namespace with it.
    """

    def __init__(self) -> None:
        self._files: list[int] = []
        for name in ("sockstat", "sockstat6"):
            try:
                self._files.append(os.open(f"/proc/thread-self/net/{name}", os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:  # a kernel without IPv6
                continue
            except OSError as error:
                self.close()
                raise NetworkError.refused(f"open {name}", error.errno or 0) from error

    def tcp(self) -> int:
        """Those that are connected, listen, or wait for a last answer. Raises NetworkError."""
        found = 0
        for file in self._files:
            try:
                text = os.pread(file, 4096, 0).decode("ascii")
            except OSError as error:
                raise NetworkError.refused("count sockets", error.errno or 0) from error
            for line in text.splitlines():  # such as `TCP: inuse 1 orphan 0 …`
                if line.startswith(("TCP:", "TCP6:")):
                    found += int(line.split()[2])
        return found

    def close(self) -> None:
        """Let go of the namespace. Idempotent."""
        while self._files:
            os.close(self._files.pop())


def write_sysctl(name: str, value: str) -> None:
    """Set a /proc/sys/net value of the namespace of the calling thread, where that can be done.

    In a container /proc/sys may be read-only, and a kernel may lack the protocol. What is set this way is
    comfort; isolation rests on the chains alone.
    """
    path = f"/proc/sys/net/{name}"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise NetworkError.refused(f"write {path}", error.errno or 0) from error
