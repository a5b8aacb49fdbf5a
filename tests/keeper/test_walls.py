"""What each sandbox has to itself, while its source is unpacked, while it runs, and after another's end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, linked, makefile, network_instance, tarball
from keeper.ordeals import AMPLE, SLOW, pace
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.keeper.settings import load
from syndicate.volunteer.local import Done, ErrorCode, Limits, Refused, Revive, Role, SlotState

_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}
_MANY = {**_WAITS, **{f"f{number}": "x" * 1000 for number in range(20_000)}}
_LARGE_AND_SLOW = Limits(disk_bytes=256 << 20, cpu_millis=SLOW)
_KINDS = ("pid", "mnt", "ipc", "uts", "cgroup", "net")

# As serve does, but that a source has four seconds.
_IMPATIENT = """
import sys
from syndicate.volunteer.keeper import ground, serve
ground._UNPACK_SECONDS = 4.0
sys.exit(serve.main(sys.argv[1:]))
"""


async def _stopped_tar(link: Link) -> int:
    """The pid of tar on slot 0, a slow one, which is stopped in the middle."""
    while True:
        found = [line.split() for line in (await link.audit()).in_use if line.endswith(" tar")]
        if found:
            pid = int(found[0][1])
            os.kill(pid, signal.SIGSTOP)
            return pid


def _status(pid: int) -> dict[str, list[str]]:
    lines = _lines(f"/proc/{pid}/status")
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


async def test_unpacking_stands_behind_all_walls(keeper: KeeperProcess, link: Link) -> None:
    """tar has the slot's uid and gid, no right, no namespace of the host's, and the slot's cgroups."""
    task = link.task_of(tarball(_MANY))
    for generation in (1, 2):
        if generation == 1:
            laying = asyncio.create_task(link.ask(task.prepare_request(_LARGE_AND_SLOW)))
        else:
            await task.kill()
            pace(keeper, SLOW)
            laying = asyncio.create_task(link.ask(Revive(0, task.id, 2, False)))
        tar = await _stopped_tar(link)
        pace(keeper, AMPLE)
        try:
            status = _status(tar)
            spaces = {os.readlink(f"/proc/{tar}/ns/{kind}") for kind in _KINDS}
            cgroups = _lines(f"/proc/{tar}/cgroup")
        finally:
            os.kill(tar, signal.SIGCONT)
        assert not isinstance(await laying, Refused)
        if generation == 1:
            await task.start()
        await task.said("up", generation)

        uid = status["Uid"][0]
        assert int(uid) >= 200_000
        assert status["Uid"] == status["Gid"] == [uid] * 4
        assert status["Groups"] == []
        assert {status[name][0] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
        assert not spaces & {os.readlink(f"/proc/self/ns/{kind}") for kind in _KINDS}
        own = f"/{keeper.cgroup.name}/slot-0"
        assert any(line.startswith("0::") and line.endswith(f"{own}/g{generation}") for line in cgroups)
        for name in ("memory", "pids"):
            if find_version_1(name) is not None:
                assert any(f":{name}:" in line and line.endswith(own) for line in cgroups), cgroups


@pytest.fixture
def impatient(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper that gives a source four seconds to be unpacked."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    config = load(keeper.arguments()).settled(())
    with keeper.errors.open("w") as errors:
        command = [sys.executable, "-P", "-c", _IMPATIENT, config.encode()]
        keeper.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert keeper.process.stdout is not None
    assert keeper.process.stdout.readline().startswith("ready "), keeper.errors.read_text()
    yield keeper
    assert keeper.stop() == 0, keeper.errors.read_text()


async def test_unpacking_has_a_time_limit(impatient: KeeperProcess) -> None:
    """A source that is not there by then is told so, nothing of it runs on, and the slot takes the next."""
    async with linked(impatient) as link:
        refused = await link.ask(link.task_of(tarball(_MANY)).prepare_request(_LARGE_AND_SLOW))

        assert isinstance(refused, Refused)
        assert refused.code is ErrorCode.BAD_SOURCE
        assert "not unpacked within" in refused.detail
        slot = (await link.sync()).slots[0]
        assert (slot.state, (await link.audit()).in_use) == (SlotState.EMPTY, ())
        assert (await link.audit()).left == ()
        after = link.task(_WAITS)
        for _ in range(3):
            told = await link.ask(after.prepare_request())
            # A machine that stands still may let the four seconds pass for a small one as well.
            if not (isinstance(told, Refused) and "not unpacked within" in told.detail):
                break
        assert isinstance(told, Done), told
        await after.start()


async def test_two_slots_share_nothing(link: Link) -> None:
    """Tasks side by side differ in uid, gid, and every namespace; neither has a group beside its own."""
    recipe = f"@for k in {' '.join(_KINDS)}; do readlink /proc/self/ns/$$k; done; id -u; id -g; id -G"
    said = []
    for slot, (role, target) in enumerate([(Role.MASTER, "master"), (Role.SLAVE, "slave")]):
        task = link.task({"Makefile": makefile(f"{recipe}\n@echo up; exec sleep 1000", target)}, role, slot)
        await task.begin()
        await task.said("up")
        said.append((await task.read(1, 0)).pieces)

    one, other = (b"".join(each.data for each in pieces).decode().split() for pieces in said)
    assert len(one) == len(other) == len(_KINDS) + 4
    assert not set(one[: len(_KINDS)]) & set(other[: len(_KINDS)])
    for spaces_and_ids in (one, other):
        assert len(set(spaces_and_ids[-4:-1])) == 1  # uid, gid, and all groups are the one number
    assert int(other[-2]) == int(one[-2]) + 1


async def test_proc_shows_its_own_processes_only(link: Link) -> None:
    """Nobody else's process is there, and no /sys at all; what the kernel can be told by /proc is root's."""
    program = """
import os
print(sorted(open(f"/proc/{name}/comm").read().strip() for name in os.listdir("/proc") if name.isdigit()))
print(os.path.lexists("/sys"))
for name in ("sys/kernel/core_pattern", "sysrq-trigger", "sys/kernel/hostname"):
    try: open(f"/proc/{name}", "w").write("x")
    except OSError: print("refused")
"""
    files = {"Makefile": makefile("@exec python3 /program.py"), "program.py": program}
    _, output = await link.task(files).run()

    assert output.splitlines() == ["['bwrap', 'make', 'python3']", "False", *["refused"] * 3]


async def test_environment_is_only_what_is_promised(link: Link) -> None:
    """No variable of the keeper's, its shell's or bubblewrap's is left in it."""
    os.environ["SYN_TEST_SECRET"] = "x"
    program = "import os\nprint(*sorted(os.environ))\n"
    try:
        keeper = KeeperProcess(link.keeper.base / "own", network_instance()[::-1], slots=1)
        keeper.start()
    finally:
        del os.environ["SYN_TEST_SECRET"]
    try:
        async with linked(keeper) as own:
            files = {"Makefile": makefile("@exec python3 /program.py"), "program.py": program}
            _, output = await own.task(files).run()
    finally:
        assert keeper.stop() == 0

    names = [name for name in output.split() if not name.startswith("SYNDICATE_")]
    assert names == [
        *("HOME", "LC_CTYPE", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PATH", "PWD", "PYTHONPATH", "TMPDIR"),
    ]


# shm_open's names are files of /dev/shm; 0o1600 of IPC_CREAT; mq_open is call 240 (x86-64) or 180 (arm64).
_LEAVES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for folder in ("/", "/tmp", "/var-own", "/dev/shm", "/bin", "/etc"):
    os.makedirs(folder, exist_ok=True)
    open(os.path.join(folder, "syn-left"), "w").write("left")
print(libc.shmget(4711, 4096, 0o1600) >= 0, libc.semget(4712, 1, 0o1600) >= 0, libc.msgget(4713, 0o1600) >= 0)
os.mkfifo("/tmp/syn-pipe")
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.execlp("sleep", "sleep", "4321")
os.close(writer)
os.read(reader, 1)  # closed by the exec
print("up", flush=True)
"""
_FINDS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for folder, folders, files in os.walk("/", onerror=lambda error: None):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/usr")]
    found = [name for name in folders + files if name.startswith("syn-") or name == "var-own"]
    print(*(os.path.join(folder, name) for name in found), end="")
print([libc.shmget(4711, 4096, 0o600), libc.semget(4712, 1, 0o600), libc.msgget(4713, 0o600)])
print([pid for pid in os.listdir("/proc") if pid.isdigit() and "4321" in open(f"/proc/{pid}/cmdline").read()])
"""


async def test_one_jobs_rest_never_meets_the_next(link: Link) -> None:
    """Files, pipes, System V's memory, semaphores and queues, processes: the next on the slot has none."""
    leaves = link.task({"Makefile": makefile("@python3 /program.py"), "program.py": _LEAVES})
    _, made = await leaves.run()
    assert made.split() == ["True", "True", "True", "up"]
    await leaves.release()

    finds = link.task({"Makefile": makefile("@exec python3 /program.py"), "program.py": _FINDS})
    ended, found = await finds.run()

    assert ended.status == 0, found
    assert found.splitlines() == ["[-1, -1, -1]", "[]"]
