"""A machine as Debian comes: its own kernel, cgroups of version 2 alone, and both parts on it by systemd."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.booted import BIN, until
from tests.support.virtual import WITHIN_S, VirtualMachine, virtual_machine

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("qemu-system-x86_64", "debootstrap")),
        reason="needs qemu-system-x86 and debootstrap, on amd64",
    ),
    pytest.mark.timeout(3600),  # the first test makes the images where they are not there, boots and installs
]

CPU, MEMORY, PIDS = "cgroup-cpu", "cgroup-memory", "cgroup-pids"


@dataclass(frozen=True)
class Ready:
    """The machine with everything installed, and what was seen on the way there."""

    machine: VirtualMachine
    doctored: dict[str, str]  # before anything was installed: level by name
    top: list[str]  # what the machine's top passed on before
    alone: list[str]  # what slots of a keeper have that no unit delegates to
    node: dict[str, Any]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    """Manager and volunteer with three slots, by two commands."""
    with virtual_machine(tmp_path_factory.mktemp("machine")) as machine:
        top = machine.run("cat", "/sys/fs/cgroup/cgroup.subtree_control").split()
        found = json.loads(machine.run(f"{BIN}/syndicate-volunteer", "doctor", "--json"))
        alone = passed_on_to_slots(machine)
        machine.run(f"{BIN}/syndicatectl", "install", "manager")
        machine.install_volunteer("--slots=3")
        node = until("the volunteer", lambda: first_ready(machine), WITHIN_S)
        yield Ready(machine, {one["name"]: one["level"] for one in found}, top, alone, node)


def passed_on_to_slots(machine: VirtualMachine) -> list[str]:
    """By a keeper that is started by hand, and ended again."""
    keeper = [f"{BIN}/syndicate-keeper", "--instance=alone", "--run-dir=/run/alone", "--volunteer-uid=0"]
    machine.run("mkdir", "/run/alone", "/var/lib/alone")
    machine.run("systemd-run", "--unit=alone", "-pType=notify", *keeper, "--state-dir=/var/lib/alone")
    passed = machine.run("cat", "/sys/fs/cgroup/syndicate-alone/cgroup.subtree_control").split()
    machine.run("systemctl", "stop", "alone")
    return passed


def first_ready(machine: VirtualMachine) -> dict[str, Any] | None:
    """The one node, once it is ready."""
    nodes = machine.json("nodes")["nodes"]
    return next((one for one in nodes if one["state"] == "ready"), None)


def submitted(machine: VirtualMachine, *words: str) -> tuple[dict[str, Any], str]:
    """A job of /opt/jobs that has ended and left nothing on the machine, and what its tasks wrote."""
    job = str(machine.json("submit", *words)["job_id"])
    machine.ctl("wait", job, "--timeout", f"{WITHIN_S:g}s", check=False)
    left = machine.run(f"{BIN}/syndicate-volunteer", "audit", "--json", check=False)
    assert json.loads(left)["left"] == [], left
    return machine.json("show", job), machine.ctl("logs", job)


def test_the_machine_is_what_it_is_to_be(ready: Ready) -> None:
    """A kernel of Debian's, one hierarchy of cgroups, and passed on what systemd needs itself."""
    mounts = ready.machine.run("cat", "/proc/self/mountinfo").splitlines()
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts]
    assert "cgroup2" in kinds and "cgroup" not in kinds
    assert "Debian" in ready.machine.run("uname", "-v")
    assert "cpu" not in ready.top and "memory" in ready.top


def test_doctor_finds_all_well_before_anything_is_installed(ready: Ready) -> None:
    """Each need is met and each fault possible; what is not passed on yet is for the keeper to mend."""
    levels = dict(ready.doctored)
    assert {CPU, MEMORY, PIDS, "fault-reset", "fault-delay"} <= levels.keys()
    assert {name: level for name, level in levels.items() if level != "ok"} == {}


def test_a_keeper_without_a_unit_has_its_controllers_passed_on(ready: Ready) -> None:
    """From the machine's top to its slots, processors among them."""
    assert {"cpu", "memory", "pids"} <= set(ready.alone)


def test_the_node_shows_what_it_can(ready: Ready) -> None:
    """Every bound and every fault."""
    assert {CPU, MEMORY, PIDS, "cut", "reset", "delay", "lose-unsynced"} <= set(ready.node["capabilities"])
    assert ready.node["cannot"] == ready.node["unsafe"] == []
    assert [slot["job_id"] for slot in ready.node["slots"]] == [0] * 3


def test_every_fault_holds(ready: Ready) -> None:
    """The job's client has its slave suffer them and sees that each holds; its verdict counts."""
    words = ("/opt/jobs/probes", "-n", "2", "--client", "/opt/jobs/suffering-client")
    job, output = submitted(ready.machine, *words)
    assert (job["state"], job["result"]["text"]) == ("succeeded", "all held"), output
    kinds = {fault["kind"] for fault in job["faults"]}
    assert {"disconnect", "reset", "degrade", "pause", "disk_full", "signal", "kill"} <= kinds


def test_each_bound_holds(ready: Ready) -> None:
    """Half a processor, forty processes; a task that takes too much memory is ended whole, and told why."""
    bounds = ("--memory=96M", "--disk=32M", "--cpus=0.5", "--pids=40", "--no-client")
    job, output = submitted(ready.machine, "/opt/jobs/bounds", "-n", "3", *bounds)
    exits = {task["ref"]["task"]: task["exit"] for task in job["tasks"]}
    assert (exits["slave-1"]["reason"], exits["slave-0"]["annotations"]) == ("out_of_memory", ["pids_limit"])
    assert job["state"] == "failed" and output.count("survived") == 2, output
    share, made = re.search(r"had (\d+) %", output), re.search(r"stopped after (\d+)", output)
    assert share is not None and int(share[1]) <= 60, output
    assert made is not None and 20 <= int(made[1]) < 40, output
