"""What a keeper needs of its machine, on machines that lack some of it; and a keeper that does without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from syndicate.volunteer.keeper import mounts
from syndicate.volunteer.keeper.capabilities import CAPABILITIES, Capability
from syndicate.volunteer.keeper.cgroups import find_mount
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.keeper.requirements import Level, Requirement, check, lacking, unmet

from tests.support import without_seccomp

_WITHOUT_SECCOMP = [sys.executable, without_seccomp.__file__]


# As if the root of version 2 had fewer: what cannot be taken away from a running machine is not shown.
_HIDE = """
for file in controllers subtree_control; do
    shown=$(mktemp) && sed "s/\\b$1\\b//" "$2/cgroup.$file" >"$shown" &&
    mount --bind "$shown" "$2/cgroup.$file" && rm "$shown" || exit
done
shift 2; exec "$@"
"""


def without_controller(name: str) -> list[str]:
    """A command that starts another where the controller is not there, in mounts of its own."""
    hierarchy, unified = find_version_1(name), find_mount()
    if hierarchy is not None or unified is None:
        return ["unshare", "--mount", "sh", "-c", f'umount {hierarchy} && exec "$@"', "sh"]
    return ["unshare", "--mount", "sh", "-c", _HIDE, "sh", name, str(unified)]


def without_right(name: str) -> list[str]:
    """A command that starts another as a root that lacks a capability."""
    return ["setpriv", "--bounding-set", f"-{name}", "--inh-caps", f"-{name}"]


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


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda each: each.name)
def test_a_right_that_root_lacks_is_told(capability: Capability) -> None:
    """With what a keeper does with it, and what gives it back; one that is only good to have degrades."""
    name = f"cap-{capability.name.replace('_', '-')}"
    status, found = doctor(*without_right(capability.name), "sh", "-c", 'ulimit -n 5000; exec "$@"', "sh")

    need = found[name]
    assert need["level"] == ("missing" if capability.needed else "degraded"), need
    assert status == (1 if capability.needed else 0)
    assert capability.purpose in need["detail"]
    assert f"--cap-add={capability.name.upper()}" in need["remedy"]


@pytest.mark.parametrize("capability", ["fowner", "sys_admin"])
def test_a_keeper_without_a_right_that_it_needs_does_not_start(own: KeeperProcess, capability: str) -> None:
    """It ends with 78 and says which, before it has made anything."""
    command = [*without_right(capability), sys.executable, "-m", "syndicate.volunteer.keeper"]
    ended = subprocess.run(
        [*command, *own.arguments()], capture_output=True, text=True, check=False, timeout=SECONDS
    )

    assert ended.returncode == 78
    assert ended.stderr.startswith(f"syndicate-keeper: cap-{capability.replace('_', '-')}: ")
    assert not own.run.exists()


@pytest.mark.parametrize(("bound", "level"), [(1000, "missing"), (5000, "degraded"), (20_000, "ok")])
def test_bound_of_open_files_is_told(bound: int, level: str) -> None:
    """A task cannot have more than the keeper; less than the default is too little."""
    _, found = doctor("sh", "-c", f'ulimit -n {bound}; exec "$@"', "sh")

    assert found["open-files"]["level"] == level
    assert bool(found["open-files"]["remedy"]) is (level != "ok")
    assert f"{bound:,}" in found["open-files"]["detail"]


@pytest.mark.parametrize("name", ["memory", "pids", "cpu"])
def test_a_controller_that_is_not_there_is_missing(name: str) -> None:
    """Its remedy mounts it, or switches it on; everything else is as it was."""
    status, found = doctor(*without_controller(name))

    assert status == 1
    assert [each for each, need in found.items() if need["level"] == "missing"] == [f"cgroup-{name}"]
    assert name in found[f"cgroup-{name}"]["remedy"]


_HIDE_BWRAP = 'mount --bind /dev/null "$(command -v bwrap)" && exec "$@"'
_NO_BWRAP = ["unshare", "--mount", "sh", "-c", _HIDE_BWRAP, "sh"]


@pytest.mark.parametrize(
    ("machine", "name", "remedy"),
    [
        (["unshare", "--user"], "root", "sudo"),
        (["setarch", "--uname-2.6"], "kernel", "linux-image"),
        (_NO_BWRAP, "bwrap", "apt-get install bubblewrap"),
    ],
    ids=["without rights", "of an old kernel", "without bubblewrap"],
)
def test_what_a_machine_lacks_is_told_with_what_mends_it(machine: list[str], name: str, remedy: str) -> None:
    """Each by its name, and the status says that something is missing."""
    status, found = doctor(*machine)

    assert status == 1
    assert [each for each, need in found.items() if need["level"] == "missing"] == [name]
    assert remedy in found[name]["remedy"]


def test_a_kernel_without_filters_of_system_calls_is_told() -> None:
    """As missing, and as isolation."""
    status, found = doctor(*_WITHOUT_SECCOMP)

    assert status == 1
    assert [each for each, need in found.items() if need["level"] == "missing"] == ["seccomp"]
    assert found["seccomp"]["isolation"]
    assert "seccomp" in found["seccomp"]["remedy"]


# As on a machine that has just booted, where the file system is a module that nobody has used yet.
_HIDE_OVERLAY = """
shown=$(mktemp) && grep -v overlay /proc/filesystems >"$shown" &&
mount --bind "$shown" /proc/filesystems && rm "$shown" && exec "$@"
"""


def test_a_file_system_that_is_not_loaded_yet_is_there() -> None:
    """The kernel loads it at the first mount, though whoever mounts may load no module."""
    hidden = ["unshare", "--mount", "sh", "-c", _HIDE_OVERLAY, "sh"]
    _, found = doctor(*hidden, *without_right("sys_module"))

    assert found["overlayfs"]["level"] == "ok", found["overlayfs"]


def test_a_file_system_that_cannot_be_mounted_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the kernel said, and what mends it."""
    real = mounts.mount

    def refuses(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
        real(source, target, "syn-no-such-kind" if kind == "overlay" else kind, flags, data)

    monkeypatch.setattr(mounts, "mount", refuses)
    found = {need.name: need for need in check()}

    assert found["overlayfs"].level is Level.MISSING
    assert "No such device" in found["overlayfs"].detail
    assert found["overlayfs"].remedy == "modprobe overlay"
    assert found["tmpfs"].level is Level.OK


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


async def test_a_keeper_says_which_faults_it_can_do(own: KeeperProcess) -> None:
    """Each is either among its capabilities or told with the reason, and doctor says the same."""
    own.start()
    async with linked(own) as link:
        account = await link.sync()

    _, found = doctor()
    cannot = {one.capability: one.why for one in account.cannot}
    tried = {name.removeprefix("fault-"): need for name, need in found.items() if name.startswith("fault-")}
    ours = {"pause", "disk-full", "signal", "lose-unsynced"}
    assert ours | {"one-way", "reset", "loss", "rate", "delay"} <= tried.keys()
    assert ours | {"cut", "kill"} <= set(account.capabilities)
    for name, need in tried.items():
        assert (name in account.capabilities) is (need["level"] == "ok"), name
        assert (name in cannot) is (need["level"] != "ok"), name
    assert all(cannot.values())


async def test_a_fault_that_a_right_is_lacking_for_is_no_capability(own: KeeperProcess) -> None:
    """The keeper works, says why not, and does not claim it."""
    own.start(without_right("sys_ptrace"))

    async with linked(own) as link:
        account = await link.sync()
        ended, _ = await link.task({"Makefile": makefile("@true")}).run()

    assert "signal" not in account.capabilities
    assert "pause" in account.capabilities
    assert "SYS_PTRACE" in next(one.why for one in account.cannot if one.capability == "signal")
    assert ended.status == 0
