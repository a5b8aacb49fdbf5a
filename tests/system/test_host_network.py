"""`network = "host"`: machines with one slot each, in the machine's own network, on several machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import JOBS, eventually, tree
from tests.support.hosts import MANAGER, Hosts, nothing_is_left

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def all_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three machines at one switch, and a manager."""
    folder = tmp_path_factory.mktemp("hosts")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    with Hosts(folder, "abc") as hosts:
        yield hosts


@pytest.fixture
def hosts(all_hosts: Hosts) -> Iterator[Hosts]:
    """Those machines; nothing may be left on any of them after the test."""
    yield all_hosts
    assert eventually("nothing left", lambda: not nothing_is_left(all_hosts)), nothing_is_left(all_hosts)


def test_a_job_of_one_machine_runs_in_the_hosts_network(hosts: Hosts, tmp_path: Path) -> None:
    """Its address is the machine's, and the machine's device is what it sees."""
    source = tree(
        tmp_path,
        {"Makefile": ".PHONY: master\nmaster:\n\t@echo at $$SYNDICATE_ADDRESS; cut -d: -f1 /proc/net/dev\n"},
    )
    done = hosts.ctl("submit", str(source), "--follow", "--json")
    assert done.returncode == 0, done
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    address = job["tasks"][0]["address"]
    text = hosts.ctl("logs", str(job["job_id"])).stdout
    assert address in [host.address for host in hosts.hosts]
    assert f"at {address}" in text and "synup" in text


def test_a_gang_over_three_machines_is_cut_and_healed(hosts: Hosts) -> None:
    """Cuts are silent both ways, heal, leave loopback and the manager alone; the client asserts it."""
    words = (
        "submit",
        str(JOBS / "pair"),
        "-n",
        "2",
        "--client",
        str(JOBS / "pair-client"),
        "--follow",
        "--json",
    )
    done = hosts.ctl(*words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    assert sorted(task["address"] for task in job["tasks"]) == [host.address for host in hosts.hosts]
    assert len({task["volunteer_id"] for task in job["tasks"]}) == 3
    assert len(job["faults"]) == 4 and not any(fault["error"] for fault in job["faults"])


def test_a_task_reaches_its_job_and_not_the_manager(hosts: Hosts, tmp_path: Path) -> None:
    """Isolation holds in the host's network too: the manager's port answers the machine, and not its task."""
    ask = f"timeout 2 bash -c '</dev/tcp/{MANAGER}/7000' && echo reached || echo not reached"
    makefile = f".PHONY: master\nmaster:\n\t@{ask}\n"
    done = hosts.ctl("submit", str(tree(tmp_path, {"Makefile": makefile})), "--follow")
    assert done.returncode == 0 and "not reached" in done.stdout, done


def test_more_machines_than_hosts_are_refused(hosts: Hosts) -> None:
    """One machine is one slot; all machines of one network are one place for gangs."""
    done = hosts.ctl("submit", str(JOBS / "idle"), "-n", "4")
    assert done.returncode == 65 and "At most -n 3 fits" in done.stderr, done


def test_nodes_tell_how_they_are_on_the_network(hosts: Hosts) -> None:
    """Weaker isolation is told."""
    nodes = json.loads(hosts.ctl("nodes", "--json").stdout)["nodes"]
    assert [node["network"] for node in nodes] == ["host"] * 3


def test_nodes_tell_which_faults_they_cannot_make(hosts: Hosts) -> None:
    """Each with the reason that its keeper found; the others, such as to cut one way, are not among them."""
    lacking = {"reset", "loss", "rate", "delay", "jitter", "duplicate", "corrupt", "reorder"}
    for node in json.loads(hosts.ctl("nodes", "--json").stdout)["nodes"]:
        cannot = {one["capability"]: one["why"] for one in node["cannot"]}
        assert lacking <= cannot.keys() and "one-way" not in cannot, cannot
        assert all("in the host's network" in cannot[name] for name in lacking), cannot
    told = hosts.ctl("nodes", "--wide").stdout
    lines = [line.split("   ")[0] for line in told.splitlines() if line.startswith("cannot ")]
    assert lacking <= {name for line in lines for name in line.removeprefix("cannot ").split(", ")}, told
