"""Requests and answers of the fake job as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from syndicate.client_api._results import MemberState, Role
from syndicate.v1 import chaos_pb2, common_pb2

# Which call it is, and what is asked.
Question = tuple[str, bytes]


def question(rpc: str, request: Any) -> Question:
    """What a request asks for, however it is written."""
    plain = type(request)()
    plain.CopyFrom(request)
    if rpc == "Revive":
        plain.with_disk = keeps_disk(request)
    if "ips" in request.DESCRIPTOR.fields_by_name and request.ip and not request.ips:
        plain.ips[:], plain.ip = [request.ip], ""
    return rpc, plain.SerializeToString(deterministic=True)


def together(held: Sequence[chaos_pb2.MemberApplied]) -> chaos_pb2.FaultApplied:
    """Of all members: the last one where something was done."""
    done = [member.applied for member in held if not member.applied.already]
    return done[-1] if done else held[0].applied


def response(rpc: str, held: Sequence[chaos_pb2.MemberApplied]) -> Message:
    """What a fault at several members answers, but for what only some answers have."""
    made: Any = getattr(chaos_pb2, f"{rpc}Response")(applied=together(held), members=held)
    if rpc == "Kill":
        made.processes = sum(member.processes for member in held)
    if rpc == "Revive":
        made.generation = held[0].generation
    message: Message = made
    return message


def keeps_disk(request: chaos_pb2.ReviveRequest) -> bool:
    return request.with_disk if request.HasField("with_disk") else True


def named(members: Sequence[str | MemberState], clients: Sequence[str]) -> list[MemberState]:
    """Plain addresses become master, slave-0, slave-1 …, as a job would name them."""
    named: list[MemberState] = []
    for index, member in enumerate(members):
        if isinstance(member, MemberState):
            named.append(member)
        elif index == 0:
            named.append(MemberState("master", Role.MASTER, member))
        else:
            named.append(MemberState(f"slave-{index - 1}", Role.SLAVE, member))
    named += [MemberState(f"client-{index}", Role.CLIENT, address) for index, address in enumerate(clients)]
    return named


def to_wire(member: MemberState) -> chaos_pb2.MemberState:
    return chaos_pb2.MemberState(
        member=common_pb2.Member(
            task=member.task,
            role=common_pb2.Role.Value(f"ROLE_{member.role.name}"),
            address=member.address,
        ),
        state=common_pb2.TaskState.Value(f"TASK_STATE_{member.state.name}"),
        generation=member.generation,
        disconnected=member.disconnected,
        paused=member.paused,
        faults=member.faults,
    )
