"""Machines that hang or crash: no slot is given away under a task, nothing is left, nobody else touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import Cluster, ended, eventually, processes_in, tree
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system

SHORT = {
    "SYNDICATE_MANAGER_HEARTBEAT_INTERVAL_S": "0.5",
    "SYNDICATE_MANAGER_ORPHAN_AFTER_S": "8",
    "SYNDICATE_MANAGER_LOST_AFTER_S": "40",
}


def test_a_volunteer_that_hangs_loses_its_tasks_before_its_job_starts_again(own_cluster: Cluster) -> None:
    """The keeper ends them when the lease is over; only later the manager gives the job its next attempt."""
    own_cluster.daemons["manager"].kill()
    own_cluster.daemons["manager"].restart(**SHORT)
    eventually("the volunteer", lambda: own_cluster.users.cluster().free_slots == 4)
    job = own_cluster.submit("idle", machines=2)
    own_cluster.until_running(job)
    assert own_cluster.task_processes()
    own_cluster.daemons["volunteer"].pause()
    try:
        eventually("no process is left", lambda: not own_cluster.task_processes(), 30.0)
        before = own_cluster.users.job(job)
        assert ended(before) == "running" and before.attempt == 1, "the slots were given away too early"
        own_cluster.watch(job, lambda now: ended(now) == "queued" and now.attempt == 2)
    finally:
        own_cluster.daemons["volunteer"].resume()
    running = own_cluster.until_running(job)
    assert running.attempt == 2 and own_cluster.task_processes()
    own_cluster.users.cancel(job)
    assert ended(own_cluster.wait(job)) == "cancelled"
    # Those of the first attempt are given back when their volunteer comes to it.
    eventually("all slots", lambda: own_cluster.users.cluster().free_slots == own_cluster.slots)
    assert_nothing_is_left(own_cluster)


def test_daemonised_processes_are_gone_from_the_process_table(cluster: Cluster, tmp_path: Path) -> None:
    """After Kill not one of the 200 that left their session and parent is there, while the job goes on."""
    check = (
        "import sys, time\n"
        "from syndicate.client_api import Chaos\n"
        "with Chaos.from_env() as chaos:\n"
        "    sys.stdin = open('go'); sys.stdin.readline()\n"
        "    print('killed', chaos.kill(sys.argv[1]).processes, flush=True)\n"
        "    time.sleep(3600)\n"
    )
    makefile = ".PHONY: client\nclient:\n\t@mkfifo go; echo waiting; exec python3 -u c.py $(SLAVES)\n"
    client = tree(tmp_path, {"Makefile": makefile, "c.py": check})
    job = cluster.submit("daemons", machines=2, client=client)
    cluster.until_running(job)
    eventually("200 daemons", lambda: len(daemonised(cluster)) == 200)
    waiting = eventually(
        "its client",
        lambda: next((pid for pid in cluster.task_processes() if _command(pid)[-2:-1] == ["c.py"]), None),
    )
    Path(f"/proc/{waiting}/root/go").write_text("now\n")
    killed = next(line for line in cluster.log_lines(job, "client-0") if line.startswith("killed"))
    left = [_command(pid) for pid in cluster.task_processes()]
    assert int(killed.split()[1]) > 200
    assert not daemonised(cluster)
    assert not [words for words in left if "http.server" in words], left
    assert ended(cluster.users.job(job)) == "running"
    cluster.users.cancel(job)
    cluster.wait(job)
    assert not cluster.task_processes()


def test_what_a_crash_left_is_removed_by_its_exact_name(cluster: Cluster, own_cluster: Cluster) -> None:
    """All three daemons crash in mid job: `down` clears up, `up` works again, a neighbour's job runs on."""
    neighbours = cluster.submit("idle", machines=2)
    cluster.until_idle(neighbours)
    others = cluster.task_processes()
    job = own_cluster.submit("daemons", machines=2)
    own_cluster.until_running(job)
    eventually("its daemons", lambda: len(own_cluster.task_processes()) > 100)
    for name in ("volunteer", "manager", "keeper"):
        own_cluster.daemons[name].kill()
    any_port = ("--port", "0", "--volunteer-port", "0")
    again = own_cluster.ctl("up", "--slots", "4", "--dir", str(own_cluster.dir), *any_port)
    assert again.returncode == 71 and "up in part" in again.stderr and "syndicatectl down" in again.stderr

    down = own_cluster.ctl("down", "--dir", str(own_cluster.dir))

    assert down.returncode == 0, down.stderr
    assert not processes_in(own_cluster.cgroup_name, waiting=True)
    assert not own_cluster.run_dir.exists() and not own_cluster.dir.exists()
    assert not [str(path) for path in cgroups(own_cluster.cgroup_name)]
    assert str(own_cluster.dir) not in Path("/proc/self/mountinfo").read_text()
    assert cluster.task_processes() == others and ended(cluster.users.job(neighbours)) == "running"
    up = own_cluster.ctl("up", "--slots", "4", "--dir", str(own_cluster.dir), *any_port)
    assert up.returncode == 0, up.stderr
    cluster.users.cancel(neighbours)
    cluster.wait(neighbours)


def daemonised(cluster: Cluster) -> list[int]:
    """The processes that the job `daemons` lets go."""
    return [pid for pid in cluster.task_processes() if _command(pid)[:2] == ["sleep", "3600"]]


def cgroups(name: str) -> list[Path]:
    """A keeper's folders, in every hierarchy that is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    hierarchies = [Path(fields[4]) for fields in mounts if " - cgroup" in " ".join(fields)]
    return [path for hierarchy in hierarchies if (path := hierarchy / name).exists()]


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []
