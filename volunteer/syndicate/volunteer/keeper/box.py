"""One launched sandbox: its cgroup, its process, and the pipes to it.

Used by one thread, the slot's; but what ends it and waits for that may be called on the loop.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from . import mounts, signals
from .cgroups import Cgroup, CgroupError
from .disk import Disk
from .errors import failed, one_line
from .launch import Launcher
from .process import Process, reap
from .sandbox import (
    STDERR,
    STDOUT,
    Orders,
    Programs,
    Unpacker,
    Walls,
    bwrap_arguments,
    command,
    packer_arguments,
    packer_command,
)
from .seccomp import reopened

_READY_SECONDS = 10.0
_ORPHAN_SECONDS = 5.0
_CHUNK = 1 << 20


class Cancelled(Exception):
    """A newer request wants the slot's processes gone."""


@dataclass(frozen=True)
class Site:
    """What all sandboxes of one slot share."""

    uid: int
    cgroup: Cgroup
    view: Path
    programs: Programs
    join: Sequence[str]  # `tasks` files of version 1 hierarchies that bound the slot's memory and processes
    cancel: int  # an eventfd that is readable while running work should stop
    filter: int | None  # of system calls, a memory file; None where the operator does without
    own_cgroups: bool  # whether its sandboxes see no cgroup but their own


@dataclass
class Pipes:
    """The keeper's ends. Each is closed by `close`, or earlier by who is done with it."""

    stdout: int
    stderr: int
    source: int
    report: int
    orders: int

    def close(self, name: str) -> None:
        """Close one end; harmless when repeated."""
        descriptor: int = getattr(self, name)
        if descriptor >= 0:
            setattr(self, name, -1)
            os.close(descriptor)

    def release(self, name: str) -> int:
        """Hand one end over to another owner."""
        descriptor: int = getattr(self, name)
        setattr(self, name, -1)
        return descriptor

    def close_all(self) -> None:
        """Close every end that is left."""
        for name in ("stdout", "stderr", "source", "report", "orders"):
            self.close(name)


@dataclass
class Box:
    """A sandbox whose shell waits for orders, and later make."""

    site: Site
    cgroup: Cgroup
    process: Process
    pipes: Pipes
    init: Process | None = None  # the first process of the sandbox's pid namespace
    _said: bytearray = field(default_factory=bytearray)
    _mounts: int = -1  # its mount namespace
    _preemptible: bool = True

    @classmethod
    def launch(
        cls,
        site: Site,
        launcher: Launcher,
        generation: int,
        disk: Disk,
        netns: int | None,
        preemptible: bool = True,
    ) -> Box:
        """Start a sandbox on `disk` and wait for its shell; raises KeeperError, leaving nothing.

        It starts from the mounts of the calling thread, on which the disk must be.
        With `preemptible` also Cancelled. What is made ahead of any task is not: who wants the slot's work
        to stop means the request that waits behind it.
        """

        def start() -> Box:
            disk.begin(generation)
            argv, options = command(site.programs, site.uid), _options(site, disk)
            return cls._start(site, launcher, f"g{generation}", argv, options, netns)

        return cls._stand(start, preemptible)

    @classmethod
    def launch_packer(cls, site: Site, launcher: Launcher, disk: Disk, netns: int | None) -> Box:
        """Start a sandbox that packs `disk` once it is told to `go`; as `launch`, raises Cancelled too."""

        def start() -> Box:
            walls = Walls(filtered=site.filter is not None, own_cgroups=site.own_cgroups)
            options = packer_arguments(site.programs, disk.upper, disk.tmp, disk.shm, walls)
            return cls._start(
                site, launcher, "packer", packer_command(site.programs, site.uid), options, netns
            )

        return cls._stand(start, preemptible=True)

    @classmethod
    def _stand(cls, start: Callable[[], Box], preemptible: bool) -> Box:
        try:
            box = start()
            box._preemptible = preemptible
            try:
                box._await_ready()
            except BaseException:
                box.destroy()
                raise
        except TimeoutError:
            raise failed("the sandbox does not answer") from None
        except (OSError, CgroupError) as error:
            raise failed(f"cannot start a sandbox: {error}") from error
        box._preemptible = True
        return box

    @classmethod
    def _start(
        cls,
        site: Site,
        launcher: Launcher,
        name: str,
        argv: Sequence[str],
        options: bytes,
        netns: int | None,
    ) -> Box:
        cgroup = site.cgroup.child(name)
        with ExitStack() as undo:
            undo.callback(cgroup.remove)
            pipes, theirs = _make_pipes()
            undo.callback(pipes.close_all)
            with ExitStack() as given:
                for descriptor in theirs:
                    given.callback(os.close, descriptor)
                for output in (STDOUT, STDERR):  # a recipe's `> /dev/stderr` opens it as the task
                    os.fchown(theirs[output], site.uid, site.uid)
                theirs.append(_arguments(options))
                given.callback(os.close, theirs[-1])
                if site.filter is not None:
                    theirs.append(reopened(site.filter))
                    given.callback(os.close, theirs[-1])
                inside = cgroup.open()
                given.callback(os.close, inside)
                mntns = mounts.hold_namespace()
                given.callback(os.close, mntns)
                pid = launcher.start(argv, inside, mntns, netns, theirs, site.join)
            undo.callback(reap, pid, _ORPHAN_SECONDS)
            undo.callback(cgroup.kill)
            process = Process(pid)
            undo.pop_all()
        return cls(site, cgroup, process, pipes)

    def _await_ready(self) -> None:
        line = self.next_report(time.monotonic() + _READY_SECONDS)
        if line != "ready":
            raise failed(f"the sandbox did not start: {line or self._last_words()}")
        child = self.process.first_child()
        if child is None:
            raise failed("the sandbox ended as it started")
        self.init = Process(child)
        # Held until `dispose`: else a kill's last process takes all mounts down before it counts as gone.
        self._mounts = os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def _last_words(self) -> str:
        """What bubblewrap or setpriv said before it ended."""
        self.process.wait(1.0)
        os.set_blocking(self.pipes.stderr, False)
        try:
            text = os.read(self.pipes.stderr, 4096).decode(errors="replace")
        except BlockingIOError:
            text = ""
        return one_line(text) or f"it ended with {self.process.reap()}"

    def name_host(self, name: str) -> None:
        """Give the sandbox its host name; raises KeeperError."""
        if self.init is None:
            raise RuntimeError("a sandbox that is ready has a first process")
        try:
            mounts.set_hostname(self.init.pid, name)
        except OSError as error:
            raise failed(str(error)) from error

    def order(self, orders: Orders, deadline: float) -> None:
        """Hand over the orders; raises KeeperError, or Cancelled."""
        text = memoryview(orders.encode())
        os.set_blocking(self.pipes.orders, False)
        while text:
            try:
                self._poll({self.pipes.orders: select.POLLOUT}, deadline)
                text = text[os.write(self.pipes.orders, text) :]
            except BrokenPipeError:
                raise failed("the sandbox ended before it got its orders") from None
            except TimeoutError:
                raise failed("the sandbox does not answer") from None
        if orders.unpacker is Unpacker.KEPT:
            self.pipes.close("source")

    def go(self) -> None:
        """Let the shell become make: the end of the report pipe tells. Raises BrokenPipeError."""
        os.write(self.pipes.orders, b"go\n")

    def feed(self, source: int, until_said: Callable[[], bool], deadline: float) -> None:
        """Stream the file `source` into the sandbox until it is all there or the report says enough."""
        pipe = self.pipes.source
        os.set_blocking(pipe, False)
        while not until_said():
            ready = self._poll({pipe: select.POLLOUT, self.pipes.report: select.POLLIN}, deadline)
            if self.pipes.report in ready and not self._hear():
                break
            if pipe in ready:
                try:
                    if not os.splice(source, pipe, _CHUNK):
                        break
                except BrokenPipeError:
                    break
                except BlockingIOError:
                    continue
        self.pipes.close("source")

    def next_report(self, deadline: float) -> str | None:
        """The next line from the sandbox, None if it ended; raises TimeoutError or Cancelled."""
        while b"\n" not in self._said:
            self._poll({self.pipes.report: select.POLLIN}, deadline)
            if not self._hear():
                return None
        line, _, rest = bytes(self._said).partition(b"\n")
        self._said = bytearray(rest)
        return line.decode(errors="replace")

    def has_report(self, beginning: bytes) -> bool:
        """Whether a line that begins so was heard already."""
        return self._said.startswith(beginning) or b"\n" + beginning in self._said

    def read_packed(self, limit: int, deadline: float) -> bytes:
        """The next piece of what a packer writes, empty at its end; raises TimeoutError or Cancelled.

        What it says meanwhile is heard, so that it never waits for that.
        """
        pipes = self.pipes
        while True:
            wanted = {pipes.stdout: select.POLLIN}
            if pipes.report >= 0:
                wanted[pipes.report] = select.POLLIN
            ready = self._poll(wanted, deadline)
            if pipes.report in ready and not self._hear():
                pipes.close("report")
            if pipes.stdout in ready:
                return os.read(pipes.stdout, limit)

    def last_reports(self, deadline: float) -> list[str]:
        """All that it said and was kept of it, until it says nothing more; raises TimeoutError, Cancelled."""
        while self.pipes.report >= 0:
            self._poll({self.pipes.report: select.POLLIN}, deadline)
            if not self._hear():
                self.pipes.close("report")
        return bytes(self._said).decode(errors="replace").splitlines()

    def _hear(self) -> bool:
        data = os.read(self.pipes.report, 65536)
        self._said += data
        if len(self._said) > 256 * 1024:  # tar names every member that it cannot unpack
            del self._said[: 128 * 1024]
        return bool(data)

    def _poll(self, wanted: dict[int, int], deadline: float) -> set[int]:
        poller = select.poll()
        if self._preemptible:
            poller.register(self.site.cancel, select.POLLIN)
        for descriptor, events in wanted.items():
            poller.register(descriptor, events)
        left = deadline - time.monotonic()
        ready = {descriptor for descriptor, _ in poller.poll(max(left, 0) * 1000)}
        if self.site.cancel in ready:
            raise Cancelled
        if not ready:
            raise TimeoutError("the sandbox does not answer")
        return ready

    def count(self) -> int:
        """The task's processes now: make and what it started, without bubblewrap's two."""
        return len(set(self.cgroup.pids()) - self._own)

    @property
    def _own(self) -> set[int]:
        return {self.process.pid} | ({self.init.pid} if self.init else set())

    def count_targets(self) -> int:
        """How many processes `send` would reach; raises OSError."""
        return len(signals.targets(signals.seen_in(self.cgroup, self._own)))

    def send(self, number: int) -> int:
        """Send a signal to the task's programs; to how many. Raises OSError."""
        return signals.send(self.cgroup, number, self._own)

    def strike(self) -> int:
        """Have every process of it killed, without waiting; how many were the task's. From any thread."""
        found = self.count()
        self.cgroup.strike()
        return found

    async def vanished(self, seconds: float) -> bool:
        """Whether no process is left, on the loop, waiting at most so long for those that were struck.

        The kernel lets the first process of a pid namespace end after all others of it, and its pidfd tells
        at once, without a look now and then.
        """
        if self.init is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self.init.gone()
            except TimeoutError:
                return False
        return self.cgroup.is_empty()

    def kill(self) -> None:
        """End every process of it and return once none is left; blocks. Raises KeeperError."""
        try:
            self.cgroup.kill()
        except CgroupError as error:
            raise failed(str(error)) from error

    def destroy(self) -> None:
        """End it and leave nothing: processes, cgroup, pipes; raises KeeperError."""
        self.kill()
        if self.process.wait(5.0) is None:
            raise failed(f"process {self.process.pid} does not end")
        self.dispose()

    def dispose(self) -> None:
        """Give back what an ended, reaped sandbox holds; raises KeeperError. May be repeated."""
        if self.init is not None:
            self.init.reap_orphan(_ORPHAN_SECONDS)
            self.init.close()
            self.init = None
        if self._mounts >= 0:
            os.close(self._mounts)
            self._mounts = -1
        self.process.close()
        self.pipes.close_all()
        try:
            self.cgroup.remove()
        except CgroupError as error:
            raise failed(str(error)) from error


def _make_pipes() -> tuple[Pipes, list[int]]:
    """The keeper's ends, and the sandbox's by their numbers there; raises OSError, leaving none."""
    with ExitStack() as undo:

        def pipe() -> tuple[int, int]:
            ends = os.pipe2(os.O_CLOEXEC)
            for end in ends:
                undo.callback(os.close, end)
            return ends

        stdout, stdout_in = pipe()
        stderr, stderr_in = pipe()
        source_out, source = pipe()
        report, report_in = pipe()
        orders_out, orders = pipe()
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        undo.pop_all()
    theirs = [null, stdout_in, stderr_in, source_out, report_in, orders_out]
    return Pipes(stdout, stderr, source, report, orders), theirs


def _options(site: Site, disk: Disk) -> bytes:
    """bubblewrap's options for a task."""
    walls = Walls(filtered=site.filter is not None, own_cgroups=site.own_cgroups)
    return bwrap_arguments(site.programs, disk.root, disk.tmp, disk.shm, site.view, walls)


def _arguments(options: bytes) -> int:
    """bubblewrap's options as a descriptor, which the caller closes; raises OSError, leaving none."""
    descriptor = os.memfd_create("syndicate-arguments", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, options)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
