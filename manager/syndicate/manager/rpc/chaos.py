"""ChaosControl: what a client may do to its own job, relayed and attested by its volunteer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from syndicate.v1 import chaos_pb2 as pb
from syndicate.v1 import chaos_pb2_grpc

from ..core import effects, events
from ..core.errors import Away, BadRequest, NotAllowed, TooLate
from ..core.events import ChaosCaller, ChaosRequest
from ..core.model import TaskRef
from ..engine import Engine
from . import convert
from .peers import Peers
from .types import Context

# The machine bounds every fault by itself; this is for a reply that never comes.
_ANSWER_WITHIN_S: Final = 120.0

_Fault = pb.KillRequest | pb.ReviveRequest | pb.DisconnectRequest | pb.ReconnectRequest


class ChaosControl(chaos_pb2_grpc.ChaosControlServicer):
    """The servicer. Errors are raised as CoreErrors; the guard tells them."""

    def __init__(self, engine: Engine, peers: Peers | None = None) -> None:
        """Without `peers` the listener is in clear text, and a volunteer is whoever its stream says it is."""
        self._engine = engine
        self._peers = peers

    async def Kill(self, request: pb.KillRequest, context: Context) -> pb.KillResponse:
        """End every process of a member, or of several."""
        caller, request_id, ips = self._asked(request, context)
        held = await self._fault(lambda call: events.KillRequested(call, request_id, caller, ips))
        return pb.KillResponse(
            applied=_together(held),
            processes=sum(reply.processes for reply in held),
            members=_members(ips, held),
        )

    async def Revive(self, request: pb.ReviveRequest, context: Context) -> pb.ReviveResponse:
        """Start a member again, or several; with their disks unless told otherwise."""
        caller, request_id, ips = self._asked(request, context)
        with_disk = request.with_disk if request.HasField("with_disk") else True
        held = await self._fault(
            lambda call: events.ReviveRequested(call, request_id, caller, ips, with_disk)
        )
        return pb.ReviveResponse(
            applied=_together(held), generation=held[0].generation, members=_members(ips, held, revived=True)
        )

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        """Cut a member off, or several."""
        caller, request_id, ips = self._asked(request, context)
        held = await self._fault(lambda call: events.DisconnectRequested(call, request_id, caller, ips))
        return pb.DisconnectResponse(applied=_together(held), members=_members(ips, held))

    async def Reconnect(self, request: pb.ReconnectRequest, context: Context) -> pb.ReconnectResponse:
        """Take a cut back, or several."""
        caller, request_id, ips = self._asked(request, context)
        held = await self._fault(lambda call: events.ReconnectRequested(call, request_id, caller, ips))
        return pb.ReconnectResponse(applied=_together(held), members=_members(ips, held))

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
        """The client task that its volunteer attests. The core checks that the volunteer holds it.

        The volunteer is the one whose live stream the call names, and whose certificate it shows. Raises
        NotAllowed, and Away where the stream has ended: there may be another one already, which the next call
        names.
        """
        session = task = ""
        for key, value in context.invocation_metadata() or ():
            if key == "syndicate-session":
                session = str(value)
            elif key == "syndicate-task":
                task = str(value)
        ref = _ref(task) if session else None
        if ref is None:
            raise NotAllowed(
                "NOT_A_CLIENT",
                "ChaosControl is for client tasks: call it through the socket in SYNDICATE_CHAOS",
            )
        volunteer_id = self._engine.machine.volunteer_of(session)
        if volunteer_id is None:
            raise Away("MANAGER_AWAY", "the volunteer's stream to the manager has ended; try again")
        if self._peers is not None:
            self._peers.must_be(context, volunteer_id)
        return ChaosCaller(volunteer_id, ref)

    def _asked(self, request: _Fault, context: Context) -> tuple[ChaosCaller, str, tuple[str, ...]]:
        """Who asks for a fault, under which request id, and at which addresses."""
        return self._caller(context), convert.request_id(request.request_id), _addresses(request)

    async def _fault(self, make: Callable[[int], ChaosRequest]) -> tuple[effects.FaultReply, ...]:
        """Answers of the members, in the order in which they were named; at least one."""
        reply = await self._call(make)
        if isinstance(reply, effects.FaultsReply):
            return reply.members
        assert isinstance(reply, effects.FaultReply)  # noqa: S101 - the events' contract
        return (reply,)

    async def _call(self, make: Callable[[int], events.Event]) -> effects.Answer:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await self._engine.call(make)
        except TimeoutError:
            raise TooLate("NO_ANSWER", f"no answer came within {_ANSWER_WITHIN_S:g} s") from None


def _addresses(request: _Fault) -> tuple[str, ...]:
    """The addresses that a request names. Raises BadRequest; whether they are members is the core's."""
    if not request.ips:
        return (request.ip,)
    if request.ip:
        raise BadRequest("BAD_FIELD", "both ip and ips are given: one of them is to be", field="ips")
    return tuple(request.ips)


def _together(replies: Sequence[effects.FaultReply]) -> pb.FaultApplied:
    """What is said of all members: when it held at the last one where it did not hold before."""
    done = [reply for reply in replies if not reply.already]
    if not done:
        return convert.applied_out(replies[0])
    # On the manager's clock where each is known, else by the calendar.
    on_clock = [
        reply.applied_at.monotonic_ns - reply.clock.offset_ns
        for reply in done
        if reply.applied_at is not None and reply.clock is not None
    ]
    by_calendar = [0 if reply.applied_at is None else reply.applied_at.utc_ns for reply in done]
    times = on_clock if len(on_clock) == len(done) else by_calendar
    return convert.applied_out(done[times.index(max(times))])


def _members(
    ips: Sequence[str], replies: Sequence[effects.FaultReply], revived: bool = False
) -> list[pb.MemberApplied]:
    return [
        pb.MemberApplied(
            ip=ip,
            applied=convert.applied_out(reply),
            processes=reply.processes,
            generation=reply.generation if revived else 0,
        )
        for ip, reply in zip(ips, replies, strict=True)
    ]


def _ref(text: str) -> TaskRef | None:
    """`cluster/job/attempt/task/generation`; None where it is not that."""
    try:
        cluster_id, job_id, attempt, name, generation = text.split("/")
        return TaskRef(cluster_id, int(job_id), int(attempt), name, int(generation))
    except ValueError:
        return None
