"""What a task suffers beside its network, and which faults there are: the core between manager and keeper."""

from __future__ import annotations

from syndicate.volunteer import local
from syndicate.volunteer.core import Config, effects, events
from syndicate.volunteer.core.model import AnswerCode, Kill, Memory, Release, Revive, SetTask, Signal
from syndicate.volunteer.core.transitions import SlotState
from syndicate.volunteer.local import ErrorCode, Incapability, Refused
from volunteer_core.harness import LINK, Harness, ref


def _signals(bench: Harness) -> list[local.Signal]:
    return [r for r in bench.keeper.requests if isinstance(r, local.Signal)]


def test_set_task_goes_through_as_desired_state(bench: Harness) -> None:
    """Each says all that the task suffers; the answer has the keeper's stamp and duration."""
    bench.running()

    answer = bench.ask(SetTask(paused=True, disk_full=True))
    held = bench.keeper.slots[0]

    assert (answer.code, answer.duration_ns, answer.applied_at) == (AnswerCode.DONE, 1_000_000, bench.now)
    assert (held.paused, held.disk_full) == (True, True)
    assert bench.ask(SetTask(paused=False, disk_full=True)).code is AnswerCode.DONE
    assert (held.paused, held.disk_full) == (False, True)


def test_only_the_generation_that_runs_is_paused(bench: Harness) -> None:
    """An older one is stale, a later one was never there, and one that ended does not run."""
    bench.running()
    bench.ask(Kill())
    bench.ask(Revive(True), ref(generation=2))

    assert bench.ask(SetTask(True, False), ref(generation=1)).code is AnswerCode.STALE
    assert bench.ask(SetTask(True, False), ref(generation=3)).code is AnswerCode.FAILED
    bench.ask(Kill(), ref(generation=2))
    assert bench.ask(SetTask(True, False), ref(generation=2)).code is AnswerCode.FAILED
    assert bench.core.slot_state(0) is SlotState.KILLED


def test_a_heal_is_for_whatever_there_is(bench: Harness) -> None:
    """It is no matter which generation it names, nor whether one runs: what was full and dead has room."""
    bench.running()
    bench.ask(SetTask(False, True))
    bench.ask(Kill())

    answer = bench.ask(SetTask(False, False))

    assert answer.code is AnswerCode.DONE
    assert not bench.keeper.slots[0].disk_full


def test_what_was_not_prepared_suffers_nothing(bench: Harness) -> None:
    """And neither does what is not held."""
    assert bench.ask(SetTask(False, True)).code is AnswerCode.UNKNOWN_TASK
    assert bench.ask(Signal(3)).code is AnswerCode.UNKNOWN_TASK


def test_a_signal_tells_whom_it_reached(bench: Harness) -> None:
    """The keeper's count is the answer's."""
    bench.running()

    answer = bench.ask(Signal(3))

    assert (answer.code, answer.processes) == (AnswerCode.DONE, 3)
    assert [(each.generation, each.number) for each in _signals(bench)] == [(1, 3)]


def test_a_signal_repeated_is_not_sent_again(bench: Harness) -> None:
    """The first answer comes again, while it is awaited and after."""
    bench.running()
    bench.hold = {effects.CallKeeper}
    first = bench.send(Signal(3), command_id="one")
    bench.send(Signal(3), command_id="one")
    bench.perform_held()
    bench.send(Signal(3), command_id="one")

    assert first == "one"
    assert len(bench.answers_to("one")) == 2
    assert len(set(bench.answers_to("one"))) == 1
    assert len(_signals(bench)) == 1


def test_a_signal_is_sent_once_over_a_lost_keeper(bench: Harness) -> None:
    """What was under way is asked again under its id, by which the keeper knows it."""
    bench.running()
    bench.hold = {effects.CallKeeper}
    bench.send(Signal(3), command_id="one")
    (call,) = bench.held
    assert isinstance(call, effects.CallKeeper)
    bench.keeper.ask(call.request)  # and its answer is lost
    bench.hold, bench.held = set(), []

    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert bench.answer_to("one").code is AnswerCode.DONE
    assert bench.answer_to("one").processes == 3
    assert len(bench.keeper.signals) == 1


def test_a_signal_is_sent_once_over_a_restart_and_an_end(bench: Harness) -> None:
    """A volunteer that knows nothing of it any more asks its keeper, also when the signal ended the task."""
    bench.running()
    first = bench.answer_to(bench.send(Signal(15), command_id="one"))
    bench.keeper.end(0, 2)
    anew = Harness(Config("node-a", memory=Memory()), bench.keeper)
    anew.now_ns = bench.now_ns + 1
    bench.keeper.events.clear()
    anew.attach()

    again = anew.answer_to(anew.send(Signal(15), command_id="one"))

    assert (again.code, again.processes) == (first.code, first.processes)
    assert len(bench.keeper.signals) == 1


def test_a_refusal_is_the_answer(bench: Harness) -> None:
    """What the keeper cannot do fails with its line, and the task runs on."""
    bench.running()
    bench.keeper.refuse[local.SetTask] = Refused(ErrorCode.FAILED, "processes do not freeze")

    answer = bench.ask(SetTask(True, False))

    assert (answer.code, answer.detail) == (AnswerCode.FAILED, "processes do not freeze")
    assert bench.core.slot_state(0) is SlotState.RUNNING


def test_a_release_waits_for_no_pause(bench: Harness) -> None:
    """What was asked and has no answer yet is waited for; then everything goes, paused or not."""
    bench.running()
    bench.hold = {effects.CallKeeper}
    pausing = bench.send(SetTask(True, False))
    releasing = bench.send(Release())
    bench.perform_held()

    assert bench.answer_to(pausing).code is AnswerCode.DONE
    assert bench.answer_to(releasing).code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.FREE


def test_an_end_that_a_signal_brings_is_told_beside_its_answer(bench: Harness) -> None:
    """The task's own end is no kill, whichever is heard first."""
    bench.running()
    bench.hold = {effects.CallKeeper}
    sent = bench.send(Signal(15))
    bench.keeper.end(0, 2)
    bench.tell_keeper_events()
    bench.perform_held()

    assert bench.core.slot_state(0) is SlotState.EXITED
    assert [event.exit.exit_status for event in bench.exits()] == [2]
    assert bench.answers_to(sent)


def test_hello_says_what_cannot_be_done(bench: Harness) -> None:
    """With the reason, as the keeper found it."""
    bench.keeper.cannot = (Incapability("delay", "the kernel has no netem"),)
    anew = Harness(keeper=bench.keeper)
    anew.attach()

    hello = anew.wanted(effects.SendHello)[-1].hello

    assert hello.cannot == (Incapability("delay", "the kernel has no netem"),)


def test_a_keeper_that_can_do_other_things_is_told_in_a_new_hello(bench: Harness) -> None:
    """A manager knows of it by Hello alone: the stream is opened anew."""
    bench.keeper.capabilities = ("cut", "kill", "pause")

    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert [one.link for one in bench.wanted(effects.CloseLink)] == [LINK]
