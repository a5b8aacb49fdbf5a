"""The sync server of one task's slot: it listens from Prepare to Release, over all kills and revivals.

The keeper makes and keeps the listening sockets, in the slot's network; a process takes them over when
somebody comes for the first time, as an inetd's does. So a job that needs no barrier costs two sockets, and
where the process fails whoever comes next finds another: nobody is ever refused.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

from ..local import MAX_ROUNDS, BarriersTold, Prepare
from ..sync.core.wire import DEFAULT_PORT
from ..sync.doors import Doors, Keepalive, opened
from .company import Company
from .errors import KeeperError, failed
from .network import in_namespace
from .sync_account import BadAccount, drop_done, is_answer, told
from .sync_processes import Ended, SyncProcess, SyncProcesses

_libc: Final = ctypes.CDLL(None)

_LINE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
# Between reads: a server that talks without end keeps the loop for little, however much is in what it tells.
_READ_PAUSE_S: Final = 0.02
_BYTES_PER_S: Final = 100_000
# For the last account: where a server stands still for longer its last rounds are missing from the story. The
# tasks have ended by then. A volunteer waits longer for a Release, and for what other slots do behind it.
_LAST_SECONDS: Final = 4.0
_DROP_SECONDS: Final = 3.0  # what the member's faults may have to wait for a server that does not answer
_MOST_DROPS: Final = 64  # of which it is known what they came to; repeats come within moments
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 5.0  # before the next process, after one that failed


def open_doors(address: str, sync_server: str, netns_fd: int | None, uid: int) -> Doors:
    """The sockets, in the slot's network and the task's own; raises KeeperError.

    On the host's network rules know the task by its sockets' uid: were these root's, answers would pass a
    cut, and strangers be answered at all.
    """
    host = address if netns_fd is None else "0.0.0.0"  # noqa: S104 - all of that namespace
    port = int(sync_server.partition(":")[2] or DEFAULT_PORT)

    def make() -> Doors:
        # Of this thread alone; it reports no error, and root may.
        _libc.setfsuid(uid)
        try:
            return opened(host, port, Keepalive())
        finally:
            _libc.setfsuid(0)

    try:
        return in_namespace(netns_fd, make)
    except OSError as error:
        raise failed(f"the sync server cannot listen on {host}:{port}: {error.strerror}") from error


class SyncServer:
    """All methods run on the loop. It owns the doors."""

    def __init__(
        self, slot: int, request: Prepare, uid: int, doors: Doors, processes: SyncProcesses, company: Company
    ) -> None:
        self._slot = slot
        self._task = request.task
        self._uid = uid
        self._doors = doors
        self._names = _names(request)
        self._cpu_millis = request.limits.cpu_millis
        self._processes = processes
        self._company = company
        self._process: SyncProcess | None = None
        self._ending: SyncProcess | None = None  # of a server that is closed
        self._unread = bytearray()
        self._total_before = 0  # rounds of processes that failed
        self._last = BarriersTold(slot, request.task, (), 0, (), 0)
        self._changed = asyncio.Event()  # the last account came, or none will
        self._work: asyncio.Task[None] | None = None  # a process is begun or ended
        self._again: asyncio.TimerHandle | None = None
        self._pause = _FIRST_PAUSE_S
        self._closed = False
        self._dropping = asyncio.Lock()
        self._drops = 0
        self._dropped: OrderedDict[str, int] = OrderedDict()
        self._drop_done: asyncio.Future[int | None] | None = None  # None: the server is gone

    def open(self) -> None:
        """Serve whoever comes from now on."""
        loop = asyncio.get_running_loop()
        for door in (self._doors.tcp, self._doors.udp):
            loop.add_reader(door, self._wake)

    def retell(self) -> None:
        """Tell what is open once more: to a volunteer that has just come."""
        if self._last.total or self._last.open:
            self._company.tell(replace(self._last, rounds=()))

    async def drop(self, barrier: str, order: str) -> int:
        """Have it drop this barrier, or all (""); how many there were.

        The same `order` again is answered as the first time, and drops nothing. Raises KeeperError where the
        server does not listen or answer: what it dropped is not known then.
        """
        async with self._dropping:
            if order not in self._dropped:
                self._dropped[order] = await self._drop(barrier)
                if len(self._dropped) > _MOST_DROPS:
                    self._dropped.popitem(last=False)
            return self._dropped[order]

    async def _drop(self, barrier: str) -> int:
        try:
            async with asyncio.timeout(_DROP_SECONDS):
                if self._process is None:
                    await self._settle()  # it may be about to serve those who came first
                if self._process is None:
                    return 0  # where nobody came there is nothing to drop
                self._drop_done = asyncio.get_running_loop().create_future()
                self._order_drop(self._process, barrier)
                dropped = await self._drop_done
        except TimeoutError as error:
            why = f"the sync server has not answered for {_DROP_SECONDS:g} s: what it dropped is not known"
            raise failed(why) from error
        finally:
            self._drop_done = None
        if dropped is None:
            raise failed("the sync server ended meanwhile, and its barriers with it")
        return dropped

    def _order_drop(self, process: SyncProcess, barrier: str) -> None:
        self._drops += 1
        ask: dict[str, object] = {"ask": "drop", "number": self._drops}
        if barrier:
            ask["barrier"] = barrier
        line = json.dumps(ask, separators=(",", ":")).encode() + b"\n"
        try:
            process.link.send(line)  # so few bytes go whole, or not at all
        except OSError as error:
            raise failed(f"the sync server does not listen: {error.strerror}") from error

    def _settle_drop(self, dropped: int | None) -> None:
        if self._drop_done is not None and not self._drop_done.done():
            self._drop_done.set_result(dropped)

    async def close(self) -> None:
        """Tell the last account and leave nothing. Raises KeeperError, and is to be called again then."""
        if not self._closed:
            self._closed = True
            self._unwatch()
            if self._again is not None:
                self._again.cancel()
            try:
                await self._tell_last()
            finally:
                self._doors.close()
        self._ending = self._let_go() or self._ending
        if self._ending is not None:
            await self._processes.end(self._ending)
            self._ending = None

    async def _tell_last(self) -> None:
        await self._settle()
        if self._process is not None:
            await self._hear_last(self._process)
            await self._settle()  # where it ended meanwhile
        if self._last.total or self._last.open:
            self._company.tell(replace(self._last, open=(), more_open=0, last=True))

    async def _settle(self) -> None:
        """Return once no process is being begun or ended."""
        if self._work is not None:
            await asyncio.wait([self._work])

    # ---- a process

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        for door in (self._doors.tcp, self._doors.udp):
            loop.remove_reader(door)

    def _wake(self) -> None:
        self._unwatch()
        self._do(self._begin())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.create_task(work)
        self._company.spawn(_through(self._work))

    async def _begin(self) -> None:
        """Hand the doors over to a process, or try again later."""
        process = None
        try:
            process = await self._processes.take(self._cpu_millis)
            process.hand_over(self._doors, self._names, self._uid)
        except (KeeperError, OSError) as error:
            self._company.trouble(self._slot, str(error))
            if process is not None:
                await self._bury(process)
            self._wake_later()
            return
        self._process = process
        asyncio.get_running_loop().add_reader(process.link, self._hear)
        await self._stand_by()

    async def _stand_by(self) -> None:
        try:
            await self._processes.stand_by()
        except KeeperError as error:
            self._company.trouble(self._slot, str(error))

    def _let_go(self) -> SyncProcess | None:
        process, self._process = self._process, None
        self._settle_drop(None)
        if process is not None:
            asyncio.get_running_loop().remove_reader(process.link)
        return process

    async def _failed(self, process: SyncProcess, why: str) -> None:
        """It is gone, or is to go; its barriers are, and who comes next finds another."""
        ended = await self._bury(process)
        trouble = why or f"the sync server {ended or 'does not end'}: all its barriers are gone"
        self._company.trouble(self._slot, trouble)
        self._total_before = self._last.total
        self._unread.clear()
        self._last = BarriersTold(self._slot, self._task, (), self._total_before, (), 0)
        self._company.tell(replace(self._last, trouble=trouble))
        self._wake_later()

    async def _bury(self, process: SyncProcess) -> Ended | None:
        try:
            return await self._processes.end(process)
        except KeeperError as error:
            self._company.trouble(self._slot, str(error))
            return None

    def _wake_later(self) -> None:
        if not self._closed:
            self._again = asyncio.get_running_loop().call_later(self._pause, self.open)
            self._pause = min(2 * self._pause, _LAST_PAUSE_S)

    # ---- what it tells

    def _hear(self) -> None:
        process = self._process
        if process is None:
            return
        loop = asyncio.get_running_loop()
        why = ""
        try:
            data = process.link.recv(_READ_BYTES)
            self._unread += data
            self._take_lines()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        except BadAccount as error:
            data, why = b"", str(error)
        if len(self._unread) > _LINE_BYTES:
            data, why = b"", f"the sync server told more than {_LINE_BYTES:,} bytes in one line"
        if data:
            loop.remove_reader(process.link)
            loop.call_later(max(_READ_PAUSE_S, len(data) / _BYTES_PER_S), self._listen, process)
            return
        self._let_go()
        self._changed.set()
        self._do(self._failed(process, why))

    def _listen(self, process: SyncProcess) -> None:
        if self._process is process:
            asyncio.get_running_loop().add_reader(process.link, self._hear)

    def _take_lines(self) -> None:
        *lines, rest = self._unread.split(b"\n")
        self._unread = bytearray(rest)
        for line in lines:
            account = told(bytes(line), self._slot, self._task, self._company.clock.stamp())
            if account is not None:
                self._take(replace(account, total=self._total_before + account.total))
                if self._closed and is_answer(bytes(line)):
                    self._changed.set()
            elif (dropped := drop_done(bytes(line), self._drops)) is not None:
                self._settle_drop(dropped)

    def _take(self, account: BarriersTold) -> None:
        if self._closed:  # all that comes now is told at once
            rounds = (self._last.rounds + account.rounds)[:MAX_ROUNDS]
            self._last = replace(account, rounds=rounds, trouble=account.trouble or self._last.trouble)
        else:
            self._company.tell(account)
            self._last = replace(account, rounds=(), trouble="")

    async def _hear_last(self, process: SyncProcess) -> None:
        """Ask for what was not told yet, and wait for it a little."""
        self._changed.clear()
        self._last = replace(self._last, rounds=())
        try:
            process.link.send(b'{"ask":"rounds"}\n')
            async with asyncio.timeout(_LAST_SECONDS):
                await self._changed.wait()
        except (OSError, TimeoutError):
            return  # it does not answer: what it has told must do


async def _through(work: asyncio.Task[None]) -> None:
    """Have what goes wrong in it go on in the keeper's own group."""
    await work


def _names(request: Prepare) -> Mapping[str, str]:
    """Tasks by address; whoever comes over the loopback device is the slot's own."""
    names = {member.address: member.task for member in request.members}
    return {**names, "127.0.0.1": request.task.task}
