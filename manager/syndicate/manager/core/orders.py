"""What a call of ChaosControl asks for, read and checked before anything is done.

An order has what is the same at each member (`What`) and, for each member, what is its own. Raises BadRequest
and NotFound, each naming the item that is wrong.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from . import shapes
from .desired import MAX_DELAY_MS
from .errors import BadRequest, NotFound
from .events import (
    ChaosRequest,
    DegradeRequested,
    DisconnectRequested,
    DiskFullRequested,
    HealRequested,
    KillRequested,
    PartitionRequested,
    PauseRequested,
    ReconnectRequested,
    ResetRequested,
    ResumeRequested,
    ReviveRequested,
    SignalRequested,
)
from .healing import doubtful
from .model import Degradation, FaultKind, PartitionShape, Role, TaskState
from .state import LiveJob, LiveTask, What

# Members of one call.
MAX_MEMBERS: Final = 1000
LEAST_LEASE_S: Final = 0.001
MAX_LEASE_S: Final = 86_400.0
LEAST_RATE_BPS: Final = 8_000
# What the volunteers' side takes at most.
MOST_RATE_BPS: Final = 1 << 50
MAX_SIGNAL: Final = 64
# What Kill, Pause and Resume are for.
_OWN_CALLS: Final = {9: "Kill", 19: "Pause", 18: "Resume"}
# A refusal names so many of several items.
_NAMED: Final = 5


@dataclass(slots=True)
class Part:
    """What is asked for at one member; see `FaultRecord`."""

    task: LiveTask
    cut_out: tuple[str, ...] = ()
    cut_in: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()


@dataclass(slots=True)
class Order:
    """What is asked for. `extra` tells it from another order of the same kind for the same members.

    `needs` are the capabilities that each member's machine must have.
    """

    what: What
    parts: list[Part]
    extra: str = ""
    needs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members."""
        return tuple(part.task.record.task for part in self.parts)


def read(job: LiveJob, event: ChaosRequest) -> Order:
    """The order that a call gives."""
    match event:
        case KillRequested():
            return _plain(job, event.ips, FaultKind.KILL)
        case ReviveRequested():
            return _order(job, event.ips, What(FaultKind.REVIVE, event.with_disk))
        case ReconnectRequested():
            return _plain(job, event.ips, FaultKind.RECONNECT)
        case ResumeRequested():
            return _plain(job, event.ips, FaultKind.RESUME)
        case DisconnectRequested():
            return _plain(job, event.ips, FaultKind.DISCONNECT, event.lease_s)
        case ResetRequested():
            return _plain(job, event.ips, FaultKind.RESET, event.lease_s)
        case PauseRequested():
            return _plain(job, event.ips, FaultKind.PAUSE, event.lease_s)
        case DiskFullRequested():
            return _plain(job, event.ips, FaultKind.DISK_FULL, event.lease_s)
        case SignalRequested():
            return _signal(job, event)
        case DegradeRequested():
            return _degrade(job, event)
        case PartitionRequested():
            return _partition(job, event)
        case HealRequested():
            return _heal(job, event)


def needs_of(what: What) -> tuple[str, ...]:
    """The capabilities that each member's machine must have."""
    match what.kind:
        case FaultKind.RESET:
            return ("reset",)
        case FaultKind.PAUSE:
            return ("pause",)
        case FaultKind.DISK_FULL:
            return ("disk-full",)
        case FaultKind.SIGNAL:
            return ("signal",)
        case FaultKind.PARTITION:
            return ("one-way",) if what.one_way else ()
        case FaultKind.DEGRADE if what.degradation is not None:
            worse = what.degradation
            wanted = (
                ("loss", worse.loss_percent),
                ("rate", worse.rate_bps),
                ("delay", worse.delay_ms),
                ("jitter", worse.jitter_ms),
                ("duplicate", worse.duplicate_percent),
                ("corrupt", worse.corrupt_percent),
                ("reorder", worse.reorder_percent),
            )
            return tuple(name for name, value in wanted if value)
        case _:
            return ()


def members_at(job: LiveJob, ips: tuple[str, ...], field: str = "ips") -> list[LiveTask]:
    """The members at these addresses. Raises BadRequest, NotFound."""
    if not 1 <= len(ips) <= MAX_MEMBERS:
        text = f"{len(ips):,} addresses are named: there must be 1 to {MAX_MEMBERS:,}"
        raise BadRequest("BAD_FIELD", text, field=field)
    by_address = {task.record.address: task for task in job.tasks.values()}
    found: dict[str, LiveTask] = {}
    for ip in ips:
        address = ip if ip in by_address else _address(ip)
        if address not in by_address:
            raise NotFound("NO_SUCH_MEMBER", f"{address} is no member of job {job.record.job_id}")
        if address in found:
            raise BadRequest("BAD_FIELD", f"{address} is named twice", field=field)
        found[address] = by_address[address]
    return list(found.values())


def _address(ip: str) -> str:
    try:
        return str(ipaddress.IPv4Address(ip))
    except ValueError:
        raise BadRequest("NOT_AN_ADDRESS", f"{ip!r:.80} is not an IPv4 address", field="ip") from None


def _plain(
    job: LiveJob,
    ips: tuple[str, ...],
    kind: FaultKind,
    lease_s: float | None = None,
) -> Order:
    lease = _lease(lease_s)
    return _order(job, ips, What(kind, lease_s=lease), f"/lease {lease}" if lease else "")


def _order(job: LiveJob, ips: tuple[str, ...], what: What, extra: str = "") -> Order:
    return Order(what, [Part(task) for task in members_at(job, ips)], extra, needs_of(what))


def _lease(lease_s: float | None) -> float:
    """Seconds; 0 for no end."""
    if lease_s is None:
        return 0.0
    if not LEAST_LEASE_S <= lease_s <= MAX_LEASE_S:  # nor is a NaN
        text = (
            f"lease_s is {lease_s:g}: it must be {LEAST_LEASE_S} to {MAX_LEASE_S:,.0f}, or unset for no end"
        )
        raise BadRequest("BAD_FIELD", text, field="lease_s")
    return lease_s


def _signal(job: LiveJob, event: SignalRequested) -> Order:
    number = event.signal
    if number in _OWN_CALLS:
        text = f"signal {number} is what {_OWN_CALLS[number]} is for"
        raise BadRequest("BAD_FIELD", text, field="signal")
    if not 1 <= number <= MAX_SIGNAL:
        text = f"there is no signal {number}: it must be 1 to {MAX_SIGNAL}"
        raise BadRequest("BAD_FIELD", text, field="signal")
    what = What(FaultKind.SIGNAL, signal=number, text=f"signal {number}")
    return _order(job, event.ips, what, f"/{number}")


# ---- degradations -----------------------------------------------------------------------------------------


def _degrade(job: LiveJob, event: DegradeRequested) -> Order:
    worse, lease = event.degradation, _lease(event.lease_s)
    _check_degradation(worse)
    targets = members_at(job, event.ips)
    peers = members_at(job, event.peers, "peers") if event.peers else []
    parts = []
    for task in targets:
        own = tuple(peer.record.task for peer in peers if peer is not task)
        if peers and not own:
            text = f"peers names {task.record.address} alone, which is the member itself"
            raise BadRequest("BAD_FIELD", text, field="peers")
        parts.append(Part(task, peers=own))
    text = words_of(worse) + (", only what it sends" if event.one_way else "")
    what = What(FaultKind.DEGRADE, lease_s=lease, degradation=worse, one_way=event.one_way, text=text)
    return Order(what, parts, f"/{worse}/{event.peers}/{event.one_way}/{lease}", needs_of(what))


def _check_degradation(worse: Degradation) -> None:
    for name in ("loss", "duplicate", "corrupt", "reorder"):
        value = getattr(worse, f"{name}_percent")
        if not 0.0 <= value <= 100.0:  # nor is a NaN
            _bad(f"{name}_percent", f"is {value:g}: it must be 0 to 100")
    if worse.rate_bps and worse.rate_bps < LEAST_RATE_BPS:
        _bad("rate_bps", f"is {worse.rate_bps}: it must be at least {LEAST_RATE_BPS:,}, or 0 for no bound")
    if worse.rate_bps > MOST_RATE_BPS:
        _bad("rate_bps", f"is {worse.rate_bps}: it must be at most {MOST_RATE_BPS:,}, or 0 for no bound")
    if not 0.0 <= worse.delay_ms <= MAX_DELAY_MS:
        _bad("delay_ms", f"is {worse.delay_ms:g}: it must be 0 to {MAX_DELAY_MS:,.0f}")
    if not 0.0 <= worse.jitter_ms <= worse.delay_ms:
        _bad("jitter_ms", f"is {worse.jitter_ms:g}: it must be 0 to the delay, {worse.delay_ms:g}")
    if worse.reorder_percent and not worse.delay_ms:
        _bad("reorder_percent", "needs a delay: packets that are not delayed pass others")
    if worse == Degradation():
        raise BadRequest("BAD_FIELD", "degradation says nothing: nothing is to be worse", field="degradation")


def _bad(field: str, text: str) -> None:
    raise BadRequest("BAD_FIELD", f"degradation.{field} {text}", field=f"degradation.{field}")


def words_of(worse: Degradation) -> str:
    """A degradation for people: `loss 10 %, rate 1 Mbit/s, delay 50 ms ± 5 ms`."""
    words = [f"loss {worse.loss_percent:g} %"] if worse.loss_percent else []
    if worse.rate_bps:
        unit = next(u for u in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")) if worse.rate_bps >= u[0])
        words.append(f"rate {worse.rate_bps / unit[0]:g} {unit[1]}")
    if worse.delay_ms:
        words.append(
            f"delay {worse.delay_ms:g} ms" + (f" ± {worse.jitter_ms:g} ms" if worse.jitter_ms else "")
        )
    for name in ("duplicate", "corrupt", "reorder"):
        if value := getattr(worse, f"{name}_percent"):
            words.append(f"{name} {value:g} %")
    return ", ".join(words)


# ---- partitions -------------------------------------------------------------------------------------------


def _partition(job: LiveJob, event: PartitionRequested) -> Order:
    lease = _lease(event.lease_s)
    if bool(event.groups) == bool(event.shape):
        wrong = "both groups and a shape are given" if event.shape else "neither groups nor a shape is given"
        raise BadRequest("BAD_FIELD", f"{wrong}: one of them is to be", field="groups")
    if event.shape:
        shape, word, groups = _shape(job, event)
    else:
        shape, word, groups = None, "groups", _groups(job, event)
    ring = shape is PartitionShape.MAJORITY_RING
    cuts = shapes.ring_cuts(groups) if ring else shapes.cuts(groups, event.one_way)
    parts = [Part(task, *cuts[name]) for name, task in job.tasks.items() if name in cuts]
    addresses = tuple(tuple(job.tasks[name].record.address for name in group) for group in groups)
    seed = event.seed if shape is not None else 0
    text = _words_of_groups(word, groups, event.one_way)
    what = What(
        FaultKind.PARTITION,
        lease_s=lease,
        one_way=event.one_way,
        shape=word,
        seed=seed,
        text=text,
        groups=addresses,
    )
    extra = f"/{word}/{seed}/{groups}/{event.one_way}/{lease}"
    return Order(what, parts, extra, needs_of(what))


def _words_of_groups(word: str, groups: tuple[shapes.Group, ...], one_way: bool) -> str:
    if word == "majority-ring":
        return word
    sides = " | ".join(
        ", ".join(group[:_NAMED]) + (f" and {len(group) - _NAMED} more" if len(group) > _NAMED else "")
        for group in groups[:_NAMED]
    )
    more = f" | {len(groups) - _NAMED} more" if len(groups) > _NAMED else ""
    return f"{sides}{more}{', one way' if one_way else ''}"


def _shape(job: LiveJob, event: PartitionRequested) -> tuple[PartitionShape, str, tuple[shapes.Group, ...]]:
    try:
        shape = PartitionShape(event.shape)
    except ValueError:
        known = ", ".join(f"{each.value} ({_word(each)})" for each in PartitionShape)
        text = f"there is no shape {event.shape}: known are {known}"
        raise BadRequest("BAD_FIELD", text, field="shape") from None
    word = _word(shape)
    if event.one_way and shape is PartitionShape.MAJORITY_RING:
        raise BadRequest("BAD_FIELD", f"{word} is mutual: it cannot be one_way", field="one_way")
    members = [name for name, task in job.tasks.items() if task.record.role is not Role.CLIENT]
    if len(members) < shapes.LEAST[shape]:
        least = shapes.LEAST[shape]
        text = f"{word} needs {least} masters and slaves: job {job.record.job_id} has {len(members)}"
        raise BadRequest("BAD_FIELD", text, field="shape")
    one = ""
    if event.ip:
        if shape not in (PartitionShape.BRIDGE, PartitionShape.ISOLATE_ONE):
            raise BadRequest(
                "BAD_FIELD", f"{word} is about no single member: ip is not to be given", field="ip"
            )
        one = members_at(job, (event.ip,), "ip")[0].record.task
        if one not in members:
            text = f"{event.ip} is {one}: {word} is about a master or slave"
            raise BadRequest("BAD_FIELD", text, field="ip")
    return shape, word, shapes.groups(shape, members, one, event.seed)


def _word(shape: PartitionShape) -> str:
    return shape.name.lower().replace("_", "-")


def _groups(job: LiveJob, event: PartitionRequested) -> tuple[shapes.Group, ...]:
    if event.ip:
        raise BadRequest("BAD_FIELD", "ip is for shapes: groups are given", field="ip")
    if len(event.groups) < 2:
        raise BadRequest("BAD_FIELD", "there is one group: a partition has two or more", field="groups")
    if sum(map(len, event.groups)) > MAX_MEMBERS:
        raise BadRequest("BAD_FIELD", f"the groups have more than {MAX_MEMBERS:,} members", field="groups")
    where: dict[str, int] = {}
    groups = []
    for number, ips in enumerate(event.groups, 1):
        if not ips:
            raise BadRequest("BAD_FIELD", f"group {number} is empty", field="groups")
        names = tuple(task.record.task for task in members_at(job, ips, "groups"))
        for name in names:
            if name in where:
                address = job.tasks[name].record.address
                text = f"{address} ({name}) is in group {where[name]} and in group {number}"
                raise BadRequest("BAD_FIELD", text, field="groups")
            where[name] = number
        groups.append(names)
    return tuple(groups)


# ---- healing ----------------------------------------------------------------------------------------------


def _heal(job: LiveJob, event: HealRequested) -> Order:
    """The members are those where something may be to heal; which it is, is seen when its turn comes."""
    scope = None
    if event.fault_ids:
        strangers = [number for number in event.fault_ids if number not in job.faults]
        if strangers:
            named = ", ".join(map(str, strangers[:_NAMED]))
            attempt = job.record.attempt
            text = f"there is no line {named} in the ledger of job {job.record.job_id}, attempt {attempt}"
            raise NotFound("NO_SUCH_FAULT", text)
        lines = (job.faults[number] for number in event.fault_ids)
        scope = frozenset(line.call_id or line.fault_id for line in lines)
    parts = [Part(task) for task in job.tasks.values() if _may_heal(job, task, scope)]
    text = "" if scope is None else f"faults {_few(event.fault_ids)}"
    return Order(What(FaultKind.HEAL, text=text, scope=scope), parts, f"/{sorted(event.fault_ids)}")


def _may_heal(job: LiveJob, task: LiveTask, scope: frozenset[int] | None) -> bool:
    calls = {line.call_id or line.fault_id for line in task.lines.values()}
    calls.update(op.asked.call_id for op in task.ops)
    if scope is not None:
        return not scope.isdisjoint(calls) or bool(doubtful(job, task, scope))
    return bool(calls) or (bool(task.unsure) and task.record.state is not TaskState.LOST)


def _few(numbers: Iterable[int]) -> str:
    some = [str(number) for number in numbers]
    return ", ".join(some[:_NAMED]) + (f" and {len(some) - _NAMED} more" if len(some) > _NAMED else "")
