"""What a nemesis did on the fake is taken back, however it ends and whatever fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from syndicate.client_api import AioNemesis, JobNotRunning, Nemesis, NotHealed
from syndicate.client_api._calls import monotonic_now
from syndicate.client_api.nemesis import Event
from syndicate.client_api.testing import AioFakeChaos, FakeChaos, FakeJob

from tests.client_api.nemesis_jobs import FIVE, NAMES, WAIT_S, all_is_well, at, calls, of, struck, until


@pytest.fixture
def job() -> FakeJob:
    return FakeJob(FIVE)


def test_what_it_did_is_healed_by_its_lines(job: FakeJob) -> None:
    """A cut of somebody else stays."""
    FakeChaos(job=job).disconnect(FIVE[1])
    Nemesis.replaying(FakeChaos(job=job), of(Event(0, 20, "disconnect", ("slave-1",)))).run()
    assert [fault.task for fault in job.faults if fault.in_force] == ["slave-0"]
    assert list(calls(job, "Heal")[0].request.fault_ids) == [2]


def test_an_exception_in_the_block_heals(job: FakeJob) -> None:
    """Long before the schedule's end."""
    halves = Event(0, 60_000, "partition", NAMES, {"shape": "halves"})
    events = [Event(0, 60_000, "kill", ("slave-0",)), halves]
    monkey = Nemesis.replaying(FakeChaos(job=job), of(*events, duration_ms=60_000))

    def work() -> None:
        with monkey.running():
            until(lambda: len(monkey.windows()) == 2)
            assert not all_is_well(job)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert all_is_well(job)
    assert all(window.end_ns for window in monkey.windows())


@pytest.mark.parametrize("how", ["answered", "answer lost", "failed at one"])
def test_whom_a_signal_ends_has_time_to_end(job: FakeJob, how: str) -> None:
    """Stopped at once, it waits a moment before it revives: who is alive yet would be left, and die then."""
    began: dict[str, int] = {}
    answered: dict[str, int] = {}

    class Timed(FakeChaos):
        """When the first call of each kind began, and was answered or failed."""

        def _invoke(self, rpc: str, request: Any, timeout: float) -> Any:
            began.setdefault(rpc, monotonic_now())
            try:
                return super()._invoke(rpc, request, timeout)
            finally:
                answered.setdefault(rpc, monotonic_now())

    if how == "answer lost":
        job.fail_next("Signal", "NO_ANSWER")
    elif how == "failed at one":
        job.fail_at("Signal", FIVE[2])
    quit_soon = Event(0, 60_000, "signal", ("slave-0", "slave-1"), {"signal": 3})
    monkey = Nemesis.replaying(Timed(job=job), of(quit_soon, duration_ms=60_000))

    with monkey.running():
        until(lambda: "Signal" in answered)

    assert 250_000_000 <= began["Revive"] - answered["Signal"] < 59_000_000_000


def test_a_half_failed_kill_leaves_nobody_dead(job: FakeJob) -> None:
    """Where a kill of several failed at one, all of them are revived all the same."""
    job.fail_at("Kill", FIVE[2])
    kill = Event(0, 50, "kill", ("slave-0", "slave-1"))
    windows = Nemesis.replaying(FakeChaos(job=job), of(kill)).run()
    assert all_is_well(job)
    assert at(job, "slave-0").generation == 2
    assert [window.certain for window in windows] == [False]


def test_a_half_failed_kill_without_disk(job: FakeJob) -> None:
    """Who lives cannot lose its disk; the others are revived one by one."""
    job.fail_at("Kill", FIVE[2])
    kill = Event(0, 50, "kill", ("slave-0", "slave-1"), {"with_disk": False})
    Nemesis.replaying(FakeChaos(job=job), of(kill)).run()
    assert all_is_well(job)
    assert not next(fault for fault in job.faults if fault.kind == "revive").with_disk


def test_a_heal_is_tried_until_the_manager_is_back(job: FakeJob) -> None:
    """A stop-partition comes, however late."""
    for reason in ("MANAGER_AWAY", "MANAGER_BUSY", "FAULT_UNDER_WAY"):
        job.fail_next("Heal", reason)
    Nemesis.replaying(FakeChaos(job=job), of(Event(0, 20, "partition", NAMES, {"shape": "halves"}))).run()
    assert all_is_well(job)
    assert [call.error for call in calls(job, "Heal")][-1] == ""


def test_what_cannot_be_healed_is_told(job: FakeJob) -> None:
    """After its patience, with the reason; the other events go on."""
    for _ in range(20):
        job.fail_next("Revive", "VOLUNTEER_AWAY", "node-a is away")
    events = [Event(0, 20, "kill", ("slave-0",)), Event(10, 30, "pause", ("slave-1",))]
    monkey = Nemesis.replaying(FakeChaos(job=job), of(*events), patience=0.6)
    with pytest.raises(NotHealed, match=r"kill of slave-0 \(node-a is away\)") as caught:
        monkey.run()
    assert caught.value.unhealed == monkey.unhealed()
    assert monkey.metrics()["nemesis_unhealed"] == 1
    assert [window.end_ns is None for window in monkey.windows()] == [True, False]
    assert not at(job, "slave-1").paused


def test_a_start_that_nobody_answered_is_asked_for_again_and_healed(job: FakeJob) -> None:
    """The same request tells what became of it; its fault is not left behind."""
    job.fail_next("Pause", "NO_ANSWER")
    monkey = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 50, "pause", ("slave-0",))))
    [window] = monkey.run()
    asked = calls(job, "Pause")
    assert len({call.request.request_id for call in asked}) == 1
    assert [call.error for call in asked] == ["NO_ANSWER", ""]
    assert all_is_well(job)
    assert window.end_ns is not None


@pytest.mark.parametrize("first", ["", "NO_ANSWER"])
def test_what_failed_and_stays_is_healed(job: FakeJob, first: str) -> None:
    """At once, by its call; it is told as refused, and when it may have held."""
    if first:
        job.fail_next("Disconnect", first)
    job.fail_at("Disconnect", FIVE[2], stays=True)
    cut = Event(0, 50, "disconnect", ("slave-0", "slave-1"))
    monkey = Nemesis.replaying(FakeChaos(job=job), of(cut, Event(60, 80, "pause", ("slave-2",))))
    windows = monkey.run()
    assert all_is_well(job)
    assert [(window.kind, window.certain) for window in windows] == [("disconnect", False), ("pause", True)]
    assert "it may hold there" in monkey.refused()[0].why
    assert next(fault for fault in job.faults if fault.kind == "disconnect").healed_by == "client-0"


def test_what_failed_and_stays_is_healed_at_its_end_at_the_latest(job: FakeJob) -> None:
    """Where nobody answers the heal before."""
    job.fail_at("Disconnect", FIVE[2], stays=True)
    for _ in range(2):
        job.fail_next("Heal", "MANAGER_AWAY")
    cut = Event(0, 50, "disconnect", ("slave-0", "slave-1"))
    monkey = Nemesis.replaying(FakeChaos(job=job), of(cut, duration_ms=60))
    monkey.run()
    assert all_is_well(job)


def test_what_failed_and_cannot_be_healed_is_told(job: FakeJob) -> None:
    """With the reason, after its patience."""
    job.fail_at("Disconnect", FIVE[2], stays=True)
    for _ in range(20):
        job.fail_next("Heal", "VOLUNTEER_AWAY", "node-a is away")
    cut = Event(0, 50, "disconnect", ("slave-0", "slave-1"))
    with pytest.raises(NotHealed, match=r"disconnect of slave-0, slave-1 \(node-a is away\)"):
        Nemesis.replaying(FakeChaos(job=job), of(cut, duration_ms=60), patience=0.6).run()


def test_a_client_that_finishes_too_early_is_told(job: FakeJob) -> None:
    """After its finish it can heal nothing: it must not be counted as healed."""
    two = FakeJob(FIVE, clients=["10.77.0.250", "10.77.0.251"])
    chaos = FakeChaos(job=two)
    monkey = Nemesis.replaying(chaos, of(Event(0, 60_000, "kill", ("slave-0",)), duration_ms=60_000))
    monkey.start()
    until(lambda: bool(monkey.windows()))
    chaos.finish()
    with pytest.raises(NotHealed, match="kill of slave-0"):
        monkey.stop()


def test_a_job_that_ends_needs_no_healing(job: FakeJob) -> None:
    """Its end heals; a nemesis that is to go on is told."""

    class Ending(FakeChaos):
        """The job ends once its first pause holds."""

        def _invoke(self, rpc: str, request: Any, timeout: float) -> Any:
            answer = super()._invoke(rpc, request, timeout)
            if rpc == "Pause":
                self.job.end()
            return answer

    events = [Event(0, 20, "pause", ("slave-0",)), Event(100, 120, "pause", ("slave-0",))]
    monkey = Nemesis.replaying(Ending(job=job), of(*events))
    monkey.start()
    monkey._join()
    with pytest.raises(JobNotRunning):
        monkey.stop()
    assert monkey.unhealed() == ()


async def test_aio_cancelled_heals_first(job: FakeJob) -> None:
    """Cancelling the run takes everything back before it ends."""
    kill = Event(0, 60_000, "kill", ("slave-0",))
    monkey = AioNemesis.replaying(AioFakeChaos(job=job), of(kill, duration_ms=60_000))
    task = asyncio.create_task(monkey.run())
    async with asyncio.timeout(WAIT_S):
        await struck(monkey)
        job.fail_next("Revive", "MANAGER_AWAY")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert all_is_well(job)


async def test_aio_block_that_fails_heals(job: FakeJob) -> None:
    """And raises what failed."""
    monkey = AioNemesis.replaying(
        AioFakeChaos(job=job), of(Event(0, 60_000, "reset", ("slave-0",)), duration_ms=60_000)
    )

    async def work() -> None:
        async with monkey.running():
            await struck(monkey)
            raise KeyError

    with pytest.raises(KeyError):
        await work()
    assert all_is_well(job)
