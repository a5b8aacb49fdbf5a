"""A cluster of containers, each volunteer in one of its own, brought up by `make cluster`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.verdicts import prepared
from tests.support import power_cut
from tests.support.booted import docker, until
from tests.support.cluster import JOBS
from tests.support.containers import Containers, containers

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("dockerd", "docker-compose", "debootstrap")),
        reason="needs docker.io, docker-compose and debootstrap",
    ),
    pytest.mark.timeout(2400),  # the first test may have to make the base image
]


@pytest.fixture(scope="module")
def all_containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """An engine with the images, and the cluster as it comes: four volunteers."""
    with containers(tmp_path_factory.mktemp("containers")) as made:
        made.make("cluster")
        yield made


@pytest.fixture
def cluster(all_containers: Containers) -> Containers:
    """Four volunteers, whatever the test before has left."""
    if len(all_containers.names("volunteer")) != 4 or len(all_containers.ready()) != 4:
        all_containers.up(4)
    return all_containers


def assert_spread(job: dict[str, Any], tasks: int) -> None:
    """Each task of it was in a container of its own."""
    assert len({task["address"] for task in job["tasks"]}) == tasks == len(job["tasks"])


def test_four_volunteers_register_by_themselves(cluster: Containers) -> None:
    """Each is a machine with one slot on the network of the containers, and isolates tasks in full."""
    nodes = until("all four", lambda: ready if len(ready := cluster.ready()) == 4 else None)
    assert sorted(node["volunteer_id"] for node in nodes) == sorted(cluster.names("volunteer"))
    assert [(node["network"], len(node["slots"]), node["unsafe"]) for node in nodes] == [("host", 1, [])] * 4


@pytest.mark.parametrize("name", ["syndicate-manager", "syndicate-volunteer"])
def test_images_are_small(cluster: Containers, name: str) -> None:
    """Beside their base they have the wheel and what it needs, and no tool that made them."""
    words = ("image", "inspect", "--format", "{{.Size}}")
    base, whole = (int(cluster.docker(*words, image)) for image in ("syndicate-base", name))
    assert 0 < whole - base < 130_000_000


def test_nodes_tell_what_a_network_of_containers_has_not(cluster: Containers) -> None:
    """Each fault with its reason: those that need a device of the slot's own, or one of the host's."""
    said = cluster.ctl("nodes", "--wide")
    missing = {one["capability"] for node in cluster.ready() for one in node["cannot"]}

    assert missing == {
        *("reset", "loss", "rate", "delay", "jitter", "duplicate", "corrupt", "reorder", "lose-unsynced"),
    }
    words = " ".join(said.split())
    assert missing <= {word.rstrip(",") for word in words.partition("cannot ")[2].split()}, said
    assert words.count("not in the host's network") == 1, said
    assert "not in the host's network" in words and "there are no loop devices here" in words, said


def test_a_loss_of_power_takes_what_was_not_synced(cluster: Containers) -> None:
    """Where containers were asked for with the loop devices that such a disk is made on."""
    cluster.up(4, "LOSE_UNSYNCED=1")
    job = cluster.submit(cluster.copy(JOBS / "power"), 2, "--lose-unsynced")

    (manager,) = cluster.names("manager")
    program = Path(power_cut.__file__).read_text()
    seen = cluster.docker("exec", manager, "python3", "-I", "-c", program, job).split()
    cluster.ctl("cancel", job)
    cluster.ended(job)
    cluster.up(4)

    assert seen == ["synced"]


def test_a_cut_between_containers_is_silent_and_heals(cluster: Containers) -> None:
    """Both ways, for what is under way and what is new, and the manager hears both; the client asserts it."""
    pair, client = cluster.copy(JOBS / "pair"), cluster.copy(JOBS / "pair-client")
    job = cluster.ended(cluster.submit(pair, 2, "--client", client))
    assert job["state"] == "succeeded", job["output"]
    assert_spread(job, 3)
    assert len(job["faults"]) == 4 and not any(fault["error"] for fault in job["faults"])


@pytest.mark.parametrize(
    ("example", "machines", "state", "verdict"),
    [
        ("redis", 2, "failed", 'false: linearizable: get stale returned "old" '),
        ("raft-kv", 3, "succeeded", "true: all hold: "),
    ],
)
def test_demo_jobs_have_their_verdicts(
    cluster: Containers, tmp_path: Path, example: str, machines: int, state: str, verdict: str
) -> None:
    """As on one machine: the replica that reads old values is found, and the Raft store holds."""
    source, client = prepared(example, tmp_path, {"SEED": "1"})
    # In /home each example's client has a name of its own.
    there, tested_by = cluster.copy(source), cluster.copy(client.rename(tmp_path / f"{example}-client"))
    job = cluster.ended(cluster.submit(there, machines, "--client", tested_by))
    assert (job["state"], job["result"]["text"][: len(verdict)]) == (state, verdict), job["output"]
    assert_spread(job, machines + 1)


def test_a_job_of_a_container_that_is_killed_starts_again_elsewhere(cluster: Containers) -> None:
    """And the container, started again, is the same volunteer."""
    job = cluster.submit(cluster.copy(JOBS / "again"), 2)
    (victim, other) = (task["volunteer_id"] for task in cluster.until_running(job)["tasks"])
    cluster.docker("kill", victim)
    result = cluster.ended(job)
    cluster.docker("start", victim)
    both = {victim, other}
    until("its return", lambda: both <= {node["volunteer_id"] for node in cluster.ready()})

    assert result["attempt"] == 2 and victim not in [task["volunteer_id"] for task in result["tasks"]]
    assert [task["exit"]["recipe_status"] for task in result["tasks"]] == [7, 7], result["output"]


def test_scaling_touches_no_job_of_those_that_stay(cluster: Containers) -> None:
    """Up, a job that waits starts on the new ones; down, it is queued again, and the first one runs on."""
    idle = cluster.copy(JOBS / "idle")
    before = set(cluster.names("volunteer"))
    first = cluster.submit(idle, 3)
    cluster.until_running(first)
    second = cluster.submit(idle, 4)
    cluster.up(8)
    placed = {task["volunteer_id"] for task in cluster.until_running(second)["tasks"]}
    cluster.up(4)

    def again() -> bool:
        return bool(cluster.json("show", second)["state"] == "queued")

    until("its return to the queue", again)
    stayed = cluster.json("show", first)
    for job in (second, first):
        cluster.ctl("cancel", job)
    for job in (second, first):
        cluster.ended(job)

    assert set(cluster.names("volunteer")) == before and placed - before
    assert (stayed["state"], stayed["attempt"]) == ("running", 1)


def test_a_shell_has_what_people_need(cluster: Containers) -> None:
    """`make shell`: syndicatectl as the first admin, the examples, and /home, which every container has."""
    said = cluster.make("shell", text="syndicatectl nodes && ls /examples && echo shared >/home/note\n")
    volunteer = cluster.names("volunteer")[0]
    assert volunteer in said and "raft-kv" in said
    assert cluster.docker("exec", volunteer, "cat", "/home/note") == "shared\n"


def test_what_a_volunteer_lays_into_home_does_not_run_at_the_manager(cluster: Containers) -> None:
    """All write there, and the manager's container holds the authority's key and the admin's token."""
    traps = {
        "/home/json.py": "open('/home/sprung', 'w')",
        "/home/shutil.py": "open('/home/sprung', 'w')",
        "/home/.bashrc": "touch /home/sprung",
    }
    volunteer = cluster.names("volunteer")[0]
    for path, text in traps.items():
        lay = ("exec", "--user", "syndicate-volunteer", volunteer, "sh", "-c", 'echo "$2" >"$1"')
        cluster.docker(*lay, "sh", path, text)
    (manager,) = cluster.names("manager")
    try:
        cluster.up(4)
        cluster.docker("exec", manager, "bash", "-ic", "true")
        cluster.docker("restart", manager)
        cluster.up(4)
        seen = cluster.make("shell", text="pwd; ls /home\n").split()
    finally:
        cluster.docker("exec", volunteer, "rm", "-f", *traps, "/home/sprung")

    assert seen[0] == "/home" and "json.py" in seen and "sprung" not in seen


def test_state_survives_down_and_not_a_reset(cluster: Containers) -> None:
    """Jobs are there again after `make cluster-down`; after `make cluster-reset` only /home is."""
    cluster.ended(cluster.submit("/examples/hello", 2))
    cluster.make("cluster-down")
    cluster.up(4)
    kept = cluster.json("jobs", "--all")["jobs"]
    cluster.copy(JOBS / "idle")
    cluster.make("cluster-reset")
    cluster.up(4)

    assert kept != [] and cluster.json("jobs", "--all")["jobs"] == []
    cluster.make("shell", text="test -e /home/idle/Makefile\n")


def test_nothing_is_left_of_jobs(cluster: Containers) -> None:
    """Each keeper has no more than it always has; else its audit would not end well."""
    for name in cluster.names("volunteer"):
        until(f"nothing left in {name}", lambda name=name: audits_well(cluster, name))


def audits_well(cluster: Containers, name: str) -> bool:
    """Whether the keeper of a container has nothing of a job."""
    words = ("exec", name, "syndicate-volunteer", "audit")
    return docker(cluster.address, *words, check=False).returncode == 0
