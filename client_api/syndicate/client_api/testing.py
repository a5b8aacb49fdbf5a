"""Doubles of ChaosControl for tests of client code: no cluster, no network, no clock.

``FakeChaos`` and ``AioFakeChaos`` have the methods of ``Chaos`` and ``AioChaos`` (and are such), keep the
rules of the manager, and record every call::

    chaos = FakeChaos(members=["10.77.0.11", "10.77.0.12", "10.77.0.13"])
    my_client.run(chaos)
    assert [call.rpc for call in chaos.job.calls] == ["Disconnect", "Reconnect", "Finish"]

The first address is the master's, the others are slaves'. ``chaos.job.fail_next("Kill", "VOLUNTEER_AWAY")``
scripts a failure; it is raised at once, without the retries of the real thing. ``fail_at`` lets a call fail
at one of several members, ``cannot`` takes a capability from machines, ``advance`` lets leases end, and
``faults`` is the ledger. ``FakeChaosServer`` serves the same job on a Unix socket, for code in any language
on the bare stubs. Clients that share a job (``FakeChaos(job=job, caller="client-1")``) hand histories over
and gather them; ``gather`` waits for the others by the real clock.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.message import Message
from syndicate.client_api._aio_chaos import AioChaos
from syndicate.client_api._calls import own_boot_id
from syndicate.client_api._chaos import DEFAULT_TIMEOUT_S, ENVIRONMENT_NAME, Chaos
from syndicate.client_api._error_table import METADATA_PREFIX, REASON_KEY
from syndicate.client_api._errors import ChaosError, SchedulerError
from syndicate.client_api._fake_job import FakeJob, RecordedCall
from syndicate.client_api._results import MemberState
from syndicate.client_api._retry import RetryPolicy
from syndicate.v1 import chaos_pb2

__all__ = ["AioFakeChaos", "FakeChaos", "FakeChaosServer", "FakeJob", "RecordedCall", "answering"]

_NO_RETRY = RetryPolicy(retries=False)
_STOP_S = 5.0


class FakeChaos(Chaos):
    """``Chaos`` upon a ``FakeJob``: give it members, or a job that it shares with others."""

    def __init__(
        self,
        members: Sequence[str | MemberState] = (),
        *,
        job: FakeJob | None = None,
        caller: str = "client-0",
    ) -> None:
        # The base opens a channel; here there is nothing to connect to.
        self.job = job or FakeJob(members)
        self._caller = caller
        self._timeout = DEFAULT_TIMEOUT_S
        self._retry = _NO_RETRY
        self._boot_id = own_boot_id()  # a ping compares this machine's real clock to the fake one

    def close(self) -> None:
        """Nothing is held."""

    def _invoke(self, rpc: str, request: Message, timeout: float) -> Any:
        return self.job.answer(self._caller, rpc, request)


class AioFakeChaos(AioChaos):
    """``AioChaos`` upon a ``FakeJob``."""

    def __init__(
        self,
        members: Sequence[str | MemberState] = (),
        *,
        job: FakeJob | None = None,
        caller: str = "client-0",
    ) -> None:
        self.job = job or FakeJob(members)
        self._caller = caller
        self._timeout = DEFAULT_TIMEOUT_S
        self._retry = _NO_RETRY
        self._boot_id = own_boot_id()  # a ping compares this machine's real clock to the fake one

    async def close(self) -> None:
        """Nothing is held."""

    async def _invoke(self, rpc: str, request: Message, timeout: float) -> Any:
        if rpc == "GatherHistories":  # which waits for other threads or tasks
            return await asyncio.to_thread(self.job.answer, self._caller, rpc, request)
        return self.job.answer(self._caller, rpc, request)


class FakeChaosServer:
    """Serves ChaosControl of a ``FakeJob`` on a Unix socket while its ``with`` block runs.

    ``address`` is what SYNDICATE_CHAOS would hold, ``environ`` the environment with it in. Plain grpc: a
    refusal carries its reason in the trailing metadata ``syndicate-reason``.
    """

    def __init__(
        self,
        members: Sequence[str | MemberState] = (),
        *,
        job: FakeJob | None = None,
        caller: str = "client-0",
    ) -> None:
        self.job = job or FakeJob(members)
        self._directory = tempfile.TemporaryDirectory(prefix="syn-chaos-")
        self.address = f"unix:{Path(self._directory.name) / 'chaos.sock'}"
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        self._server.add_generic_rpc_handlers((_EveryCall(self.job, caller),))
        self._server.add_insecure_port(self.address)

    @property
    def environ(self) -> dict[str, str]:
        """This process's environment with SYNDICATE_CHAOS set, for a child process."""
        return {**os.environ, ENVIRONMENT_NAME: self.address}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait(_STOP_S)
        self._directory.cleanup()


class _EveryCall(grpc.GenericRpcHandler):
    """Each RPC of ChaosControl is the fake job's."""

    def __init__(self, job: FakeJob, caller: str) -> None:
        self._job = job
        self._caller = caller
        self._methods = chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"].methods_by_name

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, rpc = handler_call_details.method.lstrip("/").partition("/")
        if service != "syndicate.v1.ChaosControl" or rpc not in self._methods:
            return None
        request_class = getattr(chaos_pb2, f"{rpc}Request")
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(rpc, request, context),
            request_deserializer=request_class.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _answer(self, rpc: str, request: Message, context: grpc.ServicerContext) -> Message:
        try:
            return self._job.answer(self._caller, rpc, request)
        except (ChaosError, SchedulerError) as error:
            _abort(context, error)


def answering(job: FakeJob, caller: str = "client-0") -> grpc.GenericRpcHandler:
    """For a server of your own: ChaosControl as ``caller`` has it. See ``FakeChaosServer``."""
    return _EveryCall(job, caller)


def _abort(context: grpc.ServicerContext, error: ChaosError | SchedulerError) -> NoReturn:
    metadata = [(REASON_KEY, error.reason)]
    metadata += [(METADATA_PREFIX + key, value) for key, value in error.metadata.items()]
    context.set_trailing_metadata(tuple(metadata))
    context.abort(grpc.StatusCode[error.code], str(error))
    raise AssertionError("abort returns never")
