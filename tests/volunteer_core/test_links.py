"""Streams to managers: hello, welcome, heartbeats, leases, fencing, repeats."""

from __future__ import annotations

from syndicate.volunteer.core import Config, effects, events
from syndicate.volunteer.core.model import (
    AnswerCode,
    Memory,
    Release,
    Reserve,
    Source,
    Start,
    Welcome,
)
from syndicate.volunteer.core.transitions import SlotState
from volunteer_core.harness import CLUSTER, LINK, SECOND, Harness, ref


def test_hello_waits_for_the_keepers_account() -> None:
    """What is held is not known before."""
    bench = Harness()
    bench.tell(events.LinkOpened(LINK))
    before = bench.wanted(effects.SendHello)

    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert before == []
    (hello,) = [effect.hello for effect in bench.wanted(effects.SendHello)]
    assert hello.slots == ((0, ""), (1, ""))
    assert hello.capabilities == ("cut", "kill")


def test_the_lease_runs_from_when_hello_was_sent(bench: Harness) -> None:
    """By the own clock: the manager cannot have heard of us before."""
    assert bench.keeper.leases == {CLUSTER: bench.now_ns + 30 * SECOND}


def test_an_acknowledged_heartbeat_renews_the_lease_from_when_it_was_sent(bench: Harness) -> None:
    """Not from when the ack came: it may have been on its way for long."""
    bench.advance(5)
    sent = bench.wanted(effects.SendHeartbeat)[-1].heartbeat
    bench.advance(2)

    bench.tell(events.HeartbeatAcked(LINK, sent.sequence))

    assert bench.keeper.leases[CLUSTER] == sent.sent_at.monotonic_ns + 30 * SECOND


def test_an_ack_of_an_unknown_heartbeat_renews_nothing(bench: Harness) -> None:
    """Only what was sent counts."""
    before = dict(bench.keeper.leases)
    bench.advance(1)

    bench.tell(events.HeartbeatAcked(LINK, 99))

    assert bench.keeper.leases == before


def test_heartbeats_close_the_exchange_of_stamps(bench: Harness) -> None:
    """The second goes out on the first ack, with the stamp of its arrival."""
    bench.advance(0.001)

    bench.ack_heartbeats()

    second = bench.wanted(effects.SendHeartbeat)[-1].heartbeat
    assert (second.sequence, second.last_ack_sequence) == (2, 1)
    assert second.last_ack_received_at == bench.now


def test_heartbeats_go_out_at_the_interval(bench: Harness) -> None:
    """Every five seconds, from Welcome on."""
    start = bench.now_ns
    for _ in range(3):
        bench.ack_heartbeats()
        bench.advance(5)

    sent = [e.heartbeat.sent_at.monotonic_ns - start for e in bench.wanted(effects.SendHeartbeat)]

    assert sent == [0, 0, 5 * SECOND, 10 * SECOND, 15 * SECOND]


def test_a_stream_without_acks_is_given_up_after_two_and_a_half_intervals(bench: Harness) -> None:
    """Application heartbeats decide, not TCP; once, until the edge has ended it."""
    bench.advance(12.4)
    before = bench.wanted(effects.CloseLink)

    bench.advance(10)

    assert before == []
    assert [effect.link for effect in bench.wanted(effects.CloseLink)] == [LINK]


def test_a_stream_without_welcome_is_given_up() -> None:
    """A manager that accepts and says nothing is as good as none."""
    bench = Harness()
    bench.tell(events.KeeperSynced(bench.keeper.synced()))
    bench.tell(events.LinkOpened(LINK))

    bench.advance(10)

    assert len(bench.wanted(effects.CloseLink)) == 1


def test_a_repeated_command_gets_the_first_answer_again(bench: Harness) -> None:
    """And is not done again."""
    bench.prepared()
    name = bench.send(Start(), ref())
    bench.keeper.end(0, 0)
    bench.tell_keeper_events()
    bench.advance(3)

    bench.send(Start(), ref(), command_id=name)

    first, again = bench.answers_to(name)
    assert first == again
    assert len(bench.keeper.starts) == 1


def test_a_command_repeated_while_it_is_done_is_answered_once(bench: Harness) -> None:
    """On the stream where it was heard last."""
    bench.prepared()
    bench.hold = {effects.CallKeeper}
    name = bench.send(Start(), ref())
    bench.connect(link="second")
    bench.send(Start(), ref(), command_id=name, link="second")

    bench.perform_held()

    answers = [e for e in bench.wanted(effects.SendAnswer) if e.answer.command_id == name]
    assert [effect.link for effect in answers] == ["second"]
    assert len(bench.keeper.starts) == 1


def test_forgotten_answers_do_no_harm() -> None:
    """Beyond the bound the state of the slot answers, and nothing starts twice."""
    bench = Harness(Config("node-a", max_answers=2))
    bench.attach()
    bench.prepared()
    name = bench.send(Start(), ref())
    for number in range(3):
        bench.ask(Release(), ref(job=100 + number), slot=1)

    bench.send(Start(), ref(), command_id=name)

    assert bench.answer_to(name).code is AnswerCode.DONE
    assert len(bench.keeper.starts) == 1


def test_a_command_of_an_older_epoch_is_stale(bench: Harness) -> None:
    """A leader that was replaced starts nothing."""
    bench.prepared()
    bench.ask(Release(), ref(job=99), slot=1, epoch=5)

    answer = bench.ask(Start(), ref(), epoch=4)

    assert answer.code is AnswerCode.STALE
    assert bench.keeper.starts == []


def test_fencing_is_per_cluster(bench: Harness) -> None:
    """A high epoch of one cluster says nothing about another."""
    bench.ask(Release(), ref(job=99), slot=1, epoch=50)
    bench.connect(link="other", cluster="c2", epoch=1)

    answer = bench.ask(Reserve(1000), ref(cluster="c2"), slot=1, link="other")

    assert answer.code is AnswerCode.READY


def test_a_manager_cannot_speak_for_another_cluster(bench: Harness) -> None:
    """Its tasks are unknown to it, and stay."""
    bench.running()
    bench.connect(link="other", cluster="c2")

    answer = bench.ask(Release(), ref(), link="other")

    assert answer.code is AnswerCode.UNKNOWN_TASK
    assert bench.core.slot_state(0) is SlotState.RUNNING


def test_a_manager_of_an_older_epoch_is_not_joined(bench: Harness) -> None:
    """Its Welcome is refused."""
    bench.tell(events.LinkLost(LINK))
    bench.connect(epoch=3)
    bench.tell(events.LinkLost(LINK))

    bench.connect(epoch=2)

    assert "epoch 2" in bench.wanted(effects.CloseLink)[-1].detail
    assert bench.core.link_of(CLUSTER) is None


def test_epochs_and_clusters_are_remembered_over_a_restart(bench: Harness) -> None:
    """What was written down comes back in Hello and still fences."""
    bench.tell(events.LinkLost(LINK))
    bench.connect(epoch=9)
    memory = bench.wanted(effects.Remember)[-1].memory

    again = Harness(Config("node-a", memory=memory))
    again.tell(events.KeeperSynced(again.keeper.synced()))
    again.tell(events.LinkOpened(LINK))

    hello = again.wanted(effects.SendHello)[-1].hello
    assert memory == Memory(((CLUSTER, 9),), ((LINK, CLUSTER),))
    assert (hello.cluster_id, hello.highest_epoch) == (CLUSTER, 9)


def test_events_are_said_again_until_they_are_acknowledged(bench: Harness) -> None:
    """Over reconnects too, under the same id."""
    bench.running()
    bench.keeper.end(0, 0)
    bench.tell_keeper_events()
    bench.tell(events.LinkLost(LINK))
    bench.connect()
    bench.tell(events.EventAcked(LINK, bench.exits()[0].event_id))
    bench.tell(events.LinkLost(LINK))
    bench.connect()

    assert len(bench.exits()) == 2
    assert bench.exits()[0] == bench.exits()[1]


def test_an_event_that_is_not_acknowledged_is_said_again_after_a_while(bench: Harness) -> None:
    """A message may be lost without its stream."""
    bench.running()
    bench.keeper.end(0, 0)
    bench.tell_keeper_events()

    bench.advance(5)

    assert len(bench.exits()) == 2


def test_an_event_made_while_the_manager_is_away_goes_out_at_the_next_welcome(bench: Harness) -> None:
    """Nothing is lost."""
    bench.running()
    bench.tell(events.LinkLost(LINK))
    bench.keeper.end(0, 3, output=b"make: *** [Makefile:2: master] Error 3\n")
    bench.tell_keeper_events()
    before = list(bench.exits())

    bench.connect()

    assert before == []
    assert bench.exits()[0].exit.recipe_status == 3


def test_event_ids_start_from_the_clock(bench: Harness) -> None:
    """A restarted volunteer never repeats one."""
    bench.running()
    bench.keeper.end(0, 0)
    bench.tell_keeper_events()

    assert bench.exits()[0].event_id == bench.now_ns


def test_another_cluster_behind_the_same_link_is_told_and_tasks_are_kept(bench: Harness) -> None:
    """Until their lease ends."""
    bench.running()
    bench.tell(events.LinkLost(LINK))

    bench.connect(cluster="c9")

    assert [note.event for note in bench.wanted(effects.Note)] == ["cluster.changed"]
    assert bench.core.slot_state(0) is SlotState.RUNNING


def test_hello_tells_a_known_manager_its_own_tasks_only(bench: Harness) -> None:
    """What other clusters run is none of its business."""
    bench.running()
    bench.connect(link="other", cluster="c2")
    bench.tell(events.LinkLost("other"))
    bench.tell(events.LinkOpened("other"))

    assert bench.wanted(effects.SendHello)[-1].hello.held == ()


def test_answers_to_a_lost_stream_go_over_the_clusters_other_one(bench: Harness) -> None:
    """Two managers of one cluster: either will do."""
    bench.prepared()
    bench.connect(link="second")
    bench.hold = {effects.CallKeeper}
    name = bench.send(Start(), ref(), link="second")
    bench.tell(events.LinkLost("second"))

    bench.perform_held()

    answers = [e for e in bench.wanted(effects.SendAnswer) if e.answer.command_id == name]
    assert [effect.link for effect in answers] == [LINK]


def test_sources_to_warm_are_fetched() -> None:
    """Those that Welcome names."""
    bench = Harness()
    first, second = Source("aa" * 32, 1), Source("bb" * 32, 2)
    bench.tell(events.KeeperSynced(bench.keeper.synced()))
    bench.tell(events.LinkOpened(LINK))
    bench.tell(events.Welcomed(LINK, Welcome("s", CLUSTER, 1, "10.77.0.0/24", (first, second))))

    assert [effect.source for effect in bench.wanted(effects.WarmSource)] == [first, second]


def test_a_prefix_that_is_none_is_refused() -> None:
    """With its reason, before anything rests on it."""
    bench = Harness()
    bench.attach(prefix="10.77.0.1/24")

    assert "prefix" in bench.wanted(effects.CloseLink)[-1].detail
