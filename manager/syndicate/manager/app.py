"""The composition root: builds the parts of the manager, runs them, and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import structlog
from syndicate.v1 import (
    chaos_pb2,
    chaos_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)

from . import job_log, notify
from .blobs import BlobDirectory, check_source
from .clock import Clock
from .control import Control
from .core.errors import CoreError
from .core.machine import Machine
from .core.model import Source
from .core.user_events import FirstToken
from .core.world import REMEMBERED_SUBMITS
from .disks import DiskStore
from .engine import Engine
from .housekeeping import keep_house
from .logs import LogStore
from .pki import Folder
from .retention import Keep, Parts, keep_newest
from .rpc import (
    AuditLog,
    ByUsers,
    CertifiedDoor,
    ChaosControl,
    Desk,
    Door,
    Guard,
    Listener,
    Registry,
    Relayed,
    Scheduler,
    Shelves,
    Uploads,
    Usage,
    UsersChaosControl,
    UsersDoor,
    VolunteersDoor,
    Watch,
)
from .rpc.server import LARGEST_FROM_USERS, USERS_OPTIONS, VOLUNTEERS_OPTIONS
from .settings import Settings
from .store import SqliteStore
from .tokens import first_token, volunteers_token, write_whole
from .transport import Transport
from .wakers import Wakers
from .watching import Watching

_CHAOS: Final = chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"].full_name
_REGISTRY: Final = registry_pb2.DESCRIPTOR.services_by_name["Registry"].full_name
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


class BadClient(Exception):
    """The default client's source cannot be used; the text is one line for the operator."""


def software_version() -> str:
    """The version of the distribution."""
    return version("syndicate-cluster")


async def serve(
    settings: Settings, announce: Callable[[str], None], identify: Callable[..., None] | None = None
) -> None:
    """Run a manager until SIGTERM or SIGINT. `announce` gets the line that says that it is ready.

    `identify` is told, by name, what each line of the log should say of this manager.

    Raises StoreError, PortInUse, BadClient, PkiError and OSError where it cannot start, and what went wrong
    where it cannot go on (InvariantError, CommitFailed).
    """
    _raise_open_files()
    store = SqliteStore.open(settings.state_dir)
    if identify is not None:
        identify(cluster_id=store.cluster_id, epoch=store.epoch)
    files = ThreadPoolExecutor(4, thread_name_prefix="files")
    checks = ThreadPoolExecutor(2, thread_name_prefix="checks")
    try:
        await _serve(settings, store, files, checks, announce)
    finally:
        await store.close()
        files.shutdown()
        checks.shutdown()
        _off_signals()


async def _serve(
    settings: Settings,
    store: SqliteStore,
    files: ThreadPoolExecutor,
    checks: ThreadPoolExecutor,
    announce: Callable[[str], None],
) -> None:
    clock = Clock()
    admin = first_token(settings.state_dir, clock.now())
    blobs = BlobDirectory(settings.state_dir / "blobs", settings.max_source_bytes)
    client = _take_client(blobs, settings.client) if settings.client is not None else None
    config = settings.config(store.cluster_id, store.epoch, clock.boot_id, client)
    requests = store.requests(REMEMBERED_SUBMITS)
    machine = Machine.restore(config, store.restore(config.keep_ended), clock.now(), requests)
    engine = Engine(machine, config, store, clock)
    engine.watchers.append(job_log.tell)
    watching = Watching(settings.metrics_listen, engine, store) if settings.metrics_listen else None
    logs = LogStore(settings.state_dir / "logs", settings.log_cap_bytes)
    shelves = Shelves(settings.state_dir / "histories", files, settings.history_bounds)
    disks = DiskStore(settings.state_dir / "disks", settings.disk_bounds)
    logs_changed = Wakers()

    audit = AuditLog(engine)
    door = UsersDoor(engine)
    usage = Usage(settings.user_limits, lambda: clock.now().monotonic_ns, door.changed)
    engine.on_access_changed = usage.sweep
    uploads = Uploads(blobs, files, checks, settings.upload_timeout_s, usage)
    transport = None if settings.insecure else Transport(Folder(settings.state_dir / "tls"), files, audit.did)
    desk = Desk(
        engine,
        store,
        blobs.max_bytes,
        uploads,
        logs,
        logs_changed,
        shelves,
        disks,
        files,
        software_version(),
        audit,
        settings.publish_client_logs,
    )
    peers = None
    if transport is not None:
        peers, desk = transport.peers, replace(desk, expires=transport.expires)
    registry = Registry(engine, blobs, logs, logs_changed, files, transport, audit, disks)
    users = _users_listener(
        Guard(door, lambda: engine.stopping, Watch(audit, usage)),
        Scheduler(desk),
        UsersChaosControl(engine, ByUsers(engine, store), shelves),
    )
    if transport is not None:
        # A machine that joins has no certificate, and the volunteers' listener lets nobody in without one.
        users.add_open(_REGISTRY, "Join", registry.join_handler())
    watch = Watch(audit, name_of=None if peers is None else peers.name_of)
    guard = Guard(_volunteers_door(settings, transport), lambda: engine.stopping, watch)
    volunteers = _volunteers_listener(guard, registry, ChaosControl(engine, Relayed(engine, peers), shelves))
    users.bind(settings.listen_users, transport and transport.credentials("users"))
    volunteers.bind(settings.listen_volunteers, transport and transport.credentials("volunteers"))

    logs.start(registry.logs_stored, _log_trouble)
    stop = _on_signals()
    keep = Keep(settings.keep_jobs, settings.keep_audit, settings.history_all_bytes)
    sweeping = asyncio.create_task(keep_newest(store, Parts(logs, disks, shelves), keep))
    house = asyncio.create_task(keep_house(engine, door, usage, audit))
    certificates = asyncio.create_task(_keep_certificates(transport))
    watchdog = asyncio.create_task(notify.keep_watchdog())
    control = None if transport is None else Control(settings.state_dir / "tls", transport.reload)
    ready = settings.state_dir / "manager.ready"
    stack = AsyncExitStack()
    try:
        engine.start()
        engine.handle(FirstToken(admin))
        for listener in (users, volunteers):
            await listener.start()
        metrics = ""
        if watching is not None:
            served = watching.serve(software_version(), audit, usage, logs, transport)
            metrics = await stack.enter_async_context(served)
        if control is not None and transport is not None:
            await control.start()
            await transport.catch_up()
        # What was made so far lives as long as the process: looking through it again cost pauses of 140 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)
        _write_ready(ready, users, volunteers, store, metrics)
        announce(
            f"ready users={users.address} volunteers={volunteers.address} "
            f"cluster={store.cluster_id} epoch={store.epoch}"
        )
        notify.status(f"users {users.address}, volunteers {volunteers.address}")
        notify.ready()
        _log.info("manager.ready", cluster_id=store.cluster_id, epoch=store.epoch)
        until: list[asyncio.Future[Any]] = [stop, engine.failed, sweeping, house, certificates]
        await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ready.unlink(missing_ok=True)
        _log.info("manager.stopping")
        notify.stopping()
        watchdog.cancel()
        await stack.aclose()
        if control is not None:
            await control.close()
        audit.close()
        engine.stop()
        await asyncio.gather(users.stop(settings.stop_grace_s), volunteers.stop(settings.stop_grace_s))
        for task in (sweeping, house, certificates):
            task.cancel()
        await asyncio.wait([sweeping, house, certificates])
        if transport is not None:
            await transport.close()
        await logs.close()
    for task in (sweeping, house, certificates):
        if not task.cancelled():
            task.result()
    if engine.failed.done():
        raise engine.failed.result()


def _volunteers_door(settings: Settings, transport: Transport | None) -> Door:
    """Certificates open it; without any, on loopback alone, a token does."""
    if transport is None:
        return VolunteersDoor(volunteers_token(settings.state_dir))
    return CertifiedDoor(transport.peers)


def _users_listener(guard: Guard, scheduler: Scheduler, chaos: ChaosControl) -> Listener:
    users = Listener("users", "--listen-users", guard, USERS_OPTIONS, LARGEST_FROM_USERS)
    users.add(
        scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"].full_name,
        scheduler_pb2_grpc.add_SchedulerServicer_to_server,
        scheduler,
    )
    users.add(_CHAOS, chaos_pb2_grpc.add_ChaosControlServicer_to_server, chaos)
    return users


def _volunteers_listener(guard: Guard, registry: Registry, chaos: ChaosControl) -> Listener:
    volunteers = Listener("volunteers", "--listen-volunteers", guard, VOLUNTEERS_OPTIONS)
    volunteers.add(_REGISTRY, registry_pb2_grpc.add_RegistryServicer_to_server, registry)
    volunteers.add(
        _CHAOS,
        chaos_pb2_grpc.add_ChaosControlServicer_to_server,
        chaos,
    )
    return volunteers


async def _keep_certificates(transport: Transport | None) -> None:
    if transport is None:
        _log.warning("insecure", detail="users and volunteers are served in clear text, on loopback only")
        await asyncio.Event().wait()
    else:
        await transport.keep_fresh()


def _on_signals() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in _STOPPING:
        loop.add_signal_handler(number, on_signal)
    return stop


def _off_signals() -> None:
    # uvloop's close leaves the handlers of its loop behind: the process would be deaf to Ctrl-C from then on.
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.remove_signal_handler(number)


def _raise_open_files() -> None:
    # Each volunteer and each user is an open file; the usual soft limit is 1,024.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _take_client(blobs: BlobDirectory, path: Path) -> Source:
    """Check the default client's tarball and put it among the sources. Raises BadClient."""
    try:
        size = path.stat().st_size
        if size > blobs.max_bytes:
            raise BadClient(f"--client {path} has {size:,} bytes; sources have at most {blobs.max_bytes:,}")
        data = path.read_bytes()
        upload = blobs.begin(hashlib.sha256(data).hexdigest(), len(data))
        try:
            upload.add(data)
            return upload.finish(check_source)
        finally:
            upload.abandon()
    except OSError as error:
        raise BadClient(f"--client {path} cannot be read: {error.strerror or error}") from None
    except CoreError as error:
        raise BadClient(f"--client {path}: {error.detail} ({error.reason})") from None


def _write_ready(path: Path, users: Listener, volunteers: Listener, store: SqliteStore, metrics: str) -> None:
    content = {
        "users": users.address,
        "volunteers": volunteers.address,
        "cluster_id": store.cluster_id,
        "epoch": store.epoch,
        "pid": os.getpid(),
        **({"metrics": metrics} if metrics else {}),
    }
    write_whole(path, json.dumps(content) + "\n", 0o644)


def _log_trouble(path: Path, error: Exception) -> None:
    _log.error("log.dropped", path=str(path), error=str(error))
