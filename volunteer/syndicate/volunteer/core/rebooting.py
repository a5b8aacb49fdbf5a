"""A machine whose operator has it booted again after a job: it takes no other work until it was.

It is worn from when the first task has left it. Once nothing is on it any more, and its manager has heard of
that and of how each task ended, the keeper is asked to boot it; should it stand there all the same, again.
"""

from __future__ import annotations

from .. import local
from .link_side import send_heartbeat
from .turn import Turn

AGAIN_S = 60.0
REFUSAL = "the machine boots again once its job has left it"


def left(turn: Turn, cluster_id: str) -> None:
    """A task that was on the machine has left it."""
    state = turn.state
    if not state.reboots:
        return
    state.worn = True
    state.unheard[cluster_id] = turn.ns
    if any(slot.task is not None for slot in state.slots.values()):
        return
    for unheard in state.unheard:
        # Its acknowledgement says that the answers before it were read too.
        name = turn.link_of(unheard)
        if name is not None:
            send_heartbeat(turn, state.links[name])


def found(turn: Turn, account: local.Synced, first: bool) -> None:
    """The keeper has said what it does after a job, and whether one was here before this process."""
    turn.state.reboots = account.reboots
    if not account.reboots:
        turn.state.worn = False
        turn.state.unheard.clear()
    elif first and account.used:
        turn.state.worn = True


def advance(turn: Turn) -> None:
    """Asks for the boot where it is due."""
    state = turn.state
    if state.reboot_ns and turn.ns >= state.reboot_ns:
        state.reboot_ns = 0
    held = any(slot.task is not None for slot in state.slots.values())
    if not state.synced or state.reboot_ns or held or state.events or state.unheard:
        return
    state.reboot_ns = turn.after(AGAIN_S)
    turn.note("machine.reboots", routine=True)
    turn.call(local.Reboot(), None)
