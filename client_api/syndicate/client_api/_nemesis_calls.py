"""Which call begins an event of a nemesis, and at whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syndicate.client_api import _calls
from syndicate.client_api._calls import Call, Exchange
from syndicate.client_api._nemesis_plan import Event, Schedule
from syndicate.client_api._results import MemberState, Role

LEASE_BEYOND_S = 10.0
"""A fault's lease ends so long after it is to be healed, in case nobody is left to heal it."""


def require_possible(schedule: Schedule, members: Sequence[MemberState]) -> None:
    """Raises ValueError for a target that is no member of the job, and for a fault that there is not."""
    addresses = {name: member.address for member in members for name in (member.task, member.address)}
    for name in (*schedule.targets, *(name for event in schedule for name in event.targets)):
        if name not in addresses:
            there = ", ".join(member.task for member in members)
            raise ValueError(f"{name} is no member of this job: there are {there}")
    for event in schedule:
        call_of(event, addresses, LEASE_BEYOND_S)


def call_of(event: Event, addresses: Mapping[str, str], lease_s: float) -> Call[Any]:
    """The call that begins an event. Raises ValueError for a kind that there is not."""
    options = dict(event.options)
    whom = [addresses[name] for name in event.targets]
    request_id = _calls.new_id()
    match event.kind:
        case "kill":
            return _calls.kill(request_id, whom)
        case "pause":
            return _calls.pause(request_id, whom, lease_s)
        case "disconnect":
            return _calls.disconnect(request_id, whom, lease_s)
        case "reset":
            return _calls.reset(request_id, whom, lease_s)
        case "disk-full":
            return _calls.disk_full(request_id, whom, lease_s)
        case "signal":
            return _calls.signal(request_id, whom, int(options["signal"]))
        case "partition":
            return _partition(request_id, options, addresses, lease_s)
        case "degrade":
            one_way = bool(options.pop("one_way", False))
            nothing: dict[str, Any] = dict.fromkeys(
                ("loss", "delay", "jitter", "duplicate", "corrupt", "reorder"), 0
            )
            how = _calls.degradation(**{**nothing, "rate": None, **options})
            return _calls.degrade(request_id, whom, how, (), one_way, lease_s)
    raise ValueError(f"{event.kind!r} is no fault of a nemesis")


def _partition(
    request_id: str, options: Mapping[str, Any], addresses: Mapping[str, str], lease_s: float
) -> Call[Any]:
    groups, one = options.get("groups"), options.get("ip")
    return _calls.partition(
        request_id,
        [[addresses[name] for name in group] for group in groups] if groups else None,
        options.get("shape"),
        addresses[one] if one else None,
        bool(options.get("one_way", False)),
        int(options.get("seed", 0)),
        lease_s,
    )


def timed(call: Call[Any]) -> Call[tuple[Any, Exchange]]:
    """The same call, which answers also when it left and came back."""
    read = call.read
    return Call(call.rpc, call.request, lambda answer, exchange: (read(answer, exchange), exchange))


def default_targets(members: Sequence[MemberState]) -> tuple[str, ...]:
    """All masters and slaves."""
    return tuple(member.task for member in members if member.role is not Role.CLIENT)
