"""``Chaos``: what a client does to its own job, in plain blocking calls."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from syndicate.client_api import _calls
from syndicate.client_api._calls import Call, Exchange, monotonic_now
from syndicate.client_api._errors import (
    ChaosError,
    DeadlineExceeded,
    NotConfigured,
    Unavailable,
    chaos_error,
    read_failure,
)
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

ENVIRONMENT_NAME = "SYNDICATE_CHAOS"
DEFAULT_TIMEOUT_S = 30.0

CHANNEL_OPTIONS = (
    # gRPC's own pause of up to two minutes between connection attempts would outlast every deadline here.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    # A new channel must not inherit the back-off of an older one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
)


def chaos_address(environ: Mapping[str, str]) -> str:
    """The address in SYNDICATE_CHAOS. Raises NotConfigured where there is none."""
    address = environ.get(ENVIRONMENT_NAME, "")
    if not address:
        raise NotConfigured(f"{ENVIRONMENT_NAME} is not set: only a client task of a job has it")
    return address


class Chaos:
    """Breaks and mends the members of the caller's own job.

    ``kill``, ``revive``, ``disconnect`` and ``reconnect`` take one address or a sequence of them. Several are
    checked before any of them is touched, and then told at the same moment; the call answers when the effect
    holds at all of them (``members`` of the answer has each). Where one fails the call raises, and the text
    says at which of the others it holds. An empty sequence raises ValueError.

    A call answers when its effect holds. It has a deadline (``timeout`` in seconds, 30 unless given here or
    with the call) and is tried again under one request id while manager or volunteer are away, so that the
    effect happens once. Usable from several threads. Errors: see ``ChaosError``.
    """

    def __init__(
        self, address: str, timeout: float = DEFAULT_TIMEOUT_S, *, retry: RetryPolicy | None = None
    ) -> None:
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._boot_id = _calls.own_boot_id()
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = chaos_pb2_grpc.ChaosControlStub(self._channel)

    @classmethod
    def from_env(cls, timeout: float = DEFAULT_TIMEOUT_S) -> Chaos:
        """Opens the socket that SYNDICATE_CHAOS names. Raises NotConfigured where it is not set."""
        return Chaos(chaos_address(os.environ), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connection back."""
        self._channel.close()

    def kill(self, ip: str | Sequence[str], *, timeout: float | None = None) -> Killed:
        """Ends every process of the task at ``ip``; a dead one is left as it is (``already``)."""
        return self._run(_calls.kill(str(uuid.uuid4()), ip), timeout)

    def revive(
        self, ip: str | Sequence[str], with_disk: bool | None = None, *, timeout: float | None = None
    ) -> Revived:
        """Starts the task at ``ip`` again; None keeps its disk, as True does.

        A live task is left alone (``already``), and without disk it raises TaskAlive.
        """
        return self._run(_calls.revive(str(uuid.uuid4()), ip, with_disk), timeout)

    def disconnect(self, ip: str | Sequence[str], *, timeout: float | None = None) -> Disconnected:
        """Cuts ``ip`` from every master and slave of the job, in both directions."""
        return self._run(_calls.disconnect(str(uuid.uuid4()), ip), timeout)

    def reconnect(self, ip: str | Sequence[str], *, timeout: float | None = None) -> Reconnected:
        """Takes a disconnect of ``ip`` back."""
        return self._run(_calls.reconnect(str(uuid.uuid4()), ip), timeout)

    def finish(
        self,
        outcome: Outcome | str | None = None,
        score: float | None = None,
        metrics: Mapping[str, float] | None = None,
        text: str = "",
        *,
        timeout: float | None = None,
    ) -> Finished:
        """Says that this client is done, and what it found; afterwards only ``members`` and ``ping`` work.

        ``outcome`` is ``"pass"``, ``"fail"``, ``"unknown"`` or None, which stands for a pass. ``score`` is in
        the client's own scale, ``metrics`` are named numbers. ``text`` past 64 KiB is cut, and says so.
        Raises ValueError for another outcome.
        """
        return self._run(_calls.finish(str(uuid.uuid4()), outcome, score, metrics, text), timeout)

    def members(self, *, timeout: float | None = None) -> tuple[MemberState, ...]:
        """The members of the job with their states: master, slaves, clients."""
        return self._run(_calls.members(), timeout)

    def ping(self, *, timeout: float | None = None) -> Pong:
        """Goes to the manager and back: how long that took, and how this clock stands to the manager's."""
        return self._run(_calls.ping(self._boot_id), timeout)

    def _run(self, call: Call[T], timeout: float | None) -> T:
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        tries = 0
        while True:
            tries += 1
            sent = monotonic_now()
            try:
                answer = self._invoke(
                    call.rpc, call.request, self._retry.try_timeout_s(time.monotonic(), deadline)
                )
            except (Unavailable, DeadlineExceeded):
                pause = self._retry.pause_s(tries, random.random())  # noqa: S311 - jitter, no secret
                if not self._retry.retries or time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
            else:
                return call.read(answer, Exchange(sent, monotonic_now()))

    def _invoke(self, rpc: str, request: Message, timeout: float) -> Any:
        """One try. Raises ChaosError."""
        try:
            return getattr(self._stub, rpc)(request, timeout=timeout)
        except grpc.RpcError as error:
            failure: ChaosError = chaos_error(read_failure(error))
            raise failure from None
