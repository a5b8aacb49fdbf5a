"""What the keeper answers and tells, and how its account of itself is taken over after a reconnect.

After a restart of the volunteer that account is all there is: slots, states, addresses and exits are rebuilt
from it. What the keeper holds is true (rule 5); what it does not hold any more is gone (rule 6).
"""

from __future__ import annotations

from .. import local
from . import rebooting
from .barrier_news import take_news
from .commands import proceed
from .effects import CloseLink, OpenRelay
from .endings import lose, make_up_exit, take_exit
from .model import AnswerCode, Network, Reason, Role, TaskExit
from .operations import fail, issue, succeed, taken_back, timeout_of
from .release import RELEASE_STEPS, begin_release, release_failed, step_done
from .state import BrokenInvariant, Slot, Step
from .transitions import SlotInput, SlotState
from .turn import Turn

# What is wrong with the source, and not with the machine.
_OF_THE_JOB = {
    local.ErrorCode.BAD_SOURCE: AnswerCode.BAD_SOURCE,
    local.ErrorCode.OUT_OF_MEMORY: AnswerCode.OUT_OF_MEMORY,
    local.ErrorCode.DISK_FULL: AnswerCode.DISK_FULL,
}
_MOST_TOLD = 64  # of what the keeper cannot do, as managers take it
_BEFORE_KEEPER = (SlotState.FREE, SlotState.RESERVED, SlotState.PREPARING, SlotState.RELEASING)


def replied(turn: Turn, call: int, reply: local.Reply) -> None:
    """Leads an answer to the operation that waits for it; one that nobody waits for any more is dropped."""
    slot = turn.state.slots.get(turn.state.calls.pop(call, -1))
    if slot is None or slot.operation is None or slot.operation.call != call:
        return
    operation = slot.operation
    operation.call = None
    if isinstance(reply, local.Refused) and reply.code is local.ErrorCode.SHUTTING_DOWN:
        operation.deadline_ns = min(operation.deadline_ns, turn.after(turn.state.config.keeper_wait_s))
        return  # asked again after the next Synced
    if operation.step in RELEASE_STEPS:
        _release_replied(turn, slot, reply)
    elif taken_back(operation):
        fail(turn, slot, AnswerCode.FAILED, "no answer from the keeper in time")
        if not isinstance(reply, local.Done):
            turn.reset_keeper("the keeper could not end a revival that it had not answered")
    elif isinstance(reply, local.Done):
        succeed(turn, slot, reply)
    else:
        _refused(turn, slot, reply)
    proceed(turn, slot)


def _release_replied(turn: Turn, slot: Slot, reply: local.Reply) -> None:
    if slot.work.step is Step.REMOVE and not isinstance(reply, local.Done):
        release_failed(turn, slot, _detail(reply))
    else:
        step_done(turn, slot)


def _refused(turn: Turn, slot: Slot, reply: local.Reply) -> None:
    code = AnswerCode.FAILED
    if isinstance(reply, local.Refused):
        if reply.code in _OF_THE_JOB:
            code = _OF_THE_JOB[reply.code]
        elif reply.code in (local.ErrorCode.WRONG_TASK, local.ErrorCode.NO_SUCH_SLOT):
            turn.reset_keeper("the keeper holds something else than was known")
        elif (
            reply.code is local.ErrorCode.WRONG_STATE
            and slot.work.step is Step.REVIVE
            # Where the Kill that takes a revival back is refused so, the revival never came to be.
            and not taken_back(slot.work)
        ):
            turn.reset_keeper("the task is in another state than was known")
    fail(turn, slot, code, _detail(reply))


def _detail(reply: local.Reply) -> str:
    return reply.detail if isinstance(reply, local.Refused) else f"the keeper answered {type(reply).__name__}"


def told(turn: Turn, event: local.Exited | local.BarriersTold) -> None:
    """A generation ended, or something happened at the barriers that the slot serves."""
    slot = turn.state.slots.get(event.slot)
    if slot is None or slot.task != event.task or slot.gone:
        return
    if isinstance(event, local.Exited):
        take_exit(turn, slot, event.exit)
    else:
        take_news(turn, slot, event)


# ---- after a connection was made ------------------------------------------------------------------------


def synced(turn: Turn, account: local.Synced) -> None:
    """Takes over what the keeper says, asks again what was under way, and renews the leases."""
    state = turn.state
    first, before = not state.known, _told_in_hello(turn)
    state.known = state.synced = True
    state.calls.clear()
    state.network = Network.HOST if account.network == "host" else Network.FABRIC
    state.capabilities, state.unsafe = account.capabilities, account.unsafe
    state.cannot = account.cannot[:_MOST_TOLD]
    rebooting.found(turn, account, first)
    for cluster_id, epoch in account.epochs.items():
        turn.raise_epoch(turn.cluster(cluster_id), epoch)
    infos = {info.slot: info for info in account.slots}
    for number, info in infos.items():
        slot = state.slots.setdefault(number, Slot(number))
        if slot.state is SlotState.FREE:
            slot.fixed_address = account.fixed_address
        slot.offered = True
        _reconcile(turn, number, info)
    for number, slot in state.slots.items():
        if number not in infos:
            slot.offered = False
            _reconcile(turn, number, local.SlotInfo(number, local.SlotState.EMPTY))
    _ask_again(turn)
    for cluster in state.clusters.values():
        if cluster.lease_until_ns > turn.ns and cluster.links:
            turn.call(local.Renew(cluster.cluster_id, cluster.lease_until_ns), None)
    if not first and before != _told_in_hello(turn):
        for link in state.links.values():
            if link.opened and not link.closing:
                link.closing = True
                turn.emit(CloseLink(link.name, "the keeper offers its slots otherwise now"))


def _told_in_hello(turn: Turn) -> tuple[object, ...]:
    """What a manager knows by a stream's Hello alone: which slots are offered, what they can do, and lack."""
    state = turn.state
    offered = [slot.number for slot in state.slots.values() if slot.offered]
    return offered, state.unsafe, state.capabilities, state.cannot


def _ask_again(turn: Turn) -> None:
    for number in list(turn.state.slots):
        slot = turn.state.slots[number]
        operation = slot.operation
        if operation is not None and operation.request is not None and operation.retry_ns is None:
            operation.deadline_ns = turn.after(timeout_of(turn, operation.step))
            issue(turn, slot)
        elif operation is None:
            proceed(turn, slot)


def _reconcile(turn: Turn, number: int, info: local.SlotInfo) -> None:
    slot = turn.state.slots[number]
    holds = info.task is not None and info.state is not local.SlotState.EMPTY
    if not holds:
        _find_empty(turn, slot)
        return
    if slot.task is not None and slot.task != info.task:
        slot = _evict(turn, slot)
    if slot.task is None:
        _adopt(turn, slot, info)
    _merge(turn, slot, info)


def _find_empty(turn: Turn, slot: Slot) -> None:
    if slot.state not in _BEFORE_KEEPER:
        lose(turn, slot)
        if slot.operation is not None:
            fail(
                turn,
                slot,
                AnswerCode.FAILED,
                "the keeper was restarted and holds nothing of the task any more",
            )


def _evict(turn: Turn, slot: Slot) -> Slot:
    """The keeper holds another task than was known here: what was known is gone."""
    turn.note("slot.differs", slot=slot.number)
    if slot.operation is not None:
        slot.operation.request = None  # nothing is asked of the keeper for a task that it does not hold
    if slot.state not in _BEFORE_KEEPER:
        lose(turn, slot)
    slot.touched = False
    slot.started.clear()
    if slot.state is not SlotState.RELEASING:
        begin_release(turn, slot, None, abandoned=True)
    else:
        slot.operation = None
        slot.ended = slot.drained = True
        slot.keep = False
        proceed(turn, slot)
    return turn.state.slots[slot.number]


def _adopt(turn: Turn, slot: Slot, info: local.SlotInfo) -> None:
    """Takes a task over that the keeper holds from before."""
    if info.task is None:
        raise BrokenInvariant(f"there is nothing to adopt on slot {info.slot}")
    slot.task = info.task
    slot.role = Role[(info.role or local.Role.MASTER).name]
    slot.address = info.address
    slot.touched = True
    slot.move(SlotInput.FOUND_PREPARED, turn.now)
    cluster = turn.cluster(info.task.cluster_id)
    if not cluster.lease_until_ns:  # the keeper knows the lease; this only says when to give the task up
        cluster.lease_until_ns = turn.after(turn.state.config.default_orphan_after_s)
    if slot.role is Role.CLIENT:
        turn.emit(OpenRelay(slot.number, info.task))
    name = info.task.task
    turn.note("task.adopted", routine=True, slot=slot.number, job_id=info.task.job_id, task=name)
    for link in turn.state.links.values():
        # What an earlier connection had asked for was done after all; the next Hello tells the manager.
        told_without = link.hello_at is not None and link.cluster_id in ("", info.task.cluster_id)
        if told_without and not link.closing:
            link.closing = True
            turn.emit(CloseLink(link.name, "the keeper holds a task that was not known"))


def _merge(turn: Turn, slot: Slot, info: local.SlotInfo) -> None:
    """Brings generations, exits and state up to what the keeper says of the same task."""
    before = slot.generation
    for one in info.generations:
        if one.started_at is not None:
            slot.started.setdefault(one.generation, one.started_at)
            slot.used = max(slot.used, one.generation)
    if slot.operation is None and slot.state is not SlotState.RELEASING:
        if slot.state is SlotState.RESERVED:
            slot.move(SlotInput.FOUND_PREPARED, turn.now)
        if slot.generation > before:
            slot.move(SlotInput.FOUND_RUNNING, turn.now)
    for one in info.generations:
        if one.exit is not None:
            take_exit(turn, slot, one.exit)
    lost_status = info.state is local.SlotState.ENDED and slot.state is SlotState.RUNNING
    if lost_status and slot.operation is None:
        slot.move(SlotInput.GONE, turn.now)
        detail = "the task ended and its exit status was lost"
        make_up_exit(turn, slot, TaskExit(Reason.INFRASTRUCTURE, 0, 0, detail))
