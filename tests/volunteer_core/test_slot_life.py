"""The life of a slot, command by command."""

from __future__ import annotations

import pytest
from syndicate.volunteer import local
from syndicate.volunteer.core import Config, effects, events
from syndicate.volunteer.core.model import (
    AnswerCode,
    Kill,
    NetworkState,
    Reason,
    Release,
    Reserve,
    Revive,
    SetNetwork,
    Start,
)
from syndicate.volunteer.core.transitions import SlotState
from syndicate.volunteer.local import WHOLE
from volunteer_core.harness import Harness, prepare, ref


def test_reserve_locks_a_slot_and_names_its_address(bench: Harness) -> None:
    """A free slot is READY with the first address behind the gateway's."""
    answer = bench.ask(Reserve(1000))

    assert (answer.code, answer.address) == (AnswerCode.READY, "10.77.0.2")
    assert bench.core.slot_state(0) is SlotState.RESERVED


def test_reserve_of_the_same_task_is_ready_again_with_the_same_address(bench: Harness) -> None:
    """Another command for what is locked already changes nothing."""
    first = bench.ask(Reserve(1000))

    assert bench.ask(Reserve(1000)).address == first.address


def test_reserve_for_another_task_is_busy(bench: Harness) -> None:
    """A slot locks on the first that reserves it."""
    bench.ask(Reserve(1000))

    assert bench.ask(Reserve(1000), ref("slave-0")).code is AnswerCode.BUSY


def test_reserve_by_another_cluster_is_busy(bench: Harness) -> None:
    """Several managers share the pool: the lock belongs to one cluster."""
    bench.ask(Reserve(1000))
    bench.connect(link="other", cluster="c2")

    answer = bench.ask(Reserve(1000), ref(cluster="c2"), link="other")

    assert answer.code is AnswerCode.BUSY


def test_a_drained_volunteer_is_busy_until_it_is_resumed(bench: Harness) -> None:
    """Drain refuses new reservations and nothing else."""
    bench.tell(events.DrainReceived("manager:7001", True))
    drained = bench.ask(Reserve(1000))
    bench.tell(events.DrainReceived("manager:7001", False))

    assert drained.code is AnswerCode.BUSY
    assert bench.ask(Reserve(1000)).code is AnswerCode.READY


def test_a_reservation_lapses_without_a_prepare(bench: Harness) -> None:
    """A manager that vanishes leaves no lock."""
    bench.ask(Reserve(1000))

    bench.advance(1.0)

    assert bench.core.slot_state(0) is SlotState.FREE


def test_addresses_go_round_the_prefix(bench: Harness) -> None:
    """Each job gets the next address, and the last one is followed by the first."""
    seen = []
    bench.connect(link="small", cluster="c2", prefix="10.9.9.0/29")
    for job in range(1, 7):
        task = ref(job=job, cluster="c2")
        seen.append(bench.ask(Reserve(1000), task, link="small").address)
        bench.ask(Release(), task, link="small")

    assert seen == ["10.9.9.2", "10.9.9.3", "10.9.9.4", "10.9.9.5", "10.9.9.6", "10.9.9.2"]


def test_a_prefix_that_is_used_up_is_a_failure_with_its_reason(bench: Harness) -> None:
    """A /30 has room for one slot."""
    bench.connect(link="small", cluster="c2", prefix="10.9.9.0/30")
    bench.ask(Reserve(1000), ref(cluster="c2"), link="small")

    answer = bench.ask(Reserve(1000), ref("slave-0", cluster="c2"), slot=1, link="small")

    assert (answer.code, answer.detail) == (AnswerCode.FAILED, "no address of 10.9.9.0/30 is free")


def test_a_task_is_prepared_started_and_released(bench: Harness) -> None:
    """The way of most tasks."""
    whole = bench.running()
    bench.keeper.end(0, 0, output=b"done\n")
    bench.tell_keeper_events()

    answer = bench.ask(Release(), whole)

    assert answer.code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.FREE
    assert [(e.ref, e.exit.reason) for e in bench.exits()] == [(whole, Reason.EXITED_ZERO)]
    kinds = [type(request).__name__ for request in bench.keeper.requests]
    assert [kind for kind in kinds if kind != "Renew"] == ["Prepare", "Start", "Release"]


def test_prepare_needs_the_reservation(bench: Harness) -> None:
    """What is not reserved is unknown."""
    assert bench.ask(prepare()).code is AnswerCode.UNKNOWN_TASK


@pytest.mark.parametrize("name", ["BAD_SOURCE", "OUT_OF_MEMORY", "DISK_FULL"])
def test_a_source_that_cannot_be_unpacked_is_the_jobs_fault(bench: Harness, name: str) -> None:
    """What the keeper says of it goes through with its text."""
    bench.keeper.refuse[local.Prepare] = local.Refused(local.ErrorCode[name], "not a tar")
    bench.ask(Reserve(1000))

    answer = bench.ask(prepare())

    assert (answer.code, answer.detail) == (AnswerCode[name], "not a tar")


def test_a_source_that_cannot_be_fetched_is_a_failure(bench: Harness) -> None:
    """It is the machine's fault, and the slot waits for Release or lapses."""
    bench.fetch_error = "the manager is away"
    bench.ask(Reserve(1000))

    answer = bench.ask(prepare())

    assert (answer.code, answer.detail) == (AnswerCode.FAILED, "the manager is away")
    assert bench.core.slot_state(0) is SlotState.RESERVED


def test_a_failed_prepare_lapses_through_the_keeper(bench: Harness) -> None:
    """The keeper may hold half of it: a lapse releases there too."""
    bench.keeper.refuse[local.Prepare] = local.Refused(local.ErrorCode.FAILED, "no space")
    bench.ask(Reserve(1000))
    bench.ask(prepare())

    bench.advance(1.5)

    assert bench.core.slot_state(0) is SlotState.FREE
    assert isinstance(bench.keeper.requests[-1], local.Release)


def test_kill_tells_how_many_processes_ended_and_the_event_follows(bench: Harness) -> None:
    """The answer goes first, then the end."""
    whole = bench.running()

    answer = bench.ask(Kill(), whole)

    assert (answer.code, answer.processes) == (AnswerCode.DONE, 3)
    assert bench.exits()[-1].exit.reason is Reason.KILLED_BY_FAULT
    order = [type(e) for e in bench.done if isinstance(e, effects.SendAnswer | effects.SendTaskEvent)]
    assert order[-2:] == [effects.SendAnswer, effects.SendTaskEvent]
    assert bench.core.slot_state(0) is SlotState.KILLED


def test_kill_of_what_has_ended_is_done_with_no_process(bench: Harness) -> None:
    """There is nothing to end."""
    whole = bench.running()
    bench.ask(Kill(), whole)

    answer = bench.ask(Kill(), whole)

    assert (answer.code, answer.processes) == (AnswerCode.DONE, 0)


def test_revive_starts_the_next_generation(bench: Harness) -> None:
    """Killed, revived: generation 2 runs."""
    bench.running()
    bench.ask(Kill(), ref())

    answer = bench.ask(Revive(False), ref(generation=2))

    assert answer.code is AnswerCode.DONE
    assert bench.keeper.starts == [(ref().id, 1), (ref().id, 2)]
    assert isinstance(bench.keeper.requests[-1], local.Revive)
    assert not bench.keeper.requests[-1].with_disk


def test_revive_of_the_generation_that_runs_is_done_and_starts_nothing(bench: Harness) -> None:
    """Asked again after a failover, under another id."""
    bench.running()
    bench.ask(Kill(), ref())
    first = bench.ask(Revive(True), ref(generation=2))
    bench.advance(1)

    again = bench.ask(Revive(True), ref(generation=2))

    assert (again.code, again.applied_at) == (AnswerCode.DONE, first.applied_at)
    assert len(bench.keeper.starts) == 2


def test_revive_of_an_older_generation_is_stale(bench: Harness) -> None:
    """What was overtaken is refused."""
    bench.running()
    bench.ask(Kill(), ref())
    bench.ask(Revive(True), ref(generation=3))

    assert bench.ask(Revive(True), ref(generation=2)).code is AnswerCode.STALE


def test_start_of_what_was_started_and_has_ended_is_done_and_its_end_is_told_again(bench: Harness) -> None:
    """It was exec'd, which is what the answer says; the end follows as it would have the first time."""
    bench.running()
    bench.keeper.end(0, 0)
    bench.tell_keeper_events()

    answer = bench.ask(Start(), ref())

    assert answer.code is AnswerCode.DONE
    assert len(bench.keeper.starts) == 1
    assert [e.ref for e in bench.exits()] == [ref(), ref()]
    assert bench.exits()[0].event_id < bench.exits()[1].event_id


def test_start_before_prepare_fails(bench: Harness) -> None:
    """The order of commands is held."""
    bench.ask(Reserve(1000))

    assert bench.ask(Start()).code is AnswerCode.FAILED


def test_a_command_of_an_older_attempt_is_stale(bench: Harness) -> None:
    """A requeued job's slot knows its attempt."""
    bench.ask(Reserve(1000), ref(attempt=2))

    assert bench.ask(prepare(), ref(attempt=1)).code is AnswerCode.STALE
    assert bench.ask(Reserve(1000), ref(attempt=1)).code is AnswerCode.STALE


def test_set_network_holds_the_full_set(bench: Harness) -> None:
    """Desired state goes through as it is."""
    bench.running()
    cut = NetworkState(cut=("10.77.0.3", "10.77.0.4"))

    answer = bench.ask(SetNetwork(cut))

    assert answer.code is AnswerCode.DONE
    assert bench.keeper.slots[0].network == cut


def test_release_of_a_task_that_is_not_held_is_done_and_touches_nothing(bench: Harness) -> None:
    """A late Release cannot reach the next task."""
    bench.running()

    answer = bench.ask(Release(), ref(job=6))

    assert answer.code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.RUNNING


def test_release_of_a_running_task_ends_it_first_and_tells_so_before_the_answer(bench: Harness) -> None:
    """Processes end, output is drained, the end is told, then the answer."""
    whole = bench.running()

    bench.ask(Release(), whole)

    assert [type(r).__name__ for r in bench.keeper.requests[-2:]] == ["Kill", "Release"]
    assert bench.exits()[-1].exit.reason is Reason.STOPPED
    told = [type(e).__name__ for e in bench.done if not isinstance(e, effects.CallKeeper)]
    assert told[-5:] == ["SendTaskEvent", "DrainLogs", "ReleaseSource", "ForgetLogs", "SendAnswer"]


def test_an_end_by_a_fault_is_told_as_one_also_behind_a_release(
    bench: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record follows the Kill's answer, and the job may end in between."""
    whole = bench.running()
    late = bench.tell_keeper_events
    monkeypatch.setattr(bench, "tell_keeper_events", lambda: None)
    bench.ask(Kill(), whole)
    bench.hold = {effects.CallKeeper}
    bench.send(Release(), whole)

    late()

    assert bench.exits()[-1].exit.reason is Reason.KILLED_BY_FAULT


def test_release_waits_for_the_logs_and_goes_on_after_its_deadline(bench: Harness) -> None:
    """Ten seconds, then the slot matters more."""
    whole = bench.running()
    bench.hold = {effects.DrainLogs}
    name = bench.send(Release(), whole)
    before = bench.answers_to(name)

    bench.advance(10.0)

    assert before == []
    assert bench.answer_to(name).code is AnswerCode.DONE


def test_release_cancels_a_fetch(bench: Harness) -> None:
    """What waits for a source is answered, and the slot is free at once."""
    bench.hold = {effects.FetchSource}
    bench.ask(Reserve(1000))
    preparing = bench.send(prepare())

    released = bench.ask(Release())

    assert released.code is AnswerCode.DONE
    assert bench.answer_to(preparing).code is AnswerCode.UNKNOWN_TASK
    assert bench.wanted(effects.ReleaseSource)
    assert bench.core.slot_state(0) is SlotState.FREE


def test_release_goes_before_commands_that_wait(bench: Harness) -> None:
    """A request that the keeper has is waited for; the others are dropped."""
    bench.prepared()
    bench.hold = {effects.CallKeeper}
    starting = bench.send(Start(), ref())
    waiting = bench.send(SetNetwork(WHOLE), ref())
    releasing = bench.send(Release(), ref())
    assert bench.answer_to(waiting).code is AnswerCode.UNKNOWN_TASK

    bench.perform_held()

    assert bench.answer_to(starting).code is AnswerCode.DONE
    assert bench.answer_to(releasing).code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.FREE


def test_two_releases_are_answered_together(bench: Harness) -> None:
    """A second Release under another id joins the first."""
    whole = bench.running()
    bench.hold = {effects.DrainLogs}
    first, second = bench.send(Release(), whole), bench.send(Release(), whole)

    bench.perform_held()

    assert bench.answer_to(first).code is bench.answer_to(second).code is AnswerCode.DONE


def test_a_release_that_the_keeper_cannot_do_is_tried_until_it_works(bench: Harness) -> None:
    """The command is answered FAILED, the slot stays locked, and comes back by itself."""
    whole = bench.running()
    bench.keeper.refuse[local.Release] = local.Refused(local.ErrorCode.FAILED, "target is busy")
    answer = bench.ask(Release(), whole)
    reserve = bench.ask(Reserve(1000), ref(job=8))
    bench.keeper.refuse.clear()

    bench.advance(2.5)

    assert (answer.code, answer.detail) == (AnswerCode.FAILED, "target is busy")
    assert reserve.code is AnswerCode.BUSY
    assert bench.core.slot_state(0) is SlotState.FREE


def test_commands_on_one_slot_are_done_one_after_the_other(bench: Harness) -> None:
    """A cut behind a start waits for the start."""
    bench.prepared()
    bench.hold = {effects.CallKeeper}
    bench.send(Start(), ref())
    bench.send(SetNetwork(NetworkState(cut=("10.77.0.3",))), ref())

    asked = [type(e.request).__name__ for e in bench.held if isinstance(e, effects.CallKeeper)]

    assert asked == ["Start"]


def test_too_many_waiting_commands_are_refused() -> None:
    """The queue of a slot has a bound and says so."""
    bench = Harness(Config("node-a", max_waiting=1))
    bench.attach()
    bench.prepared()
    bench.hold = {effects.CallKeeper}
    bench.send(Start(), ref())
    bench.send(SetNetwork(WHOLE), ref())

    answer = bench.ask(SetNetwork(WHOLE), ref())

    assert answer.code is AnswerCode.FAILED


def test_a_clients_relay_stands_before_prepare_is_answered(bench: Harness) -> None:
    """A client must find its socket from its first instruction on."""
    whole = ref("client-0")
    bench.hold = {effects.OpenRelay}
    bench.ask(Reserve(1000), whole)
    name = bench.send(prepare("client-0"), whole)
    before = bench.answers_to(name)

    bench.perform_held()

    assert before == []
    assert bench.answer_to(name).code is AnswerCode.DONE
    assert bench.core.caller(0) == whole
