"""A keeper and a manager on real sockets: a model behind the real protocol, a manager that does as told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc, common_pb2, registry_pb2_grpc
from syndicate.v1 import registry_pb2 as pb
from syndicate.volunteer import frames, local
from syndicate.volunteer.app import App, Ready
from syndicate.volunteer.settings import Settings
from syndicate.volunteer.settled import Settled
from volunteer_core.keeper_model import KeeperModel

DEADLINE = 60.0
CLUSTER = "c1"
T = TypeVar("T")


async def eventually(holds: Callable[[], T], within: float = DEADLINE) -> T:
    """Waits until something is true; tries again each time that the loop has done something else."""
    async with asyncio.timeout(within):
        while not (found := holds()):  # noqa: ASYNC110  # what is waited for has no event of its own
            await asyncio.sleep(0.002)
        return found


class FakeKeeper:
    """KeeperModel behind the real frames on a Unix socket."""

    def __init__(self, path: Path, model: KeeperModel | None = None) -> None:
        self.path = path
        self.model = model or KeeperModel(boot_id=_boot_id())
        self.connections = 0
        self.silent: set[type] = set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listens."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def close(self) -> None:
        """Goes away, and every connection with it."""
        if self._server is not None:
            self._server.close()
            self.drop()
            await self._server.wait_closed()

    def drop(self) -> None:
        """Ends every connection."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                prefix = await reader.readexactly(frames.PREFIX_BYTES)
                frame = frames.decode(await reader.readexactly(frames.body_length(prefix)))
                assert isinstance(frame, local.RequestFrame)
                self.model.now_ns += 1
                reply = self.model.ask(frame.request)
                self.tell()
                if type(frame.request) not in self.silent:
                    writer.write(frames.encode(local.ReplyFrame(frame.number, reply)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def tell(self) -> None:
        """Tells what the model has to tell."""
        told, self.model.events = self.model.events, []
        for event in told:
            for writer in self._writers:
                writer.write(frames.encode(local.EventFrame(event)))


class Stream:
    """One stream of the volunteer, as its manager sees it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.hello = pb.Hello()
        self.metadata = dict(context.invocation_metadata())
        self.received: list[pb.AttachRequest] = []
        self.out: asyncio.Queue[pb.AttachResponse | None] = asyncio.Queue()
        self.ended = asyncio.Event()

    def of(self, kind: str) -> list[Any]:
        """All messages of a kind so far."""
        return [getattr(m, kind) for m in self.received if m.WhichOneof("message") == kind]

    def say(self, **message: Any) -> None:
        """Pushes a message; a command by itself is one of a kind."""
        if "command" in message:
            message = {"commands": pb.Commands(commands=[message["command"]])}
        self.out.put_nowait(pb.AttachResponse(**message))

    def end(self) -> None:
        """Ends the stream."""
        self.out.put_nowait(None)


class FakeManager(registry_pb2_grpc.RegistryServicer):
    """Welcomes, acknowledges, and says what a test wants."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.cluster = CLUSTER
        self.epoch = 1
        self.prefix = "10.77.0.0/24"
        self.heartbeat_interval_s = 5.0
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.welcome = True
        self.deaf = False
        self.ack_heartbeats = True
        self.ack_events = True
        self.ack_logs = True
        self.warm: list[pb.SourceRef] = []
        self.sources: dict[str, bytes] = {}
        self.fetches: list[str] = []
        self.fetch_failures: list[grpc.StatusCode] = []
        self.fetch_gate: asyncio.Event | None = None
        self.attempts = 0
        self.streams: list[Stream] = []
        self.logs: dict[tuple[str, int], bytearray] = {}
        self.chaos = FakeChaos()
        self._server: grpc.aio.Server | None = None
        self._commands = 0

    @property
    def target(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listens; at the port of before, where there was one."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        registry_pb2_grpc.add_RegistryServicer_to_server(self, self._server)
        chaos_pb2_grpc.add_ChaosControlServicer_to_server(self.chaos, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def close(self) -> None:
        """Goes away at once."""
        if self._server is not None:
            await self._server.stop(0)

    async def Attach(self, request_iterator: Any, context: Any) -> None:
        """The stream."""
        self.attempts += 1
        if self.refuse is not None:
            await context.abort(*self.refuse)
        stream = Stream(context)
        first = await context.read()
        stream.hello.CopyFrom(first.hello)
        if self.welcome:
            stream.say(
                welcome=pb.Welcome(
                    session="s",
                    cluster_id=self.cluster,
                    epoch=self.epoch,
                    prefix=self.prefix,
                    warm=self.warm,
                    heartbeat_interval_s=self.heartbeat_interval_s,
                    orphan_after_s=30,
                )
            )
        self.streams.append(stream)
        reading = asyncio.create_task(self._read(stream))
        try:
            while (message := await stream.out.get()) is not None:
                await context.write(message)
        finally:
            reading.cancel()
            stream.ended.set()

    async def _read(self, stream: Stream) -> None:
        while (message := await stream.context.read()) is not grpc.aio.EOF:
            if self.deaf:
                return
            stream.received.append(message)
            match message.WhichOneof("message"):
                case "heartbeat" if self.ack_heartbeats:
                    stream.say(heartbeat_ack=pb.HeartbeatAck(sequence=message.heartbeat.sequence))
                case "event" if self.ack_events:
                    stream.say(event_ack=pb.EventAck(event_id=message.event.event_id))
                case "log":
                    self._take_log(stream, message.log)
        stream.end()

    def _take_log(self, stream: Stream, chunk: pb.LogChunk) -> None:
        kept = self.logs.setdefault((chunk.task.task, chunk.task.generation), bytearray())
        new = chunk.piece.offset + len(chunk.piece.data) - len(kept)
        if new > 0:
            kept += chunk.piece.data[-new:]
        if self.ack_logs:
            stream.say(log_ack=pb.LogAck(task=chunk.task, offset=len(kept)))

    async def FetchSource(self, request: Any, context: Any) -> None:
        """A source in chunks."""
        self.fetches.append(request.sha256)
        if self.fetch_gate is not None:
            await self.fetch_gate.wait()
        if self.fetch_failures:
            await context.abort(self.fetch_failures.pop(0), "as told")
        data = self.sources.get(request.sha256)
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        for start in range(0, len(data), 1000):
            await context.write(pb.FetchSourceResponse(chunk=data[start : start + 1000]))

    # ---- what a test says ------------------------------------------------------------------------------

    async def attached(self, count: int = 1) -> Stream:
        """The stream number `count`, when the volunteer has been welcomed on it and says that it lives."""
        await eventually(lambda: len(self.streams) >= count)
        stream = self.streams[count - 1]
        if self.welcome:
            await eventually(lambda: stream.of("heartbeat"))
        return stream

    def add_source(self, data: bytes) -> pb.SourceRef:
        """A blob that can be fetched."""
        digest = hashlib.sha256(data).hexdigest()
        self.sources[digest] = data
        return pb.SourceRef(sha256=digest, size=len(data))

    def send(self, task: str = "master", *, generation: int = 1, slot: int = 0, **action: Any) -> str:
        """Sends a command on the last stream; its id."""
        self._commands += 1
        name = f"command-{self._commands}"
        ref = common_pb2.TaskRef(
            cluster_id=self.cluster, job_id=7, attempt=1, task=task, generation=generation
        )
        self.streams[-1].say(
            command=pb.Command(command_id=name, epoch=self.epoch, task=ref, slot=slot, **action)
        )
        return name

    async def answer(self, command_id: str) -> pb.Answer:
        """The answer to a command, on whichever stream it comes."""

        def find() -> pb.Answer | None:
            answers = (a for stream in self.streams for many in stream.of("answers") for a in many.answers)
            return next((a for a in answers if a.command_id == command_id), None)

        return await eventually(find)

    async def ask(
        self, task: str = "master", *, generation: int = 1, slot: int = 0, **action: Any
    ) -> pb.Answer:
        """Sends a command and waits for its answer."""
        return await self.answer(self.send(task, generation=generation, slot=slot, **action))

    async def bring_up(self, task: str = "master", *, slot: int = 0) -> None:
        """A task brought to RUNNING."""
        source = self.add_source(b"a tarball")
        role = common_pb2.Role.Value(f"ROLE_{task.split('-')[0].upper()}")
        answers = [
            await self.ask(task, slot=slot, reserve=pb.Reserve(ttl_ms=10_000)),
            await self.ask(task, slot=slot, prepare=pb.Prepare(source=source, role=role)),
            await self.ask(task, slot=slot, start=pb.Start()),
        ]
        assert [a.code for a in answers] == [
            pb.ANSWER_CODE_READY,
            pb.ANSWER_CODE_DONE,
            pb.ANSWER_CODE_DONE,
        ], answers


class FakeChaos(chaos_pb2_grpc.ChaosControlServicer):
    """Remembers who called and answers as told."""

    def __init__(self) -> None:
        self.callers: list[dict[str, str]] = []
        self.remaining: list[float | None] = []
        self.abort: tuple[grpc.StatusCode, str, tuple[tuple[str, Any], ...]] | None = None
        self.gate: asyncio.Event | None = None
        self.cancelled = asyncio.Event()

    async def Ping(self, request: Any, context: Any) -> Any:
        """An empty call."""
        await self._called(context)
        context.set_trailing_metadata((("syndicate-note", "fine"),))
        return chaos_pb2.PingResponse(manager_at=common_pb2.Stamp(boot_id="m", monotonic_ns=1))

    async def Kill(self, request: Any, context: Any) -> Any:
        """A call with an argument."""
        await self._called(context)
        return chaos_pb2.KillResponse(processes=len(request.ip))

    async def _called(self, context: Any) -> None:
        self.callers.append(dict(context.invocation_metadata()))
        self.remaining.append(context.time_remaining())
        if self.abort is not None:
            await context.abort(*self.abort)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise


class Bench:
    """One volunteer, its keeper and its manager in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeper = FakeKeeper(folder / "run" / "keeper.sock")
        self.manager = FakeManager()
        self.ready: list[Ready] = []
        self.app: App | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def settings(self, **changes: Any) -> Settled:
        """The volunteer's settings."""
        values: dict[str, Any] = {
            "manager": (self.manager.target,),
            "insecure": True,
            "token_file": self.folder / "token",
            "state_dir": self.folder / "state",
            "keeper": self.keeper.path,
            "run_dir": self.folder / "run",
            "id": "node-a",
            "backoff_first_s": 0.02,
            "backoff_most_s": 0.1,
        }
        return Settings(**{**values, **changes}).settled()

    async def start(self, **changes: Any) -> None:
        """Starts the volunteer."""
        self._stop = asyncio.Event()
        self.app = App(self.settings(**changes), self.ready.append)
        self._task = asyncio.create_task(self.app.run(self._stop))

    async def stop(self) -> None:
        """Stops it as SIGTERM does."""
        self._stop.set()
        if self._task is not None:
            async with asyncio.timeout(DEADLINE):
                await self._task
            self._task = None

    async def crash(self) -> None:
        """Ends it without a goodbye."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._task is not None and not self._task.done()


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """A folder, a keeper and a manager; the volunteer is the test's to start."""
    made = Bench(folder)
    for slot in made.keeper.model.slots:
        (folder / "run" / "slots" / str(slot)).mkdir(parents=True)
    (folder / "token").write_text("the-token\n")
    await made.keeper.open()
    await made.manager.open()
    try:
        yield made
    finally:
        if made.running:
            await made.stop()
        await made.manager.close()
        await made.keeper.close()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
