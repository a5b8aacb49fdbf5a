"""ChaosControl: what clients may do to their own job, and users to theirs.

Who calls, and about which job, `chaos_callers` finds out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from syndicate.v1 import chaos_pb2 as pb
from syndicate.v1 import chaos_pb2_grpc

from ..core import effects, events
from ..core.errors import BadRequest
from ..core.events import ChaosRequest, WhoCalls
from ..core.model import UNDEGRADED
from ..engine import Engine
from . import convert, pictures
from .gathering import Gatherings
from .histories import ClientsHistories
from .pages import page, page_number
from .shelves import Shelves
from .types import Context

# The machine bounds every fault by itself; this is for a reply that never comes.
_ANSWER_WITHIN_S: Final = 120.0
_LINES: Final = 1000
_MOST_LINES: Final = 10_000

_Fault = (
    pb.KillRequest
    | pb.ReviveRequest
    | pb.DisconnectRequest
    | pb.ReconnectRequest
    | pb.ResetRequest
    | pb.DegradeRequest
    | pb.PauseRequest
    | pb.ResumeRequest
    | pb.DiskFullRequest
    | pb.SignalRequest
)
R = TypeVar(
    "R",
    pb.KillResponse,
    pb.ReviveResponse,
    pb.PauseResponse,
    pb.ResumeResponse,
    pb.SignalResponse,
    pb.DisconnectResponse,
    pb.ReconnectResponse,
    pb.ResetResponse,
    pb.PartitionResponse,
    pb.DegradeResponse,
    pb.DiskFullResponse,
    pb.HealResponse,
)
_Leased = (
    pb.DisconnectRequest
    | pb.ResetRequest
    | pb.PartitionRequest
    | pb.DegradeRequest
    | pb.PauseRequest
    | pb.DiskFullRequest
)


class Callers(Protocol):
    """Who calls through a listener."""

    async def who(self, context: Context, method: str) -> WhoCalls:
        """The caller of this method, and the job. Raises CoreError where it may not call it."""


class ChaosControl(ClientsHistories, chaos_pb2_grpc.ChaosControlServicer):
    """The servicer. Errors are raised as CoreErrors; the guard tells them."""

    def __init__(self, engine: Engine, callers: Callers, shelves: Shelves) -> None:
        self._engine = engine
        self._callers = callers
        self._shelves = shelves
        self._gatherings = Gatherings(engine.changed, shelves)

    # ---- processes ----------------------------------------------------------------------------------------

    async def Kill(self, request: pb.KillRequest, context: Context) -> pb.KillResponse:
        """End every process of a member, or of several."""
        caller, request_id, ips = await self._asked(request, context, "Kill")
        held = await self._fault(lambda call: events.KillRequested(call, request_id, caller, ips))
        response = pb.KillResponse(processes=sum(reply.processes for reply in held))
        return _applied(response, ips, held)

    async def Revive(self, request: pb.ReviveRequest, context: Context) -> pb.ReviveResponse:
        """Start a member again, or several; with their disks unless told otherwise."""
        caller, request_id, ips = await self._asked(request, context, "Revive")
        with_disk = request.with_disk if request.HasField("with_disk") else True
        held = await self._fault(
            lambda call: events.ReviveRequested(call, request_id, caller, ips, with_disk)
        )
        response = _applied(pb.ReviveResponse(generation=held[0].generation), ips, held)
        for member, reply in zip(response.members, held, strict=True):
            member.generation = reply.generation
        return response

    async def Pause(self, request: pb.PauseRequest, context: Context) -> pb.PauseResponse:
        """Freeze a member, or several."""
        caller, request_id, ips = await self._asked(request, context, "Pause")
        lease = _lease(request)
        held = await self._fault(lambda call: events.PauseRequested(call, request_id, caller, ips, lease))
        return _applied(pb.PauseResponse(), ips, held)

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        """Let a member run again, or several."""
        caller, request_id, ips = await self._asked(request, context, "Resume")
        held = await self._fault(lambda call: events.ResumeRequested(call, request_id, caller, ips))
        return _applied(pb.ResumeResponse(), ips, held)

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        """Send a signal to the processes of a member, or of several."""
        caller, request_id, ips = await self._asked(request, context, "Signal")
        number = request.signal
        held = await self._fault(lambda call: events.SignalRequested(call, request_id, caller, ips, number))
        return _applied(pb.SignalResponse(), ips, held)

    # ---- networks and disks -------------------------------------------------------------------------------

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        """Cut a member off, or several."""
        caller, request_id, ips = await self._asked(request, context, "Disconnect")
        lease = _lease(request)
        held = await self._fault(
            lambda call: events.DisconnectRequested(call, request_id, caller, ips, lease)
        )
        return _applied(pb.DisconnectResponse(), ips, held)

    async def Reconnect(self, request: pb.ReconnectRequest, context: Context) -> pb.ReconnectResponse:
        """Take a cut back, or several."""
        caller, request_id, ips = await self._asked(request, context, "Reconnect")
        held = await self._fault(lambda call: events.ReconnectRequested(call, request_id, caller, ips))
        return _applied(pb.ReconnectResponse(), ips, held)

    async def Reset(self, request: pb.ResetRequest, context: Context) -> pb.ResetResponse:
        """Cut a member off, or several, so that TCP is told."""
        caller, request_id, ips = await self._asked(request, context, "Reset")
        lease = _lease(request)
        held = await self._fault(lambda call: events.ResetRequested(call, request_id, caller, ips, lease))
        return _applied(pb.ResetResponse(), ips, held)

    async def Partition(self, request: pb.PartitionRequest, context: Context) -> pb.PartitionResponse:
        """Cut groups of members from each other."""
        caller = await self._callers.who(context, "Partition")
        request_id = convert.request_id(request.request_id)
        convert.few(request.groups, "groups")
        groups = tuple(tuple(group.ips) for group in request.groups)
        reply = await self._faults(
            lambda call: events.PartitionRequested(
                call,
                request_id,
                caller,
                groups,
                int(request.shape),
                request.ip,
                request.one_way,
                request.seed,
                _lease(request),
            )
        )
        response = pb.PartitionResponse(groups=[pb.PartitionGroup(ips=group) for group in reply.groups])
        return _applied(response, reply.addresses, reply.members)

    async def Degrade(self, request: pb.DegradeRequest, context: Context) -> pb.DegradeResponse:
        """Make the network of a member worse, or of several."""
        caller, request_id, ips = await self._asked(request, context, "Degrade")
        convert.few(request.peers, "peers")
        lease, peers, one_way = _lease(request), tuple(request.peers), request.one_way
        asked = request.HasField("degradation")
        worse = convert.degradation_in(request.degradation) if asked else UNDEGRADED
        held = await self._fault(
            lambda call: events.DegradeRequested(call, request_id, caller, ips, worse, peers, one_way, lease)
        )
        return _applied(pb.DegradeResponse(), ips, held)

    async def DiskFull(self, request: pb.DiskFullRequest, context: Context) -> pb.DiskFullResponse:
        """Fill the disk of a member, or of several."""
        caller, request_id, ips = await self._asked(request, context, "DiskFull")
        lease = _lease(request)
        held = await self._fault(lambda call: events.DiskFullRequested(call, request_id, caller, ips, lease))
        return _applied(pb.DiskFullResponse(), ips, held)

    # ---- the ledger ---------------------------------------------------------------------------------------

    async def Heal(self, request: pb.HealRequest, context: Context) -> pb.HealResponse:
        """Take back what lasts: everything, or what some calls did."""
        caller = await self._callers.who(context, "Heal")
        request_id = convert.request_id(request.request_id)
        convert.few(request.fault_ids, "fault_ids")
        fault_ids = tuple(request.fault_ids)
        reply = await self._faults(lambda call: events.HealRequested(call, request_id, caller, fault_ids))
        if not reply.members:
            return pb.HealResponse(applied=pb.FaultApplied(already=True))
        response = pb.HealResponse(healed=sorted(number for held in reply.members for number in held.healed))
        return _applied(response, reply.addresses, reply.members)

    async def ListFaults(self, request: pb.ListFaultsRequest, context: Context) -> pb.ListFaultsResponse:
        """Lines of the ledger, in pages."""
        caller = await self._callers.who(context, "ListFaults")
        if request.page_size < 0:
            raise BadRequest("BAD_FIELD", f"page_size is {request.page_size}", field="page_size")
        most = min(request.page_size, _MOST_LINES) or _LINES
        after = page_number(request.page_token) or 0
        found = await self._lines(caller, request.in_force, after, most)
        lines, cut = page((pictures.fault_out(line) for line in found.lines), most)
        more = found.more or cut
        return pb.ListFaultsResponse(faults=lines, next_page_token=str(lines[-1].fault_id) if more else "")

    # ---- the job ------------------------------------------------------------------------------------------

    async def Finish(self, request: pb.FinishRequest, context: Context) -> pb.FinishResponse:
        """Write down what a client found."""
        caller = await self._client(context, "Finish")
        request_id = convert.request_id(request.request_id)
        result = convert.result_in(request.result)
        reply = await self._call(lambda call: events.FinishRequested(call, request_id, caller, result))
        assert isinstance(reply, effects.FinishReply)  # noqa: S101 - the event's contract
        return pb.FinishResponse(
            finished_at=convert.stamp_out(reply.finished_at), clients_left=reply.clients_left
        )

    async def ListMembers(self, request: pb.ListMembersRequest, context: Context) -> pb.ListMembersResponse:
        """The members of the caller's job."""
        caller = await self._callers.who(context, "ListMembers")
        return pb.ListMembersResponse(
            members=[
                pb.MemberState(
                    member=convert.member_out(view.member),
                    state=convert.number(view.state),
                    generation=view.generation,
                    disconnected=view.disconnected,
                    paused=view.paused,
                    faults=view.faults,
                )
                for view in (await self._members(caller)).members
            ]
        )

    async def Ping(self, request: pb.PingRequest, context: Context) -> pb.PingResponse:
        """The manager's clock."""
        at = self._engine.clock.now()
        await self._callers.who(context, "Ping")
        return pb.PingResponse(manager_at=convert.stamp_out(at))

    # ---- help ---------------------------------------------------------------------------------------------

    async def _client(self, context: Context, method: str) -> events.ChaosCaller:
        """The caller of a method that is for clients only."""
        caller = await self._callers.who(context, method)
        assert isinstance(caller, events.ChaosCaller)  # noqa: S101 - users are refused before
        return caller

    async def _asked(
        self, request: _Fault, context: Context, method: str
    ) -> tuple[WhoCalls, str, tuple[str, ...]]:
        """Who asks for a fault, under which request id, and at which addresses."""
        caller = await self._callers.who(context, method)
        return caller, convert.request_id(request.request_id), _addresses(request)

    async def _fault(self, make: Callable[[int], ChaosRequest]) -> tuple[effects.FaultReply, ...]:
        """Answers of the members, in the order in which they were named; at least one."""
        reply = await self._call(make)
        if isinstance(reply, effects.FaultsReply):
            return reply.members
        assert isinstance(reply, effects.FaultReply)  # noqa: S101 - the events' contract
        return (reply,)

    async def _faults(self, make: Callable[[int], ChaosRequest]) -> effects.FaultsReply:
        reply = await self._call(make)
        assert isinstance(reply, effects.FaultsReply)  # noqa: S101 - the events' contract
        return reply

    async def _lines(self, caller: WhoCalls, in_force: bool, after: int, most: int) -> effects.LinesReply:
        reply = await self._call(lambda call: events.LinesRequested(call, caller, in_force, after, most))
        assert isinstance(reply, effects.LinesReply)  # noqa: S101 - the event's contract
        return reply

    async def _members(self, caller: WhoCalls) -> effects.MembersReply:
        reply = await self._call(lambda call: events.MembersRequested(call, caller))
        assert isinstance(reply, effects.MembersReply)  # noqa: S101 - the event's contract
        return reply

    def _call(self, make: Callable[[int], events.Event]) -> Awaitable[effects.Answer]:
        return self._engine.call(make, _ANSWER_WITHIN_S)


def _addresses(request: _Fault) -> tuple[str, ...]:
    """The addresses that a request names. Raises BadRequest; whether they are members is the core's."""
    if not request.ips:
        return (request.ip,)
    if request.ip:
        raise BadRequest("BAD_FIELD", "both ip and ips are given: one of them is to be", field="ips")
    return tuple(request.ips)


def _lease(request: _Leased) -> float | None:
    return request.lease_s if request.HasField("lease_s") else None


def _applied(response: R, ips: Sequence[str], replies: Sequence[effects.FaultReply]) -> R:
    """The response with what became of the fault, at each member and at all of them."""
    for ip, reply in zip(ips, replies, strict=True):
        member = response.members.add(ip=ip, processes=reply.processes)
        convert.applied_out(reply, member.applied)
    response.applied.CopyFrom(response.members[_last(replies)].applied)
    return response


def _last(replies: Sequence[effects.FaultReply]) -> int:
    """What is said of all members: when it held at the last one where it did not hold before."""
    done = [place for place, reply in enumerate(replies) if not reply.already]
    if len(done) <= 1:
        return done[0] if done else 0
    # On the manager's clock where each is known, else by the calendar.
    stamps = [(replies[place].applied_at, replies[place].clock) for place in done]
    on_clock = [
        at.monotonic_ns - clock.offset_ns for at, clock in stamps if at is not None and clock is not None
    ]
    by_calendar = [0 if at is None else at.utc_ns for at, _ in stamps]
    times = on_clock if len(on_clock) == len(done) else by_calendar
    return done[times.index(max(times))]
