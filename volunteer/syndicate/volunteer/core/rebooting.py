"""A machine whose operator has it booted again after a job: it takes no other work until it was.

It is worn from when the first task has left it. Once nothing is on it any more, and its manager has heard of
that and of how each task ended, the keeper is asked to boot it; should it stand there all the same, again. A
manager that has gone is not waited for longer than its tasks would be kept: the machine has others.
"""

from __future__ import annotations

from .. import local
from .link_side import send_heartbeat
from .turn import State, Turn

AGAIN_S = 60.0
REFUSAL = "the machine boots again once its job has left it"


def left(turn: Turn, cluster_id: str) -> None:
    """A task that was on the machine has left it."""
    state = turn.state
    if not state.reboots:
        return
    state.worn = True
    state.unheard[cluster_id] = turn.ns
    if _is_held(state):
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
    for cluster_id in _waited_for(state):
        if turn.ns >= state.abandon_ns(cluster_id):
            _give_up(turn, cluster_id)
    if not state.synced or state.reboot_ns or _is_held(state) or state.events or state.unheard:
        return
    state.reboot_ns = turn.after(AGAIN_S)
    turn.note("machine.reboots", routine=True)
    turn.call(local.Reboot(), None)


def wakes(state: State) -> list[int]:
    """When something is due."""
    times = [state.abandon_ns(cluster_id) for cluster_id in _waited_for(state)]
    return [*times, state.reboot_ns] if state.reboot_ns else times


def _is_held(state: State) -> bool:
    return any(slot.task is not None for slot in state.slots.values())


def _waited_for(state: State) -> set[str]:
    """The clusters that have yet to hear something, once nothing else is waited for."""
    if _is_held(state):
        return set()
    return {*state.unheard, *(pending.cluster_id for pending in state.events.values())}


def _give_up(turn: Turn, cluster_id: str) -> None:
    """Its manager has called the machine lost by now, and a boot takes along what was to be told."""
    state = turn.state
    state.unheard.pop(cluster_id, None)
    untold = [number for number, pending in state.events.items() if pending.cluster_id == cluster_id]
    for number in untold:
        del state.events[number]
    turn.note("cluster.given_up", cluster=cluster_id, events=len(untold))
