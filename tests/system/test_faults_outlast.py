"""What lasts over a crash of one of the parts, told by the members that suffer it, and how it is healed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import JOBS, Cluster, ended, output
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system

NAMES = ("master", "slave-0", "slave-1")
BROKEN: dict[str, Any] = {
    "reach": {"master": ["slave-0"], "slave-0": ["master"], "slave-1": []},
    "disks": {"master": "written", "slave-0": "ENOSPC", "slave-1": "written"},
}
WHOLE: dict[str, Any] = {
    "reach": {name: [other for other in NAMES if other != name] for name in NAMES},
    "disks": dict.fromkeys(NAMES, "written"),
}


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """The client that breaks its members, and looks at them whenever it is asked to."""
    source = Path(shutil.copytree(JOBS / "probes-client", tmp_path / "client"))
    makefile = source / "Makefile"
    makefile.write_text(makefile.read_text().replace("PROGRAM ?= client.py", "PROGRAM ?= outlasts.py"))
    return source


def crash(cluster: Cluster, part: str) -> None:
    """Kills a daemon, and starts it again."""
    cluster.daemons[part].kill()
    cluster.daemons[part].restart()


def look(cluster: Cluster, job: int) -> None:
    """Asks the client to look again."""
    with cluster.users.chaos(job, 60.0) as chaos:
        address = next(member.address for member in chaos.members() if member.role == "client")
        chaos.signal(address, "USR1")


@pytest.mark.parametrize("part", ["volunteer", "manager"])
def test_what_is_in_force_outlasts_a_crash_and_is_healed_after_it(
    own_cluster: Cluster, client: Path, part: str
) -> None:
    """Cuts, losses and a full disk stay as they are, and one Heal takes all of them back."""
    job = own_cluster.submit("probes", machines=3, client=client, time_limit_s=120)
    said = own_cluster.log_lines(job, "client-0")
    assert json.loads(next(said)) == BROKEN

    crash(own_cluster, part)
    look(own_cluster, job)
    assert json.loads(next(said)) == BROKEN
    with own_cluster.users.chaos(job, 60.0) as chaos:
        healed = chaos.heal()
        assert len(healed.healed) == 4 and not chaos.faults(in_force=True)
    look(own_cluster, job)
    assert json.loads(next(said)) == WHOLE

    done = own_cluster.wait(job)
    assert (ended(done), done.attempt) == ("succeeded", 1)
    assert_nothing_is_left(own_cluster)


def test_nothing_is_in_force_in_the_attempt_after_a_keepers_crash(own_cluster: Cluster, client: Path) -> None:
    """All members hear each other, each disk takes a write, and the ledger is empty."""
    job = own_cluster.submit("probes", machines=3, client=client, time_limit_s=120)
    assert json.loads(next(own_cluster.log_lines(job, "client-0"))) == BROKEN

    crash(own_cluster, "keeper")
    done = own_cluster.wait(job)

    assert (ended(done), done.attempt) == ("succeeded", 2), output(own_cluster, done)
    assert json.loads(output(own_cluster, done, "client-0").splitlines()[-1]) == WHOLE
    assert list(done.faults) == []
    assert_nothing_is_left(own_cluster)
