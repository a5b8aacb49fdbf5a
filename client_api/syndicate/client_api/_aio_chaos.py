"""``AioChaos``: the calls of Chaos for asyncio."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from syndicate.client_api import _calls
from syndicate.client_api._calls import Call, Exchange, monotonic_now
from syndicate.client_api._chaos import CHANNEL_OPTIONS, DEFAULT_TIMEOUT_S, chaos_address
from syndicate.client_api._errors import DeadlineExceeded, Unavailable, chaos_error, read_failure
from syndicate.client_api._results import (
    Disconnected,
    Finished,
    Killed,
    MemberState,
    Outcome,
    Pong,
    Reconnected,
    Revived,
)
from syndicate.client_api._retry import RetryPolicy
from syndicate.v1 import chaos_pb2_grpc

T = TypeVar("T")


class AioChaos:
    """Breaks and mends the members of the caller's own job; each call is that of ``Chaos``, awaited.

    Make it inside a running loop. Calls may run at the same time; cancelling one does not take its effect
    back.
    """

    def __init__(
        self, address: str, timeout: float = DEFAULT_TIMEOUT_S, *, retry: RetryPolicy | None = None
    ) -> None:
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._boot_id = _calls.own_boot_id()
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = chaos_pb2_grpc.ChaosControlStub(self._channel)

    @classmethod
    def from_env(cls, timeout: float = DEFAULT_TIMEOUT_S) -> AioChaos:
        """Opens the socket that SYNDICATE_CHAOS names. Raises NotConfigured where it is not set."""
        return AioChaos(chaos_address(os.environ), timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the connection back."""
        await self._channel.close()

    async def kill(self, ip: str | Sequence[str], *, timeout: float | None = None) -> Killed:
        """As ``Chaos.kill``."""
        return await self._run(_calls.kill(str(uuid.uuid4()), ip), timeout)

    async def revive(
        self, ip: str | Sequence[str], with_disk: bool | None = None, *, timeout: float | None = None
    ) -> Revived:
        """As ``Chaos.revive``."""
        return await self._run(_calls.revive(str(uuid.uuid4()), ip, with_disk), timeout)

    async def disconnect(self, ip: str | Sequence[str], *, timeout: float | None = None) -> Disconnected:
        """As ``Chaos.disconnect``."""
        return await self._run(_calls.disconnect(str(uuid.uuid4()), ip), timeout)

    async def reconnect(self, ip: str | Sequence[str], *, timeout: float | None = None) -> Reconnected:
        """As ``Chaos.reconnect``."""
        return await self._run(_calls.reconnect(str(uuid.uuid4()), ip), timeout)

    async def finish(
        self,
        outcome: Outcome | str | None = None,
        score: float | None = None,
        metrics: Mapping[str, float] | None = None,
        text: str = "",
        *,
        timeout: float | None = None,
    ) -> Finished:
        """As ``Chaos.finish``."""
        return await self._run(_calls.finish(str(uuid.uuid4()), outcome, score, metrics, text), timeout)

    async def members(self, *, timeout: float | None = None) -> tuple[MemberState, ...]:
        """As ``Chaos.members``."""
        return await self._run(_calls.members(), timeout)

    async def ping(self, *, timeout: float | None = None) -> Pong:
        """As ``Chaos.ping``."""
        return await self._run(_calls.ping(self._boot_id), timeout)

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        now = asyncio.get_running_loop().time
        deadline = now() + (self._timeout if timeout is None else timeout)
        tries = 0
        while True:
            tries += 1
            sent = monotonic_now()
            try:
                answer = await self._invoke(
                    call.rpc, call.request, self._retry.try_timeout_s(now(), deadline)
                )
            except (Unavailable, DeadlineExceeded):
                pause = self._retry.pause_s(tries, random.random())  # noqa: S311 - jitter, no secret
                if not self._retry.retries or now() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
            else:
                return call.read(answer, Exchange(sent, monotonic_now()))

    async def _invoke(self, rpc: str, request: Message, timeout: float) -> Any:
        """One try. Raises ChaosError."""
        try:
            return await getattr(self._stub, rpc)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise chaos_error(read_failure(error)) from None
