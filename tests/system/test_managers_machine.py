"""`network = "host"` where the manager runs on the machine of a member: no cut severs a volunteer from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.cli.unprivileged import UNPRIVILEGED_UID

from tests.support.cluster import JOBS, eventually
from tests.support.hosts import VOLUNTEERS, Host, Hosts, inside, nothing_is_left

pytestmark = pytest.mark.system

_CALL = (
    "import socket, sys; host, port = sys.argv[1].split(':'); socket.create_connection((host, int(port)), 50)"
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Hosts]:
    """The manager's machine and another one, both volunteers as `install` makes them."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    with Hosts(tmp_path, "a") as hosts:
        hosts.add_managers()
        yield hosts
        assert eventually("nothing left", lambda: not nothing_is_left(hosts)), nothing_is_left(hosts)


def calls_the_manager(host: Host) -> bool:
    """Whether a new connection from its volunteer's user gets there."""
    as_volunteer = ["setpriv", f"--reuid={UNPRIVILEGED_UID}", "--clear-groups"]
    command = inside(host.namespace, *as_volunteer, sys.executable, "-c", _CALL, VOLUNTEERS)
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("member", ["master", "slave-0"])
def test_a_cut_from_the_managers_machine_holds_and_is_healed(two: Hosts, member: str) -> None:
    """The tasks hear nothing of each other, both volunteers hear the manager, and so the job goes on."""
    job = str(json.loads(two.ctl("submit", str(JOBS / "pair"), "-n", "2", "--json").stdout)["job_id"])
    eventually("both tasks", lambda: json.loads(two.ctl("show", job, "--json").stdout)["state"] == "running")

    cut = two.ctl("chaos", "disconnect", job, member)
    heard = [calls_the_manager(host) for host in two.hosts]
    healed = two.ctl("chaos", "reconnect", job, member)
    shown = json.loads(two.ctl("show", job, "--json").stdout)
    two.ctl("cancel", job)

    assert cut.returncode == healed.returncode == 0, cut.stderr + healed.stderr
    assert heard == [True, True]
    assert (shown["state"], shown["attempt"]) == ("running", 1)
