"""The log pump: output from the keeper to the manager, in order, resumed where the manager stands.

Each generation of a task has its own offsets. A piece is read from the keeper only when it can be sent: at
most `WINDOW_BYTES` of a generation, and `WINDOW_PIECES`, are on their way without a LogAck (and what one read
brings beyond that), and a link takes a few chunks at a time; what is not read waits in the keeper's bounded
files. Generations of one link take turns, a read each, so that one that writes much does not hold up the
others. After a reconnect reading goes on at the last ack, after a restart of the volunteer at 0: the manager
drops what it has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from . import local
from .core.model import TaskRef, ref_of

WINDOW_BYTES = 2 << 20
WINDOW_PIECES = 256  # a piece of one byte costs the manager what one of a thousand does

Read = Callable[[local.ReadLog], Awaitable[local.Reply | None]]
Send = Callable[[TaskRef, local.LogPiece], Awaitable[bool]]
Key = tuple[local.TaskId, int]


@dataclass(slots=True)
class Output:
    """The output of one generation. Offsets count all bytes that it wrote.

    `known`: the keeper has it up to here. `next`: read up to here. `sent`: end of the last piece that was
    sent. `acked`: stored by the manager up to here. `pieces`: the ends of those between. `ended`: the keeper
    has said that nothing comes after `next`. `away`: the keeper did not answer, and is not asked again before
    something is heard: a keeper that is away says so at once, and would be asked for ever.
    """

    slot: int
    known: int = 0
    next: int = 0
    sent: int = 0
    acked: int = 0
    ended: bool = False
    draining: bool = False
    queued: bool = False
    away: bool = False
    pieces: deque[int] = field(default_factory=deque)

    @property
    def wanted(self) -> bool:
        """Whether there is something to read, and room to send it."""
        more = self.next < self.known or (self.draining and not self.ended)
        room = self.sent - self.acked < WINDOW_BYTES and len(self.pieces) < WINDOW_PIECES
        return more and room and not self.away

    @property
    def drained(self) -> bool:
        """Whether the manager has all there will ever be."""
        return self.ended and self.acked >= self.sent


class LogPump:
    """All output of the tasks on this volunteer; used on one loop.

    `read` asks the keeper (None where it is away); `drained` is called once for each `drain`.
    """

    def __init__(self, read: Read, drained: Callable[[int, local.TaskId], None]) -> None:
        self._read = read
        self._drained = drained
        self._outputs: dict[Key, Output] = {}
        self._drains: dict[local.TaskId, int] = {}
        self._lanes: dict[str, _Lane] = {}
        self.sent_bytes = 0
        self.dropped_bytes = 0

    # ---- what the keeper says ---------------------------------------------------------------------------

    def grew(self, event: local.LogGrew) -> None:
        """There is more output."""
        output = self._output(event.slot, event.task, event.generation)
        output.known = max(output.known, event.log_bytes)
        output.away = False
        self._offer((event.task, event.generation), output)

    def synced(self, account: local.Synced) -> None:
        """A connection to the keeper was made: what it does not hold is forgotten, the rest goes on."""
        held: set[Key] = set()
        for info in account.slots:
            if info.task is None:
                continue
            for one in info.generations:
                key = (info.task, one.generation)
                held.add(key)
                output = self._output(info.slot, *key)
                output.known = max(output.known, one.log_bytes)
        for task in {task for task, _ in self._outputs.keys() - held}:
            for generation in [g for t, g in self._outputs if t == task and (t, g) not in held]:
                del self._outputs[task, generation]
            self._check_drain(task)
        for key, output in self._outputs.items():
            output.away = False
            self._offer(key, output)

    # ---- what the core wants ----------------------------------------------------------------------------

    def drain(self, slot: int, task: local.TaskId, generations: tuple[int, ...]) -> None:
        """Calls `drained` when all output of these generations is stored, read to its end."""
        self._drains[task] = slot
        for generation in generations:
            output = self._output(slot, task, generation)
            output.draining, output.away = True, False
            self._offer((task, generation), output)
        self._check_drain(task)

    def forget(self, task: local.TaskId) -> None:
        """The task's output is of no interest any more."""
        self._drains.pop(task, None)
        for key in [key for key in self._outputs if key[0] == task]:
            del self._outputs[key]

    # ---- what the links say -----------------------------------------------------------------------------

    def acked(self, ref: TaskRef, offset: int) -> None:
        """All bytes below `offset` are stored or dropped."""
        key = (ref.id, ref.generation)
        output = self._outputs.get(key)
        if output is None:
            return
        output.acked = max(output.acked, offset)
        output.next = max(output.next, output.acked)
        output.sent = max(output.sent, output.acked)
        while output.pieces and output.pieces[0] <= output.acked:
            output.pieces.popleft()
        self._offer(key, output)
        self._check_drain(ref.id)

    def link_down(self, cluster_id: str) -> None:
        """What was on its way and not acked will be sent again."""
        lane = self._lanes.get(cluster_id)
        if lane is not None:
            lane.close()
            del self._lanes[cluster_id]
        for (task, _), output in self._outputs.items():
            if task.cluster_id == cluster_id:
                output.next = output.sent = output.acked
                output.pieces.clear()
                output.ended = output.queued = output.away = False

    async def serve(self, cluster_id: str, send: Send) -> None:
        """Sends the output of a cluster's tasks until `link_down`, or until `send` says False."""
        lane = self._lanes[cluster_id] = _Lane()
        for known, output in self._outputs.items():
            self._offer(known, output)
        while (key := await lane.get()) is not None:
            due = self._outputs.get(key)
            if due is None:
                continue
            due.queued = False
            if due.wanted and not await self._send_some(key, due, lane, send):
                return
            self._offer(key, due)

    # ---- steps ------------------------------------------------------------------------------------------

    async def _send_some(self, key: Key, output: Output, lane: _Lane, send: Send) -> bool:
        """One read and its pieces; False where the stream is down."""
        task, generation = key
        asked = output.next
        request = local.ReadLog(output.slot, task, generation, asked, local.MAX_LOG_READ_BYTES)
        reply = await self._read(request)
        if lane.closed:
            return False
        if isinstance(reply, local.Refused):  # there is no such output, or not any more
            self._end(key, output)
            return True
        if not isinstance(reply, local.LogRead) or output.next != asked:
            # The keeper is away, and offers everything again when it is back; or an ack has gone past.
            output.away = reply is None
            return True
        output.next = max(output.next, reply.next_offset)
        for piece in reply.pieces:
            end = piece.offset + len(piece.data)
            output.sent = max(output.sent, end)
            if end > output.acked:
                output.pieces.append(end)
            if not await send(ref_of(task, generation), piece):
                return False
            self.sent_bytes += len(piece.data)
            self.dropped_bytes += piece.dropped_before
        # Without a piece and without an end there is nothing yet: the next LogGrew tells.
        if not reply.pieces and not reply.end:
            output.known = min(output.known, output.next)
        if reply.end:
            self._end(key, output)
        return True

    def _end(self, key: Key, output: Output) -> None:
        output.ended = True
        output.known = output.next
        self._check_drain(key[0])

    def _output(self, slot: int, task: local.TaskId, generation: int) -> Output:
        return self._outputs.setdefault((task, generation), Output(slot))

    def _offer(self, key: Key, output: Output) -> None:
        lane = self._lanes.get(key[0].cluster_id)
        if lane is not None and output.wanted and not output.queued:
            output.queued = True
            lane.put(key)

    def _check_drain(self, task: local.TaskId) -> None:
        if task not in self._drains:
            return
        waiting = (o for (owner, _), o in self._outputs.items() if owner == task and o.draining)
        if all(output.drained for output in waiting):
            self._drained(self._drains.pop(task), task)


class _Lane:
    """The generations of one cluster that have something to send, in turn."""

    def __init__(self) -> None:
        self._keys: deque[Key] = deque()
        self._something = asyncio.Event()
        self.closed = False

    def put(self, key: Key) -> None:
        self._keys.append(key)
        self._something.set()

    async def get(self) -> Key | None:
        while not self._keys and not self.closed:
            self._something.clear()
            await self._something.wait()
        return None if self.closed else self._keys.popleft()

    def close(self) -> None:
        self.closed = True
        self._something.set()
