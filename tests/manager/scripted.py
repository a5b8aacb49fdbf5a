"""A volunteer without a machine: it speaks Registry over a real channel and answers what its script says."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc as scheduler_grpc

# For what comes at once, on a machine that may stand still for seconds.
WAIT_S = 60.0


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that every call carries."""
    return (("authorization", f"Bearer {token}"),)


def trailer(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    """The trailing metadata of an error."""
    return dict(error.trailing_metadata() or ())


def reason(error: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> str | bytes | None:
    """The word for scripts that came with an error."""
    return trailer(error.value).get("syndicate-reason")


def tarball(**files: str) -> bytes:
    """A plain tar of files by name; `Makefile` unless told otherwise."""
    files = files or {"Makefile": "master:\n\ttrue\nslave:\n\ttrue\n"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def upload(
    stub: scheduler_grpc.SchedulerStub, data: bytes, token: str, **header: Any
) -> scheduler.UploadSourceResponse:
    """Upload a source in chunks."""
    fields = {"request_id": str(uuid.uuid4()), "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    fields.update(header)

    async def parts() -> AsyncIterator[scheduler.UploadSourceRequest]:
        yield scheduler.UploadSourceRequest(header=scheduler.UploadHeader(**fields))
        for at in range(0, len(data), 256 << 10):
            yield scheduler.UploadSourceRequest(chunk=data[at : at + (256 << 10)])

    return await stub.UploadSource(parts(), metadata=bearer(token), timeout=WAIT_S)


def stamp(boot_id: str = "boot-1") -> common.Stamp:
    """This instant, as the scripted machine sees it."""
    return common.Stamp(
        boot_id=boot_id, monotonic_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME), utc_ns=time.time_ns()
    )


@dataclass
class ScriptedVolunteer:
    """One volunteer. What it is told is kept in `told`; `answers` says what it answers to which action."""

    token: str
    address: str
    volunteer_id: str = "node-a"
    slots: int = 4
    first_address: int = 10
    answers: bool = True
    exit_at_start: bool = False
    boot_id: str = "boot-1"
    cluster_id: str = ""
    prefix: str = ""
    unsafe: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = (
        *("cut", "kill", "one-way", "reset", "loss", "rate", "delay", "jitter", "duplicate", "corrupt"),
        *("reorder", "pause", "disk-full", "signal", "lose-unsynced"),
    )
    cannot: dict[str, str] = field(default_factory=dict)
    held: list[registry.HeldTask] = field(default_factory=list)
    told: list[registry.AttachResponse] = field(default_factory=list)
    welcome: registry.Welcome = field(default_factory=registry.Welcome)

    credentials: grpc.ChannelCredentials | None = None

    def __post_init__(self) -> None:
        self.out: asyncio.Queue[registry.AttachRequest] = asyncio.Queue()
        self.heard: asyncio.Condition = asyncio.Condition()
        self.ended: asyncio.Future[grpc.aio.AioRpcError | None] = asyncio.get_running_loop().create_future()
        self.hang_up: Callable[[], object] = lambda: None
        self._events = 0
        self._sequence = 0
        self._last_ack: registry.HeartbeatAck | None = None

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[ScriptedVolunteer]:
        """Attached and welcomed."""
        async with self._channel() as channel:
            stub = registry_grpc.RegistryStub(channel)
            call = stub.Attach(metadata=bearer(self.token) if self.credentials is None else None)
            self.hang_up = call.cancel
            self.say(hello=self.hello())
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(call))
                reader = tasks.create_task(self._read(call))
                try:
                    await self.until(lambda: bool(self.welcome.session) or self.ended.done())
                    yield self
                finally:
                    writer.cancel()
                    reader.cancel()
                    call.cancel()

    def _channel(self) -> grpc.aio.Channel:
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address)
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(self.address, self.credentials, options=options)

    def hello(self) -> registry.Hello:
        """What it says first."""
        return registry.Hello(
            volunteer_id=self.volunteer_id,
            boot_id=self.boot_id,
            slots=[registry.Slot(slot=i) for i in range(self.slots)],
            resources=common.Resources(cpus=2, memory_bytes=1 << 30, disk_bytes=1 << 30),
            prefix=self.prefix,
            capabilities=self.capabilities,
            cannot=[common.Incapability(capability=name, why=why) for name, why in self.cannot.items()],
            held=self.held,
            cluster_id=self.cluster_id,
            network=registry.NETWORK_KIND_FABRIC,
            version="test",
            sent_at=stamp(self.boot_id),
            unsafe=self.unsafe,
        )

    def say(self, **message: Any) -> None:
        """Send a message by its name in the envelope."""
        self.out.put_nowait(registry.AttachRequest(**message))

    def beat(self) -> None:
        """Send a heartbeat that closes the last exchange."""
        self._sequence += 1
        beat = registry.Heartbeat(sequence=self._sequence, sent_at=stamp(self.boot_id))
        if self._last_ack is not None:
            beat.last_ack_sequence = self._last_ack.sequence
            beat.last_ack_received_at.CopyFrom(stamp(self.boot_id))
        self.say(heartbeat=beat)

    def exit(self, task: common.TaskRef, status: int = 0, end: common.TaskExit | None = None) -> None:
        """Tell that make ended: with a status, or so."""
        self._events += 1
        reason = common.REASON_EXITED_NONZERO if status else common.REASON_EXITED_ZERO
        self.say(
            event=registry.TaskEvent(
                task=task,
                event_id=self._events,
                at=stamp(self.boot_id),
                exited=end or common.TaskExit(reason=reason, exit_status=status),
            )
        )

    def log(self, task: common.TaskRef, offset: int, data: bytes) -> None:
        """Send a piece of output."""
        piece = common.LogPiece(
            offset=offset, stream=common.LOG_STREAM_STDOUT, read_at=stamp(self.boot_id), data=data
        )
        self.say(log=registry.LogChunk(task=task, piece=piece))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what it was told makes the condition true."""
        async with asyncio.timeout(WAIT_S), self.heard:
            await self.heard.wait_for(condition)

    def commands(self, action: str) -> list[registry.Command]:
        """The commands of one kind that it was told."""
        return [c for m in self.told for c in m.commands.commands if c.HasField(action)]

    def task(self, name: str) -> common.TaskRef:
        """The task of this name that was started last."""
        return next(c.task for c in reversed(self.commands("start")) if c.task.task == name)

    def answer(self, command: registry.Command, code: common.AnswerCode | None = None, **fields: Any) -> None:
        """Answer a command."""
        one = registry.Answer(
            command_id=command.command_id,
            code=registry.ANSWER_CODE_DONE if code is None else code,
            applied_at=stamp(self.boot_id),
            **fields,
        )
        self.say(answers=registry.Answers(answers=[one]))

    # ---- the stream --------------------------------------------------------------------------------------

    async def _write(self, call: Any) -> None:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            while True:
                await call.write(await self.out.get())

    async def _read(self, call: Any) -> None:
        error = None
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                await self._take(message)
        except grpc.aio.AioRpcError as ended:
            error = ended
        if not self.ended.done():
            self.ended.set_result(error)
        async with self.heard:
            self.heard.notify_all()

    async def _take(self, message: registry.AttachResponse) -> None:
        if message.HasField("welcome"):
            self.welcome = message.welcome
            self.cluster_id = message.welcome.cluster_id
        elif message.HasField("heartbeat_ack"):
            self._last_ack = message.heartbeat_ack
        elif self.answers:
            for command in message.commands.commands:
                self._obey(command)
        self.told.append(message)
        async with self.heard:
            self.heard.notify_all()

    def _obey(self, command: registry.Command) -> None:
        match command.WhichOneof("action"):
            case "reserve":
                host = f"10.77.0.{command.slot + self.first_address}"
                self.answer(command, registry.ANSWER_CODE_READY, address=host)
            case "kill":
                self.answer(command, processes=3)
            case "signal":
                self.answer(command, processes=2)
            case "start":
                self.answer(command)
                if self.exit_at_start:
                    self.exit(command.task)
            case _:
                self.answer(command)
