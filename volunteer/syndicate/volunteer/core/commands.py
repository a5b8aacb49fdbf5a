"""What the manager's commands come to, by the state of their slot."""

from __future__ import annotations

from .. import local
from .addresses import pick
from .effects import FetchSource, SendAnswer
from .endings import take_early
from .model import (
    AnswerCode,
    Command,
    DropBarriers,
    Kill,
    Member,
    Network,
    Prepare,
    Release,
    Reserve,
    Revive,
    SetNetwork,
    SetTask,
    Signal,
    Start,
)
from .operations import already, begin
from .rebooting import REFUSAL
from .release import advance_release, begin_release, joins
from .state import BrokenInvariant, Link, Slot, Step, Waiting
from .transitions import SlotInput, SlotState
from .turn import Turn

_HELD_BEFORE_PREPARE = (SlotState.RESERVED, SlotState.PREPARING)
_ENDED = (SlotState.KILLED, SlotState.EXITED)


def receive(turn: Turn, link: Link, command: Command) -> None:
    """Takes a command; a repeat is answered as the first time, or once when the first is done."""
    key = (command.ref.cluster_id, command.command_id)
    book = turn.state.answers
    if (given := book.given(key)) is not None:
        turn.emit(SendAnswer(link.name, given))
        return
    if (opened := book.opened(key)) is not None:
        opened.link = link.name
        return
    waiting = Waiting(link.name, command, turn.now)
    book.open(key, waiting)
    if command.ref.cluster_id != link.cluster_id:
        turn.answer(waiting, AnswerCode.UNKNOWN_TASK, "the task is of another cluster than its manager")
        return
    cluster = turn.cluster(link.cluster_id)
    if command.epoch < cluster.epoch:
        detail = f"epoch {command.epoch} is over: epoch {cluster.epoch} was seen"
        turn.answer(waiting, AnswerCode.STALE, detail)
        return
    turn.raise_epoch(cluster, command.epoch)
    _dispatch(turn, waiting)


def _dispatch(turn: Turn, waiting: Waiting) -> None:
    command = waiting.command
    slot = turn.state.slots.get(command.slot)
    if isinstance(command.action, Reserve):
        _reserve(turn, slot, waiting, command.action)
    elif isinstance(command.action, Release):
        _release(turn, slot, waiting)
    elif slot is None:
        turn.answer(waiting, AnswerCode.UNKNOWN_TASK, "there is no such slot")
    elif (refusal := _not_held(slot, command)) is not None:
        turn.answer(waiting, *refusal)
    elif len(slot.queue) >= turn.state.config.max_waiting:
        turn.answer(waiting, AnswerCode.FAILED, f"{len(slot.queue)} commands wait for this slot already")
    else:
        slot.queue.append(waiting)
        proceed(turn, slot)


def _not_held(slot: Slot, command: Command) -> tuple[AnswerCode, str] | None:
    """Why a command cannot be about what the slot holds; None where it is."""
    if slot.has(command.ref):
        if slot.state is SlotState.RELEASING:
            return AnswerCode.UNKNOWN_TASK, "the task is being released"
        return None
    if _older_attempt(slot, command):
        return AnswerCode.STALE, f"attempt {command.ref.attempt} is over: the slot holds {slot.holds.attempt}"
    return AnswerCode.UNKNOWN_TASK, "the slot does not hold this task"


def _older_attempt(slot: Slot, command: Command) -> bool:
    task, ref = slot.task, command.ref
    same_job = task is not None and (task.cluster_id, task.job_id) == (ref.cluster_id, ref.job_id)
    return same_job and task is not None and ref.attempt < task.attempt


def proceed(turn: Turn, slot: Slot) -> None:
    """Does what comes next on an idle slot: the next step of a release, or the next command."""
    if slot.early and slot.operation is None:
        take_early(turn, slot)
    if slot.operation is None and slot.state is SlotState.RELEASING:
        advance_release(turn, slot)
    while slot.operation is None and slot.queue:
        _execute(turn, slot, slot.queue.popleft())
        if slot.early and slot.operation is None:
            take_early(turn, slot)


# ---- the lock -------------------------------------------------------------------------------------------


def _reserve(turn: Turn, slot: Slot | None, waiting: Waiting, action: Reserve) -> None:
    ref = waiting.command.ref
    if slot is None or not slot.offered:
        turn.answer(waiting, AnswerCode.FAILED, "there is no such slot")
        return
    if slot.task == ref.id and slot.state is not SlotState.RELEASING:
        slot.lapse_ns = turn.ns + slot.ttl_ns
        turn.answer(waiting, AnswerCode.READY, address=slot.address)
        return
    refusal = _busy(turn, slot, waiting)
    if refusal is not None:
        turn.answer(waiting, *refusal)
        return
    found = _pick_address(turn, slot, ref.cluster_id)
    if isinstance(found, str):
        turn.answer(waiting, AnswerCode.FAILED, found)
        return
    slot.address, slot.prefix_length = found
    slot.task = ref.id
    slot.ttl_ns = max(0, action.ttl_ms) * 1_000_000
    slot.lapse_ns = turn.ns + slot.ttl_ns
    slot.move(SlotInput.RESERVE, turn.now)
    turn.answer(waiting, AnswerCode.READY, address=slot.address)


def _busy(turn: Turn, slot: Slot, waiting: Waiting) -> tuple[AnswerCode, str] | None:
    command = waiting.command
    if slot.state is not SlotState.FREE:
        if _older_attempt(slot, command):
            return AnswerCode.STALE, "the slot holds a later attempt of this job"
        return AnswerCode.BUSY, f"the slot is {slot.state}"
    if turn.cluster(command.ref.cluster_id).draining:
        return AnswerCode.BUSY, "the volunteer is drained"
    if turn.state.worn:
        return AnswerCode.BUSY, REFUSAL
    if not turn.state.synced:
        return AnswerCode.BUSY, "the keeper is away"
    holder = turn.holder(command.ref.id)
    if holder is not None:
        return AnswerCode.BUSY, f"slot {holder.number} holds this task"
    return None


def _pick_address(turn: Turn, slot: Slot, cluster_id: str) -> tuple[str, int] | str:
    """An address and the length of its prefix, or why there is none."""
    if slot.fixed_address:
        return slot.fixed_address, 32
    cluster = turn.cluster(cluster_id)
    if cluster.network is None:
        return "the volunteer has no prefix for its slots"
    in_use = {other.address for other in turn.state.slots.values() if other.address}
    found = pick(cluster.network, cluster.cursor, in_use)
    if found is None:
        return f"no address of {cluster.network} is free"
    address, cluster.cursor = found
    return address, cluster.network.prefixlen


def _release(turn: Turn, slot: Slot | None, waiting: Waiting) -> None:
    if slot is None or slot.task != waiting.command.ref.id:
        turn.answer(waiting, AnswerCode.DONE)  # nothing of it is here
    elif not joins(slot, waiting):
        begin_release(turn, slot, waiting)


# ---- the rest, in turn ----------------------------------------------------------------------------------


def _execute(turn: Turn, slot: Slot, waiting: Waiting) -> None:
    action = waiting.command.action
    if slot.gone:
        turn.answer(
            waiting, AnswerCode.FAILED, "the keeper was restarted and holds nothing of the task any more"
        )
    elif isinstance(action, Prepare):
        _prepare(turn, slot, waiting, action)
    elif slot.state in _HELD_BEFORE_PREPARE:
        turn.answer(waiting, AnswerCode.FAILED, "the task was not prepared")
    elif isinstance(action, Start):
        _start(turn, slot, waiting)
    elif isinstance(action, Kill):
        _kill(turn, slot, waiting)
    elif isinstance(action, Revive):
        _revive(turn, slot, waiting, action)
    elif isinstance(action, SetNetwork):
        request = local.SetNetwork(slot.number, slot.holds, action.network)
        begin(turn, slot, Step.NETWORK, waiting, request)
    elif isinstance(action, SetTask):
        _set_task(turn, slot, waiting, action)
    elif isinstance(action, Signal):
        _signal(turn, slot, waiting, action)
    elif isinstance(action, DropBarriers):
        command_id = waiting.command.command_id
        dropping = local.DropBarriers(slot.number, slot.holds, action.barrier, command_id)
        begin(turn, slot, Step.BARRIERS, waiting, dropping)


def _prepare(turn: Turn, slot: Slot, waiting: Waiting, action: Prepare) -> None:
    if slot.state is not SlotState.RESERVED:
        turn.answer(waiting, AnswerCode.DONE)
        return
    slot.role = action.role
    slot.move(SlotInput.PREPARE, turn.now)
    begin(turn, slot, Step.FETCH, waiting, timeout_s=turn.state.config.prepare_timeout_s)
    turn.emit(FetchSource(waiting.link, slot.number, action.source))


def prepare_in_keeper(turn: Turn, slot: Slot) -> None:
    """The source is there: has the keeper make disk, network and sandbox."""
    operation = slot.work
    waiting = operation.waiting
    if waiting is None or not isinstance(waiting.command.action, Prepare):
        raise BrokenInvariant(f"slot {slot.number} fetches for no Prepare")
    command, wanted = waiting.command, waiting.command.action
    limits = wanted.limits
    request = local.Prepare(
        slot=slot.number,
        task=slot.holds,
        epoch=command.epoch,
        role=_local_role(wanted.role.name),
        address=slot.address,
        prefix_length=32 if turn.state.network is Network.HOST else slot.prefix_length,
        members=tuple(_local_member(member) for member in wanted.members),
        source=wanted.source.sha256,
        job_name=wanted.job_name,
        limits=local.Limits(
            limits.disk_bytes,
            limits.disk_inodes,
            limits.log_head_bytes,
            limits.log_tail_bytes,
            limits.memory_bytes,
            limits.pids,
            limits.cpu_millis,
            limits.open_files,
            limits.file_bytes,
        ),
        lose_unsynced=wanted.lose_unsynced,
        sync_server=wanted.sync_server,
        serve_sync=wanted.serve_sync,
    )
    begin(turn, slot, Step.PREPARE, waiting, request, timeout_s=turn.state.config.prepare_timeout_s)


def _local_role(name: str) -> local.Role:
    return local.Role(name.lower())


def _local_member(member: Member) -> local.Member:
    return local.Member(member.task, _local_role(member.role.name), member.address)


def _start(turn: Turn, slot: Slot, waiting: Waiting) -> None:
    wanted = waiting.command.ref.generation
    if wanted in slot.started and wanted == slot.generation:
        already(turn, slot, waiting)
    elif wanted < 1 or wanted < slot.generation:
        turn.answer(waiting, AnswerCode.STALE, f"generation {slot.generation} was started already")
    elif slot.state is not SlotState.PREPARED:
        turn.answer(waiting, AnswerCode.FAILED, "the sandbox ended before make was started")
    elif wanted > 1:
        turn.answer(waiting, AnswerCode.FAILED, f"Start makes generation 1, not {wanted}")
    elif refusal := _lease_refusal(turn, slot):
        turn.answer(waiting, AnswerCode.FAILED, refusal)
    else:
        slot.move(SlotInput.START, turn.now)
        begin(turn, slot, Step.START, waiting, local.Start(slot.number, slot.holds, 1), generation=1)


def _kill(turn: Turn, slot: Slot, waiting: Waiting) -> None:
    wanted = waiting.command.ref.generation
    if wanted < slot.generation:
        turn.answer(waiting, AnswerCode.STALE, f"generation {slot.generation} was started since")
    elif slot.state is SlotState.PREPARED or slot.state in _ENDED:
        turn.answer(waiting, AnswerCode.DONE)  # there is nothing to end
    elif wanted > slot.generation:
        turn.answer(waiting, AnswerCode.FAILED, f"generation {wanted} was never started")
    else:
        slot.move(SlotInput.KILL, turn.now)
        begin(turn, slot, Step.KILL, waiting, local.Kill(slot.number, slot.holds, wanted), generation=wanted)


def _revive(turn: Turn, slot: Slot, waiting: Waiting, action: Revive) -> None:
    wanted = waiting.command.ref.generation
    if slot.state is SlotState.PREPARED:
        turn.answer(waiting, AnswerCode.FAILED, "the task was never started")
    elif wanted in slot.started and wanted == slot.generation:
        already(turn, slot, waiting)
    elif wanted <= slot.used:
        turn.answer(waiting, AnswerCode.STALE, f"generation {slot.used} was there already")
    elif slot.state not in _ENDED:
        turn.answer(waiting, AnswerCode.FAILED, f"generation {slot.generation} runs")
    elif refusal := _lease_refusal(turn, slot):
        turn.answer(waiting, AnswerCode.FAILED, refusal)
    else:
        slot.move(SlotInput.REVIVE, turn.now)
        request = local.Revive(slot.number, slot.holds, wanted, action.with_disk)
        begin(turn, slot, Step.REVIVE, waiting, request, generation=wanted)


def _set_task(turn: Turn, slot: Slot, waiting: Waiting, action: SetTask) -> None:
    wanted = waiting.command.ref.generation
    if action.paused and wanted < slot.generation:
        turn.answer(waiting, AnswerCode.STALE, f"generation {slot.generation} was started since")
    elif action.paused and wanted > slot.generation:
        turn.answer(waiting, AnswerCode.FAILED, f"generation {wanted} was never started")
    elif action.paused and slot.state is not SlotState.RUNNING:
        turn.answer(waiting, AnswerCode.FAILED, f"the task does not run: it is {slot.state}")
    else:
        request = local.SetTask(slot.number, slot.holds, action.paused, action.disk_full)
        begin(turn, slot, Step.TASK, waiting, request)


def _signal(turn: Turn, slot: Slot, waiting: Waiting, action: Signal) -> None:
    """Asks the keeper whatever the slot's state: by the command's id it knows what it has sent.

    So a repeat is answered as the first time also after a restart of the volunteer, and after the task's end.
    """
    command = waiting.command
    wanted = max(1, command.ref.generation)
    request = local.Signal(slot.number, slot.holds, wanted, action.number, command.command_id)
    begin(turn, slot, Step.SIGNAL, waiting, request, generation=wanted)


def _lease_refusal(turn: Turn, slot: Slot) -> str:
    """Why nothing may be started: a manager not heard for so long may have given the task to others."""
    cluster = turn.cluster(slot.holds.cluster_id)
    return "" if turn.ns < cluster.lease_until_ns else "the lease has run out"
