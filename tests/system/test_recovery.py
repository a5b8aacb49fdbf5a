"""Parts that crash in the middle of a job: it comes to a true end, or starts again; nothing is in limbo."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.cluster import JOBS, Cluster, ended, eventually, output, tree
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system

EVERY_LINE = "".join(f"line {n}\n" for n in range(600))
ENDLESS = """\
.PHONY: master slave
master slave:
\t@n=0; while :; do echo "line $$n"; n=$$((n + 1)); sleep 0.05; done
"""
ENDLESS_AT_FIRST = """\
.PHONY: master slave
master slave:
\t@[ $$SYNDICATE_ATTEMPT != 1 ] || { echo runs; exec sleep infinity; }; exec python3 -u count.py
"""


def until_line(cluster: Cluster, job: int, task: str, line: str) -> None:
    """Waits until a task has written a line."""
    for found in cluster.log_lines(job, task):
        if found == line:
            return
    raise AssertionError(f"{task} ended without {line!r}")


def test_a_volunteer_killed_and_started_again_leaves_its_tasks_running(own_cluster: Cluster) -> None:
    """Tasks run on, and are adopted with logs and exit status whole."""
    job = own_cluster.submit("counter", machines=2)
    until_line(own_cluster, job, "master", "line 50")
    own_cluster.daemons["volunteer"].kill()
    own_cluster.daemons["volunteer"].restart()
    result = own_cluster.wait(job)
    assert ended(result) == "failed" and result.attempt == 1, result
    assert [task.exit.recipe_status for task in result.tasks] == [7, 7]
    assert output(own_cluster, result, "master").startswith(EVERY_LINE)
    assert output(own_cluster, result, "slave-0").startswith(EVERY_LINE)
    assert_nothing_is_left(own_cluster)


def test_a_manager_killed_in_mid_job_finds_it_running(own_cluster: Cluster) -> None:
    """The job goes on without its manager and is found again, with its output whole."""
    job = own_cluster.submit("counter", machines=2)
    until_line(own_cluster, job, "slave-0", "line 50")
    own_cluster.daemons["manager"].kill()
    own_cluster.daemons["manager"].restart()
    result = own_cluster.wait(job)
    assert ended(result) == "failed" and result.attempt == 1, result
    assert output(own_cluster, result, "slave-0").startswith(EVERY_LINE)
    assert_nothing_is_left(own_cluster)


def test_a_machine_that_dies_in_mid_job_has_it_started_again(own_cluster: Cluster, tmp_path: Path) -> None:
    """Keeper and volunteer die together; when they are back, the job runs as its next attempt."""
    source = Path(shutil.copytree(JOBS / "counter", tmp_path / "counter"))
    (source / "Makefile").write_text(ENDLESS_AT_FIRST)  # however late they die
    job = own_cluster.submit(source, machines=2)
    until_line(own_cluster, job, "master", "runs")
    for name in ("volunteer", "keeper"):
        own_cluster.daemons[name].kill()
    for name in ("keeper", "volunteer"):
        own_cluster.daemons[name].restart()
    result = own_cluster.wait(job)
    assert ended(result) == "failed" and result.attempt == 2, result
    assert output(own_cluster, result, "master").startswith(EVERY_LINE)
    assert_nothing_is_left(own_cluster)


def test_a_keeper_that_hung_is_used_again(own_cluster: Cluster, tmp_path: Path) -> None:
    """The volunteer gives its connection up in the midst of a release, and goes on when it answers."""
    job = own_cluster.submit(tree(tmp_path, {"Makefile": ENDLESS}), machines=2)
    until_line(own_cluster, job, "master", "line 20")
    own_cluster.daemons["keeper"].pause()
    own_cluster.users.cancel(job)
    log = own_cluster.dir / "volunteer.log"
    eventually("the connection is given up", lambda: "keeper.reset" in log.read_text())
    own_cluster.daemons["keeper"].resume()
    assert ended(own_cluster.wait(job)) == "cancelled"
    after = own_cluster.submit("idle", machines=4)
    own_cluster.until_running(after)
    own_cluster.users.cancel(after)
    assert ended(own_cluster.wait(after)) == "cancelled"
    assert_nothing_is_left(own_cluster)


def test_a_submission_waits_for_a_manager_that_comes_back(own_cluster: Cluster) -> None:
    """The volunteer registers by itself again, and what was acknowledged is there."""
    first = own_cluster.submit("idle", machines=4)
    second = own_cluster.submit("idle", machines=1)
    own_cluster.until_running(first)
    own_cluster.daemons["manager"].kill()
    own_cluster.daemons["manager"].restart()
    assert eventually("the queue", lambda: own_cluster.users.job(second).queue_place) == 1
    own_cluster.users.cancel(first)
    own_cluster.until_running(second)
    own_cluster.users.cancel(second)
    assert ended(own_cluster.wait(second)) == "cancelled"
    assert_nothing_is_left(own_cluster)


def test_a_client_in_the_middle_of_its_faults_outlives_its_manager(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    """A call is tried again under one request id until the manager is back, and its effect happens once."""
    check = (
        "from syndicate.client_api import Chaos\n"
        "import time\n"
        "with Chaos.from_env(timeout=60) as chaos:\n"
        "    slave = next(m for m in chaos.members() if m.task == 'slave-0')\n"
        "    print('go', flush=True)\n"
        "    end, rounds = time.monotonic() + 6, 0\n"
        "    while time.monotonic() < end:\n"
        "        assert not chaos.kill(slave.address).already or rounds\n"
        "        chaos.revive(slave.address)\n"
        "        rounds += 1\n"
        "    chaos.finish('pass', metrics={'rounds': rounds})\n"
    )
    client = tree(tmp_path, {"Makefile": ".PHONY: client\nclient:\n\t@exec python3 -u c.py\n", "c.py": check})
    job = own_cluster.submit("idle", machines=2, client=client)
    until_line(own_cluster, job, "client-0", "go")
    own_cluster.daemons["manager"].kill()
    own_cluster.daemons["manager"].restart()
    result = own_cluster.wait(job)
    assert ended(result) == "succeeded" and result.attempt == 1, output(own_cluster, result)
    generations = [run.generation for task in result.tasks if task.ref.task == "slave-0" for run in task.runs]
    assert generations == sorted(set(generations)), "no generation starts twice"
    assert_nothing_is_left(own_cluster)
