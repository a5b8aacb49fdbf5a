"""What a keeper needs of its machine, on machines that lack some of it; and a keeper that does without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.keeper.requirements import Level, Requirement, check, lacking, unmet

from tests.support import without_seccomp

_WITHOUT_SECCOMP = [sys.executable, without_seccomp.__file__]


def without_controller(name: str) -> list[str]:
    """A command that starts another where the controller is not there, in mounts of its own."""
    hierarchy = find_version_1(name)
    hide = f"umount {hierarchy}" if hierarchy is not None else "mount -t tmpfs none /sys/fs/cgroup"
    return ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]


def doctor(*prefix: str) -> tuple[int, dict[str, dict[str, str]]]:
    """What it says on such a machine, by need."""
    command = [*prefix, sys.executable, "-m", "syndicate.volunteer", "doctor", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    return ended.returncode, {need["name"]: need for need in json.loads(ended.stdout)}


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper with one slot that the test starts itself."""
    keeper = KeeperProcess(folder, network_instance(), slots=1)
    yield keeper
    keeper.stop()


@pytest.mark.parametrize("name", ["memory", "pids", "cpu"])
def test_a_controller_that_is_not_there_is_missing(name: str) -> None:
    """Its remedy mounts it, or switches it on; everything else is as it was."""
    status, found = doctor(*without_controller(name))

    assert status == 1
    assert [each for each, need in found.items() if need["level"] == "missing"] == [f"cgroup-{name}"]
    assert name in found[f"cgroup-{name}"]["remedy"]


def test_a_kernel_without_filters_of_system_calls_is_told() -> None:
    """As missing, and as isolation."""
    status, found = doctor(*_WITHOUT_SECCOMP)

    assert status == 1
    assert [each for each, need in found.items() if need["level"] == "missing"] == ["seccomp"]
    assert found["seccomp"]["isolation"]
    assert "seccomp" in found["seccomp"]["remedy"]


def test_abstract_sockets_are_told_of_on_the_hosts_network_only() -> None:
    """With a network of its own a task has names of its own."""
    host, fabric = ({need.name for need in check(network=kind)} for kind in ("host", "fabric"))

    assert "landlock" in host
    assert "landlock" not in fabric


def test_uids_of_users_are_told() -> None:
    """A range that holds a user's uid works, and lets that user at the tasks."""
    uid = 65_534  # nobody's

    (found,) = (need for need in check(uid_base=uid - 1, slots=2) if need.name == "uids")

    assert found.level is Level.DEGRADED
    assert "nobody" in found.detail


def test_only_isolation_yields() -> None:
    """What a keeper cannot do without stays missing, whatever it is told."""
    needs = [
        Requirement("seccomp", Level.MISSING, "", yields=True),
        Requirement("make", Level.MISSING, ""),
        Requirement("zstd", Level.DEGRADED, ""),
    ]

    assert unmet(needs) is needs[0]
    assert unmet(needs, unsafe=True) is needs[1]
    assert lacking(needs) == needs[:1]


@pytest.mark.parametrize("name", ["pids", "memory"])
def test_a_keeper_that_cannot_bound_tasks_does_not_start(own: KeeperProcess, name: str) -> None:
    """It ends with 78, the need and its remedy, and has made nothing."""
    command = [*without_controller(name), sys.executable, "-m", "syndicate.volunteer.keeper"]
    ended = subprocess.run(
        [*command, *own.arguments()], capture_output=True, text=True, check=False, timeout=SECONDS
    )

    assert ended.returncode == 78
    said, remedy = ended.stderr.splitlines()
    assert said.startswith(f"syndicate-keeper: cgroup-{name}: ")
    assert remedy.startswith("  ")
    assert not own.run.exists()


@pytest.mark.parametrize(
    ("prefix", "lacks"),
    [(without_controller("pids"), "cgroup-pids"), (_WITHOUT_SECCOMP, "seccomp")],
    ids=["pids", "seccomp"],
)
async def test_a_keeper_that_is_told_so_starts_without(
    own: KeeperProcess, prefix: list[str], lacks: str
) -> None:
    """It says what it lacks to whoever reads its log, and to the volunteer; tasks run."""
    own.extra = ["--unsafe"]
    own.start(prefix)

    async with linked(own) as link:
        account = await link.sync()
        ended, _ = await link.task({"Makefile": makefile("@true")}).run()

    assert account.unsafe == (lacks,)
    assert ended.status == 0
    log = own.errors.read_text()
    assert f"UNSAFE: this machine lacks {lacks}" in log
    assert '"event": "keeper.unsafe"' in log


async def test_a_keeper_that_lacks_nothing_is_safe_whatever_it_is_told(own: KeeperProcess) -> None:
    """--unsafe switches nothing off."""
    own.extra = ["--unsafe"]
    own.start()

    async with linked(own) as link:
        account = await link.sync()

    assert account.unsafe == ()
    assert "UNSAFE" not in own.errors.read_text()
