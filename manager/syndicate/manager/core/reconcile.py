"""What a volunteer says it holds, against what the manager thinks, after a reconnect or a restart.

What the manager wants is left alone or caught up with, what it does not want is released, and what it wants
and is not there is lost. Unanswered commands are sent again after this, so only what no command will tell is
decided here.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import commands, lives, stopping
from .effects import Release
from .model import HeldTask, JobState, Reason, TaskRef, TaskState
from .state import LiveJob, LiveTask, Node, Slot, TaskKey, key_of
from .transitions import FINAL_TASK_STATES, TERMINAL_JOB_STATES
from .world import World


def held(world: World, node: Node, tasks: Iterable[HeldTask]) -> None:
    """Brings the volunteer's tasks and the manager's together; those of other clusters are let be."""
    reported: dict[TaskKey, HeldTask] = {}
    for task in tasks:
        if task.ref.cluster_id != world.config.cluster_id:
            continue
        if _wanted(world, node, task) is None:
            _release_stray(world, node, task)
        else:
            reported[key_of(task.ref)] = task
    for slot in list(node.slots.values()):
        if slot.ref is not None:
            _compare(world, node, slot, slot.ref, reported)


def _wanted(world: World, node: Node, task: HeldTask) -> tuple[LiveJob, LiveTask] | None:
    """The manager's view of a held task, if it has that task in that slot."""
    found = world.find(task.ref)
    if found is None:
        return None
    job, live = found
    here = (live.record.volunteer_id, live.record.slot) == (node.record.volunteer_id, task.slot)
    if not here or not world.holds(live) or live.record.state in FINAL_TASK_STATES:
        return None
    return None if job.record.state in TERMINAL_JOB_STATES else found


def _release_stray(world: World, node: Node, task: HeldTask) -> None:
    slot = node.slots.get(task.slot)
    if slot is None:
        slot = node.slots[task.slot] = Slot(task.slot)
    if slot.ref is None:
        world.lock(node, slot, task.ref)
    elif key_of(slot.ref) == key_of(task.ref) and _releasing(node, task.ref):
        return
    commands.issue(world, node, task.ref, task.slot, Release())


def _releasing(node: Node, ref: TaskRef) -> bool:
    return any(
        isinstance(pending.command.action, Release) and key_of(pending.command.ref) == key_of(ref)
        for pending in node.pending.values()
    )


def _compare(world: World, node: Node, slot: Slot, ref: TaskRef, reported: dict[TaskKey, HeldTask]) -> None:
    found = world.find(ref)
    if found is None or not world.holds(found[1]):
        return
    job, live = found
    if (live.record.volunteer_id, live.record.slot) != (node.record.volunteer_id, slot.number):
        return  # a lock that a manager set before it crashed; the task has its slot elsewhere
    if job.record.state is JobState.STOPPING or live.record.state in FINAL_TASK_STATES:
        return  # its Release is sent again, and its answer tells
    there = reported.get(key_of(ref))
    if there is None:
        _missing(world, node, slot, job, live)
    elif there.ref.generation < live.record.generation and live.record.state is not TaskState.STARTING:
        why = f"{node.record.volunteer_id} holds generation {there.ref.generation} of it only"
        stopping.member_lost(world, job, live, Reason.INFRASTRUCTURE, why)
    elif there.exit is not None:
        lives.exited(world, job, live, there.ref.generation, there.exit, None)


def _missing(world: World, node: Node, slot: Slot, job: LiveJob, live: LiveTask) -> None:
    # An unanswered Reserve never arrived, or will be answered: it is sent again.
    if live.record.state is TaskState.RESERVING:
        return
    commands.forget(node, live.command_id)
    world.unlock(node, slot)
    why = f"{node.record.volunteer_id} does not hold it any more"
    stopping.member_lost(world, job, live, Reason.VOLUNTEER_LOST, why)
