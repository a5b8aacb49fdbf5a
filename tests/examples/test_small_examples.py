"""The small examples: each does what its first lines say, run through its own Makefile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from made_job import EXAMPLES, MadeJob
from syndicate.client_api.testing import FakeChaosServer
from syndicate.v1 import common_pb2 as common

CLIENT_S = 300.0  # its own waits are for a minute each
MOST_TRIES = 3
pytestmark = pytest.mark.timeout((MOST_TRIES + 1) * CLIENT_S)


def _client(example: str, job: MadeJob, **settings: str) -> str:
    """Runs an example's client to its end against a job; what it printed. Settings are its Makefile's."""
    with tempfile.TemporaryDirectory() as folder, FakeChaosServer(job=job) as chaos:
        made = shutil.copytree(EXAMPLES / example, Path(folder) / "client")  # it may write beside itself
        environment = {
            **chaos.environ,
            # As in the sandbox: `python3` finds the stubs, and `syndicate-chaos` is on the path.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SYNDICATE_MASTER": job.master,
            "SYNDICATE_SLAVES": ",".join(job.slaves),
        }
        target = [f"MASTER={job.master}", f"SLAVES={','.join(job.slaves)}"]
        target += [*(f"{name}={value}" for name, value in settings.items()), "client"]
        done = subprocess.run(
            ["make", "-s", "-C", str(made), *target],
            env=environment,
            capture_output=True,
            text=True,
            timeout=CLIENT_S,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _counter(folder: Path, net: str) -> MadeJob:
    members = {f"{net}.1": ["master"], f"{net}.2": [f"MASTER={net}.1", "slave"]}
    return MadeJob(folder, EXAMPLES / "counter", members)


def test_hello_exchanges_one_line(tmp_path: Path) -> None:
    """Each slave greets the master and is greeted, and all end with status 0."""
    net = "127.79.1"
    slaves = {f"{net}.{number}": [f"MASTER={net}.1", "slave"] for number in (2, 3)}
    with MadeJob(tmp_path, EXAMPLES / "hello", {f"{net}.1": ["master"], **slaves}) as job:
        master, first, second = (job.ended(ip) for ip in (job.master, *job.slaves))

    assert first == (0, "hello slave-0, this is the master\n")
    assert second == (0, "hello slave-1, this is the master\n")
    assert sorted(master[1].splitlines()) == ["slave-0 says hello", "slave-1 says hello"]
    assert master[0] == 0


def test_bare_stubs_revive_with_the_disk(tmp_path: Path) -> None:
    """A client on the stubs alone kills and revives the master, which keeps its disk, and finishes."""
    with _counter(tmp_path, "127.79.2") as job:
        printed = _client("bare-stubs", job)

    assert "generation 2, 1 then 2 starts" in printed
    assert [call.rpc for call in job.calls] == ["Kill", "Revive", "Finish"]
    assert job.results["client-0"].text == "the disk was kept"


def test_shell_client_makes_every_call(tmp_path: Path) -> None:
    """A client in shell cuts, heals, kills and revives without disk through `syndicate-chaos`."""
    with _counter(tmp_path, "127.79.3") as job:
        printed = _client("shell-client", job)

    assert "starts counted before: 1, after its disk was lost: 1" in printed
    assert [call.rpc for call in job.calls] == ["Disconnect", "Reconnect", "Kill", "Revive", "Finish"]
    result = job.results["client-0"]
    assert (result.score, dict(result.metrics), result.text) == (1.0, {"starts": 1.0}, "the disk was fresh")


def asked(rpc: str, job: MadeJob) -> int:
    """How often this was asked for; a call that was repeated, since its answer was late, is one."""
    return len({call.request.request_id for call in job.calls if call.rpc == rpc})


def test_nemesis_breaks_slaves_by_its_seed(tmp_path: Path) -> None:
    """Each kind of fault comes, the slaves live again, and what was seen passes, faults and all."""
    net = "127.79.4"
    slaves = {f"{net}.{number}": [f"MASTER={net}.1", "slave"] for number in (2, 3)}
    for number in range(MOST_TRIES):
        folder = tmp_path / str(number)
        with MadeJob(folder, EXAMPLES / "nemesis", {f"{net}.1": ["master"], **slaves}) as job:
            printed = _client("nemesis/client", job, SEED="7", SECONDS="4", LEAD="1")
        # Where the machine stood still for as long as a fault held nothing was tested by it, and it says so.
        # And a kill that was not answered in time is taken back, whether it came or not.
        if "vacuous" not in job.results["client-0"].text and asked("Kill", job) == asked("Revive", job):
            break

    lives = [call for call in job.calls if call.rpc in ("Kill", "Revive")]
    last = {ip: call.rpc for call in lives for ip in call.request.ips or [call.request.ip]}
    assert {"Kill", "Revive", "Pause", "Disconnect", "Heal"} <= {call.rpc for call in job.calls}
    assert set(last.values()) == {"Revive"}
    assert asked("Kill", job) == asked("Revive", job), [(call.rpc, call.error) for call in lives]
    assert not any(fault.in_force for fault in job.faults)
    result = job.results["client-0"]
    assert result.outcome == common.OUTCOME_PASS, printed
    assert result.text.startswith("true: all hold: linearizable, available, tested\n"), printed
    assert result.metrics["nemesis_seed"] == 7
    assert "\n0 refused\n" in printed
