"""``AioChaos``: the calls of Chaos for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from syndicate.client_api import _calls, _histories
from syndicate.client_api._calls import Call, Exchange, Whom, monotonic_now
from syndicate.client_api._calls import new_id as _new_id
from syndicate.client_api._chaos import CHANNEL_OPTIONS, DEFAULT_TIMEOUT_S, UNJUDGED, Held, chaos_address
from syndicate.client_api._error_table import chaos_error, read_failure
from syndicate.client_api._errors import (
    AttemptEnded,
    ChaosError,
    ClientFinished,
    DeadlineExceeded,
    JobNotRunning,
    Unavailable,
)
from syndicate.client_api._histories import Gathered, HandedOver, Steps
from syndicate.client_api._results import (
    Degraded,
    Disconnected,
    DiskFilled,
    Fault,
    Finished,
    Healed,
    Killed,
    MemberState,
    Outcome,
    Partitioned,
    Paused,
    Pong,
    Reconnected,
    Reset,
    Resumed,
    Revived,
    Shape,
    Signalled,
)
from syndicate.client_api._retry import RetryPolicy
from syndicate.client_api._units import Duration
from syndicate.client_api.history import History
from syndicate.v1 import chaos_pb2_grpc

if TYPE_CHECKING:
    from syndicate.client_api._judging import Wanted
    from syndicate.client_api.checkers import Budget, Verdict

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

    async def kill(self, ip: Whom, *, timeout: float | None = None) -> Killed:
        """As ``Chaos.kill``."""
        return await self._run(_calls.kill(_new_id(), ip), timeout)

    async def revive(
        self, ip: Whom, with_disk: bool | None = None, *, timeout: float | None = None
    ) -> Revived:
        """As ``Chaos.revive``."""
        return await self._run(_calls.revive(_new_id(), ip, with_disk), timeout)

    async def disconnect(
        self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None
    ) -> Disconnected:
        """As ``Chaos.disconnect``."""
        return await self._run(_calls.disconnect(_new_id(), ip, lease), timeout)

    async def reconnect(self, ip: Whom, *, timeout: float | None = None) -> Reconnected:
        """As ``Chaos.reconnect``."""
        return await self._run(_calls.reconnect(_new_id(), ip), timeout)

    async def reset(self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None) -> Reset:
        """As ``Chaos.reset``."""
        return await self._run(_calls.reset(_new_id(), ip, lease), timeout)

    async def partition(
        self,
        groups: Sequence[Sequence[str | MemberState]] | None = None,
        *,
        shape: Shape | str | None = None,
        ip: str | MemberState | None = None,
        one_way: bool = False,
        seed: int = 0,
        lease: Duration | None = None,
        timeout: float | None = None,
    ) -> Partitioned:
        """As ``Chaos.partition``."""
        call = _calls.partition(_new_id(), groups, shape, ip, one_way, seed, lease)
        return await self._run(call, timeout)

    async def degrade(
        self,
        ip: Whom,
        *,
        peers: Sequence[str | MemberState] = (),
        loss: float | str = 0.0,
        rate: float | str | None = None,
        delay: Duration = 0.0,
        jitter: Duration = 0.0,
        duplicate: float | str = 0.0,
        corrupt: float | str = 0.0,
        reorder: float | str = 0.0,
        one_way: bool = False,
        lease: Duration | None = None,
        timeout: float | None = None,
    ) -> Degraded:
        """As ``Chaos.degrade``."""
        how = _calls.degradation(
            loss=loss,
            rate=rate,
            delay=delay,
            jitter=jitter,
            duplicate=duplicate,
            corrupt=corrupt,
            reorder=reorder,
        )
        return await self._run(_calls.degrade(_new_id(), ip, how, peers, one_way, lease), timeout)

    async def pause(self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None) -> Paused:
        """As ``Chaos.pause``."""
        return await self._run(_calls.pause(_new_id(), ip, lease), timeout)

    async def resume(self, ip: Whom, *, timeout: float | None = None) -> Resumed:
        """As ``Chaos.resume``."""
        return await self._run(_calls.resume(_new_id(), ip), timeout)

    async def disk_full(
        self, ip: Whom, *, lease: Duration | None = None, timeout: float | None = None
    ) -> DiskFilled:
        """As ``Chaos.disk_full``."""
        return await self._run(_calls.disk_full(_new_id(), ip, lease), timeout)

    async def signal(self, ip: Whom, signal: int | str, *, timeout: float | None = None) -> Signalled:
        """As ``Chaos.signal``."""
        return await self._run(_calls.signal(_new_id(), ip, signal), timeout)

    async def heal(self, *fault_ids: int, timeout: float | None = None) -> Healed:
        """As ``Chaos.heal``."""
        return await self._run(_calls.heal(_new_id(), fault_ids), timeout)

    @contextlib.asynccontextmanager
    async def healing(self, held: Held) -> AsyncIterator[Held]:
        """As ``Chaos.healing``: ``async with chaos.healing(await chaos.pause(ip)):``."""
        try:
            yield held
        finally:
            call: Call[Any] | None = _calls.undo(_new_id(), held)
            with contextlib.suppress(JobNotRunning, ClientFinished, AttemptEnded):
                if call is not None:
                    await self._run(call, None)

    async def faults(self, *, in_force: bool = False, timeout: float | None = None) -> tuple[Fault, ...]:
        """As ``Chaos.faults``."""
        found: list[Fault] = []
        token = ""
        while True:
            page, token = await self._run(_calls.faults(in_force, token), timeout)
            found += page
            if not token:
                return tuple(found)

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
        return await self._run(_calls.finish(_new_id(), outcome, score, metrics, text), timeout)

    async def hand_over(
        self,
        history: History | str | os.PathLike[str],
        final: bool = True,
        *,
        name: str | None = None,
        timeout: float | None = None,
    ) -> HandedOver:
        """As ``Chaos.hand_over``."""
        path = await self._take(_histories.measure(history, lambda: _calls.ping(self._boot_id)), timeout)
        return await self._take(_histories.hand_over(path, name, final), timeout)

    async def gather(
        self,
        wait_s: float = 60.0,
        *,
        folder: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> Gathered:
        """As ``Chaos.gather``."""
        steps = _histories.gather(wait_s, folder, self._timeout if timeout is None else timeout)
        return await self._take(steps, timeout)

    async def judge(
        self,
        checkers: Mapping[str, Wanted],
        history: History | str | os.PathLike[str] | None = None,
        *,
        wait_s: float = 60.0,
        budget: Budget | None = None,
        windows: Sequence[tuple[str, int, int | None]] | None = None,
        tested: bool = True,
        least_s: float = 1.0,
        kinds: Collection[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        say: Callable[[str], None] = print,
        timeout: float | None = None,
    ) -> Verdict:
        """As ``Chaos.judge``; the check runs in a thread."""
        # Only clients that judge load the checkers.
        from syndicate.client_api._judging import Question, judged, unknown

        question = Question(checkers, budget, windows, tested, least_s, kinds)
        try:
            if history is not None:
                await self.hand_over(history, timeout=timeout)
            with await self.gather(wait_s, timeout=timeout) as gathered:
                members = await self.members(timeout=timeout)
                faults = await self.faults(timeout=timeout)
                verdict = await asyncio.to_thread(judged, gathered, members, faults, question)
        except UNJUDGED as error:
            verdict = unknown(f"the histories could not be gathered: {error}")
        told = verdict.finish_arguments()
        say(told["text"])
        await self.finish(**told | {"metrics": {**(metrics or {}), **told["metrics"]}}, timeout=timeout)
        return verdict

    async def members(self, *, timeout: float | None = None) -> tuple[MemberState, ...]:
        """As ``Chaos.members``."""
        return await self._run(_calls.members(), timeout)

    async def ping(self, *, timeout: float | None = None) -> Pong:
        """As ``Chaos.ping``."""
        return await self._run(_calls.ping(self._boot_id), timeout)

    async def _take(self, steps: Steps[T], timeout: float | None) -> T:
        """Takes steps until their end."""
        try:
            call = next(steps)
            while True:
                try:
                    answer = await self._run(call, timeout)
                except ChaosError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

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
