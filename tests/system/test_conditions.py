"""Conditions of a machine that docs/operating.md tells of, each made in namespaces of the test's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from syndicate.client_api import SchedulerClient, SyndicateError
from syndicate.v1.scheduler_pb2 import Team

from tests.support.cluster import BIN, JOBS, free_ports

pytestmark = pytest.mark.system

DOCKERS_DROP = (
    "nft add table ip filter; "
    'nft add chain ip filter FORWARD "{ type filter hook forward priority 0 ; policy drop ; }"'
)
CONDITIONS = {
    "FORWARD DROP": DOCKERS_DROP,
    "no IPv6": "for each in all default lo; do echo 1 >/proc/sys/net/ipv6/conf/$each/disable_ipv6; done",
    "small MTU": "ip link set lo mtu 1000",
}


def there(condition: str, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a network where the condition holds; `$1` and so on are the words."""
    before = f"set -e; ip link set lo up; {condition}"
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", f"{before}\n{script}", "sh", *words],
        env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_a_cluster_works_all_the_same(tmp_path_factory: pytest.TempPathFactory, condition: str) -> None:
    """A job's members talk, are cut and healed, as their client asserts."""
    folder = tmp_path_factory.mktemp("c")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    script = """
    "$1" up --slots 3 --dir "$2/c" --port "$5" --volunteer-port "$6" >&2
    trap '"$1" down >&2' EXIT
    "$1" submit "$3" -n 2 --client "$4" --follow --json
    """
    ports = map(str, free_ports(2))
    words = (str(BIN / "syndicatectl"), str(folder), str(JOBS / "pair"), str(JOBS / "pair-client"), *ports)
    done = there(condition, script, *words, XDG_STATE_HOME=str(folder / "state"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    assert job["state"] == "succeeded" and len(job["faults"]) == 4


def test_a_small_mtu_is_told(tmp_path: Path) -> None:
    """Doctor says which it is, and what to set."""
    listener = tmp_path / "listener.py"
    listener.write_text(
        "import socket, subprocess, sys\n"
        "with socket.create_server(('127.0.0.1', 7001)):\n"
        "    words = [sys.argv[1], 'doctor', '--json', '--manager', '127.0.0.1:7001']\n"
        "    subprocess.run(words, check=False)\n"
    )
    words = (sys.executable, str(listener), str(BIN / "syndicate-volunteer"))
    done = there(CONDITIONS["small MTU"], '"$1" "$2" "$3"', *words)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert (found["mtu"]["level"], found["mtu"]["detail"]) == (
        "degraded",
        "1000 on the way to 127.0.0.1:7001",
    )
    assert "mtu 1280" in found["mtu"]["remedy"]


def test_an_old_kernel_is_refused(tmp_path: Path) -> None:
    """The keeper does not start: one line with what there is and what it needs, one with what mends it."""
    keeper = [str(BIN / "syndicate-keeper"), "--instance", "synold", "--volunteer-uid", "199999"]
    keeper += ["--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(
        ["setarch", "--uname-2.6", *keeper], capture_output=True, text=True, timeout=120, check=False
    )
    said, remedy = done.stderr.splitlines()
    assert done.returncode == 78
    assert said.startswith("syndicate-keeper: kernel: Linux 2.6.") and "5.14 or newer is needed" in said
    assert "linux-image" in remedy and list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "syndisk", folder], check=True, timeout=60
    )
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=60)


@contextmanager
def manager(state: Path, log: Path) -> Iterator[tuple[subprocess.Popen[str], SchedulerClient]]:
    """A manager on this state directory, and a client of its first admin."""
    command = [BIN / "syndicate-manager", "--insecure", "--state-dir", state]
    command += ["--listen-users", "127.0.0.1:0", "--listen-volunteers", "127.0.0.1:0"]
    with (
        log.open("a") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            told = dict(word.split("=") for word in process.stdout.readline().split()[1:])
            token = (state / "admin.token").read_text().strip()
            with SchedulerClient(
                told["users"], token, insecure=True, connect_for=60.0, reconnect_for=10.0
            ) as client:
                yield process, client
        finally:
            process.terminate()


def fill(file: IO[bytes]) -> None:
    """Raises OSError once there is no room."""
    while True:
        file.write(bytes(4096))


def make_teams(client: SchedulerClient, made: list[str]) -> None:
    """As many as there may be; those that were acknowledged are added to the list."""
    for number in range(20_000):
        client.put_team(Team(name=f"team-{number}"))
        made.append(f"team-{number}")


def test_a_manager_whose_disk_is_full_stops_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    """What it cannot write it does not acknowledge, and ends with 74; with room it goes on where it was."""
    made: list[str] = []
    filler = small_disk / "filler"
    with manager(small_disk, tmp_path / "log") as (process, client):
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            fill(file)
        with pytest.raises(SyndicateError):
            make_teams(client, made)
        status = process.wait(60)
    filler.unlink()

    with manager(small_disk, tmp_path / "log") as (_, client):
        kept = {team.name for team in client.teams()}

    said = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: ")]
    assert status == 74 and len(said) == 1 and "full" in said[0]
    assert set(made) <= kept


def test_a_disk_that_is_too_small_for_a_manager_is_told(small_disk: Path) -> None:
    """With how much it needs, and the status of a full disk."""
    with (small_disk / "filler").open("wb") as file:
        file.write(bytes(18 << 20))
    command = [BIN / "syndicate-manager", "--insecure", "--state-dir", small_disk / "state"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 74
    assert re.search(
        r"^error: \S+/manager\.db-wal cannot be .* \(8 MB\): No space left on device$", done.stderr, re.M
    ), done.stderr
