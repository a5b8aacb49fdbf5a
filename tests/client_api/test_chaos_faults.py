"""Faults that last: what they do together, when they end, what is refused; on the fake and over a socket."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from syndicate.client_api import (
    BadField,
    CannotDoIt,
    Chaos,
    ChaosError,
    FaultFailed,
    FaultKind,
    NoSuchFault,
    NoSuchMember,
    NotAClient,
    NotAnAddress,
    Shape,
    TaskDead,
    TaskState,
    TooManyFaults,
    Unavailable,
)
from syndicate.client_api._error_table import chaos_error
from syndicate.client_api._errors import Failure
from syndicate.client_api.testing import AioFakeChaos, FakeChaos, FakeChaosServer, FakeJob
from syndicate.v1 import chaos_pb2

FIVE = [f"10.77.0.{number}" for number in range(11, 16)]
MASTER, ONE, TWO, THREE, FOUR = FIVE
NAMES = ("master", "slave-0", "slave-1", "slave-2", "slave-3")


@pytest.fixture
def job() -> FakeJob:
    return FakeJob(FIVE)


@pytest.fixture(params=["in memory", "over a socket"])
def chaos(request: pytest.FixtureRequest, job: FakeJob) -> Iterator[Chaos]:
    """The fake itself, and the real thing on the fake's server: they must not differ."""
    if request.param == "in memory":
        with FakeChaos(job=job) as fake:
            yield fake
        return
    with FakeChaosServer(job=job) as server, Chaos(server.address) as real:
        yield real


def state(chaos: Chaos, task: str) -> Any:
    return next(member for member in chaos.members() if member.task == task)


def test_a_partition_of_groups(chaos: Chaos) -> None:
    """Members of different groups are cut from each other; those of none are left alone."""
    held = chaos.partition([[MASTER, ONE], [TWO]])

    assert held.groups == ((MASTER, ONE), (TWO,))
    assert [member.ip for member in held.members] == [MASTER, ONE, TWO]
    lines = chaos.faults()
    assert [(line.task, line.cut_out, line.cut_in) for line in lines] == [
        ("master", ("slave-1",), ("slave-1",)),
        ("slave-0", ("slave-1",), ("slave-1",)),
        ("slave-1", ("master", "slave-0"), ("master", "slave-0")),
    ]
    assert {line.call_id for line in lines} == {1}
    told = {(line.kind, line.shape, line.text) for line in lines}
    assert told == {(FaultKind.PARTITION, "groups", "master, slave-0 | slave-1")}


def test_one_way_later_groups_do_not_reach_earlier_ones(chaos: Chaos) -> None:
    """The other way it passes."""
    chaos.partition([[MASTER], [ONE]], one_way=True)
    assert [(line.task, line.cut_out, line.cut_in) for line in chaos.faults()] == [
        ("master", (), ("slave-0",)),
        ("slave-0", ("master",), ()),
    ]


def test_a_majority_ring(chaos: Chaos) -> None:
    """Each reaches three of five, no two the same three; the same seed draws the same."""
    held = chaos.partition(shape="majority-ring", seed=7)
    assert [len(group) for group in held.groups] == [3] * 5
    assert len({frozenset(group) for group in held.groups}) == 5
    assert sorted(group[0] for group in held.groups) == FIVE
    again = chaos.partition(shape=Shape.MAJORITY_RING, seed=7)
    assert again.groups == held.groups
    assert chaos.partition(shape="majority-ring", seed=8).groups != held.groups


def test_shapes(chaos: Chaos) -> None:
    """Halves, isolate-one and bridge, with the one named or drawn."""
    assert chaos.partition(shape="halves").groups == ((MASTER, ONE), (TWO, THREE, FOUR))
    assert chaos.partition(shape="isolate-one", ip=TWO).groups == ((TWO,), (MASTER, ONE, THREE, FOUR))
    bridged = chaos.partition(shape="bridge", ip=MASTER)
    assert bridged.groups == ((ONE, TWO), (THREE, FOUR))
    drawn = [chaos.partition(shape="random-halves", seed=seed).groups for seed in range(8)]
    assert len(set(drawn)) > 1
    assert all(sorted(a + b) == FIVE and len(a) == 2 for a, b in drawn)


def test_faults_compose(chaos: Chaos) -> None:
    """A reconnect takes disconnects and resets back and leaves the partition."""
    partition = chaos.partition([[ONE], [TWO]])
    chaos.disconnect(ONE)
    chaos.reset(ONE)
    chaos.degrade(ONE, loss="10%", delay="50ms")
    assert state(chaos, "slave-0").disconnected

    chaos.reconnect(ONE)

    left = state(chaos, "slave-0")
    assert not left.disconnected
    assert [line.kind for line in chaos.faults(in_force=True) if line.task == "slave-0"] == [
        FaultKind.PARTITION,
        FaultKind.DEGRADE,
    ]
    assert left.faults == (partition.fault_ids[0], 5)
    assert chaos.reconnect(ONE).already


def test_heal_by_id_takes_the_whole_call_back(chaos: Chaos) -> None:
    """One line stands for all that its call did; what is healed already stays so; a stranger is named."""
    held = chaos.partition(shape="halves")
    chaos.disconnect(TWO)
    healed = chaos.heal(held.fault_ids[2])
    assert healed.healed == held.fault_ids
    assert [member.ip for member in healed.members] == FIVE
    assert chaos.heal(*held.fault_ids).already
    assert state(chaos, "slave-1").disconnected
    assert chaos.faults()[0].healed_by == "client-0"
    with pytest.raises(NoSuchFault, match="999"):
        chaos.heal(999)


def test_heal_takes_everything_back_but_death(chaos: Chaos) -> None:
    """The dead stay dead."""
    chaos.kill(ONE)
    chaos.pause(TWO)
    chaos.disk_full([TWO, THREE])
    assert len(chaos.heal().healed) == 3
    assert chaos.faults(in_force=True) == ()
    assert state(chaos, "slave-0").state is TaskState.KILLED


def test_a_pause_ends_with_a_kill(chaos: Chaos) -> None:
    """The next generation runs, and the ledger says what ended it."""
    chaos.pause(ONE)
    assert state(chaos, "slave-0").paused
    chaos.kill(ONE)
    chaos.revive(ONE)
    assert not state(chaos, "slave-0").paused
    assert chaos.faults()[0].healed_by == "kill"
    assert chaos.resume(ONE).already


def test_the_dead_cannot_be_frozen_nor_signalled(chaos: Chaos) -> None:
    """Of several members none is touched."""
    chaos.kill(ONE)
    for call in (lambda: chaos.pause([TWO, ONE]), lambda: chaos.signal([TWO, ONE], "QUIT")):
        with pytest.raises(TaskDead):
            call()
    assert not state(chaos, "slave-1").paused


def test_cuts_outlive_a_kill(chaos: Chaos) -> None:
    """So do degradations and full disks."""
    chaos.disconnect(ONE)
    chaos.degrade(ONE, rate="1Mbit")
    chaos.disk_full(ONE)
    chaos.kill(ONE)
    chaos.revive(ONE, with_disk=False)
    assert len(chaos.faults(in_force=True)) == 3


def test_signals(chaos: Chaos) -> None:
    """By name or number, to each process but make; those with calls of their own are refused."""
    assert chaos.signal([ONE, TWO], "SIGQUIT").processes == 2
    assert chaos.signal(ONE, 10).processes == 1
    assert [(line.signal, line.text) for line in chaos.faults()] == [
        (3, "signal 3"),
        (3, "signal 3"),
        (10, "signal 10"),
    ]
    for number in ("KILL", "STOP", "CONT", 0, 65):
        with pytest.raises(BadField):
            chaos.signal(ONE, number)
    with pytest.raises(ValueError, match="QUTI"):
        chaos.signal(ONE, "QUTI")


@pytest.mark.parametrize("lease", [timedelta(seconds=2), 2, "2s", "2000ms"])
def test_a_lease_ends_what_it_was_for(job: FakeJob, chaos: Chaos, lease: Any) -> None:
    """At its time, and the ledger says so."""
    chaos.pause(ONE, lease=lease)
    chaos.disconnect(ONE)
    job.advance(1.9)
    assert state(chaos, "slave-0").paused
    job.advance(0.2)
    now = state(chaos, "slave-0")
    assert (now.paused, now.disconnected) == (False, True)
    first = chaos.faults()[0]
    assert (first.lease_s, first.healed_by) == (2.0, "lease")
    assert first.applied_at_manager is not None and first.healed_at_manager is not None
    assert first.healed_at_manager.monotonic_ns - first.applied_at_manager.monotonic_ns == 2_000_000_000


def test_one_with_a_lease_does_not_stand_for_another(job: FakeJob, chaos: Chaos) -> None:
    """Only what lasts for good makes another one needless."""
    assert not chaos.disconnect(ONE, lease=5).already
    assert not chaos.disconnect(ONE, lease=1).already
    assert not chaos.disconnect(ONE).already
    assert chaos.disconnect(ONE).already
    assert chaos.disconnect(ONE, lease=9).already
    job.advance(6)
    assert state(chaos, "slave-0").disconnected


@pytest.mark.parametrize("lease", [0, -1, timedelta(0), float("nan"), float("inf"), 86_401, "soon", 0.0001])
def test_a_lease_that_is_none_is_refused_before_any_call(job: FakeJob, lease: Any) -> None:
    """It is a bug of the caller."""
    chaos = FakeChaos(job=job)
    calls = (
        lambda: chaos.disconnect(ONE, lease=lease),
        lambda: chaos.reset(ONE, lease=lease),
        lambda: chaos.partition(shape="halves", lease=lease),
        lambda: chaos.degrade(ONE, loss=1, lease=lease),
        lambda: chaos.pause(ONE, lease=lease),
        lambda: chaos.disk_full(ONE, lease=lease),
    )
    for call in calls:
        with pytest.raises(ValueError, match="lease"):
            call()
    assert job.calls == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lease_s": 0.0, "ip": ONE}, "lease_s"),
        ({"lease_s": -1.0, "ip": ONE}, "lease_s"),
        ({"ip": ONE, "ips": [TWO]}, "both"),
        ({"ips": [ONE, ONE]}, "twice"),
    ],
)
def test_bad_fields_of_bare_stubs(job: FakeJob, fields: dict[str, Any], words: str) -> None:
    """The fake refuses them for the reason that the manager gives."""
    request = chaos_pb2.PauseRequest(request_id=str(uuid.uuid4()), **fields)
    with pytest.raises(BadField, match=words):
        job.answer("client-0", "Pause", request)


@pytest.mark.parametrize(
    "how",
    [
        {"loss": 101},
        {"loss": -1},
        {"rate": 7999},
        {"rate": -8000},
        {"delay": "61s"},
        {"delay": "5ms", "jitter": "6ms"},
        {"reorder": 1},
        {},
        {"loss": 1, "peers": [ONE]},
        {"corrupt": 100.1},
        {"loss": 1, "peers": [TWO, TWO]},
    ],
)
def test_degradations_that_are_none(chaos: Chaos, how: dict[str, Any]) -> None:
    """Out of range, or nothing to do."""
    with pytest.raises(BadField):
        chaos.degrade(ONE, **how)


def test_a_degradation_in_full(chaos: Chaos) -> None:
    """Units of people become those of the ledger."""
    chaos.degrade(
        [ONE, TWO], peers=[MASTER], loss=2.5, rate="1.5Mbit", delay=timedelta(milliseconds=50), jitter=0.01,
        duplicate="1%", corrupt=3, reorder=4, one_way=True, lease="1m",
    )  # fmt: skip
    line, _ = chaos.faults()
    how = line.degradation
    assert how is not None
    assert (how.loss_percent, how.rate_bps, how.delay_ms, how.jitter_ms) == (2.5, 1_500_000, 50.0, 10.0)
    assert (how.duplicate_percent, how.corrupt_percent, how.reorder_percent) == (1.0, 3.0, 4.0)
    assert (line.peers, line.one_way, line.lease_s) == (("master",), True, 60.0)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"groups": [[MASTER], [MASTER, ONE]]}, BadField),
        ({"groups": [[MASTER]]}, BadField),
        ({"groups": [[MASTER], []]}, BadField),
        ({"groups": [[MASTER], ["10.9.9.9"]]}, NoSuchMember),
        ({"groups": [[MASTER], ["slave-0"]]}, NotAnAddress),
        ({"shape": "majority-ring", "one_way": True}, BadField),
        ({"shape": "halves", "ip": ONE}, BadField),
        ({"shape": "triangle"}, ValueError),
        ({"shape": "halves", "groups": [[MASTER], [ONE]]}, ValueError),
        ({}, ValueError),
    ],
)
def test_partitions_that_are_none(chaos: Chaos, given: dict[str, Any], kind: type[Exception]) -> None:
    """Groups that overlap, are too few or name strangers; shapes that there are not."""
    with pytest.raises(kind):
        chaos.partition(**given)
    assert chaos.faults() == ()


@pytest.mark.parametrize(
    ("count", "shape"), [(1, "halves"), (1, "isolate-one"), (2, "bridge"), (2, "majority-ring")]
)
def test_a_shape_needs_members(count: int, shape: str) -> None:
    """Too few of them are told."""
    with pytest.raises(BadField, match="needs"):
        FakeChaos(FIVE[:count]).partition(shape=shape)


def test_what_a_machine_cannot_do(job: FakeJob, chaos: Chaos) -> None:
    """It is refused with the capability and the machine, at all members or none."""
    job.cannot("delay", "this kernel has no netem", TWO)
    chaos.degrade([ONE, TWO], loss=10)
    with pytest.raises(CannotDoIt, match="no netem") as caught:
        chaos.degrade([ONE, TWO], delay="50ms")
    assert (caught.value.capability, caught.value.volunteer) == ("delay", "fake-slave-1")
    assert len(chaos.faults(in_force=True)) == 2


def test_what_fails_at_one_is_taken_back_at_the_others(job: FakeJob, chaos: Chaos) -> None:
    """The ledger tells both, and the text says so."""
    job.fail_at("Pause", TWO, text="no freezer")
    with pytest.raises(
        FaultFailed, match="PAUSE failed at slave-1: no freezer; it was taken back at slave-0"
    ):
        chaos.pause([ONE, TWO])
    assert [(line.task, line.error, line.healed_by) for line in chaos.faults()] == [
        ("slave-0", "", "rollback"),
        ("slave-1", "no freezer", ""),
        ("slave-0", "", ""),
    ]
    assert chaos.faults()[-1].requested_by == "rollback"
    assert chaos.faults(in_force=True) == ()
    job.fail_at("Kill", TWO, "VOLUNTEER_AWAY")
    with pytest.raises(Unavailable, match="KILL holds at slave-0, not at slave-1"):
        FakeChaos(job=job).kill([ONE, TWO])


def test_the_last_finish_heals(job: FakeJob, chaos: Chaos) -> None:
    """And the ledger can still be read."""
    chaos.disconnect(ONE)
    chaos.finish()
    first, healing = chaos.faults()
    assert first.healed_by == healing.requested_by == "job end"
    assert healing.kind is FaultKind.RECONNECT


def test_a_block_heals_what_it_began_with(chaos: Chaos) -> None:
    """Also where it fails; the killed are revived."""
    with pytest.raises(KeyError), chaos.healing(chaos.disconnect(ONE, lease=60)):
        raise KeyError
    with chaos.healing(chaos.kill([ONE, TWO])):
        assert state(chaos, "slave-0").state is TaskState.KILLED
    assert chaos.faults(in_force=True) == ()
    assert state(chaos, "slave-1").generation == 2


def test_a_block_that_finishes_needs_no_healing(chaos: Chaos) -> None:
    """After the last Finish all is healed."""
    with chaos.healing(chaos.pause(ONE)):
        chaos.finish()


def test_members_stand_for_their_addresses(chaos: Chaos) -> None:
    """What ``members`` said may be given back."""
    master, one, two, *_ = chaos.members()
    chaos.pause(one)
    chaos.kill([one, two])
    chaos.partition([[master], [one]])
    chaos.degrade(one, peers=[two], loss=1)
    assert [line.task for line in chaos.faults() if line.kind is FaultKind.KILL] == ["slave-0", "slave-1"]


def test_a_long_ledger_comes_page_by_page(job: FakeJob, chaos: Chaos) -> None:
    """All of it, once."""
    for _ in range(251):
        FakeChaos(job=job).signal(FIVE, "USR1")
    assert [line.fault_id for line in chaos.faults()] == list(range(1, 1256))


async def test_aio_has_the_same_calls(job: FakeJob) -> None:
    """Each of them, awaited."""
    async with AioFakeChaos(job=job) as chaos:
        await chaos.partition(shape="halves", lease=5)
        await chaos.reset(ONE)
        await chaos.degrade(ONE, loss=1)
        await chaos.pause(ONE)
        await chaos.resume(ONE)
        await chaos.disk_full(ONE)
        await chaos.signal(ONE, "HUP")
        assert len(await chaos.faults(in_force=True)) == 8
        assert len((await chaos.heal()).healed) == 8
        async with chaos.healing(await chaos.disconnect(ONE)):
            assert len(await chaos.faults(in_force=True)) == 1
        assert await chaos.faults(in_force=True) == ()
        with pytest.raises(ValueError, match="lease"):
            await chaos.pause(ONE, lease=0)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "BAD_FIELD", BadField),
        ("FAILED_PRECONDITION", "CANNOT", CannotDoIt),
        ("FAILED_PRECONDITION", "TASK_DEAD", TaskDead),
        ("NOT_FOUND", "NO_SUCH_FAULT", NoSuchFault),
        ("RESOURCE_EXHAUSTED", "TOO_MANY_FAULTS", TooManyFaults),
        ("UNAVAILABLE", "MANAGER_BUSY", Unavailable),
        ("PERMISSION_DENIED", "NOT_A_CLIENT", NotAClient),
    ],
)
def test_reasons_have_their_errors(code: str, reason: str, kind: type[ChaosError]) -> None:
    """Each in the tree."""
    assert type(chaos_error(Failure(code, "why", reason))) is kind
