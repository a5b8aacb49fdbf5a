"""The keeper away, and restarts of keeper and volunteer."""

from __future__ import annotations

from dataclasses import replace

from syndicate.volunteer import local
from syndicate.volunteer.core import Config, Volunteer, effects, events
from syndicate.volunteer.core.model import (
    AnswerCode,
    Kill,
    Reason,
    Release,
    Reserve,
    Stamp,
    Start,
)
from syndicate.volunteer.core.transitions import SlotState
from volunteer_core.harness import CLUSTER, LINK, SECOND, Harness, prepare, ref
from volunteer_core.keeper_model import KeeperModel

# ---- the keeper away, and restarts ----------------------------------------------------------------------


def test_a_command_waits_for_the_keeper_to_come_back(bench: Harness) -> None:
    """Asked again after the reconnect, and answered as if nothing had been."""
    bench.prepared()
    bench.tell(events.KeeperLost())
    name = bench.send(Start(), ref())
    before = bench.answers_to(name)

    bench.advance(1)
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert before == []
    assert bench.answer_to(name).code is AnswerCode.DONE


def test_a_command_fails_when_the_keeper_stays_away(bench: Harness) -> None:
    """Five seconds; nobody waits forever."""
    bench.prepared()
    bench.tell(events.KeeperLost())
    name = bench.send(Start(), ref())

    bench.advance(5)

    assert bench.answer_to(name).code is AnswerCode.FAILED


def test_reserve_is_busy_while_the_keeper_is_away(bench: Harness) -> None:
    """The manager asks elsewhere."""
    bench.tell(events.KeeperLost())

    assert bench.ask(Reserve(1000)).code is AnswerCode.BUSY


def test_a_restarted_keeper_means_that_tasks_are_gone(bench: Harness) -> None:
    """The machine's fault; the slot can be released."""
    bench.running()
    bench.keeper.lose_all()
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert bench.exits()[-1].exit.reason is Reason.INFRASTRUCTURE
    assert bench.ask(Kill(), ref()).code is AnswerCode.FAILED
    assert bench.ask(Release(), ref()).code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.FREE


def test_a_start_that_meets_a_restarted_keeper_fails(bench: Harness) -> None:
    """It is answered, and the loss is told."""
    bench.prepared()
    bench.hold = {effects.CallKeeper}
    name = bench.send(Start(), ref())
    bench.hold, bench.held = set(), []
    bench.keeper.lose_all()
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert bench.answer_to(name).code is AnswerCode.FAILED
    assert bench.exits()[-1].exit.reason is Reason.INFRASTRUCTURE


def test_a_keeper_that_lacks_something_now_is_told_to_the_managers(bench: Harness) -> None:
    """They know it by Hello alone: the streams are opened anew, and the new Hello says it."""
    bench.tell(events.KeeperLost())
    account = replace(bench.keeper.synced(), unsafe=("seccomp",))
    bench.tell(events.KeeperSynced(account))
    closed = bench.wanted(effects.CloseLink)
    bench.tell(events.LinkLost(LINK))
    bench.connect()

    assert [effect.detail for effect in closed] == ["the keeper offers its slots otherwise now"]
    assert bench.wanted(effects.SendHello)[-1].hello.unsafe == ("seccomp",)


def test_the_leases_are_renewed_after_a_reconnect_to_the_keeper(bench: Harness) -> None:
    """A restarted keeper knows none."""
    bench.keeper.leases.clear()
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert bench.keeper.leases == {CLUSTER: bench.now_ns + 30 * SECOND}


def _restarted(keeper: KeeperModel, now_ns: int) -> Harness:
    again = Harness(keeper=keeper)
    again.now_ns = now_ns
    again.attach()
    return again


def test_a_restarted_volunteer_adopts_what_runs(bench: Harness) -> None:
    """Slots, states and addresses come from the keeper's account; the tasks did not notice."""
    bench.running()
    bench.running("client-0", slot=1)

    again = _restarted(bench.keeper, bench.now_ns)

    assert again.core.held() == bench.core.held()
    assert [effect.slot for effect in again.wanted(effects.OpenRelay)] == [1]
    assert again.ask(Kill(), ref()).processes == 3


def test_a_restarted_volunteer_tells_exits_from_before(bench: Harness) -> None:
    """Whether they were acknowledged is not known: they are told again under new ids."""
    bench.running()
    bench.keeper.end(0, 0)
    bench.keeper.events.clear()
    bench.advance(1)

    again = _restarted(bench.keeper, bench.now_ns)

    assert [(e.ref, e.exit.reason) for e in again.exits()] == [(ref(), Reason.EXITED_ZERO)]
    assert again.core.slot_state(0) is SlotState.EXITED


def test_a_restarted_volunteer_starts_no_generation_again(bench: Harness) -> None:
    """The memory of answers is gone, the keeper's generations are not."""
    bench.prepared()
    name = bench.send(Start(), ref())

    again = _restarted(bench.keeper, bench.now_ns)
    again.send(Start(), ref(), command_id=name)

    assert again.answer_to(name).code is AnswerCode.DONE
    assert len(bench.keeper.starts) == 1


def test_an_exit_while_the_keeper_was_not_connected_is_found_afterwards(bench: Harness) -> None:
    """The account after the reconnect tells it."""
    bench.running()
    bench.tell(events.KeeperLost())
    bench.keeper.end(0, 0)
    bench.keeper.events.clear()

    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert [e.exit.reason for e in bench.exits()] == [Reason.EXITED_ZERO]


def test_a_slot_that_the_keeper_gave_to_another_is_taken_over(bench: Harness) -> None:
    """What the keeper holds is true; what was known here is told as lost."""
    bench.running()
    stranger = Harness(keeper=KeeperModel())
    stranger.attach()
    stranger.running("slave-0", job=8)
    bench.tell(events.KeeperLost())
    bench.keeper.slots = stranger.keeper.slots

    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert [held.ref.job_id for held in bench.core.held()] == [8]
    assert bench.exits()[-1].exit.reason is Reason.INFRASTRUCTURE


def test_other_slots_are_offered_by_a_new_hello(bench: Harness) -> None:
    """The stream is opened anew when the keeper's slots have changed."""
    bench.tell(events.KeeperLost())
    bench.keeper.slots.pop(1)

    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert [effect.link for effect in bench.wanted(effects.CloseLink)] == [LINK]
    assert bench.ask(Reserve(1000), ref("slave-0"), slot=1).code is AnswerCode.FAILED


def test_a_host_network_has_the_hosts_address() -> None:
    """One slot, one address, always the same."""
    bench = Harness(keeper=KeeperModel(slots=1, fixed_address="192.0.2.7"))
    bench.attach(prefix="")

    answer = bench.ask(Reserve(1000))
    bench.ask(prepare())

    asked = bench.keeper.requests[-1]
    assert answer.address == "192.0.2.7"
    assert isinstance(asked, local.Prepare)
    assert asked.prefix_length == 32


def test_nothing_is_waited_for_without_links() -> None:
    """An idle core asks for no wake-up."""
    assert Volunteer(Config("node-a")).next_wake() is None
    assert Volunteer(Config("node-a")).handle(events.Tick(), Stamp("boot", 1, 1)) == []
