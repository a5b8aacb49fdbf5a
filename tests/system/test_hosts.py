"""Several machines, each in a network of its own behind a router: faults across them, and both demo jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.verdicts import prepared
from tests.support import power_cut
from tests.support.cluster import JOBS, eventually
from tests.support.hosts import Hosts, assert_spread, nothing_is_left, routed, run

pytestmark = pytest.mark.system

CUTS = (
    *("partition", "healed", "one way", "shape majority-ring", "disconnect", "lease"),
    *("client cut", "client back"),
)
SUFFERED = (
    *("pause", "resume", "disk full", "disk again", "signal", "killed and revived", "disk kept"),
    *("fresh disk", "ledger"),
)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Four machines; nothing may be left on any of them in the end."""
    with routed(tmp_path_factory.mktemp("four"), "abcd") as hosts:
        yield hosts
        assert eventually("nothing left", lambda: not nothing_is_left(hosts)), nothing_is_left(hosts)


def test_every_fault_holds_across_four_machines(four: Hosts) -> None:
    """Partitions of every shape, one way too, and what tasks suffer; what that network has not is refused."""
    job = run(four, str(JOBS / "probes"), "-n", "3", "--client", str(JOBS / "hosts-client"))
    assert job["state"] == "succeeded", job["output"]
    assert_spread(four, job, 4)
    for said in (*CUTS, *SUFFERED, "refused"):
        assert f"| {said}\n" in job["output"], job["output"]


def test_power_is_lost_on_one_machine_alone(four: Hosts) -> None:
    """A kill of one member takes what it had not synced; the other, on its own machine, has all of it."""
    words = ("submit", str(JOBS / "power"), "-n", "2", "--lose-unsynced", "--json")
    job = str(json.loads(four.ctl(*words).stdout)["job_id"])

    def said() -> str:
        return four.ctl("logs", job, "--task", "master").stdout

    eventually("the other", lambda: "found" in said())
    assert four.ctl("chaos", "signal", job, "USR1", "master").returncode == 0
    eventually("its writes", lambda: "written" in said())
    done = four.program(power_cut.__file__, job)
    master = said()
    four.ctl("cancel", job)
    eventually("its end", lambda: json.loads(four.ctl("show", job, "--json").stdout)["ended_at"])

    assert (done.returncode, done.stdout.split()) == (0, ["synced"]), done.stderr
    assert master.count("found") == master.count("written") == 1, master


@pytest.mark.parametrize(
    ("example", "machines", "state", "verdict"),
    [
        ("redis", 2, "failed", 'false: linearizable: get stale returned "old" '),
        ("raft-kv", 3, "succeeded", "true: all hold: "),
    ],
)
def test_demo_jobs_have_their_verdicts(
    four: Hosts, tmp_path: Path, example: str, machines: int, state: str, verdict: str
) -> None:
    """As on one machine: the replica that reads old values is found, and the Raft store holds."""
    source, client = prepared(example, tmp_path, {"SEED": "1"})
    job = run(four, str(source), "-n", str(machines), "--client", str(client))
    assert (job["state"], job["result"]["text"][: len(verdict)]) == (state, verdict), job["output"]
    assert_spread(four, job, machines + 1)


def test_a_machine_that_claims_anothers_address_is_refused(four: Hosts) -> None:
    """Its line names the address and whose it is; the one that has it keeps its stream and its task."""
    first, links = four.hosts[0], four.folder / "volunteer-a.log"
    submitted = json.loads(four.ctl("submit", str(JOBS / "idle"), "-n", "4", "--json").stdout)
    job = str(submitted["job_id"])

    def state() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(four.ctl("show", job, "--json").stdout)
        return found

    eventually("the job", lambda: state()["state"] == "running")
    before = links.read_text().count("link.")
    four.add("x", claims=first.address)
    log = four.folder / "volunteer-x.log"
    eventually("its refusal", lambda: "link.refused" in log.read_text())

    said = f"{first.address} is the address of a slot of node-a already"
    assert said in log.read_text()
    nodes = json.loads(four.ctl("nodes", "--json").stdout)["nodes"]
    assert [node["volunteer_id"] for node in nodes] == [f"node-{name}" for name in "abcd"]
    assert (state()["state"], state()["attempt"]) == ("running", 1)
    assert links.read_text().count("link.") == before
    four.ctl("cancel", job)
    eventually("its end", lambda: state()["state"] == "cancelled")
