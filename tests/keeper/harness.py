"""A real keeper for tests, and short ways to ask it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.volunteer.keeper.cgroups import find_mount
from syndicate.volunteer.keeper.settings import load
from syndicate.volunteer.keeper_client import KeeperClient
from syndicate.volunteer.local import (
    Audit,
    Audited,
    BarriersTold,
    Done,
    Event,
    Exit,
    Exited,
    Kill,
    Limits,
    LogRead,
    LogStream,
    Member,
    Prepare,
    ReadLog,
    Refused,
    Release,
    Renew,
    Reply,
    Request,
    Revive,
    Role,
    Start,
    Sync,
    Synced,
    TaskId,
)

CLUSTER = "c1"
_SERVES = """
import sys
from syndicate.volunteer.keeper import serve
sys.exit(serve.main(sys.argv[1:]))
"""
SECONDS = 60.0  # for what happens at once on a quiet machine; a deadline that is not met costs nothing
MEMBERS = (
    Member("master", Role.MASTER, "10.88.0.1"),
    Member("slave-0", Role.SLAVE, "10.88.0.2"),
    Member("client-0", Role.CLIENT, "10.88.0.3"),
)


def tarball(files: Mapping[str, str], mode: str = "w:gz") -> bytes:
    """A source with these files; a name that ends in / is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, info.mode = len(text.encode()), 0o755
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def makefile(recipe: str, target: str = "master") -> str:
    """A Makefile with one target and this recipe, one line for each line."""
    lines = "".join(f"\t{line}\n" for line in recipe.strip().splitlines())
    return f".PHONY: master slave client\n{target}:\n{lines}"


def network_instance() -> str:
    """An instance id of this process's own: at most six characters, and another one backwards."""
    digits, number = "0123456789abcdefghijklmnopqrsuvwxyz", os.getpid()  # without the first letter of all
    text = ""
    while number:
        number, digit = divmod(number, len(digits))
        text = digits[digit] + text
    return f"t{text}"


@dataclass
class KeeperProcess:
    """One keeper that runs for tests."""

    base: Path
    instance: str
    slots: int = 2
    extra: Sequence[str] = ()
    process: subprocess.Popen[str] | None = None
    errors: Path = field(init=False)

    def __post_init__(self) -> None:
        self.errors = self.base / "errors"
        self.cache.mkdir(parents=True, exist_ok=True)

    @property
    def cache(self) -> Path:
        return self.base / "cache"

    @property
    def run(self) -> Path:
        return self.base / "run"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def socket(self) -> Path:
        return self.run / "keeper.sock"

    @property
    def cgroup(self) -> Path:
        mount = find_mount()
        assert mount is not None
        return mount / f"syndicate-{self.instance}"

    def arguments(self) -> list[str]:
        return [
            *("--instance", self.instance, "--run-dir", str(self.run), "--state-dir", str(self.state)),
            *("--cache-dir", str(self.cache), "--slots", str(self.slots), "--volunteer-uid", "0"),
            *self.extra,
        ]

    def start(self, prefix: Sequence[str] = ()) -> str:
        """Start it and wait for its line."""
        return self._run([*prefix, sys.executable, "-m", "syndicate.volunteer.keeper", *self.arguments()])

    def start_changed(self, change: str) -> str:
        """As `start`, after these lines of Python have changed what it is made of."""
        config = load(self.arguments()).settled(())
        return self._run([sys.executable, "-P", "-c", f"{change}\n{_SERVES}", config.encode()])

    def _run(self, command: Sequence[str]) -> str:
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            self.stop()
            raise AssertionError(self.errors.read_text())
        return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and wait."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def slot_mounts(self) -> list[Path]:
        """The mount namespaces of its slots' threads."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        spaces = {os.readlink(tasks / str(self.process.pid) / "ns/mnt"): tasks}
        for task in sorted(tasks.iterdir(), key=lambda task: int(task.name)):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread for one call, which has ended
                # The oldest of each, which is the slot's: those that it starts for a call are in it, too.
                spaces.setdefault(os.readlink(task / "ns/mnt"), task / "ns/mnt")
        return list(spaces.values())[1:]

    def store(self, source: bytes) -> str:
        """Lay a source into the cache; its digest."""
        digest = hashlib.sha256(source).hexdigest()
        (self.cache / digest).write_bytes(source)
        return digest


class Link:
    """A connection with the events that came over it."""

    def __init__(self, keeper: KeeperProcess) -> None:
        self.keeper = keeper
        self.events: list[Event] = []
        self._more = asyncio.Event()

    async def connect(self) -> None:
        self.client = await KeeperClient.connect(self.keeper.socket, self._collect, SECONDS)

    def _collect(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()

    async def close(self) -> None:
        await self.client.close()

    async def ended(self) -> None:
        """Return once the connection is over, whoever ended it."""
        async with asyncio.timeout(SECONDS):
            await self.client.gone()

    async def ask(self, request: Request) -> Reply:
        return await self.client.request(request, SECONDS)

    async def do(self, request: Request) -> Done:
        reply = await self.ask(request)
        assert isinstance(reply, Done), reply
        return reply

    async def refused(self, request: Request) -> Refused:
        reply = await self.ask(request)
        assert isinstance(reply, Refused), reply
        return reply

    async def sync(self) -> Synced:
        reply = await self.ask(Sync())
        assert isinstance(reply, Synced), reply
        return reply

    async def audit(self) -> Audited:
        reply = await self.ask(Audit())
        assert isinstance(reply, Audited), reply
        return reply

    async def renew(self, seconds: float = 120.0, cluster: str = CLUSTER) -> None:
        until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9)
        await self.do(Renew(cluster, until))

    async def event_where(self, wanted: type[Event], generation: int, slot: int) -> Event:
        """The event of this kind, once it came."""
        async with asyncio.timeout(SECONDS):
            while True:
                self._more.clear()
                for event in self.events:
                    if isinstance(event, BarriersTold):
                        continue
                    number = event.exit.generation if isinstance(event, Exited) else event.generation
                    if isinstance(event, wanted) and number == generation and event.slot == slot:
                        return event
                await self._more.wait()

    def listen(self) -> None:
        """From here on `next_event` misses nothing."""
        self._more.clear()

    async def next_event(self) -> None:
        """Return once anything was told since `listen`."""
        await self._more.wait()

    async def release_all(self) -> None:
        for slot in (await self.sync()).slots:
            if slot.task is not None:
                await self.do(Release(slot.slot, slot.task))

    def task(self, files: Mapping[str, str], role: Role = Role.MASTER, slot: int = 0) -> TestTask:
        """A task with this source, not yet prepared."""
        return self.task_of(tarball(files), role, slot)

    def task_of(self, source: bytes, role: Role = Role.MASTER, slot: int = 0) -> TestTask:
        return TestTask(self, self.keeper.store(source), role, slot)


class TestTask:
    """One task on one slot."""

    __test__ = False  # a helper, whatever pytest makes of its name

    def __init__(self, link: Link, digest: str, role: Role, slot: int) -> None:
        self.link = link
        self.slot = slot
        self.role = role
        member = next(each for each in MEMBERS if each.role is role)
        self.id = TaskId(CLUSTER, 7, 1, member.task)
        self.address = member.address
        self.digest = digest

    def prepare_request(self, limits: Limits | None = None, epoch: int = 1) -> Prepare:
        return Prepare(
            self.slot,
            self.id,
            epoch,
            self.role,
            self.address,
            24,
            MEMBERS,
            self.digest,
            "a job's name",
            limits or Limits(disk_bytes=32 << 20),
        )

    async def prepare(self, limits: Limits | None = None) -> Done:
        return await self.link.do(self.prepare_request(limits))

    async def start(self) -> Done:
        return await self.link.do(Start(self.slot, self.id, 1))

    async def begin(self, limits: Limits | None = None) -> None:
        await self.prepare(limits)
        await self.start()

    async def kill(self, generation: int = 1) -> Done:
        return await self.link.do(Kill(self.slot, self.id, generation))

    async def revive(self, generation: int, with_disk: bool = True) -> Done:
        return await self.link.do(Revive(self.slot, self.id, generation, with_disk))

    async def release(self) -> Done:
        return await self.link.do(Release(self.slot, self.id))

    async def exit(self, generation: int = 1) -> Exit:
        """The generation's exit record, once it ended."""
        event = await self.link.event_where(Exited, generation, self.slot)
        assert isinstance(event, Exited)
        return event.exit

    async def read(self, generation: int, offset: int, limit: int = 256 << 10) -> LogRead:
        reply = await self.link.ask(ReadLog(self.slot, self.id, generation, offset, limit))
        assert isinstance(reply, LogRead), reply
        return reply

    async def output(self, generation: int = 1, stream: LogStream | None = None) -> str:
        """All output of an ended generation."""
        text, offset, end = b"", 0, False
        while not end:
            read = await self.read(generation, offset)
            text += b"".join(each.data for each in read.pieces if stream in (None, each.stream))
            offset, end = read.next_offset, read.end
        return text.decode()

    async def said(self, line: str, generation: int = 1, seconds: float = SECONDS) -> None:
        """Wait until the output has this line."""
        async with asyncio.timeout(seconds):
            while True:
                self.link.listen()
                read = await self.read(generation, 0)
                if line in b"".join(each.data for each in read.pieces).decode().splitlines():
                    return
                await self.link.next_event()

    async def run(self, limits: Limits | None = None) -> tuple[Exit, str]:
        """Prepare, start, and wait for the end: the exit record and all output."""
        await self.begin(limits)
        return await self.exit(), await self.output()


@asynccontextmanager
async def linked(keeper: KeeperProcess, release: bool = True) -> AsyncIterator[Link]:
    """A connection with a lease; with `release` what it leaves on the slots is released at the end."""
    link = Link(keeper)
    await link.connect()
    try:
        await link.sync()
        await link.renew()
        yield link
        if release:
            await link.release_all()
    finally:
        await link.close()
