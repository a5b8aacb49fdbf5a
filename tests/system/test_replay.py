"""A job whose faults come again: the same calls at the same times, on a real cluster."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1.scheduler_pb2 import Job

from tests.support.cluster import EXAMPLES, JOBS, Cluster, ended, output
from tests.system.conftest import assert_nothing_is_left

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]  # up to nine runs, each of up to two minutes

WITHIN_NS = 20_000_000
"""How far a fault may be from its recorded time."""
SETTLED_NS = 250_000_000
"""Half of what comes after a manager has just started may be so much later, with all that comes at once."""
LATEST_NS = 5_000_000_000
"""So much later any of it may, on a machine that stands still for a moment."""
STILL_NS = 1_000_000_000
"""A replay in which a fault comes so much later says nothing: the machine stood still."""
MOST_RUNS = 3
MOST_REPLAYS = 6
MOST_KILLS = 3
BY_ITSELF = ("lease", "rollback", "job end")
Line = tuple[int, str]


def times(job: Job, at: Callable[[common.Fault], int]) -> dict[Line, list[int]]:
    """When faults were asked for, or held, after the start: by kind and member, in nanoseconds."""
    found: dict[Line, list[int]] = {}
    for line in sorted(job.faults, key=lambda line: line.requested_at.monotonic_ns):
        if line.requested_by not in BY_ITSELF and not line.error:
            found.setdefault((line.kind, line.task), []).append(at(line) - job.started_at.monotonic_ns)
    return found


def offsets(first: Job, second: Job, at: Callable[[common.Fault], int]) -> dict[str, int]:
    """How far each fault is from its recorded time. Both have the same faults, or AssertionError."""
    then, now = times(first, at), times(second, at)
    assert {line: len(found) for line, found in now.items()} == {
        line: len(found) for line, found in then.items()
    }
    return {
        f"{common.FaultKind.Name(kind)} of {task} at {a / 1e9:.3f} s": abs(a - b)
        for kind, task in then
        for a, b in zip(then[kind, task], now[kind, task], strict=True)
    }


def late(first: Job, replays: list[Job]) -> dict[str, float]:
    """The faults that each replay asked for more than 20 ms from their recorded time, in milliseconds.

    And, as `held`, how far half of them were when they held, if that is more in each. How long a single one
    takes at its machine depends on what else that does; and others may hold the manager up at any moment, so
    one replay that is in time is enough for each fault.
    """
    apart = [offsets(first, replay, asked) for replay in replays]
    least = {line: min(found[line] for found in apart) / 1e6 for line in apart[0]}
    middle = min(statistics.median(offsets(first, replay, held).values()) for replay in replays)
    found = {line: offset for line, offset in least.items() if offset > WITHIN_NS / 1e6}
    return found | ({"held": middle / 1e6} if middle > WITHIN_NS else {})


def asked(line: common.Fault) -> int:
    """When it was asked for."""
    return line.requested_at.monotonic_ns


def held(line: common.Fault) -> int:
    """When it held."""
    return line.applied_at_manager.monotonic_ns


def recorded(run: Callable[[], Job], is_whole: Callable[[Job], bool]) -> Job:
    """A job to replay; where it says that something stood still in it for too long, another run."""
    for _ in range(MOST_RUNS):
        job = run()
        if is_whole(job):
            break
    return job


def replay(cluster: Cluster, job_id: int) -> Job:
    """Replays a job from the command line, and waits for its end."""
    made = cluster.ctl("replay", str(job_id), "--json")
    assert made.returncode == 0, made.stderr
    assert "the timing of its own processes is not reproduced" in made.stderr
    return cluster.wait(json.loads(made.stdout)["job_id"])


def pairs_of(first: Job, second: Job, at: Callable[[common.Fault], int]) -> list[tuple[int, int]]:
    """When each fault came in a job and in its replay, as far as it came in both."""
    then, now = times(first, at), times(second, at)
    return [pair for line in then for pair in zip(then[line], now.get(line, ()), strict=False)]


def early(first: Job, second: Job) -> list[tuple[int, int]]:
    """The faults that a replay asked for before their time, which nothing excuses."""
    return [pair for pair in pairs_of(first, second, asked) if pair[1] < pair[0] - WITHIN_NS]


def stood_still(first: Job, second: Job) -> bool:
    """Whether a fault came so late in a replay that its machine must have."""
    return any(now - then > STILL_NS for then, now in pairs_of(first, second, held))


def is_refused_at_most(text: str) -> bool:
    """Whether a client's output tells of no other error than a call of its own that was refused."""
    return (
        "Traceback" not in text or re.search(r"^syndicate\.client_api\.\S+: ", text, re.MULTILINE) is not None
    )


def replays_of(cluster: Cluster, first: Job, least: int) -> list[Job]:
    """Replays that succeeded, at least so many, until each fault came in time in one of them.

    Where the machine stood still a call may find the job in another state, and be refused; but also then the
    replay comes to an end of its own, and nothing before its time.
    """
    found: list[Job] = []
    for _ in range(MOST_REPLAYS):
        second = replay(cluster, first.job_id)
        assert early(first, second) == [], "before its time"
        if stood_still(first, second):
            text = output(cluster, second, "client-0")
            assert ended(second) in ("succeeded", "failed") and is_refused_at_most(text), (
                text + cluster.story(second.job_id)
            )
            continue
        assert ended(second) == "succeeded", output(cluster, second) + cluster.story(second.job_id)
        found.append(second)
        if len(found) >= least and not late(first, found):
            break
    dropped = f"{MOST_REPLAYS - len(found)} of {MOST_REPLAYS}"
    assert len(found) >= least, f"in {dropped} replays a fault was more than {STILL_NS / 1e9:g} s late"
    return found


def test_the_same_faults_come_at_the_same_times(cluster: Cluster) -> None:
    """Each within 20 ms of its recorded time; the client's own calls stand for them, and it passes."""
    first = recorded(
        lambda: cluster.run("idle", machines=4, client="replayed-client", time_limit_s=120),
        lambda job: '"refused": 0' in output(cluster, job, "client-0"),
    )
    assert ended(first) == "succeeded", output(cluster, first)
    kinds = {line.kind for line in first.faults}
    assert len(kinds) >= 10, kinds

    replays = replays_of(cluster, first, 2)

    assert late(first, replays) == {}
    for second in replays:
        assert {line.requested_by for line in second.faults} <= {"replay", *BY_ITSELF}
        assert not [line for line in second.faults if line.error]
        assert output(cluster, second, "client-0") == output(cluster, first, "client-0")

    shown = cluster.ctl("show", str(second.job_id)).stdout
    assert f"replay     of job {first.job_id}: " in shown
    told = json.loads(cluster.ctl("result", str(second.job_id), "--json").stdout)
    assert told["replay_of"] == first.job_id
    assert "faults applied, worst offset" in told["replay"]


def test_an_example_comes_out_as_it_did(cluster: Cluster) -> None:
    """The nemesis' seed, kinds and targets are fixed: the same faults, the same lines, a pass that counts."""
    source = EXAMPLES / "nemesis"
    first = recorded(
        lambda: cluster.run(source, machines=3, client=source / "client", time_limit_s=120),
        lambda job: ended(job) == "succeeded" and "\n0 refused\n" in output(cluster, job, "client-0"),
    )
    assert ended(first) == "succeeded", output(cluster, first) + cluster.story(first.job_id)

    replays = replays_of(cluster, first, 1)

    assert late(first, replays) == {}
    for job in (first, *replays):
        text = job.result.text
        assert job.result.outcome == common.OUTCOME_PASS, text
        assert text.startswith("true: all hold: linearizable, available, tested\n"), text
        assert job.result.metrics["nemesis_seed"] == 4711
    said = {output(cluster, job, "client-0").partition("true: ")[0] for job in (first, *replays)}
    assert len(said) == 1
    assert said.pop().splitlines()[-1] == "0 refused"
    assert not [line for second in replays for line in second.faults if line.error]


def test_a_replay_that_does_not_suit_ends_in_a_verdict(cluster: Cluster) -> None:
    """Redis: whatever its replay finds, it ends with a verdict and without a traceback."""
    source = EXAMPLES / "redis"
    first = recorded(
        lambda: cluster.run(source, machines=2, client=source / "client", time_limit_s=120),
        lambda job: job.result.metrics["stale_reads"] == 1,
    )
    assert first.result.metrics["stale_reads"] == 1, output(cluster, first)
    assert "tested: true" in first.result.text, first.result.text

    second = cluster.wait(cluster.users.replay(first.job_id))

    text = output(cluster, second, "client-0")
    assert "Traceback" not in text
    assert second.result.outcome in (common.OUTCOME_FAIL, common.OUTCOME_UNKNOWN), text
    assert second.result.text.startswith(("false: ", "unknown: ")), text


def test_a_manager_that_is_killed_goes_on(own_cluster: Cluster, tmp_path: Path) -> None:
    """What is due meanwhile comes when it is back, what comes later at its time; nothing comes twice."""
    cluster = own_cluster
    client = Path(shutil.copytree(JOBS / "replayed-client", tmp_path / "client"))
    (client / "room").write_text("20")  # more than a manager takes that stands still as it starts
    first = recorded(
        lambda: cluster.run("idle", machines=3, client=client, time_limit_s=200),
        lambda job: '"refused": 0' in output(cluster, job, "client-0"),
    )
    assert ended(first) == "succeeded", output(cluster, first)

    for _ in range(MOST_KILLS):
        late_ns, after_ns = killed_in_a_replay(cluster, first)
        in_time = statistics.median(after_ns) <= SETTLED_NS and max(late_ns) <= LATEST_NS
        if in_time:
            break

    assert in_time, (late_ns, after_ns)
    assert_nothing_is_left(cluster)


def killed_in_a_replay(cluster: Cluster, first: Job) -> tuple[list[int], list[int]]:
    """Kills the manager in a replay, which has each fault once and none before its time.

    How late each was, in nanoseconds, once the manager was back; and of these what came after that.
    """
    made = cluster.users.replay(first.job_id)
    cluster.watch(made, lambda job: len([line for line in job.faults if line.HasField("applied_at")]) >= 4)

    cluster.daemons["manager"].kill()
    cluster.daemons["manager"].restart()
    second = cluster.wait(made)

    assert ended(second) == "succeeded", output(cluster, second) + cluster.story(made)
    restart = next(line.at for line in second.story if line.event == "manager.restarted")
    back_ns = restart.monotonic_ns - second.started_at.monotonic_ns
    then, now = times(first, asked), times(second, asked)
    assert {line: len(found) for line, found in now.items()} == {
        line: len(found) for line, found in then.items()
    }
    assert early(first, second) == [], "before its time"
    pairs = pairs_of(first, second, asked)
    assert any(pair[0] > back_ns for pair in pairs), "all was over when the manager was back"
    late_ns = [pair[1] - max(pair[0], back_ns) for pair in pairs]
    return late_ns, [late for late, pair in zip(late_ns, pairs, strict=True) if pair[1] >= back_ns]
