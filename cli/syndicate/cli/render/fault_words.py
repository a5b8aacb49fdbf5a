"""The words for faults that need no more than their lines in the ledger."""

from __future__ import annotations

from syndicate.cli.render.neutralise import neutralise_text
from syndicate.v1.common_pb2 import Fault, FaultKind

NOBODY_ASKED = ("lease", "rollback", "job end", "kill", "exit", "machine lost")
"""What takes faults back without a call that asks for it."""
_WORDS = {
    FaultKind.FAULT_KIND_KILL: "killed",
    FaultKind.FAULT_KIND_REVIVE: "revived",
    FaultKind.FAULT_KIND_DISCONNECT: "cut",
    FaultKind.FAULT_KIND_RECONNECT: "healed",
    FaultKind.FAULT_KIND_RESET: "reset",
    FaultKind.FAULT_KIND_PARTITION: "partition",
    FaultKind.FAULT_KIND_DEGRADE: "degraded",
    FaultKind.FAULT_KIND_PAUSE: "paused",
    FaultKind.FAULT_KIND_RESUME: "resumed",
    FaultKind.FAULT_KIND_DISK_FULL: "disk full",
    FaultKind.FAULT_KIND_SIGNAL: "signal",
    FaultKind.FAULT_KIND_HEAL: "healed",
}
_FAILED = {
    FaultKind.FAULT_KIND_PARTITION: "partitioned",
    FaultKind.FAULT_KIND_DISK_FULL: "given a full disk",
    FaultKind.FAULT_KIND_SIGNAL: "signalled",
}
_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 10: "USR1", 12: "USR2", 14: "ALRM", 15: "TERM"}


def fault_word(fault: Fault) -> str:
    """``killed``, ``revived``, ``cut``, ``partition``, ``healed``."""
    return _WORDS.get(fault.kind, "fault")


def failed_word(fault: Fault) -> str:
    """What could not be done to it: ``killed``, ``partitioned``."""
    return _FAILED.get(fault.kind, fault_word(fault))


def what_text(fault: Fault) -> str:
    """What is in force: ``cut``, ``partition majority-ring``, ``loss 10 % to slave-1``, ``paused``."""
    if fault.kind == FaultKind.FAULT_KIND_DEGRADE:
        return neutralise_text(fault.text or "degraded") + peers_text(fault)
    if fault.kind == FaultKind.FAULT_KIND_PARTITION:
        return f"partition {neutralise_text(fault.shape or fault.text)}".rstrip()
    return fault_word(fault)


def signal_word(number: int) -> str:
    """``QUIT``; the number of one that is less common."""
    return _SIGNALS.get(number, str(number))


def peers_text(fault: Fault) -> str:
    """`` to slave-1``, `` with slave-1``: what a degradation is about; empty for all."""
    return f" {'to' if fault.one_way else 'with'} {', '.join(fault.peers)}" if fault.peers else ""
