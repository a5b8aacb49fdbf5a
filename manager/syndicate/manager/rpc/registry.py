"""Registry: the streams of the volunteers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

import grpc
import structlog
from syndicate.v1 import common_pb2, registry_pb2_grpc, scheduler_pb2
from syndicate.v1 import registry_pb2 as pb

from ..blobs import BlobDirectory
from ..core import events
from ..core.errors import BadRequest, CoreError, NotFound, Refused
from ..core.model import AnswerCode, Stamp
from ..disks import DiskStore
from ..engine import Engine
from ..logs import LogKey, LogStore, Stored
from ..transport import Transport
from ..wakers import Wakers
from . import convert
from .audit import AuditLog
from .barriers import news_in
from .disks import DiskDesk, VolunteersDisks
from .errors import short
from .join import Signing
from .session import Session
from .silence import Silence
from .threads import off
from .types import Context, Handler

_HELLO_WITHIN_S: Final = 10.0
_LAST_WRITE_S: Final = 1.0
# A stream's name is a secret between its volunteer and the manager: relayed calls are known by it.
_SESSION_BYTES: Final = 16
# A volunteer that says nothing for so many heartbeats is away, whatever its connection looks like.
_SILENT_HEARTBEATS: Final = 3
_CHUNK: Final = 512 << 10
_MOST_FETCHES: Final = 32
_LONGEST_PIECE: Final = 256 << 10

_log = structlog.get_logger()


class Registry(VolunteersDisks, registry_pb2_grpc.RegistryServicer):
    """The servicer. Errors are raised as CoreErrors; the guard tells them."""

    def __init__(
        self,
        engine: Engine,
        blobs: BlobDirectory,
        logs: LogStore,
        logs_changed: Wakers,
        files: Executor,
        transport: Transport | None,
        audit: AuditLog,
        disks: DiskStore,
    ) -> None:
        """Without `transport` the listener is in clear text, and a volunteer is whoever it says it is."""
        self._engine = engine
        self._blobs = blobs
        self._logs = logs
        self._logs_changed = logs_changed
        self._files = files
        self._transport = transport
        self._signing = None if transport is None else Signing(transport, audit)
        # Each fetch under way holds a chunk in memory; the others wait for their turn.
        self._fetches = asyncio.Semaphore(_MOST_FETCHES)
        peers = None if transport is None else transport.peers
        self._disks = DiskDesk(engine, disks, files, peers)

    # ---- the stream
    # -----------------------------------------------------------------------------------------

    async def Attach(  # type: ignore[override]  # gRPC takes a coroutine that writes as well as a generator
        self, request_iterator: object, context: Context
    ) -> None:
        """Serve one volunteer until either side ends the stream."""
        hello = await self._hello(context)
        session = Session(secrets.token_hex(_SESSION_BYTES), self._engine.config, self._engine.clock)
        session.volunteer_id = hello.volunteer_id
        with contextlib.ExitStack() as held:
            if self._transport is not None:
                peers = self._transport.peers
                certificate = peers.must_be(context, hello.volunteer_id)
                held.enter_context(peers.attached(certificate, session.close))
            await self._attached(hello, session, context)

    async def _attached(self, hello: pb.Hello, session: Session, context: Context) -> None:
        log = _log.bind(volunteer_id=hello.volunteer_id, boot_id=hello.boot_id)
        self._engine.links[session.name] = session
        try:
            self._engine.handle(events.VolunteerAttached(session.name, convert.hello_in(hello)))
            log.info(
                "volunteer.attached", slots=len(hello.slots), held=len(hello.held), version=hello.version
            )
            error = await self._serve(session, context)
        finally:
            del self._engine.links[session.name]
            if self._engine.stopping is None:
                self._engine.handle(events.VolunteerDetached(session.name))
        log.info(
            "volunteer.detached", reason=error.reason if error else "", detail=error.detail if error else ""
        )
        if error is not None:
            raise error

    async def _hello(self, context: Context) -> pb.Hello:
        try:
            async with asyncio.timeout(_HELLO_WITHIN_S):
                first = await context.read()
        except TimeoutError:
            raise BadRequest("NO_HELLO", f"no Hello came within {_HELLO_WITHIN_S:g} s") from None
        if first is grpc.aio.EOF or first.WhichOneof("message") != "hello":
            raise BadRequest("NO_HELLO", "the first message of a stream must be Hello")
        hello: pb.Hello = first.hello
        convert.name(hello.volunteer_id, "hello.volunteer_id")
        return hello

    async def _serve(self, session: Session, context: Context) -> CoreError | None:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(session.write(context))
            reader = tasks.create_task(self._read(session, context))
            error = await session.ended
            # gRPC cannot tell the peer why while a message is on its way; one that is stuck is not told.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WRITE_S):
                    await session.between_writes.wait()
            writer.cancel()
            reader.cancel()
        return error

    async def _read(self, session: Session, context: Context) -> None:
        silence = Silence(session, _SILENT_HEARTBEATS * self._engine.config.heartbeat_interval_s)
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                if session.ended.done():
                    return  # it was cut off: what it still says counts no more
                self._take(session, message)
                # While the disk is behind nothing more is read, and gRPC's flow control stops the volunteer:
                # it is not silent then, it is not heard.
                silence.since = None
                await self._logs.room()
                await self._engine.room()
                silence.since = silence.time()
            session.close(None)
        except CoreError as error:
            session.close(error)
        finally:
            silence.over()

    def _take(self, session: Session, message: pb.AttachRequest) -> None:
        match message.WhichOneof("message"):
            case "heartbeat":
                self._heartbeat(session, message.heartbeat)
            case "answers":
                for answer in message.answers.answers:
                    self._answer(session, answer)
            case "event":
                self._event(session, message.event)
            case "log":
                self._log(session, message.log)
            case other:
                raise BadRequest("BAD_FIELD", f"{other or 'an empty message'} has no place behind Hello")

    def _heartbeat(self, session: Session, beat: pb.Heartbeat) -> None:
        received_at = self._engine.clock.now()
        sent_at = convert.stamp_in(beat.sent_at)
        free = convert.resources_in(beat.free)
        self._engine.handle(
            events.HeartbeatReceived(session.name, free, session.exchange(beat), worn=beat.worn)
        )
        session.acknowledge(beat, sent_at, received_at)

    def _answer(self, session: Session, answer: pb.Answer) -> None:
        self._engine.handle(
            events.AnswerReceived(
                session=session.name,
                command_id=answer.command_id,
                code=convert.known(AnswerCode, answer.code, "answer.code"),
                detail=short(answer.detail, convert.MAX_DETAIL_BYTES),
                address=convert.address(answer.address, "answer.address"),
                processes=answer.processes,
                applied_at=convert.stamp_in(answer.applied_at) if answer.HasField("applied_at") else None,
                duration_ns=answer.duration_ns,
                dropped=answer.dropped if answer.HasField("dropped") else None,
            )
        )

    def _event(self, session: Session, event: pb.TaskEvent) -> None:
        if event.WhichOneof("event") == "barriers":
            self._engine.handle(
                events.BarriersTold(
                    session=session.name,
                    event_id=event.event_id,
                    ref=convert.ref_in(event.task),
                    at=convert.stamp_in(event.at),
                    news=news_in(event.barriers),
                )
            )
            return
        if event.WhichOneof("event") != "exited":
            raise BadRequest("BAD_FIELD", "event says nothing that is known here")
        self._engine.handle(
            events.TaskExited(
                session=session.name,
                event_id=event.event_id,
                ref=convert.ref_in(event.task),
                at=convert.stamp_in(event.at),
                exit=convert.exit_in(event.exited),
            )
        )

    # ---- logs
    # -----------------------------------------------------------------------------------------------

    def _log(self, session: Session, chunk: pb.LogChunk) -> None:
        piece = chunk.piece
        if piece.offset < 0 or len(piece.data) > _LONGEST_PIECE:
            raise BadRequest(
                "BAD_FIELD", f"log.piece is larger than {_LONGEST_PIECE:,} bytes, or its offset negative"
            )
        ref = convert.ref_in(chunk.task)
        if not self._engine.machine.may_log(session.name, ref):
            # Of a task that is no longer this volunteer's: nobody will read it, so it need not come again.
            self._ack_log(session, chunk.task, piece.offset + len(piece.data))
            return
        entry = scheduler_pb2.ReadLogsResponse(
            task=ref.task,
            generation=ref.generation,
            piece=piece,
            at=convert.stamp_out(self._on_manager_clock(session, convert.stamp_in(piece.read_at))),
        )
        self._logs.append(session.name, LogKey(ref.job_id, ref.attempt, ref.task, ref.generation), entry)

    def _on_manager_clock(self, session: Session, read_at: Stamp) -> Stamp:
        """The piece's stamp on the manager's clock; before that is known, when the piece came."""
        now = self._engine.clock.now()
        bound = self._engine.machine.clock(session.volunteer_id)
        if bound is None or bound.boot_id != read_at.boot_id:
            return now
        monotonic_ns = min(read_at.monotonic_ns - bound.offset_ns, now.monotonic_ns)
        return Stamp(now.boot_id, monotonic_ns, now.utc_ns - (now.monotonic_ns - monotonic_ns))

    def logs_stored(self, stored: Sequence[Stored]) -> None:
        """Log pieces are in their files: tell the volunteers and the readers."""
        for what in stored:
            session = self._engine.links.get(what.origin)
            if isinstance(session, Session):
                task = common_pb2.TaskRef(
                    cluster_id=self._engine.config.cluster_id,
                    job_id=what.key.job_id,
                    attempt=what.key.attempt,
                    task=what.key.task,
                    generation=what.key.generation,
                )
                self._ack_log(session, task, what.offset)
        for job_id in {what.key.job_id for what in stored}:
            self._logs_changed.wake(job_id)

    def _ack_log(self, session: Session, task: common_pb2.TaskRef, offset: int) -> None:
        session.push(pb.AttachResponse(log_ack=pb.LogAck(task=task, offset=offset)))

    # ---- certificates
    # ------------------------------------------------------------------------------------------

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        """The next certificate of the caller."""
        return await self._signs().renew(request, context)

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """A first certificate, for a join token."""
        return await self._signs().join(request, context)

    def join_handler(self) -> Handler:
        """Join alone, for the users' listener."""
        return grpc.unary_unary_rpc_method_handler(
            self.Join,
            request_deserializer=pb.JoinRequest.FromString,
            response_serializer=pb.JoinResponse.SerializeToString,
        )

    def _signs(self) -> Signing:
        if self._signing is None:
            raise Refused("CANNOT_SIGN", "this manager serves in clear text and has no certificates")
        return self._signing

    # ---- sources
    # --------------------------------------------------------------------------------------------

    async def FetchSource(  # type: ignore[override]  # as above
        self, request: pb.FetchSourceRequest, context: Context
    ) -> None:
        """Send a blob in chunks."""
        convert.digest(request.sha256, "sha256")
        try:
            # The call's own end bounds the wait: a volunteer gives up by itself, and gRPC cancels the handler
            # when it does, or is gone.
            async with self._fetches:
                await self._send_blob(request.sha256, context)
        except FileNotFoundError:
            raise NotFound("NO_SUCH_BLOB", f"no source {request.sha256} is known here") from None

    async def _send_blob(self, sha256: str, context: Context) -> None:
        with contextlib.ExitStack() as held:
            # Held from within the thread: a call that is cancelled meanwhile gives the file back too.
            file = await off(self._files, lambda: held.enter_context(self._blobs.open(sha256)))
            while chunk := await off(self._files, functools.partial(file.read, _CHUNK)):
                if self._transport is not None:
                    self._transport.peers.admit(context)  # it may have been revoked meanwhile
                await context.write(pb.FetchSourceResponse(chunk=chunk))
