"""The keeper as a process: who may speak with it, how it starts, ends, and cleans up after a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from syndicate.volunteer import frames
from syndicate.volunteer.keeper.mounts import mounts_under
from syndicate.volunteer.keeper.requirements import Level, check
from syndicate.volunteer.local import ErrorCode, ReadLog, Refused, ReplyFrame, RequestFrame, SlotState, Sync

_WAITS = {"Makefile": makefile("@setsid sleep 1000 & echo up; exec sleep 1000")}


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper that the test starts and may kill."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    yield keeper
    if keeper.process is not None:
        keeper.stop()


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/cgroup").exists() and _state(pid) != "Z"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def _pids(cgroup: Path) -> list[int]:
    return [int(pid) for path in cgroup.glob("*/*/cgroup.procs") for pid in path.read_text().split()]


def _run(arguments: list[str], prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "syndicate.volunteer.keeper", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


async def test_new_keeper_removes_what_a_killed_one_left(own: KeeperProcess) -> None:
    """After kill -9 a task ends with its keeper, and the next keeper of the instance starts clean."""
    own.start()
    async with linked(own, release=False) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        pids = _pids(own.cgroup)
        assert len(pids) >= 4

        own.stop(signal.SIGKILL)

    own.start()
    async with linked(own) as link:
        slots = (await link.sync()).slots
        audit = await link.audit()
        assert [slot.state for slot in slots] == [SlotState.EMPTY]
        assert (audit.in_use, audit.left) == ((), ())
        assert _alive(pids) == []
        await link.task(_WAITS).begin()


async def test_end_leaves_nothing(own: KeeperProcess) -> None:
    """SIGTERM ends the tasks, removes cgroups, folders and sockets, and exits with 0."""
    own.start()
    async with linked(own, release=False) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        pids = _pids(own.cgroup)

        status = own.stop()

    assert status == 0
    assert _alive(pids) == []
    assert not own.cgroup.exists()
    assert sorted(path.name for path in own.state.iterdir()) == ["epochs.json", "lock"]
    assert list(own.run.iterdir()) == []
    assert mounts_under(own.state, threading.get_native_id()) == []


async def test_host_network_needs_no_namespace(folder: Path) -> None:
    """With the host's network a task runs in the keeper's own, and the keeper tells its fixed address."""
    extra = ("--network", "host", "--address", "10.88.0.1", "--uplink", "synup")
    host = (
        "ip link add synup type veth peer name synfar && ip addr add 10.88.0.1/24 dev synup && "
        'ip link set synup up && ip link set synfar up && exec "$@"'
    )
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1, extra=extra)
    keeper.start(("unshare", "--net", "sh", "-c", host, "sh"))
    try:
        async with linked(keeper) as link:
            synced = await link.sync()
            _, output = await link.task({"Makefile": makefile("@ls /proc/sys/net/ipv4/conf")}).run()
    finally:
        status = keeper.stop()

    assert (synced.network, synced.fixed_address) == ("host", "10.88.0.1")
    assert "synup" in output.split()
    assert status == 0


async def test_mounts_do_not_show_on_the_host(own: KeeperProcess) -> None:
    """While a task runs the host sees no mount of the keeper's."""
    own.start()
    async with linked(own) as link:
        await link.task(_WAITS).begin()

        assert mounts_under(own.state, threading.get_native_id()) == []


async def test_lease_ends_tasks_of_a_stopped_volunteer(own: KeeperProcess) -> None:
    """With nobody connected the lease still runs out and the tasks are ended."""
    own.start()
    async with linked(own, release=False) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        watched = [os.pidfd_open(pid) for pid in _pids(own.cgroup)]
        await link.renew(0.3)

    loop = asyncio.get_running_loop()
    for descriptor in watched:
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        async with asyncio.timeout(SECONDS):
            await gone.wait()
        loop.remove_reader(descriptor)
        os.close(descriptor)

    async with linked(own) as link, asyncio.timeout(SECONDS):
        record = None
        while record is None:  # it is written after the last process has gone
            record = (await link.sync()).slots[0].generations[0].exit
        assert record.cause == "lease"


def test_second_keeper_of_an_instance_is_refused(own: KeeperProcess) -> None:
    """Two keepers cannot own the same state."""
    own.start()

    second = _run(own.arguments())

    assert second.returncode == 1
    assert "another keeper" in second.stderr


def test_not_root_is_told(own: KeeperProcess) -> None:
    """Without root it ends with 78 and says what to do."""
    # The sources may lie in a folder that only root enters: reading is all that is left to it.
    reading = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    ended = _run(own.arguments(), ("setpriv", "--reuid", "65534", "--clear-groups", *reading))

    assert ended.returncode == 78, ended.stderr
    assert "root" in ended.stderr
    assert "sudo" in ended.stderr


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--slots", "0"], "slots"),
        (["--instance", "Bad_Name"], "instance"),
        (["--network", "host"], "address"),
        (["--address", "10.0.0.7"], "address is for network=host alone"),
        (["--uplink", "eth0"], "uplink is for network=host alone"),
        (["--never-cut", "10.0.0.1"], "never_cut is for network=host alone"),
        (["--run-dir", "relative"], "absolute"),
    ],
)
def test_bad_settings_are_told(own: KeeperProcess, extra: list[str], says: str) -> None:
    """A setting that does not fit ends with 78 and one line that names it."""
    ended = _run([*own.arguments(), *extra])

    assert ended.returncode == 78
    assert says in ended.stderr


def test_missing_toolchain_is_told_with_the_remedy(own: KeeperProcess, folder: Path) -> None:
    """A root file system without make is refused with the command that mends it."""
    ended = _run([*own.arguments(), "--root-fs", str(folder)])

    assert ended.returncode == 78
    assert f"chroot {folder} apt-get install" in ended.stderr


def test_settings_come_from_file_environment_and_flags(own: KeeperProcess, folder: Path) -> None:
    """A flag goes before the environment, which goes before the file."""
    file = folder / "keeper.toml"
    file.write_text('slots = 0\nuid_base = 1\ninstance = "BAD"\n')
    environment = dict(os.environ, SYNDICATE_KEEPER_UID_BASE="2", SYNDICATE_KEEPER_SLOTS="0")
    command = [sys.executable, "-m", "syndicate.volunteer.keeper", *own.arguments(), "--config", str(file)]

    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=SECONDS
    )

    assert ended.returncode == 78
    assert "--uid-base" in ended.stderr  # from the environment; instance and slots were given by flags
    assert "instance" not in ended.stderr


def test_requirements_of_this_machine_are_met() -> None:
    """Everything that tests need is here, and each need is told once."""
    found = check()

    assert not [each for each in found if each.level is Level.MISSING]
    names = [each.name for each in found]
    assert len(names) == len(set(names))
    assert {"root", "bwrap", "cgroup", "overlayfs", "python", "netns"} <= set(names)
    assert all(each.remedy for each in found if each.level is not Level.OK)


def test_unprivileged_volunteer_is_served() -> None:
    """A volunteer without rights speaks with the keeper and makes sockets in the slots' folders, no more."""
    with tempfile.TemporaryDirectory(prefix="syn") as base:
        os.chmod(base, 0o755)  # pytest's own folders are closed to others
        keeper = KeeperProcess(Path(base), network_instance()[::-1], 1, ("--volunteer-uid", "65534"))
        keeper.start()
        program = (
            "import socket, sys\n"
            "run = sys.argv[1]\n"
            "link = socket.socket(socket.AF_UNIX)\n"
            "link.connect(run + '/keeper.sock')\n"
            "link.sendall(bytes.fromhex(sys.argv[2]))\n"
            "socket.socket(socket.AF_UNIX).bind(run + '/slots/0/chaos.sock')\n"
            "try:\n"
            "    open(run + '/slots/x', 'w')\n"
            "except PermissionError:\n"
            "    sys.exit(0 if link.recv(4) else 1)\n"
        )
        asked = frames.encode(RequestFrame(1, Sync())).hex()
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        command += ["/usr/bin/python3", "-c", program, str(keeper.run), asked]
        ended = subprocess.run(command, timeout=SECONDS, check=False, capture_output=True, text=True)
        keeper.stop()

    assert ended.returncode == 0, ended.stderr


def test_other_users_are_refused(keeper: KeeperProcess) -> None:
    """A process of another uid gets no answer, even past the folder's mode."""
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "fd = os.open(sys.argv[1], os.O_PATH)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try:\n"
        "    s.connect(f'/proc/self/fd/{fd}')\n"
        "    s.settimeout(60)\n"
        "    sys.exit(0 if s.recv(1) == b'' else 1)\n"
        "except (PermissionError, ConnectionError):\n"
        "    sys.exit(0)\n"
    )
    os.chmod(keeper.socket, 0o666)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program, str(keeper.socket)], timeout=SECONDS, check=False
        )
    finally:
        os.chmod(keeper.socket, 0o660)

    assert ended.returncode == 0
    assert keeper.run.stat().st_mode & 0o777 == 0o750


def test_garbage_ends_the_connection_only(keeper: KeeperProcess) -> None:
    """Bytes that are no frame are answered MALFORMED; the keeper goes on."""
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", b"\x00\x00\x00\x09" + b"x" * 9, b"\x00\x00\x00\x00"):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(SECONDS)
            link.connect(str(keeper.socket))
            link.sendall(garbage)
            answer = b"".join(iter(lambda link=link: link.recv(65536), b""))
        frame = frames.decode(answer[frames.PREFIX_BYTES :])
        assert isinstance(frame, ReplyFrame)
        assert isinstance(frame.reply, Refused)
        assert frame.reply.code is ErrorCode.MALFORMED
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(SECONDS)
        link.connect(str(keeper.socket))
        link.sendall(frames.encode(RequestFrame(1, Sync())))
        assert link.recv(4)


async def test_newer_connection_replaces_older(keeper: KeeperProcess) -> None:
    """When a volunteer connects again, the connection it forgot is ended."""
    async with linked(keeper, release=False) as older, linked(keeper) as newer:
        await older.ended()

        await newer.sync()


async def test_volunteer_that_does_not_read_is_dropped(own: KeeperProcess) -> None:
    """A connection whose answers are not read is ended instead of filling the keeper's memory."""
    own.start()
    async with linked(own, release=False) as link:
        task = link.task({"Makefile": makefile("@head -c 7000000 /dev/zero")})
        await task.begin()
        await task.exit()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(SECONDS)
        silent.connect(str(own.socket))
        ask = frames.encode(RequestFrame(1, ReadLog(0, task.id, 1, 0, 256 << 10)))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            silent.sendall(ask * 20_000)

    async with linked(own) as link:
        assert (await link.sync()).slots[0].state is SlotState.ENDED
