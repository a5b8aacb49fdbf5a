"""The relay: ChaosControl for client tasks, through a Unix socket in each client's sandbox.

A call goes to the manager over the volunteer's own channel, bytes in and bytes out, with what the volunteer
attests in place of the task's own metadata: which run of which task. It names the volunteer's own stream, by
which the manager knows who attests; no other volunteer has its name. Status, text and
trailing metadata come back as the manager gave them. The task needs no credential and has none.

The socket belongs to whoever can reach it, and only one sandbox can: the keeper lays the folder into it. It
takes few connections, on each of them few calls at a time, and messages of 256 KiB: a task that calls as
fast as it can would else fill the volunteer's memory. Calls beyond `MAX_CALLS`, and those whose requests do
not fit into the `Budget` that all sockets of a volunteer share, are refused with RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
import grpc.aio
from syndicate.v1 import chaos_pb2

from . import local
from .core.model import TaskRef

MAX_CALLS = 64
MAX_MESSAGE_BYTES = 256 << 10  # the largest of use is a Finish, with 128 KiB of text and metrics
MAX_CONNECTIONS = 8  # of one client's socket
MAX_STREAMS = 16  # of one connection; a client's gRPC lets more calls wait on its own side
MAX_UNDER_WAY_BYTES = 16 << 20  # requests of all sockets
MAX_PATH_BYTES = 107
_SERVICE = chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"]
_REASON = "syndicate-reason"

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where calls go now: the channel to the manager, the volunteer's credentials, its stream's name."""

    channel: grpc.aio.Channel
    credentials: tuple[tuple[str, str], ...]
    session: str


@dataclass(frozen=True, slots=True)
class RelayEdges:
    """What a relay needs of the app. `upstream` gives None while the task's cluster is not reached."""

    upstream: Callable[[str], Upstream | None]
    caller: Callable[[int], TaskRef | None]


class Budget:
    """What all sockets of one volunteer share: bytes that requests may take, and the count of their calls."""

    def __init__(self, most: int = MAX_UNDER_WAY_BYTES) -> None:
        self._left = most
        self.relayed = 0
        self.refused = 0

    def take(self, size: int) -> bool:
        """Whether there is room; then it must be given back."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """What was taken is free again."""
        self._left += size


class Relay:
    """The socket of one slot's client task."""

    def __init__(
        self, slot: int, task: local.TaskId, path: Path, edges: RelayEdges, budget: Budget | None = None
    ) -> None:
        self.task = task
        self._slot = slot
        self._path = path
        self._edges = edges
        self._budget = budget or Budget()
        self._server: grpc.aio.Server | None = None
        self._calls = 0
        # One caller object for each method, made once for a channel: the making costs more than a call's
        # share.
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def open(self) -> None:
        """Serves at the path, which every user may connect to. Raises OSError."""
        if len(os.fsencode(self._path)) > MAX_PATH_BYTES:
            raise OSError(f"the path is too long for a socket: {self._path}")
        self._path.unlink(missing_ok=True)
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", 16 << 10),
            # A task opens as many as it likes; each costs a descriptor and memory here.
            ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            # It counts calls that the client knows to be over, and fails some that keep to the bound.
            ("grpc.http.overload_protection", 0),
        ]
        server = grpc.aio.server(options=options)
        handlers: dict[str, Any] = {
            method.name: grpc.unary_unary_rpc_method_handler(self._handler_of(method.name))
            for method in _SERVICE.methods
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))
        try:
            server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise OSError(f"cannot listen at {self._path}: {error}") from error
        await server.start()
        self._server = server
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Ends calls under way and removes the socket. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)
            self._path.unlink(missing_ok=True)

    def _handler_of(self, method: str) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], object]:
        path = f"/{_SERVICE.full_name}/{method}"

        async def handle(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            if self._calls >= MAX_CALLS:
                self._budget.refused += 1
                text = f"more than {MAX_CALLS} calls at a time"
                await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", text)
            if not self._budget.take(len(request)):
                self._budget.refused += 1
                text = "too much is under way from the clients of this volunteer"
                await _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", text)
            self._calls += 1
            self._budget.relayed += 1
            try:
                return await self._relay(path, request, context)
            finally:
                self._calls -= 1
                self._budget.give_back(len(request))

        return handle

    async def _relay(
        self, path: str, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        caller = self._edges.caller(self._slot)
        if caller is None or caller.id != self.task:
            text = "the task that this socket was made for is gone"
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, "NOT_A_CLIENT", text)
        upstream = self._edges.upstream(caller.cluster_id)
        if upstream is None:
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY", "the manager is away")
        metadata = (*upstream.credentials, *attestation(upstream.session, caller))
        call = self._method(upstream.channel, path)(
            request, timeout=context.time_remaining(), metadata=metadata
        )
        try:
            response = await call
        except asyncio.CancelledError:
            # The caller gave up, or the channel was closed under the call: this volunteer ends, or shows a
            # new certificate. A handler that is cancelled gives the caller no status.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await _refuse(context, grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY", "the manager is away")
        except grpc.aio.AioRpcError as error:
            trailing = _trailing(error.trailing_metadata())
            if error.code() is grpc.StatusCode.UNAVAILABLE and not any(key == _REASON for key, _ in trailing):
                trailing = (*trailing, (_REASON, "MANAGER_AWAY"))
            await context.abort(error.code(), error.details() or "", trailing)
        if trailing := _trailing(await call.trailing_metadata()):
            context.set_trailing_metadata(trailing)
        return response

    def _method(self, channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        if self._channel is not channel:
            self._channel = channel
            self._methods.clear()
        found = self._methods.get(path)
        if found is None:
            found = self._methods[path] = channel.unary_unary(path)
        return found


def attestation(session: str, caller: TaskRef) -> tuple[tuple[str, str], ...]:
    """The metadata that says which run of which task calls, and the stream of the volunteer that says so."""
    task = f"{caller.cluster_id}/{caller.job_id}/{caller.attempt}/{caller.task}/{caller.generation}"
    return (("syndicate-session", session), ("syndicate-task", task))


def _trailing(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    return tuple((key, value) for key, value in metadata or ())


async def _refuse(
    context: grpc.aio.ServicerContext[bytes, bytes], code: grpc.StatusCode, reason: str, text: str
) -> NoReturn:
    await context.abort(code, text, ((_REASON, reason),))


class Relays:
    """The relays of all slots; opening and closing of one slot follow each other in order."""

    def __init__(self, run_dir: Path, edges: RelayEdges) -> None:
        self._run_dir = run_dir
        self._edges = edges
        self._budget = Budget()
        self._open: dict[int, Relay] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    @property
    def calls(self) -> dict[str, int]:
        """Calls of client tasks by what was done with them."""
        return {"relayed": self._budget.relayed, "refused": self._budget.refused}

    def path(self, slot: int) -> Path:
        """Where a slot's socket is; the keeper makes the folder."""
        return self._run_dir / "slots" / str(slot) / "chaos.sock"

    async def open(self, slot: int, task: local.TaskId) -> str:
        """Serves a client task; says why not, or nothing."""
        async with self._lock(slot):
            current = self._open.get(slot)
            if current is not None and current.task == task:
                return ""
            await self._close(slot)
            relay = Relay(slot, task, self.path(slot), self._edges, self._budget)
            try:
                await relay.open()
            except OSError as error:
                await relay.close()
                return f"the client's socket cannot be made: {error}"
            self._open[slot] = relay
            return ""

    async def close(self, slot: int) -> None:
        """Serves nobody on this slot any more."""
        async with self._lock(slot):
            await self._close(slot)

    async def close_all(self) -> None:
        """Serves nobody."""
        for slot in list(self._open):
            await self.close(slot)

    async def _close(self, slot: int) -> None:
        relay = self._open.pop(slot, None)
        if relay is not None:
            await relay.close()

    def _lock(self, slot: int) -> asyncio.Lock:
        return self._locks.setdefault(slot, asyncio.Lock())
