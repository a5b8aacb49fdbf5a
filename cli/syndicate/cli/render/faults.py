"""Lines of the ledger of faults, as they are printed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

from syndicate.cli.render.fault_words import NOBODY_ASKED, fault_word, peers_text, signal_word
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.quantities import duration_text, plural
from syndicate.cli.render.timeline import in_order
from syndicate.v1.common_pb2 import Fault, FaultKind, Role
from syndicate.v1.scheduler_pb2 import Job

_CUTS = (FaultKind.FAULT_KIND_DISCONNECT, FaultKind.FAULT_KIND_RESET)
_HEALS = (FaultKind.FAULT_KIND_HEAL, FaultKind.FAULT_KIND_RECONNECT, FaultKind.FAULT_KIND_RESUME)
_TOLD_ONCE = (FaultKind.FAULT_KIND_PARTITION, *_HEALS)


def fault_text(fault: Fault, peers: Sequence[str]) -> str:
    """What stands behind a fault's word: `` (4 processes)``, ``, disk kept``, `` from master``."""
    text = ""
    if fault.kind == FaultKind.FAULT_KIND_KILL:
        text = f" ({plural(fault.processes, 'process', 'processes')})"
    elif fault.kind == FaultKind.FAULT_KIND_REVIVE:
        disk = "disk kept" if fault.with_disk else "fresh disk"
        text = f", {disk}" + (f", generation {fault.generation}" if fault.generation else "")
    elif fault.kind in _CUTS and peers:
        text = f" from {', '.join(peers)}"
    elif fault.kind == FaultKind.FAULT_KIND_PARTITION:
        shape = "" if fault.shape in ("groups", fault.text) else f"{neutralise_text(fault.shape)}: "
        text = f" {shape}{neutralise_text(fault.text)}".rstrip(": ")
    elif fault.kind == FaultKind.FAULT_KIND_DEGRADE:
        text = f": {neutralise_text(fault.text)}{peers_text(fault)}"
    elif fault.kind == FaultKind.FAULT_KIND_SIGNAL:
        sent_to = plural(fault.processes, "process", "processes")
        text = f" {signal_word(fault.signal)} ({sent_to})"
    if fault.lease_s:
        text += f", lease {duration_text(fault.lease_s)}"
    return text


def by_itself(fault: Fault) -> str:
    """`` (lease)`` behind what was healed without anybody asking; else nothing."""
    return f" ({fault.requested_by})" if fault.requested_by in NOBODY_ASKED else ""


def cut_peers(job: Job, task: str) -> list[str]:
    """The members that a disconnect cuts a task from: all masters and slaves but itself."""
    others = (other.ref.task for other in in_order(job.tasks) if other.role != Role.ROLE_CLIENT)
    return [other for other in others if other != task]


def applied_text(fault: Fault) -> str:
    """``applied in 0.9 ms``; from the request to the effect, on the manager's clock."""
    return f"applied in {duration_text(fault.duration_ns / 1e9)}" if fault.duration_ns else ""


def fault_line(job: Job, fault: Fault) -> str:
    """``killed slave-0 (4 processes)``; of a partition all that its call did."""
    text = fault_text(fault, cut_peers(job, fault.task))
    if fault.kind == FaultKind.FAULT_KIND_PARTITION:
        return fault_word(fault) + text
    return f"{fault_word(fault)} {fault.task}{text}{by_itself(fault)}"


def told_members(job: Job, fault: Fault) -> list[str]:
    """Whom the line that is told of a fault is about: of what heals, all members of its call."""
    if fault.kind not in _HEALS or not fault.call_id:
        return [fault.task]
    # The lines of a call are written together: they follow each other.
    first = bisect_left(job.faults, fault.call_id, key=lambda one: one.fault_id)
    of_call = takewhile(lambda one: one.call_id == fault.call_id, islice(job.faults, first, None))
    wanted = {one.task for one in of_call if not one.error} | {fault.task}
    return [task.ref.task for task in in_order(job.tasks) if task.ref.task in wanted] or [fault.task]


def told_line(job: Job, fault: Fault) -> str:
    """As `fault_line`; of what heals the one line for all members of its call."""
    members = told_members(job, fault)
    if len(members) == 1:
        return fault_line(job, fault)
    return f"{fault_word(fault)} {', '.join(members)}{by_itself(fault)}"


def once_of_call(fault: Fault) -> bool:
    """Whether one line stands for all that its call did: of a partition, and of what heals."""
    return fault.kind in _TOLD_ONCE and fault.HasField("applied_at") and bool(fault.call_id)


def without_repeats(faults: Iterable[Fault]) -> list[Fault]:
    """The lines, but only the first that held of those for which one line stands."""
    told: set[int] = set()
    kept = []
    for fault in faults:
        if once_of_call(fault):
            if fault.call_id in told:
                continue
            told.add(fault.call_id)
        kept.append(fault)
    return kept
