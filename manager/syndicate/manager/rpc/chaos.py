"""ChaosControl: what a client may do to its own job, relayed and attested by its volunteer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from syndicate.v1 import chaos_pb2 as pb
from syndicate.v1 import chaos_pb2_grpc

from ..core import effects, events
from ..core.errors import NotAllowed, TooLate
from ..core.events import ChaosCaller, ChaosRequest
from ..core.model import TaskRef
from ..engine import Engine
from . import convert
from .peers import Peers
from .types import Context

# The machine bounds every fault by itself; this is for a reply that never comes.
_ANSWER_WITHIN_S: Final = 120.0


class ChaosControl(chaos_pb2_grpc.ChaosControlServicer):
    """The servicer. Errors are raised as CoreErrors; the guard tells them."""

    def __init__(self, engine: Engine, peers: Peers | None = None) -> None:
        """Without `peers` the listener is in clear text, and a volunteer is whoever it says it is."""
        self._engine = engine
        self._peers = peers

    async def Kill(self, request: pb.KillRequest, context: Context) -> pb.KillResponse:
        """End every process of a member."""
        caller, request_id = self._caller(context), convert.request_id(request.request_id)
        reply = await self._fault(lambda call: events.KillRequested(call, request_id, caller, request.ip))
        return pb.KillResponse(applied=convert.applied_out(reply), processes=reply.processes)

    async def Revive(self, request: pb.ReviveRequest, context: Context) -> pb.ReviveResponse:
        """Start a member again; with its disk unless told otherwise."""
        caller, request_id = self._caller(context), convert.request_id(request.request_id)
        with_disk = request.with_disk if request.HasField("with_disk") else True
        reply = await self._fault(
            lambda call: events.ReviveRequested(call, request_id, caller, request.ip, with_disk)
        )
        return pb.ReviveResponse(applied=convert.applied_out(reply), generation=reply.generation)

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        """Cut a member off."""
        caller, request_id = self._caller(context), convert.request_id(request.request_id)
        reply = await self._fault(
            lambda call: events.DisconnectRequested(call, request_id, caller, request.ip)
        )
        return pb.DisconnectResponse(applied=convert.applied_out(reply))

    async def Reconnect(self, request: pb.ReconnectRequest, context: Context) -> pb.ReconnectResponse:
        """Take a cut back."""
        caller, request_id = self._caller(context), convert.request_id(request.request_id)
        reply = await self._fault(
            lambda call: events.ReconnectRequested(call, request_id, caller, request.ip)
        )
        return pb.ReconnectResponse(applied=convert.applied_out(reply))

    async def Finish(self, request: pb.FinishRequest, context: Context) -> pb.FinishResponse:
        """Write down what a client found."""
        caller, request_id = self._caller(context), convert.request_id(request.request_id)
        result = convert.result_in(request.result)
        reply = await self._call(lambda call: events.FinishRequested(call, request_id, caller, result))
        assert isinstance(reply, effects.FinishReply)  # noqa: S101 - the event's contract
        return pb.FinishResponse(
            finished_at=convert.stamp_out(reply.finished_at), clients_left=reply.clients_left
        )

    async def ListMembers(self, request: pb.ListMembersRequest, context: Context) -> pb.ListMembersResponse:
        """The members of the caller's job."""
        caller = self._caller(context)
        reply = await self._call(lambda call: events.MembersRequested(call, caller))
        assert isinstance(reply, effects.MembersReply)  # noqa: S101 - the event's contract
        return pb.ListMembersResponse(
            members=[
                pb.MemberState(
                    member=convert.member_out(view.member),
                    state=convert.number(view.state),
                    generation=view.generation,
                    disconnected=view.disconnected,
                )
                for view in reply.members
            ]
        )

    async def Ping(self, request: pb.PingRequest, context: Context) -> pb.PingResponse:
        """The manager's clock."""
        at = self._engine.clock.now()
        self._caller(context)
        return pb.PingResponse(manager_at=convert.stamp_out(at))

    def _caller(self, context: Context) -> ChaosCaller:
        caller = _attested(context)
        if self._peers is not None:
            self._peers.must_be(context, caller.volunteer_id)
        return caller

    async def _fault(self, make: Callable[[int], ChaosRequest]) -> effects.FaultReply:
        reply = await self._call(make)
        assert isinstance(reply, effects.FaultReply)  # noqa: S101 - the events' contract
        return reply

    async def _call(self, make: Callable[[int], events.Event]) -> effects.Answer:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await self._engine.call(make)
        except TimeoutError:
            raise TooLate("NO_ANSWER", f"no answer came within {_ANSWER_WITHIN_S:g} s") from None


def _attested(context: Context) -> ChaosCaller:
    """The client task that its volunteer attests. The core checks that the volunteer holds it."""
    volunteer_id = task = ""
    for key, value in context.invocation_metadata() or ():
        if key == "syndicate-volunteer":
            volunteer_id = str(value)
        elif key == "syndicate-task":
            task = str(value)
    parts = task.split("/")
    try:
        if not volunteer_id:
            raise ValueError(task)
        cluster_id, job_id, attempt, name, generation = parts
        ref = TaskRef(cluster_id, int(job_id), int(attempt), name, int(generation))
    except ValueError:
        raise NotAllowed(
            "NOT_A_CLIENT", "ChaosControl is for client tasks: call it through the socket in SYNDICATE_CHAOS"
        ) from None
    return ChaosCaller(volunteer_id, ref)
