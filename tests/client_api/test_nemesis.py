"""A nemesis at work on the fake: it plays its schedule, and its windows tell when."""

from __future__ import annotations

import json
from typing import Any

import pytest
from syndicate.client_api import AioNemesis, Chaos, ClockBound, MemberApplied, Nemesis, Stamp, nemesis
from syndicate.client_api._calls import monotonic_now
from syndicate.client_api._nemesis_clock import OwnClock
from syndicate.client_api.nemesis import Event
from syndicate.client_api.testing import AioFakeChaos, FakeChaos, FakeChaosServer, FakeJob

from tests.client_api.nemesis_jobs import EVERYTHING, FIVE, NAMES, all_is_well, calls, of


@pytest.fixture
def job() -> FakeJob:
    return FakeJob(FIVE)


def test_it_plays_its_schedule_and_heals(job: FakeJob) -> None:
    """Each event has its window, near its time; in the end nothing is left."""
    monkey = Nemesis(FakeChaos(job=job), seed=7, faults=EVERYTHING)
    schedule = monkey.schedule(0.6)

    windows = monkey.run(0.6)

    assert all_is_well(job)
    assert [window.number for window in windows] == list(range(len(schedule)))
    assert {window.kind for window in windows} == {event.kind for event in schedule}
    zero = json.loads(monkey.record())["started_ns"]
    for window, event in zip(windows, schedule, strict=True):
        assert window.end_ns is not None and window.start_ns <= window.end_ns
        assert (window.start_ns - zero) / 1e6 >= event.at_ms - 1
        assert window.fault_ids and window.certain
    assert monkey.metrics()["nemesis_seed"] == 7
    assert (monkey.refused(), monkey.unhealed()) == ((), ())


def test_windows_bound_what_held(job: FakeJob) -> None:
    """A window begins after the call was made, ends after its heal was, and says how far off it may be."""
    made: dict[str, tuple[int, int]] = {}

    class Timed(FakeChaos):
        """When each call began and was answered."""

        def _invoke(self, rpc: str, request: Any, timeout: float) -> Any:
            began = monotonic_now()
            answer = super()._invoke(rpc, request, timeout)
            made[rpc] = began, monotonic_now()
            return answer

    monkey = Nemesis.replaying(Timed(job=job), of(Event(0, 50, "pause", ("slave-0",))))
    [window] = monkey.run()
    assert window.targets == ("slave-0",)
    assert window.end_ns is not None
    for at, rpc in ((window.start_ns, "Pause"), (window.end_ns, "Heal")):
        began, answered = made[rpc]
        assert began - window.error_ns <= at <= answered + window.error_ns, rpc
    assert made["Heal"][0] - json.loads(monkey.record())["started_ns"] >= 50_000_000
    assert 0 < window.error_ns <= monotonic_now() - made["Ping"][0]


def told(applied_ns: int, boot_id: str = "volunteer", error_ns: int = 1000) -> MemberApplied:
    clock = ClockBound("volunteer", 5_000_000_000, error_ns)
    return MemberApplied(FIVE[0], 1, False, Stamp(boot_id, applied_ns, 0), clock)


def test_a_volunteers_stamp_is_put_on_this_clock() -> None:
    """Over the offsets of both to the manager, with the sum of their errors, where that is closer."""
    clock = OwnClock("mine")
    clock.learn(ClockBound("mine", 2_000_000_000, 500))
    sent, took = 10_000_000_000, 4_000_000
    held = 10_001_000_000  # on this clock; the manager's is 2 s behind, the volunteer's 5 s before that
    assert clock.when_held(told(held - 2_000_000_000 + 5_000_000_000), sent, took) == (held, 1500)
    assert clock.when_held(told(held, boot_id="mine"), sent, took) == (held, 0)
    rough = told(held + 3_000_000_000, error_ns=9_000_000)
    assert clock.when_held(rough, sent, took) == (sent + took // 2, took // 2 + 1)
    impossible = told(held + 9_000_000_000)
    assert clock.when_held(impossible, sent, took) == (sent + took // 2, took // 2 + 1)


def test_lasting_faults_have_leases(job: FakeJob) -> None:
    """Longer than they are to hold, in case the client is killed itself."""
    Nemesis(FakeChaos(job=job), seed=1, faults=EVERYTHING).run(0.5)
    lasting = calls(job, "Pause", "Disconnect", "Reset", "Partition", "Degrade", "DiskFull")
    assert len(lasting) >= 6
    assert all(10 < call.request.lease_s < 11 for call in lasting)


def test_targets_may_be_addresses(job: FakeJob) -> None:
    """Or what ``members`` said; windows have their names."""
    chaos = FakeChaos(job=job)
    faults = [nemesis.pause(duration=0.05), nemesis.partition("isolate-one", duration=0.05)]
    windows = Nemesis(chaos, seed=2, faults=faults, targets=FIVE[1:3]).run(0.3)
    assert windows[0].targets in (("slave-0",), ("slave-1",)) or windows[0].kind == "partition"
    named = Nemesis(chaos, seed=2, faults=faults, targets=chaos.members()[1:3]).schedule(0.3)
    assert named.targets == ("slave-0", "slave-1")
    assert all_is_well(job)


def test_strangers_are_refused_before_anything_is_done(job: FakeJob) -> None:
    """By name."""
    monkey = Nemesis(FakeChaos(job=job), seed=1, faults=[nemesis.kill(duration=0.1)], targets=["slave-9"])
    with pytest.raises(ValueError, match="slave-9 is no member"):
        monkey.run(0.5)
    assert calls(job, "Kill") == []


def test_a_plan_that_cannot_be_is_told_before_the_block(job: FakeJob) -> None:
    """Without targets too: a partition of 8 s has no place in 5 s, and nothing is begun or measured."""
    monkey = Nemesis(FakeChaos(job=job), seed=1, faults=[nemesis.partition("halves", duration=8)])
    entered = []
    with pytest.raises(ValueError, match="holds for 8000 ms"), monkey.running(5):
        entered.append("the block")
    with pytest.raises(ValueError, match="holds for 8000 ms"):
        monkey.start(5)
    assert entered == []
    assert {call.rpc for call in job.calls} == {"ListMembers"}


async def test_aio_tells_a_plan_that_cannot_be_before_the_block(job: FakeJob) -> None:
    """As the other one does."""
    monkey = AioNemesis(AioFakeChaos(job=job), seed=1, faults=[nemesis.partition("halves", duration=8)])
    entered = []
    with pytest.raises(ValueError, match="holds for 8000 ms"):
        async with monkey.running(5):
            entered.append("the block")
    assert entered == []
    assert {call.rpc for call in job.calls} == {"ListMembers"}
    with pytest.raises(ValueError, match="is no member"):
        await AioNemesis(
            AioFakeChaos(job=job), seed=1, faults=[nemesis.kill(duration=0.1)], targets=["slave-9"]
        ).run(1)


def test_a_kept_schedule_is_looked_through_before_anything_is_done(job: FakeJob) -> None:
    """Its last event is of a kind that there is not: the first one is not played."""
    events = [Event(0, 20, "kill", ("slave-0",)), Event(30, 60, "flood", ("slave-1",))]
    monkey = Nemesis.replaying(FakeChaos(job=job), of(*events))
    with pytest.raises(ValueError, match="flood"):
        monkey.start()
    assert calls(job, "Kill") == []


def test_one_run_at_a_time(job: FakeJob) -> None:
    """A second one is a bug of the caller; one after the other is none."""
    monkey = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 50, "pause", ("slave-0",))))
    with monkey.running(), pytest.raises(RuntimeError):
        monkey.start()
    assert len(monkey.run()) == 1


def test_without_a_seed_one_is_drawn_and_told() -> None:
    """So that the run can be had again."""
    seeds = {Nemesis(FakeChaos(FIVE), faults=[nemesis.kill()]).seed for _ in range(5)}
    assert len(seeds) == 5
    monkey = Nemesis(FakeChaos(FIVE), faults=[nemesis.kill()])
    assert monkey.metrics()["nemesis_seed"] == monkey.seed


def test_a_record_is_json(job: FakeJob) -> None:
    """With windows relative to the schedule's start."""
    monkey = Nemesis(FakeChaos(job=job), seed=9, faults=[nemesis.pause(duration=0.05)])
    before = monotonic_now()
    monkey.run(0.2)
    took_ns = monotonic_now() - before
    record = json.loads(monkey.record())
    assert record["seed"] == 9 and record["windows"]
    assert all(0 <= window["start_ns"] <= window["end_ns"] <= took_ns for window in record["windows"])


async def test_aio_plays_and_heals(job: FakeJob) -> None:
    """As a task, with the same schedule."""
    monkey = AioNemesis(AioFakeChaos(job=job), seed=7, faults=EVERYTHING, targets=NAMES)
    assert monkey.schedule(0.5) == Nemesis(FakeChaos(job=job), seed=7, faults=EVERYTHING).schedule(0.5)
    windows = await monkey.run(0.5)
    assert len(windows) == len(monkey.schedule(0.5))
    assert all_is_well(job)


def test_over_a_socket(job: FakeJob) -> None:
    """The real client, on the fake's server."""
    with FakeChaosServer(job=job) as server, Chaos(server.address) as chaos:
        windows = Nemesis(chaos, seed=3, faults=EVERYTHING).run(0.5)
    assert len(windows) >= len(EVERYTHING)
    assert all_is_well(job)
