"""The composition root: one core, one keeper, some managers, and the edges between them.

Every event goes through `dispatch`, on the loop, without a queue: the core handles it, and what it wants is
done in order before the next event is handled. An effect that takes time becomes a task; its outcome is an
event.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Any

import structlog
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc

from . import convert, local, memory_file, resources
from .cache import CacheSettings, FetchFailed, SourceCache
from .clock import Clock
from .core import Config, Volunteer, effects, events
from .core.model import Source, TaskRef, Welcome
from .disks import DiskEdges, DiskSender
from .identity import folder_for
from .joining import until_joined
from .keeper_session import KeeperSession
from .link import LinkEdges, LinkSettings, ManagerLink
from .logs import LogPump
from .relay import RelayEdges, Relays, Upstream
from .renewal import keep_renewed
from .settled import Settled
from .watching import Parts, Watching
from .way import ClearText, MutualTls, Way

_log = structlog.get_logger()


class StateDirBusy(Exception):
    """Another volunteer runs on this state directory."""


def software_version() -> str:
    """The version of the installed software."""
    try:
        return version("syndicate-cluster")
    except PackageNotFoundError:  # run from the sources
        return "0+source"


@dataclass(frozen=True, slots=True)
class Ready:
    """The volunteer was welcomed for the first time."""

    volunteer_id: str
    manager: str
    cluster_id: str
    prefix: str


class App:
    """One running volunteer; `run` is its life."""

    def __init__(
        self,
        settings: Settled,
        on_ready: Callable[[Ready], None],
        on_open: Callable[[], None] = lambda: None,
        random: Random | None = None,
    ) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._on_open = on_open
        # Only the jitter of reconnects is drawn from it; no secret is.
        self._random = random or Random()  # noqa: S311
        self._clock = Clock()
        self._was_ready = False
        self._pending: deque[events.Event] = deque()
        self._handling = False
        self._wake_at: int | None = None
        self._looking = False
        self._rearm = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._lock: int | None = None
        self._links: dict[str, ManagerLink] = {}
        self._watching: Watching | None = None

    @property
    def metrics_address(self) -> str:
        """Where metrics are served; empty where they are not."""
        return "" if self._watching is None else self._watching.address

    @property
    def is_welcomed(self) -> bool:
        """Whether some manager has welcomed it, and the stream stands."""
        return any(link.up.is_set() for link in self._links.values())

    # ---- life -------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set; tasks run on in the keeper.

        Raises StateDirBusy, MemoryDamaged, OSError.
        """
        self._open()
        self._on_open()
        try:
            if self._watching is not None:
                await self._watching.open()
            await until_joined(self._settings, self._clock, self._random, stop)
            async with asyncio.TaskGroup() as group:
                self._group = group
                background = [
                    group.create_task(self._ticks()),
                    group.create_task(self._keeper.run(self._pump)),
                    *([group.create_task(self._watching.run())] if self._watching is not None else []),
                    *(
                        group.create_task(keep_renewed(self._links[target], way, self._clock))
                        for target, way in self._ways.items()
                        if isinstance(way, MutualTls)
                    ),
                ]
                links = [group.create_task(link.run(stop)) for link in self._links.values()]
                await asyncio.wait(links)
                for task in background:
                    task.cancel()
                await self._relays.close_all()
                await self._cache.close()
                self._group = None
                for one in self._working.copy():
                    one.cancel()
        finally:
            if self._watching is not None:
                await self._watching.close()
            self._close()

    def _open(self) -> None:
        settings = self._settings
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(settings.state_dir / "lock")
        self._memory_path = settings.state_dir / "memory.json"
        self._core = Volunteer(self._config())
        self._working: set[asyncio.Task[None]] = set()
        self._keeper = KeeperSession(settings.keeper, self.dispatch)
        self._pump = LogPump(
            self._keeper.read_log, lambda slot, task: self.dispatch(events.LogsDrained(slot, task))
        )
        self._log_links: dict[str, list[ManagerLink]] = {}
        self._cache = SourceCache(
            CacheSettings(
                settings.cache_dir,
                settings.state_dir / "pins",
                settings.cache_bytes,
                settings.fetch_timeout_s,
            )
        )
        self._cache.open()
        edges = LinkEdges(
            self.dispatch,
            self._keeper.flush,
            self._pump.acked,
            self._came_up,
            self._went_down,
            self._free_resources,
        )
        how = LinkSettings(settings.push_deadline_s, settings.backoff_first_s, settings.backoff_most_s)
        self._ways = {target: self._way(target) for target in settings.manager}
        self._links = {
            target: ManagerLink(target, way, how, edges, self._random) for target, way in self._ways.items()
        }
        self._relays = Relays(settings.run_dir, RelayEdges(self._upstream, self._core.caller))
        self._disks = DiskSender(DiskEdges(self._keeper.read_disk, self._upstream))

        self._watching = self._watch() if settings.metrics_listen else None

    def _watch(self) -> Watching:
        settings = self._settings
        folders = (
            {}
            if settings.insecure
            else {target: folder_for(settings.certificates, target) for target in settings.manager}
        )
        parts = Parts(
            software_version(), self._core, self._clock, self._keeper, self._links,
            self._cache, self._relays, self._pump, folders,
        )  # fmt: skip
        return Watching(settings.metrics_listen, parts)

    def _way(self, target: str) -> Way:
        settings = self._settings
        if settings.insecure:
            _log.warning("insecure", manager=target, detail="the manager is spoken to in clear text")
            assert settings.token_file is not None  # noqa: S101 - the settings say so
            return ClearText(settings.token_file)
        return MutualTls(folder_for(settings.certificates, target))

    def _config(self) -> Config:
        settings = self._settings
        return Config(
            volunteer_id=settings.id,
            instance=memory_file.instance(settings.state_dir / "instance"),
            version=software_version(),
            resources=resources.total(settings.state_dir),
            host_address=settings.host_address,
            prefix=settings.prefix,
            reach_domain=settings.reach_domain,
            address_start=self._clock.stamp().utc_ns // 1_000_000_000,
            memory=memory_file.load(self._memory_path),
            abandon_after_s=settings.abandon_after_s,
        )

    def _close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ---- events and effects -----------------------------------------------------------------------------

    def dispatch(self, event: events.Event) -> None:
        """Has the core handle an event and does what it wants; one told meanwhile is handled next."""
        self._pending.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._pending:
                for effect in self._core.handle(self._pending.popleft(), self._clock.stamp()):
                    self._perform(effect)
        finally:
            self._handling = False
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Sees to the next tick, once for all events of one turn of the loop: it looks at every slot."""
        self._looking = False
        wake = self._core.next_wake()
        if wake is not None and (self._wake_at is None or wake < self._wake_at):
            self._rearm.set()

    async def _ticks(self) -> None:
        while True:
            self._rearm.clear()
            self._wake_at = self._core.next_wake()
            delay = None
            if self._wake_at is not None:
                delay = max(0.0, (self._wake_at - self._clock.stamp().monotonic_ns) / 1e9)
            try:
                async with asyncio.timeout(delay):
                    await self._rearm.wait()
            except TimeoutError:
                self.dispatch(events.Tick())

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.CallKeeper():
                self._keeper.ask(effect.call, effect.request)
            case effects.SendAnswer():
                self._links[effect.link].push(convert.answer_out(effect.answer))
            case effects.SendTaskEvent():
                self._links[effect.link].push(convert.event_out(effect.event))
            case effects.SendHeartbeat():
                self._links[effect.link].heartbeat(effect.heartbeat)
            case effects.SendHello():
                self._links[effect.link].push(convert.hello_out(effect.hello))
            case effects.CloseLink():
                self._links[effect.link].close(effect.detail)
            case effects.FetchSource():
                self._fetch(effect)
            case effects.ReleaseSource():
                self._cache.unpin(effect.slot)
            case effects.DrainLogs():
                self._pump.drain(effect.slot, effect.task, effect.generations)
            case effects.SendDisk():
                self._spawn(self._send_disk(effect))
            case effects.ForgetLogs():
                self._pump.forget(effect.task)
            case _:
                self._perform_rare(effect)

    def _perform_rare(self, effect: effects.Effect) -> None:
        match effect:
            case effects.OpenRelay():
                self._spawn(self._open_relay(effect.slot, effect.task))
            case effects.CloseRelay():
                self._spawn(self._relays.close(effect.slot))
            case effects.WarmSource():
                self._spawn(self._warm(effect.link, effect.source))
            case effects.ResetKeeper():
                _log.warning("keeper.reset", detail=effect.detail)
                self._spawn(self._keeper.reset())
            case effects.Remember():
                memory_file.save(self._memory_path, effect.memory)
            case effects.Note():
                say = _log.info if effect.routine else _log.warning
                say(effect.event, **{name: _number(name, value) for name, value in effect.fields})
            case _:
                raise TypeError(f"not an effect: {effect!r}")

    def _spawn(self, work: Any) -> None:
        """Runs a coroutine to its end beside the rest; what it raises ends the volunteer, loudly."""
        if self._group is None:
            work.close()
            return
        task: asyncio.Task[None] = self._group.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    # ---- sources ----------------------------------------------------------------------------------------

    def _fetch(self, effect: effects.FetchSource) -> None:
        source = effect.source
        try:
            self._cache.pin(effect.slot, source.sha256)
        except OSError as error:  # a full disk, in most cases: the job goes elsewhere
            why = f"source {source.sha256[:12]}… cannot be kept: {error}"
            self.dispatch(events.SourceFailed(effect.slot, source.sha256, why))
            return
        if self._cache.holds(source):
            self.dispatch(events.SourceReady(effect.slot, source.sha256))
        else:
            self._spawn(self._fetch_for(effect.link, effect.slot, source))

    async def _fetch_for(self, link: str, slot: int, source: Source) -> None:
        try:
            await self._cache.ensure(source, self._chunks_from(link))
        except FetchFailed as error:
            self.dispatch(events.SourceFailed(slot, source.sha256, str(error)))
        else:
            self.dispatch(events.SourceReady(slot, source.sha256))

    async def _warm(self, link: str, source: Source) -> None:
        try:
            await self._cache.ensure(source, self._chunks_from(link))
        except FetchFailed as error:
            _log.warning("source.not_warmed", manager=link, detail=str(error))

    def _chunks_from(self, target: str) -> Callable[[str], AsyncIterator[bytes]]:
        link = self._links[target]

        async def chunks(digest: str) -> AsyncIterator[bytes]:
            # Its async types are in a name that exists for type checkers only.
            stub: Any = registry_pb2_grpc.RegistryStub(link.channel)
            request = pb.FetchSourceRequest(sha256=digest)
            async for message in stub.FetchSource(request, metadata=link.credentials):
                yield message.chunk

        return chunks

    # ---- disks ------------------------------------------------------------------------------------------

    async def _send_disk(self, effect: effects.SendDisk) -> None:
        await self._disks.send(effect.slot, effect.task, effect.missing)
        self.dispatch(events.DiskSent(effect.slot, effect.task.id))

    # ---- relays -----------------------------------------------------------------------------------------

    async def _open_relay(self, slot: int, task: local.TaskId) -> None:
        error = await self._relays.open(slot, task)
        self.dispatch(events.RelayOpened(slot, task, error))

    def _upstream(self, cluster_id: str) -> Upstream | None:
        target = self._core.link_of(cluster_id)
        if target is None:
            return None
        link = self._links[target]
        return Upstream(link.channel, link.credentials, link.session) if link.session else None

    # ---- links ------------------------------------------------------------------------------------------

    def _came_up(self, link: ManagerLink, welcome: Welcome) -> None:
        self._serve_logs(welcome.cluster_id, link)
        self._disks.came_up()
        if not self._was_ready:
            self._was_ready = True
            self._on_ready(Ready(self._settings.id, link.target, welcome.cluster_id, welcome.prefix))

    def _serve_logs(self, cluster_id: str, link: ManagerLink) -> None:
        links = self._log_links.setdefault(cluster_id, [])
        links.append(link)
        self._pump.link_down(cluster_id)

        async def send(ref: TaskRef, piece: local.LogPiece) -> bool:
            return await link.push_log(convert.log_out(ref, piece))

        self._spawn(self._pump.serve(cluster_id, send))

    def _went_down(self, link: ManagerLink) -> None:
        for cluster_id, links in self._log_links.items():
            if link in links:
                serving = links[-1] is link
                links.remove(link)
                if serving:
                    self._pump.link_down(cluster_id)
                    if links:
                        self._serve_logs(cluster_id, links.pop())

    def _free_resources(self) -> Any:
        return resources.free(self._settings.state_dir)


def _number(name: str, value: str) -> str | int:
    """Ids that are numbers as such, so that a log's reader finds them alike in manager and volunteer."""
    return int(value) if name in ("job_id", "attempt", "epoch", "slot") and value.isdecimal() else value


def _lock(path: Path) -> int:
    """Takes the state directory for this process alone. Raises StateDirBusy, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateDirBusy(f"another volunteer runs on {path.parent}") from None
    return descriptor


__all__ = ["App", "Ready", "StateDirBusy", "software_version"]
