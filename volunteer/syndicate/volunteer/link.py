"""The stream to one manager: connect, be welcomed, carry messages both ways, and come back when it ends.

A message of the manager is handled on the loop as it comes, without a queue in between; what is to be said
goes through the outbox, whose one writer gives each push a deadline. How the stream ended decides when the
next try is: a manager that is away is tried again soon, with back-off and full jitter; one that refuses is
tried slowly, since only its operator can mend that. The log has a line where something changed, and one a
minute while it stays so, not one for each try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import grpc.aio
import structlog
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc

from . import convert
from .core import events, model
from .outbox import Outbox, OutboxFull
from .retelling import MINUTE_S, Retelling
from .way import NoWay, Way

_log = structlog.get_logger()

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Application heartbeats decide liveness; these let a dead connection go before TCP would.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The link has a back-off of its own; gRPC's would go on top of it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.enable_http_proxy", 0),
    # A link is one connection to one manager, whatever else this process talks to.
    ("grpc.use_local_subchannel_pool", 1),
)

_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}

_WRITE_FAILED = "execute_batch"
"""In the text that grpc.aio makes up where a write met the end of a call before its status came."""

AttachCall = grpc.aio.StreamStreamCall  # of AttachRequest, AttachResponse


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a link behaves. Durations are in seconds."""

    push_deadline_s: float = 10.0
    backoff_first_s: float = 0.2
    backoff_most_s: float = 10.0
    refused_least_s: float = 2.0
    goodbye_s: float = 1.0
    retold_s: float = MINUTE_S


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream ended: a status and a line; `refused` where only an operator can mend it."""

    status: str
    detail: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class LinkEdges:
    """What a link needs of the app.

    `log_acked` is told of LogAck, `came_up` once per Welcome, `commanded` once per message of commands, when
    all of them are dispatched.
    """

    dispatch: Callable[[events.Event], None]
    commanded: Callable[[], None]
    log_acked: Callable[[model.TaskRef, int], None]
    came_up: Callable[[ManagerLink, model.Welcome], None]
    went_down: Callable[[ManagerLink], None]
    free: Callable[[], model.Resources]


class _Patience:
    """Tells of a push that takes too long; a timer for each would be made in vain, right before its bytes."""

    def __init__(self, seconds: float, lost: Callable[[], None]) -> None:
        self._seconds = seconds
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None  # of this push, or of an earlier one
        self._until: float | None = None

    def begin(self) -> None:
        """A push begins."""
        self._until = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._look)

    def end(self) -> None:
        """It has ended."""
        self._until = None

    def over(self) -> None:
        """Nothing is pushed any more."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._until is None:
            return
        if self._loop.time() < self._until:  # it began since
            self._timer = self._loop.call_at(self._until, self._look)
        else:
            self._lost()


class ManagerLink:
    """One manager, by its `HOST:PORT`."""

    def __init__(
        self, target: str, way: Way, settings: LinkSettings, edges: LinkEdges, random: Random
    ) -> None:
        self.target = target
        self.up = asyncio.Event()
        """Set while the manager's Welcome stands."""
        self.attempts = 0
        """Streams that were tried."""
        self.welcomes = 0
        self._way = way
        self._settings = settings
        self._edges = edges
        self._random = random
        self._credentials: tuple[tuple[str, str], ...] = ()
        self._channel: grpc.aio.Channel | None = None
        self._version: object = None
        # Made before the certificate was replaced; the stream may still run on one of them.
        self._retired: list[grpc.aio.Channel] = []
        self._call: AttachCall[Any, Any] | None = None
        self._outbox: Outbox | None = None
        self._welcomed = False
        self._name = ""
        self._closing = ""
        self._stopping = False
        self._trouble = Retelling(settings.retold_s)
        self._log = _log.bind(manager=target)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection, also for FetchSource and relayed calls; made on first use."""
        if self._channel is None:
            self._channel = self._way.open(self.target, CHANNEL_OPTIONS)
            self._version = self._way.version
        return self._channel

    @property
    def credentials(self) -> tuple[tuple[str, str], ...]:
        """The metadata that says who calls, as of the latest stream."""
        return self._credentials

    @property
    def session(self) -> str:
        """The name that the manager gave the stream; empty while there is none."""
        return self._name

    def renewed(self) -> None:
        """There is a new certificate: calls from now on show it. A stream that runs goes on."""
        if self._channel is not None and self._version != self._way.version:
            self._retired.append(self._channel)
            self._channel = None

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().close()

    # ---- what the app says ------------------------------------------------------------------------------

    def push(self, message: pb.AttachRequest) -> None:
        """Sends a message, in order; nothing comes of it where the stream is down."""
        if self._outbox is None:
            return
        try:
            self._outbox.put(message)
        except OutboxFull as error:
            self.close(str(error))

    async def push_log(self, message: pb.AttachRequest) -> bool:
        """Sends a piece of log when there is room; False where the stream is down."""
        return self._outbox is not None and await self._outbox.put_log(message)

    def heartbeat(self, beat: model.Heartbeat) -> None:
        """Sends a sign of life with what is free."""
        self.push(convert.heartbeat_out(beat, self._edges.free()))

    def close(self, detail: str) -> None:
        """Ends the stream; another is opened after the back-off."""
        if self._call is not None and not self._closing:
            self._closing = detail
            self._call.cancel()

    # ---- its life ---------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps a stream to the manager until `stop` is set; then ends it in good order."""
        stopping = asyncio.create_task(self._stop_when(stop))
        try:
            wait_s = self._settings.backoff_first_s
            while not stop.is_set():
                began = asyncio.get_running_loop().time()
                ended = await self._session()
                if self._stopping:
                    break
                self._tell_end(ended)
                lasted = asyncio.get_running_loop().time() - began
                if self._welcomed and lasted > self._settings.backoff_most_s:
                    wait_s = self._settings.backoff_first_s  # it was a good one, not one of a row of failures
                least = self._settings.refused_least_s if ended.refused else 0.0
                pause = self._random.uniform(least, max(least, wait_s))
                wait_s = min(max(wait_s, least) * 2, self._settings.backoff_most_s)
                await _wait(stop, pause)
        finally:
            stopping.cancel()
            await asyncio.wait({stopping})
            await self._close_retired()
            if self._channel is not None:
                await self._channel.close()

    async def _stop_when(self, stop: asyncio.Event) -> None:
        """Half-closes the stream, and gives the manager a moment to see it."""
        await stop.wait()
        self._stopping = True
        call = self._call
        if call is None:
            return
        try:
            async with asyncio.timeout(self._settings.goodbye_s):
                await call.done_writing()
                await asyncio.Event().wait()  # until the stream's end cancels this, or the moment is over
        except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError) as error:
            self._log.debug("link.goodbye", detail=str(error) or "the manager has not ended the stream")
        finally:
            call.cancel()

    async def _session(self) -> Ended:
        """One stream, from Hello to its end."""
        self._welcomed, self._closing = False, ""
        self.attempts += 1
        try:
            # For each stream, so that token and certificate can be changed under a running volunteer.
            self._credentials = self._way.metadata()
        except NoWay as error:
            return Ended("NO_CREDENTIAL", str(error), refused=True)
        self.renewed()
        # Its async types are in a name that exists for type checkers only.
        stub: Any = registry_pb2_grpc.RegistryStub(self.channel)
        call: AttachCall[Any, Any] = stub.Attach(metadata=self._credentials)
        self._call, self._outbox = call, Outbox()
        writer = asyncio.create_task(self._write(call, self._outbox))
        try:
            self._edges.dispatch(events.LinkOpened(self.target))
            ended = await self._read(call)
            if ended.status == "UNAVAILABLE" and not self._welcomed and (why := await self._why()):
                return Ended("TLS", why, refused=True)
            return ended
        finally:
            self._name = ""
            self.up.clear()
            self._outbox.close()
            self._call = self._outbox = None
            writer.cancel()
            call.cancel()
            await asyncio.wait({writer})
            await self._close_retired()
            self._edges.dispatch(events.LinkLost(self.target))
            self._edges.went_down(self)

    async def _why(self) -> str:
        """Why there is no connection; asked for where the log is to say it."""
        now = asyncio.get_running_loop().time()
        return await self._way.why(self.target) if self._trouble.is_due("UNAVAILABLE", now) else ""

    async def _read(self, call: AttachCall[Any, Any]) -> Ended:
        try:
            async for message in call:
                self._take(message)
        except convert.Malformed as error:
            return Ended("MALFORMED", str(error), refused=True)
        except grpc.aio.AioRpcError as error:
            if self._closing:
                return Ended("CLOSED", self._closing)
            if error.code() is grpc.StatusCode.INTERNAL and _WRITE_FAILED in (error.details() or ""):
                return Ended("BROKEN", "the stream ended while it was written to")
            return Ended(error.code().name, error.details() or "", error.code() in _REFUSALS)
        except asyncio.CancelledError:
            # The call's own cancellation comes as this too; one of this task goes on.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
        return Ended("CLOSED", self._closing or "the manager ended the stream")

    async def _write(self, call: AttachCall[Any, Any], outbox: Outbox) -> None:
        """Writes what waits. A push that takes too long means a stuck peer: the stream is given up."""
        seconds = self._settings.push_deadline_s
        patience = _Patience(
            seconds, lambda: self.close(f"a message could not be pushed within {seconds:g} s")
        )
        try:
            while True:
                message = await outbox.get()
                patience.begin()
                await call.write(message)
                patience.end()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the stream has ended; the reader tells how
        finally:
            patience.over()

    # ---- what the manager says --------------------------------------------------------------------------

    def _take(self, message: pb.AttachResponse) -> None:
        match message.WhichOneof("message"):
            case "commands":
                for command in message.commands.commands:
                    self._command(command)
                self._edges.commanded()
            case "heartbeat_ack":
                self._edges.dispatch(events.HeartbeatAcked(self.target, message.heartbeat_ack.sequence))
            case "log_ack":
                acked = message.log_ack
                self._edges.log_acked(convert.ref_in(acked.task), acked.offset)
            case "event_ack":
                self._edges.dispatch(events.EventAcked(self.target, message.event_ack.event_id))
            case "welcome":
                self._welcome(message.welcome)
            case "drain":
                self._edges.dispatch(events.DrainReceived(self.target, message.drain.draining))
            # Anything else is of a newer manager and means nothing here.

    def _command(self, message: pb.Command) -> None:
        try:
            command = convert.command_in(message)
        except convert.Malformed as error:
            if not message.command_id:
                raise
            refused = model.Answer(message.command_id, model.AnswerCode.FAILED, str(error))
            self.push(convert.answer_out(refused))
            return
        self._edges.dispatch(events.CommandReceived(self.target, command))

    def _welcome(self, message: pb.Welcome) -> None:
        welcome = convert.welcome_in(message)
        self._name = welcome.session
        self._edges.dispatch(events.Welcomed(self.target, welcome))
        if self._closing:
            return
        self._welcomed = True
        self.welcomes += 1
        self.up.set()
        self._trouble.over()
        self._log.info("link.up", cluster=welcome.cluster_id, epoch=welcome.epoch, prefix=welcome.prefix)
        self._edges.came_up(self, welcome)

    def _tell_end(self, ended: Ended) -> None:
        """One line where something changed, and one a minute while it stays so; other tries say nothing."""
        for_s = self._trouble.tell(ended.status, asyncio.get_running_loop().time())
        if for_s is None:
            return
        event = "link.refused" if ended.refused else "link.down"
        say = self._log.error if ended.refused else self._log.warning
        lasting = {"for_s": for_s, "tries": self.attempts} if for_s else {}
        say(event, status=ended.status, detail=ended.detail, **lasting)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
