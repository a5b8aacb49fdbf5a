"""One volunteer's stream: what is pushed to it, in order, through one bounded queue.

gRPC allows one write at a time on a stream, so only `write` writes. A queue that is full means that the
volunteer has not read for long: the stream is ended, and the volunteer comes back and is told anew what it
should know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from syndicate.v1 import registry_pb2 as pb

from ..clock import Clock
from ..core import effects
from ..core.errors import Away, CoreError
from ..core.model import Config, Stamp
from . import convert
from .types import Context

_LONGEST_QUEUE: Final = 4096
# Heartbeats whose acknowledgements may still be answered: more than are ever under way.
_ROUNDS: Final = 8
# In one message; the largest command, a Prepare for a thousand members, has some 60 kB.
_MOST_COMMANDS: Final = 32


class Session:
    """A `Link` to one volunteer, while its stream lasts."""

    def __init__(self, name: str, config: Config, clock: Clock) -> None:
        self.name: str = name
        self.volunteer_id: str = ""
        # Done when the stream should end: with the error that the volunteer is told, or None.
        self.ended: asyncio.Future[CoreError | None] = asyncio.get_running_loop().create_future()
        # Set while no message is being written.
        self.between_writes: asyncio.Event = asyncio.Event()
        self.between_writes.set()
        self._config = config
        self._clock = clock
        # An asyncio.Queue makes a dozen calls for each message, and a fault waits for them.
        self._queue: deque[pb.AttachResponse] = deque()
        self._queued = asyncio.Event()
        # By sequence: heartbeat sent, heartbeat received, and, once it is, ack sent.
        self._rounds: dict[int, tuple[Stamp, Stamp, Stamp | None]] = {}

    # ---- the link, for effects
    # ------------------------------------------------------------------------------

    def send(self, effect: effects.Send) -> None:
        """Push a command."""
        self.push(_message_of(effect))

    def prepare(self, effect: effects.Send) -> Callable[[], None]:
        """Encode a command that is to be pushed soon; the push."""
        return partial(self.push, _message_of(effect))

    def welcome(self, effect: effects.SendWelcome) -> None:
        """Accept the volunteer."""
        config = self._config
        self.push(
            pb.AttachResponse(
                welcome=pb.Welcome(
                    session=self.name,
                    cluster_id=config.cluster_id,
                    epoch=config.epoch,
                    prefix=effect.prefix,
                    warm=[convert.source_out(source) for source in effect.warm],
                    heartbeat_interval_s=config.heartbeat_interval_s,
                    orphan_after_s=config.orphan_after_s,
                    sent_at=convert.stamp_out(self._clock.now()),
                )
            )
        )

    def drain(self, effect: effects.SendDrain) -> None:
        """Take no new reservation, or take them again."""
        self.push(pb.AttachResponse(drain=pb.Drain(draining=effect.draining)))

    def ack_event(self, effect: effects.AckEvent) -> None:
        """An event is written down."""
        self.push(pb.AttachResponse(event_ack=pb.EventAck(event_id=effect.event_id)))

    def close(self, error: CoreError | None) -> None:
        """End the stream; the first reason stands."""
        if not self.ended.done():
            self.ended.set_result(error)

    # ---- heartbeats
    # -----------------------------------------------------------------------------------------

    def exchange(self, beat: pb.Heartbeat) -> tuple[Stamp, Stamp, Stamp, Stamp] | None:
        """The four stamps of the round that this heartbeat closes, if it closes one."""
        sent, received, ack_sent = self._rounds.pop(beat.last_ack_sequence, (None, None, None))
        if sent is None or received is None or ack_sent is None or not beat.HasField("last_ack_received_at"):
            return None
        return sent, received, ack_sent, convert.stamp_in(beat.last_ack_received_at)

    def acknowledge(self, beat: pb.Heartbeat, sent_at: Stamp, received_at: Stamp) -> None:
        """Tell the volunteer that its heartbeat was heard."""
        self._rounds[beat.sequence] = (sent_at, received_at, None)
        if len(self._rounds) > _ROUNDS:
            del self._rounds[min(self._rounds)]
        ack = pb.HeartbeatAck(sequence=beat.sequence, received_at=convert.stamp_out(received_at))
        self.push(pb.AttachResponse(heartbeat_ack=ack))

    # ---- writing
    # --------------------------------------------------------------------------------------------

    def push(self, message: pb.AttachResponse) -> None:
        """Queue a message behind the others."""
        if self.ended.done():
            return
        if len(self._queue) >= _LONGEST_QUEUE:
            self.close(Away("STREAM_STUCK", f"{_LONGEST_QUEUE:,} messages wait unread; attach again"))
            return
        self._queue.append(message)
        self._queued.set()

    async def write(self, context: Context) -> None:
        """Write what is queued until the stream ends. Whether the peer still reads, its heartbeats tell."""
        while True:
            while not self._queue:
                self._queued.clear()
                await self._queued.wait()
            if self.ended.done():
                return
            message = self._queue.popleft()
            if message.HasField("commands"):
                self._join(message.commands)
            elif message.HasField("heartbeat_ack"):
                self._stamp(message.heartbeat_ack)
            self.between_writes.clear()
            await context.write(message)
            self.between_writes.set()

    def _join(self, first: pb.Commands) -> None:
        """Add the commands that wait right behind."""
        queue = self._queue
        while queue and len(first.commands) < _MOST_COMMANDS and queue[0].HasField("commands"):
            first.commands.extend(queue.popleft().commands.commands)

    def _stamp(self, ack: pb.HeartbeatAck) -> None:
        # As late as can be: what lies between this stamp and the wire widens the clock's error.
        now = self._clock.now()
        ack.sent_at.CopyFrom(convert.stamp_out(now))
        sent_at, received_at, _ = self._rounds.get(ack.sequence, (None, None, None))
        if sent_at is not None and received_at is not None:
            self._rounds[ack.sequence] = (sent_at, received_at, now)


def _message_of(effect: effects.Send) -> pb.AttachResponse:
    message = pb.AttachResponse()
    convert.command_out(effect.command, message.commands.commands.add())
    return message
