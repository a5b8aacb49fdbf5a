"""Lines of the ledger of faults, as they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syndicate.cli.render.fault_words import NOBODY_ASKED, fault_word, peers_text, signal_word
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.quantities import duration_text, plural
from syndicate.cli.render.timeline import in_order
from syndicate.v1.common_pb2 import Fault, FaultKind, Role
from syndicate.v1.scheduler_pb2 import Job

_CUTS = (FaultKind.FAULT_KIND_DISCONNECT, FaultKind.FAULT_KIND_RESET)


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
        text += f", for {duration_text(fault.lease_s)}"
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


def without_repeats(faults: Iterable[Fault]) -> list[Fault]:
    """The lines, but of a partition that held only the first: it says what was done to all of its members."""
    told: set[int] = set()
    kept = []
    for fault in faults:
        if fault.kind == FaultKind.FAULT_KIND_PARTITION and fault.HasField("applied_at") and fault.call_id:
            if fault.call_id in told:
                continue
            told.add(fault.call_id)
        kept.append(fault)
    return kept
