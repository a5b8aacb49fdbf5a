"""A nemesis at work on the fake: what it did is taken back however it ends, and its windows tell when."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.client_api import (
    AioNemesis,
    CannotDoIt,
    Chaos,
    ClockBound,
    JobNotRunning,
    MemberApplied,
    Nemesis,
    NotHealed,
    Stamp,
    TaskState,
    nemesis,
)
from syndicate.client_api._calls import monotonic_now
from syndicate.client_api._nemesis_script import Actor
from syndicate.client_api.nemesis import Event, Schedule
from syndicate.client_api.testing import AioFakeChaos, FakeChaos, FakeChaosServer, FakeJob, answering

FIVE = [f"10.77.0.{number}" for number in range(11, 16)]
NAMES = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
WAIT_S = 20.0


@pytest.fixture
def job() -> FakeJob:
    return FakeJob(FIVE)


def of(*events: Event, duration_ms: int = 300) -> Schedule:
    return Schedule(1, duration_ms, NAMES, events)


def at(job: FakeJob, task: str) -> Any:
    return next(member for member in job.members if member.task == task)


def all_is_well(job: FakeJob) -> bool:
    lives = all(member.state is TaskState.RUNNING for member in job.members)
    return lives and not any(fault.in_force for fault in job.faults)


def calls(job: FakeJob, *rpcs: str) -> list[Any]:
    return [call for call in job.calls if call.rpc in rpcs]


EVERYTHING = [
    nemesis.kill(rate=5, duration=(0.02, 0.1)),
    nemesis.pause(rate=5, duration=0.05, whom="minority"),
    nemesis.disconnect(rate=5, duration=0.05),
    nemesis.reset(rate=5, duration=0.05),
    nemesis.partition("majority-ring", rate=5, duration=0.05),
    nemesis.degrade(loss="10%", rate=5, duration=0.05),
    nemesis.disk_full(rate=5, duration=0.05),
    nemesis.signal("QUIT", rate=5, duration=0.05),
]


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
    before = monotonic_now()
    [window] = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 50, "pause", ("slave-0",)))).run()
    assert window.targets == ("slave-0",)
    assert window.end_ns is not None
    assert before <= window.start_ns and window.end_ns <= monotonic_now()
    assert window.end_ns - window.start_ns >= 40_000_000
    assert 0 < window.error_ns < 1_000_000_000


def test_lasting_faults_have_leases(job: FakeJob) -> None:
    """Longer than they are to hold, in case the client is killed itself."""
    Nemesis(FakeChaos(job=job), seed=1, faults=EVERYTHING).run(0.5)
    lasting = calls(job, "Pause", "Disconnect", "Reset", "Partition", "Degrade", "DiskFull")
    assert len(lasting) >= 6
    assert all(10 < call.request.lease_s < 11 for call in lasting)


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


def test_a_start_that_was_never_done_is_no_fault(job: FakeJob) -> None:
    """Where the same request is refused afterwards, nothing holds and nothing is left to heal."""
    job.fail_next("Pause", "NO_ANSWER")
    job.fail_next("Pause", "FAULT_FAILED", "no freezer")
    monkey = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 50, "pause", ("slave-0",))))
    assert monkey.run() == ()
    assert [refused.why for refused in monkey.refused()] == ["no freezer"]
    assert calls(job, "Heal") == []


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


def test_what_failed_and_was_taken_back_is_no_fault(job: FakeJob) -> None:
    """Nothing holds, and no window says that it did."""
    job.fail_at("Disconnect", FIVE[2])
    cut = Event(0, 50, "disconnect", ("slave-0", "slave-1"))
    monkey = Nemesis.replaying(FakeChaos(job=job), of(cut))
    assert monkey.run() == ()
    assert [refused.number for refused in monkey.refused()] == [0]


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


def test_what_does_not_take_hold_is_told(job: FakeJob) -> None:
    """A task that ended by itself cannot be frozen: the others go on."""
    job.exit(FIVE[1])
    events = [Event(0, 20, "pause", ("slave-0",)), Event(0, 20, "pause", ("slave-1",))]
    monkey = Nemesis.replaying(FakeChaos(job=job), of(*events))
    [window] = monkey.run()
    [refused] = monkey.refused()
    assert window.targets == ("slave-1",)
    assert (refused.targets, refused.number) == (("slave-0",), 0)
    assert "not alive" in refused.why
    assert monkey.metrics()["nemesis_refused"] == 1


def test_who_was_dead_already_is_left_so(job: FakeJob) -> None:
    """A kill that found nobody is no fault of the nemesis, and revives nobody."""
    job.exit(FIVE[1])
    monkey = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 20, "kill", ("slave-0",))))
    assert monkey.run() == ()
    assert [refused.why for refused in monkey.refused()] == ["it was so already"]
    assert at(job, "slave-0").state is TaskState.EXITED


def test_who_ended_before_its_signal_is_left_so(job: FakeJob) -> None:
    """A signal that nobody was there to get is no fault of the nemesis, and revives nobody."""
    job.exit(FIVE[1])
    events = of(Event(0, 20, "signal", ("slave-0",), {"signal": 3}))
    monkey = Nemesis.replaying(FakeChaos(job=job), events)
    assert monkey.run() == ()
    assert [refused.targets for refused in monkey.refused()] == [("slave-0",)]
    assert at(job, "slave-0").state is TaskState.EXITED


def test_targets_may_be_addresses(job: FakeJob) -> None:
    """Or what ``members`` said; windows have their names."""
    chaos = FakeChaos(job=job)
    faults = [nemesis.pause(duration=0.05), nemesis.partition("isolate-one", duration=0.05)]
    windows = Nemesis(chaos, seed=2, faults=faults, targets=FIVE[1:3]).run(0.3)
    assert windows[0].targets in (("slave-0",), ("slave-1",)) or windows[0].kind == "partition"
    named = Nemesis(chaos, seed=2, faults=faults, targets=chaos.members()[1:3]).schedule(0.3)
    assert named.targets == ("slave-0", "slave-1")
    assert all_is_well(job)


def test_what_a_machine_cannot_do_ends_it(job: FakeJob) -> None:
    """Loudly, and healed: no run passes that was never disturbed."""
    job.cannot("pause", "no freezer")
    events = [Event(0, 250, "kill", ("slave-0",)), Event(10, 20, "pause", ("slave-1",))]
    with pytest.raises(CannotDoIt, match="no freezer"):
        Nemesis.replaying(FakeChaos(job=job), of(*events)).run()
    assert all_is_well(job)


def test_a_job_that_ends_needs_no_healing(job: FakeJob) -> None:
    """Its end heals; a nemesis that is to go on is told."""
    events = [Event(0, 20, "pause", ("slave-0",)), Event(100, 120, "pause", ("slave-0",))]
    monkey = Nemesis.replaying(FakeChaos(job=job), of(*events))
    monkey.start()
    until(lambda: bool(monkey.windows()))
    job.end()
    monkey._join()
    with pytest.raises(JobNotRunning):
        monkey.stop()
    assert monkey.unhealed() == ()


def test_strangers_are_refused_before_anything_is_done(job: FakeJob) -> None:
    """By name."""
    monkey = Nemesis(FakeChaos(job=job), seed=1, faults=[nemesis.kill(duration=0.1)], targets=["slave-9"])
    with pytest.raises(ValueError, match="slave-9 is no member"):
        monkey.run(0.5)
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
    monkey.run(0.2)
    record = json.loads(monkey.record())
    assert record["seed"] == 9
    assert all(0 <= window["start_ns"] <= window["end_ns"] < 10**9 for window in record["windows"])


async def test_aio_plays_and_heals(job: FakeJob) -> None:
    """As a task, with the same schedule."""
    monkey = AioNemesis(AioFakeChaos(job=job), seed=7, faults=EVERYTHING, targets=NAMES)
    assert monkey.schedule(0.5) == Nemesis(FakeChaos(job=job), seed=7, faults=EVERYTHING).schedule(0.5)
    windows = await monkey.run(0.5)
    assert len(windows) == len(monkey.schedule(0.5))
    assert all_is_well(job)


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


SIGTERM_CLIENT = """
import sys, time
from syndicate.client_api import Chaos, Nemesis
from syndicate.client_api.nemesis import Event, Schedule
names = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
events = (Event(0, 60000, "kill", ("slave-0",)), Event(0, 60000, "pause", ("slave-1",)))
with Chaos.from_env() as chaos:
    with Nemesis.replaying(chaos, Schedule(1, 60000, names, events)).running() as monkey:
        while len(monkey.windows()) < 2:
            time.sleep(0.01)
        print("struck", flush=True)
        time.sleep(60)
"""


AIO_SIGTERM_CLIENT = """
import asyncio
from syndicate.client_api import AioChaos, AioNemesis
from syndicate.client_api.nemesis import Event, Schedule
names = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
events = (Event(0, 60000, "kill", ("slave-0",)), Event(0, 60000, "pause", ("slave-1",)))
async def main():
    async with AioChaos.from_env() as chaos:
        async with AioNemesis.replaying(chaos, Schedule(1, 60000, names, events)).running() as monkey:
            while len(monkey.windows()) < 2:
                await asyncio.sleep(0.01)
            print("struck", flush=True)
            await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("script", [SIGTERM_CLIENT, AIO_SIGTERM_CLIENT], ids=["thread", "asyncio"])
def test_a_client_that_is_terminated_heals(job: FakeJob, script: str) -> None:
    """SIGTERM unwinds the block; the process ends as one that was terminated."""
    with FakeChaosServer(job=job) as server:
        client = subprocess.Popen(
            [sys.executable, "-c", script], env=server.environ, stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "struck\n"
        assert not all_is_well(job)
        os.kill(client.pid, signal.SIGTERM)
        assert client.wait(WAIT_S) == 128 + signal.SIGTERM
        client.stdout.close()
    assert all_is_well(job)


def test_over_a_socket(job: FakeJob) -> None:
    """The real client, on the fake's server."""
    with FakeChaosServer(job=job) as server, Chaos(server.address) as chaos:
        windows = Nemesis(chaos, seed=3, faults=EVERYTHING).run(0.5)
    assert len(windows) >= len(EVERYTHING)
    assert all_is_well(job)


def served(job: FakeJob, address: str) -> grpc.Server:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((answering(job),))
    server.add_insecure_port(address)
    server.start()
    return server


def test_a_manager_that_went_away_is_waited_for(job: FakeJob, tmp_path: Path) -> None:
    """What held when it went is taken back once it is there again."""
    address = f"unix:{tmp_path}/chaos.sock"
    events = [Event(0, 60_000, "kill", ("slave-0",)), Event(0, 60_000, "pause", ("slave-1",))]
    first = served(job, address)
    with Chaos(address) as chaos:
        monkey = Nemesis.replaying(chaos, of(*events, duration_ms=60_000))
        monkey.start()
        until(lambda: len(monkey.windows()) == 2)
        first.stop(None).wait(WAIT_S)
        back = threading.Timer(0.5, lambda: servers.append(served(job, address)))
        servers: list[grpc.Server] = []
        back.start()
        monkey.stop()
        back.join()
    servers[0].stop(None).wait(WAIT_S)
    assert all_is_well(job)
    assert all(window.end_ns for window in monkey.windows())


def told(applied_ns: int, boot_id: str = "volunteer", error_ns: int = 1000) -> MemberApplied:
    clock = ClockBound("volunteer", 5_000_000_000, error_ns)
    return MemberApplied(FIVE[0], 1, False, Stamp(boot_id, applied_ns, 0), clock)


def test_a_volunteers_stamp_is_put_on_this_clock() -> None:
    """Over the offsets of both to the manager, with the sum of their errors, where that is closer."""
    actor = Actor("mine", 1.0)
    actor._clock = ClockBound("mine", 2_000_000_000, 500)
    sent, took = 10_000_000_000, 4_000_000
    held = 10_001_000_000  # on this clock; the manager's is 2 s behind, the volunteer's 5 s before that
    assert actor._on_this_clock(told(held - 2_000_000_000 + 5_000_000_000), sent, took) == (held, 1500)
    assert actor._on_this_clock(told(held, boot_id="mine"), sent, took) == (held, 0)
    rough = told(held + 3_000_000_000, error_ns=9_000_000)
    assert actor._on_this_clock(rough, sent, took) == (sent + took // 2, took // 2 + 1)
    impossible = told(held + 9_000_000_000)
    assert actor._on_this_clock(impossible, sent, took) == (sent + took // 2, took // 2 + 1)


async def struck(monkey: AioNemesis) -> None:
    """Waits for the first fault to hold."""
    await asyncio.to_thread(until, lambda: bool(monkey.windows()))


def until(so: Any) -> None:
    """Waits for what another thread brings about."""
    done = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if so():
            return
        done.wait(0.005)
    raise AssertionError("it did not come")
