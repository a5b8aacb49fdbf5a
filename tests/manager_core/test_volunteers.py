"""Volunteers attach, are told apart, are drained, go away, and are given up."""

from __future__ import annotations

from manager_core.harness import CLIENT, Cluster, Volunteer, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import BadRequest, Conflict, Exhausted, NotFound, Refused
from syndicate.manager.core.model import JobState, NodeState, Resources
from syndicate.manager.core.records import EpochRecord


def welcomes(cluster: Cluster) -> list[fx.SendWelcome]:
    """Every Welcome so far."""
    return [e for step in cluster.steps for e in step.effects if isinstance(e, fx.SendWelcome)]


def second(cluster: Cluster, name: str, **fields: object) -> str:
    """Another machine attaches under a name; returns its stream."""
    return cluster.attach(Volunteer(name, **fields))  # type: ignore[arg-type]


# ---- attaching --------------------------------------------------------------------------------------------


def test_each_volunteer_gets_a_prefix_of_its_own_and_keeps_it() -> None:
    """A part of the pool, the same after a reconnect and after a restart of the manager."""
    cluster = Cluster()
    a, b = cluster.volunteer("node-a"), cluster.volunteer("node-b")
    cluster.detach(a)
    cluster.attach(a)
    cluster.restart()
    cluster.attach(b)
    cluster.volunteer("node-c")
    assert [(w.prefix) for w in welcomes(cluster)] == [
        "10.77.0.0/26",
        "10.77.0.64/26",
        "10.77.0.0/26",
        "10.77.0.64/26",
        "10.77.0.128/26",
    ]


def test_an_operators_own_prefix_is_taken_and_not_given_again() -> None:
    """The pool gives around it."""
    cluster = Cluster()
    cluster.volunteer("node-a", prefix="10.77.0.0/23")
    cluster.volunteer("node-b")
    assert [w.prefix for w in welcomes(cluster)] == ["10.77.0.0/23", "10.77.2.0/26"]


def test_a_volunteer_on_the_hosts_network_needs_no_prefix() -> None:
    """Its slot has the host's address."""
    cluster = Cluster()
    cluster.volunteer(network="host", slots=1, fixed={0: "192.0.2.7"})
    assert welcomes(cluster)[0].prefix == ""


def test_a_used_up_pool_closes_the_stream() -> None:
    """PREFIXES_EXHAUSTED."""
    cluster = Cluster(prefixes="10.1.0.0/26")
    cluster.volunteer("node-a")
    error = cluster.closed[second(cluster, "node-b")]
    assert isinstance(error, Exhausted)


def test_the_default_pool_is_enough_for_a_thousand_volunteers() -> None:
    """Also where each offers some slots."""
    cluster = Cluster()
    cluster.machine.validate = lambda: None  # type: ignore[method-assign]  # it looks at all of them each time
    for number in range(1000):
        cluster.volunteer(f"node-{number}", 10)
    assert not cluster.closed
    assert len({w.prefix for w in welcomes(cluster)}) == 1000


def test_a_prefix_of_who_is_gone_is_given_again_when_no_other_is_left() -> None:
    """Not while its volunteer may still hold tasks; whoever comes back late gets what is free then."""
    cluster = Cluster(prefixes="10.1.0.0/25")
    gone = cluster.volunteer("node-a")
    cluster.volunteer("node-b")
    cluster.detach(gone)
    assert isinstance(cluster.closed[second(cluster, "node-c")], Exhausted)
    cluster.advance(41)
    assert second(cluster, "node-c") not in cluster.closed
    assert welcomes(cluster)[-1].prefix == "10.1.0.0/26"
    assert isinstance(cluster.closed[cluster.attach(gone)], Exhausted)
    assert [node.record.prefix for node in cluster.machine.nodes()] == ["", "10.1.0.64/26", "10.1.0.0/26"]


def test_a_fixed_address_that_is_none_closes_the_stream() -> None:
    """BAD_FIELD with the text that was said."""
    error = Cluster()
    session = second(error, "node-a", network="host", fixed={0: "fe80::1"})
    assert isinstance(error.closed[session], BadRequest)
    assert "'fe80::1'" in error.closed[session].detail


def test_overlapping_prefixes_of_operators_are_a_conflict() -> None:
    """DUPLICATE_ADDRESS."""
    cluster = Cluster()
    cluster.volunteer("node-a", prefix="10.1.0.0/24")
    error = cluster.closed[second(cluster, "node-b", prefix="10.1.0.128/25")]
    assert isinstance(error, Conflict)
    assert error.reason == "DUPLICATE_ADDRESS"


def test_a_reconnect_of_the_same_boot_replaces_the_old_stream() -> None:
    """The newer one wins; the older is closed, and what it says later means nothing."""
    cluster = running(1)
    volunteer = cluster.volunteers["node-a"]
    old = volunteer.session
    new = cluster.attach(volunteer)
    assert isinstance(cluster.closed[old], Conflict)
    cluster.do(ev.VolunteerDetached(old))
    assert cluster.machine.nodes()[0].state is NodeState.READY
    assert new not in cluster.closed


def test_a_machine_that_waits_for_its_boot_is_shown_as_worn() -> None:
    """From the heartbeat that says so until it comes back as another boot; its slots are not free."""
    cluster = Cluster()
    volunteer = cluster.volunteer("node-a")
    cluster.do(ev.HeartbeatReceived(volunteer.session, Resources(), worn=True))
    resting = cluster.machine.figures(cluster.now).slots["resting"]
    states = [cluster.machine.nodes()[0].state]
    for boot_id in (volunteer.boot_id, "another"):
        cluster.detach(volunteer)
        states.append(cluster.machine.nodes()[0].state)
        volunteer.boot_id = boot_id
        cluster.attach(volunteer)
        states.append(cluster.machine.nodes()[0].state)

    worn, away, ready = NodeState.WORN, NodeState.AWAY, NodeState.READY
    assert states == [worn, away, worn, away, ready]
    assert resting == volunteer.slots


def test_another_machine_of_the_same_id_is_turned_away_while_the_first_lives() -> None:
    """DUPLICATE_VOLUNTEER for the newcomer."""
    cluster = Cluster()
    cluster.volunteer("node-a")
    error = cluster.closed[second(cluster, "node-a", boot_id="another")]
    assert isinstance(error, Conflict)
    assert error.reason == "DUPLICATE_VOLUNTEER"


def test_a_second_volunteer_on_one_machine_is_turned_away_while_the_first_lives() -> None:
    """Its state directory is another: were it let in, the two would end each other's streams for ever."""
    cluster = Cluster()
    first = cluster.volunteer("node-a", instance="aa")
    error = cluster.closed[second(cluster, "node-a", boot_id=first.boot_id, instance="bb")]
    assert isinstance(error, Conflict)
    assert error.reason == "DUPLICATE_VOLUNTEER"
    assert "another state directory" in error.detail
    assert first.session not in cluster.closed
    cluster.advance(11, heartbeats=False)
    assert second(cluster, "node-a", boot_id=first.boot_id, instance="bb") not in cluster.closed


def test_a_volunteer_that_lacks_isolation_gets_no_job() -> None:
    """It is listed with what it lacks; its slots count for nothing, and who asks for them is told why."""
    cluster = Cluster()
    cluster.volunteer("node-a", slots=4, unsafe=("seccomp",))
    cluster.volunteer("node-b", slots=1)

    refused = cluster.try_submit(machines=2)

    assert isinstance(refused, Refused)
    assert "the cluster has 1 slot, not counting node-a: unsafe" in refused.detail
    assert "--allow-unsafe" in refused.metadata["hint"]
    assert cluster.machine.nodes()[0].record.unsafe == ("seccomp",)
    assert (cluster.machine.cluster().slots, cluster.machine.cluster().free_slots) == (1, 1)


def test_a_job_that_waits_for_a_volunteer_that_came_to_lack_isolation_is_told() -> None:
    """What it waits for names the volunteer."""
    cluster = Cluster()
    volunteer = cluster.volunteer("node-a", slots=2)
    cluster.detach(volunteer)
    job = cluster.submit(machines=2)
    volunteer.unsafe = ("pids",)
    cluster.attach(volunteer)

    assert cluster.state(job) is JobState.QUEUED
    assert "node-a is unsafe, which this manager does not allow" in cluster.waits_for(job)


def test_a_manager_that_allows_unsafe_volunteers_uses_them() -> None:
    """Its operator said so."""
    cluster = Cluster(allow_unsafe=True)
    cluster.volunteer("node-a", slots=2, unsafe=("seccomp",))
    job = cluster.submit(machines=2)
    cluster.deliver()
    assert cluster.state(job) is JobState.RUNNING


def test_a_rebooted_machine_replaces_itself_once_the_old_stream_is_silent() -> None:
    """After two heartbeat intervals without a word the old stream is dead."""
    cluster = Cluster()
    volunteer = cluster.volunteer("node-a")
    old = volunteer.session
    cluster.advance(11, heartbeats=False)
    volunteer.reboot()
    session = cluster.attach(volunteer)
    assert old in cluster.closed
    assert session not in cluster.closed


def test_two_volunteers_with_one_fixed_address_are_a_conflict() -> None:
    """DUPLICATE_ADDRESS while the first is attached."""
    cluster = Cluster()
    first = cluster.volunteer("node-a", slots=1, network="host", fixed={0: "192.0.2.7"})
    other = Volunteer("node-b", 1, boot_id="b", network="host", fixed={0: "192.0.2.7"})
    error = cluster.closed[cluster.attach(other)]
    assert isinstance(error, Conflict)
    assert error.reason == "DUPLICATE_ADDRESS"
    cluster.detach(first)
    assert cluster.attach(other) not in cluster.closed


def test_a_manager_that_was_overtaken_is_refused() -> None:
    """STALE_MANAGER where the volunteer has seen a newer epoch of this cluster, not of another."""
    cluster = Cluster(epoch=3)
    stale = second(cluster, "node-a", boot_id="x", highest_epoch=4, cluster_id="test")
    other = second(cluster, "node-b", boot_id="x", highest_epoch=4, cluster_id="other")
    assert isinstance(cluster.closed[stale], Refused)
    assert cluster.closed[stale].reason == "STALE_MANAGER"
    assert other not in cluster.closed


def test_the_highest_epoch_that_was_seen_is_written_down_for_the_next_start() -> None:
    """Once for each higher one; a number that no cluster reaches is not believed."""
    cluster = Cluster(epoch=3)
    saved = []
    for epoch in (5, 9, 7, 9, 2**63 - 1):
        second(cluster, "node-a", boot_id="x", highest_epoch=epoch, cluster_id="test")
        saved.append(cluster.steps[-1].saves)
    assert saved == [[EpochRecord(5)], [EpochRecord(9)], [], [], []]


def test_the_default_client_is_warmed_at_the_welcome() -> None:
    """Whoever attaches is told to hold it ready."""
    cluster = Cluster(default_client=CLIENT, default_clients=1)
    cluster.volunteer()
    assert welcomes(cluster)[0].warm == (CLIENT,)


# ---- draining ---------------------------------------------------------------------------------------------


def drain(cluster: Cluster, name: str, draining: bool = True) -> object:
    """Takes a volunteer out of use, or back."""
    return cluster.ask(lambda n: ev.DrainNode(n, f"drain-{n}", name, draining))


def test_a_drained_volunteer_takes_no_new_job_and_finishes_the_old() -> None:
    """What runs goes on; the next job waits until the volunteer is resumed."""
    cluster = running(1, slots=2)
    assert drain(cluster, "node-a") == fx.DrainReply(NodeState.DRAINED)
    assert fx.SendDrain(cluster.volunteers["node-a"].session, True) in cluster.steps[-1].effects
    assert cluster.try_submit(1).reason == "TOO_LARGE"
    cluster.exit("master")
    assert cluster.state() is JobState.SUCCEEDED
    drain(cluster, "node-a", False)
    assert cluster.state(cluster.submit(1)) is JobState.RESERVING


def test_a_drained_volunteer_stays_drained() -> None:
    """Over a reconnect and a restart of the manager, and it is told so again."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    drain(cluster, "node-a")
    cluster.restart()
    session = cluster.attach(volunteer)
    assert fx.SendDrain(session, True) in cluster.steps[-1].effects
    assert cluster.machine.nodes()[0].state is NodeState.DRAINED
    view = cluster.machine.cluster()
    assert (view.slots, view.drained_slots) == (0, 4)


def test_an_unknown_node_is_not_found() -> None:
    """NO_SUCH_NODE."""
    error = drain(Cluster(), "node-x")
    assert isinstance(error, NotFound)
    assert error.reason == "NO_SUCH_NODE"


# ---- forgetting -------------------------------------------------------------------------------------------


def test_a_volunteer_that_is_gone_for_long_is_forgotten() -> None:
    """It is no capacity any more, also after a restart, and is taken as new when it comes back."""
    cluster = Cluster(forget_after_s=1000.0)
    gone = cluster.volunteer("node-a", 4)
    cluster.volunteer("node-b", 2)
    cluster.detach(gone)
    cluster.advance(900)
    assert isinstance(cluster.try_submit(4), fx.SubmitReply)
    cluster.advance(200)
    assert [node.record.volunteer_id for node in cluster.machine.nodes()] == ["node-b"]
    assert cluster.try_submit(4).reason == "TOO_LARGE"
    cluster.restart()
    assert [node.record.volunteer_id for node in cluster.machine.nodes()] == ["node-b"]
    cluster.attach(gone)
    assert [node.record.volunteer_id for node in cluster.machine.nodes()] == ["node-a", "node-b"]


def test_a_volunteer_that_comes_back_in_time_is_not_forgotten() -> None:
    """What it was away before does not count."""
    cluster = Cluster(forget_after_s=1000.0)
    volunteer = cluster.volunteer()
    cluster.detach(volunteer)
    cluster.advance(900)
    cluster.attach(volunteer)
    cluster.detach(volunteer)
    cluster.advance(900)
    assert len(cluster.machine.nodes()) == 1


def test_a_drained_volunteer_is_not_forgotten() -> None:
    """The operator's word is kept."""
    cluster = Cluster(forget_after_s=1000.0)
    volunteer = cluster.volunteer()
    cluster.call(lambda n: ev.DrainNode(n, "", "node-a", True))
    cluster.detach(volunteer)
    cluster.advance(2000)
    assert len(cluster.machine.nodes()) == 1


def test_a_volunteer_is_not_forgotten_while_a_job_speaks_of_it() -> None:
    """A job without clients goes on when a task that has ended loses its machine."""
    cluster = Cluster(forget_after_s=100.0)
    volunteers = {n: cluster.volunteer(n, 1) for n in ("node-a", "node-b")}
    cluster.submit(2, time_limit_s=9000.0)
    cluster.deliver()
    cluster.exit("master")
    gone = cluster.task("master").volunteer_id
    cluster.detach(volunteers[gone])
    cluster.advance(200)
    assert cluster.state() is JobState.RUNNING
    assert len(cluster.machine.nodes()) == 2
    cluster.exit("slave-0")
    cluster.advance(3700)
    assert [node.record.volunteer_id for node in cluster.machine.nodes()] != [gone]
    assert len(cluster.machine.nodes()) == 1


def test_a_restarted_manager_gives_everybody_an_hour() -> None:
    """It was away itself: what its store says of when they were seen may be old."""
    cluster = Cluster(forget_after_s=1000.0)
    cluster.volunteer()
    cluster.ns += 5000 * 10**9
    cluster.restart()
    cluster.advance(3500)
    assert len(cluster.machine.nodes()) == 1
    cluster.advance(200)
    assert cluster.machine.nodes() == []


def test_when_a_volunteer_was_last_seen_stands_over_a_restart() -> None:
    """The manager that gives it up has not heard it itself."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    cluster.heartbeat(volunteer)
    cluster.detach(volunteer)
    cluster.advance(60)
    seen = cluster.machine.nodes()[0].last_heard_at
    cluster.ns += 3600 * 10**9
    cluster.restart()
    cluster.advance(60)
    [node] = cluster.machine.nodes()
    assert (node.last_heard_at, node.record.last_seen_at) == (None, seen)
