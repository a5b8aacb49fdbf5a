"""That a task reaches nothing but its own: tried from inside real sandboxes."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, linked, makefile, network_instance
from keeper.test_seccomp import NAMESPACES, NUMBERS
from syndicate.volunteer.keeper.devices import MOST_TERMINALS
from syndicate.volunteer.keeper.network import in_namespace
from syndicate.volunteer.local import ErrorCode, Limits

DISK = 32 << 20  # of the harness's tasks
X86_64 = os.uname().machine == "x86_64"

# Calls a task must not have, with arguments that the kernel would look at.
FORBIDDEN = {
    "keyctl": (0, -3, 0),
    "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "userfaultfd": (1,),
    "setns": (0, 0),
    "mount": (0, 0, 0, 0, 0),
    "pivot_root": (0, 0),
    "open_tree": (-100, 0, 0),
    "kexec_load": (0, 0, 0, 0),
    "init_module": (0, 0, 0),
    "unshare": (NAMESPACES["user"],),
    "clone": (NAMESPACES["user"] | 17, 0, 0, 0, 0),
}
ABSENT = {"clone3": (0, 0), "io_uring_setup": (1, 0)}

_PROBE = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, (number, arguments) in json.load(open("/calls.json")).items():
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    found[name] = ctypes.get_errno()
print(json.dumps(found))
"""


async def _told_by(link: Link, program: str, **files: str) -> str:
    """The output of a Python program as a task, which must end well."""
    task = link.task({"Makefile": makefile("@python3 /program.py"), "program.py": program, **files})
    ended, output = await task.run()
    assert ended.status == 0, output
    return output


async def test_system_calls_are_filtered(link: Link) -> None:
    """Calls that reach beyond the task are refused, those that hide their work are not there."""
    calls = {
        name: (NUMBERS[name][0 if X86_64 else 1], arguments)
        for name, arguments in {**FORBIDDEN, **ABSENT}.items()
    }

    found = json.loads(await _told_by(link, _PROBE, **{"calls.json": json.dumps(calls)}))

    assert found == dict.fromkeys(FORBIDDEN, errno.EPERM) | dict.fromkeys(ABSENT, errno.ENOSYS)


async def test_every_process_is_filtered(link: Link) -> None:
    """The task and the first process of its namespace have the filter, and may not gain rights."""
    recipe = "@grep -hE '^(NoNewPrivs|Seccomp):' /proc/1/status /proc/self/status | tr -d '\\t'"
    _, output = await link.task({"Makefile": makefile(recipe)}).run()

    assert output.split() == ["NoNewPrivs:1", "Seccomp:2"] * 2


async def test_usual_programs_work(link: Link) -> None:
    """Threads, processes, and sockets of the usual families are there."""
    program = """
import multiprocessing, os, socket, subprocess, threading
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
print(subprocess.run(["/bin/echo", "process"], capture_output=True, text=True).stdout.strip())
with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, [1, -2])))
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
    socket.socket(family, socket.SOCK_DGRAM, 0).close()
socket.socketpair()
print(socket.if_nameindex()[0][1])
os.mkfifo("/tmp/pipe")
"""
    assert (await _told_by(link, program)).split() == ["thread", "process", "3", "lo"]


async def test_socket_families_that_nobody_needs(link: Link) -> None:
    """Families that lead to the hypervisor, the kernel's crypto or the wire are not supported."""
    program = """
import errno, socket
for name in ("AF_VSOCK", "AF_ALG", "AF_PACKET", "AF_BLUETOOTH", "AF_CAN", "AF_TIPC"):
    try: socket.socket(getattr(socket, name), socket.SOCK_RAW)
    except OSError as error: print(errno.errorcode[error.errno])
"""
    assert set((await _told_by(link, program)).split()) == {"EAFNOSUPPORT"}


@pytest.mark.skipif(not X86_64, reason="int 0x80 is x86's")
async def test_calls_of_another_architecture_end_the_process(link: Link) -> None:
    """An i386 call from a 64-bit program ends it."""
    program = """
import ctypes, mmap, os
pid = os.fork()
if pid == 0:
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex("b814000000cd80c3"))  # mov $20,%eax (getpid); int $0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert await _told_by(link, program) == "-31\n"


async def test_namespaces_are_its_own(link: Link) -> None:
    """A task shares no namespace of these kinds with the host, and sees its own cgroup as the root."""
    kinds = ("pid", "mnt", "ipc", "uts", "cgroup", "net")
    recipe = f"@for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$$kind; done; cat /proc/self/cgroup"
    _, output = await link.task({"Makefile": makefile(recipe)}).run()

    lines = output.splitlines()
    hosts = {os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}
    assert len(set(lines[: len(kinds)]) - hosts) == len(kinds)
    assert "0::/" in lines[len(kinds) :]


async def test_mounts_give_nothing_away(link: Link) -> None:
    """Every mount ignores setuid files, every one but the devices' own ignores device nodes."""
    ended, output = await link.task({"Makefile": makefile("@cat /proc/self/mountinfo")}).run()

    mounts = {fields[4]: fields[5].split(",") for fields in map(str.split, output.splitlines())}
    assert ended.status == 0
    assert all("nosuid" in options for options in mounts.values()), mounts
    assert {point for point, options in mounts.items() if "nodev" not in options} == {"/dev", "/dev/pts"}
    assert "ro" in mounts["/dev"]
    assert not any(point == "/sys" or point.startswith("/sys/") for point in mounts)


async def test_devices(link: Link) -> None:
    """There are harmless devices, which work, and nothing that a task could change or add to."""
    program = """
import errno, os
for name in sorted(os.listdir("/dev")): print(name, end=" ")
os.write(os.open("/dev/null", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), b"gone")
print(os.read(os.open("/dev/zero", os.O_RDWR), 1), len(os.read(os.open("/dev/urandom", os.O_RDONLY), 8)))
attempts = (
    lambda: os.utime("/dev/null"),
    lambda: os.chmod("/dev/null", 0o777),
    lambda: os.mkdir("/dev/mine"),
    lambda: os.mknod("/dev/mine", 0o020666, os.makedev(1, 1)),
    lambda: os.mkdir("/dev/pts/mine"),
)
for attempt in attempts:
    try: print("could", attempt())
    except OSError as error: print(errno.errorcode[error.errno])
"""
    names = "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"

    listed, *refused = (await _told_by(link, program)).splitlines()

    assert listed == f"{names} b'\\x00' 8"
    assert len(refused) == 5
    assert set(refused) <= {"EROFS", "EPERM", "EACCES"}


async def test_each_task_has_terminals_of_its_own(link: Link) -> None:
    """The instance of terminals that one task had is not the next's."""
    program = "import os\nprint(os.stat('/dev/pts').st_ctime_ns, os.ttyname(os.openpty()[1]))\n"
    task = link.task({"Makefile": makefile("@python3 /program.py"), "program.py": program})
    ended, first = await task.run()
    assert ended.status == 0, first
    await task.release()

    second = await _told_by(link, program)

    assert first.split()[1] == second.split()[1] == "/dev/pts/0"
    assert first.split()[0] != second.split()[0]


async def test_each_task_has_devices_of_its_own(link: Link) -> None:
    """What a task left in the times of one, as it can in those of /dev/tty, the next task does not see."""
    program = """
import os
for name in ("null", "tty"):
    device = os.stat(f"/dev/{name}")
    print(device.st_ino, device.st_ctime_ns)
"""
    task = link.task({"Makefile": makefile("@python3 /program.py"), "program.py": program})
    ended, first = await task.run()
    assert ended.status == 0, first
    await task.release()

    second = await _told_by(link, program)

    assert len(first.splitlines()) == 2
    assert not set(first.splitlines()) & set(second.splitlines())


async def test_terminals_of_a_task_are_bounded(link: Link) -> None:
    """All instances share what the host allows: one task that takes what it gets leaves some to others."""
    program = """
import errno, os
held = []
try:
    while len(held) < 200: held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
except OSError as error: print(errno.errorcode[error.errno], len(held))
"""
    assert (await _told_by(link, program)).split() == ["ENOSPC", str(MOST_TERMINALS)]


async def test_no_terminal(link: Link) -> None:
    """A task has no controlling terminal, can take none of the host's, and puts no input into its own."""
    program = """
import errno, fcntl, os
try: os.open("/dev/tty", os.O_RDWR)
except OSError as error: print(errno.errorcode[error.errno])
main, side = os.openpty()
fcntl.ioctl(main, 0x5401, bytes(64))
for request in (0x5412, 0x541C):
    try: fcntl.ioctl(side, request, b"x")
    except OSError as error: print(errno.errorcode[error.errno])
"""
    assert (await _told_by(link, program)).split() == ["ENXIO", "EPERM", "EPERM"]


async def test_no_descriptor_is_left_over(link: Link) -> None:
    """A task has its three standard descriptors, and nothing of what made its sandbox."""
    program = """
import os
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try: print(name, os.readlink(f"/proc/self/fd/{name}").split(":")[0])
    except FileNotFoundError: pass  # the listing's own
"""
    output = await _told_by(link, program)

    assert output.splitlines() == ["0 /dev/null", "1 pipe", "2 pipe"]


async def test_no_core_is_dumped(link: Link) -> None:
    """The bound on cores is the one byte that stops files and helpers alike, and a task cannot change it."""
    program = """
import os, resource, signal
for bounds in ((0, 0), (0, 1)):
    resource.setrlimit(resource.RLIMIT_CORE, bounds)
print(resource.getrlimit(resource.RLIMIT_CORE))
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGSEGV)
status = os.waitpid(pid, 0)[1]
print(os.WCOREDUMP(status), sorted(name for name in os.listdir() if "core" in name))
"""
    assert await _told_by(link, program) == "(1, 1)\nFalse []\n"


async def test_processes_are_bounded(link: Link) -> None:
    """Descriptors, file sizes, locked memory, queues and priorities have bounds that cannot be raised."""
    ended, output = await link.task({"Makefile": makefile("@cat /proc/self/limits")}).run()

    bounds = {line[:26].strip(): line[26:].split()[:2] for line in output.splitlines()[1:]}
    assert ended.status == 0
    assert {
        name: bounds[name]
        for name in (
            *("Max open files", "Max file size", "Max core file size", "Max locked memory"),
            *("Max msgqueue size", "Max nice priority", "Max realtime priority"),
        )
    } == {
        "Max open files": ["4096"] * 2,
        "Max file size": [str(DISK)] * 2,
        "Max core file size": ["1"] * 2,
        "Max locked memory": [str(64 << 10)] * 2,
        "Max msgqueue size": [str(800 << 10)] * 2,
        "Max nice priority": ["0"] * 2,
        "Max realtime priority": ["0"] * 2,
    }


async def test_revived_task_is_bounded_and_filtered(link: Link) -> None:
    """A later generation, on the kept disk or on a fresh one, stands behind the same walls."""
    recipe = "@grep Seccomp: /proc/self/status | tr -d '\\t'; ulimit -n; echo up; exec sleep 1000"
    task = link.task({"Makefile": makefile(recipe)})
    await task.begin()
    for generation, with_disk in ((2, True), (3, False)):
        await task.said("up", generation - 1)
        await task.kill(generation - 1)
        await task.revive(generation, with_disk)
    await task.said("up", 3)
    await task.kill(3)

    outputs = {(await task.output(generation)).replace("\n", " ") for generation in (1, 2, 3)}
    assert outputs == {"Seccomp:2 4096 up "}


def _with_hole(folder: Path) -> bytes:
    """A source with a file of 1 TiB that takes no room."""
    (folder / "Makefile").write_text(makefile("@true"))
    (folder / "hole").touch()
    os.truncate(folder / "hole", 1 << 40)
    command = ["tar", "--create", "--sparse", "--file=-", "Makefile", "hole"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout


async def test_holes_do_not_make_a_file_larger_than_its_disk(link: Link, tmp_path: Path) -> None:
    """A source with a file of mostly nothing, larger than the disk, is refused as too large."""
    refused = await link.refused(link.task_of(_with_hole(tmp_path)).prepare_request())

    assert (refused.code, "does not fit on the task's disk" in refused.detail) == (ErrorCode.DISK_FULL, True)


_WITH_KEY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
join, add = (250, 248) if os.uname().machine == "x86_64" else (219, 217)
libc.syscall.restype = ctypes.c_long
assert libc.syscall(join, 1, None) > 0, ctypes.get_errno()
assert libc.syscall(add, b"user", b"syn-secret", b"x", ctypes.c_size_t(1), -3) > 0, ctypes.get_errno()
assert "syn-secret" in open("/proc/keys").read()
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="this kernel has no keyrings")
async def test_keyring_is_fresh(folder: Path) -> None:
    """A task does not possess the keys of the session that the keeper was started in."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start((sys.executable, "-c", _WITH_KEY))
    try:
        async with linked(keeper) as link:
            ended, output = await link.task({"Makefile": makefile("@cat /proc/keys")}).run()
    finally:
        assert keeper.stop() == 0, keeper.errors.read_text()

    assert ended.status == 0
    assert "syn-secret" not in output


def _landlock_version() -> int:
    libc = ctypes.CDLL(None)
    return int(libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), 1))


_HOST = """
ip link add synup type veth peer name synfar && ip addr add 10.88.0.1/24 dev synup &&
ip link set synup up && ip link set synfar up && exec "$@"
"""


@pytest.mark.skipif(_landlock_version() < 6, reason="this kernel's Landlock has no scopes")
async def test_abstract_sockets_of_the_host_are_out_of_reach(folder: Path) -> None:
    """In the host's network a task connects to its own abstract sockets and to none of the host's."""
    extra = ("--network", "host", "--address", "10.88.0.1", "--uplink", "synup")
    program = """
import errno, socket
own = socket.socket(socket.AF_UNIX); own.bind("\\0syn-own"); own.listen()
socket.socket(socket.AF_UNIX).connect("\\0syn-own"); print("own")
try: socket.socket(socket.AF_UNIX).connect("\\0syn-host")
except OSError as error: print(errno.errorcode[error.errno])
"""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1, extra=extra)
    keeper.start(("unshare", "--net", "sh", "-c", _HOST, "sh"))
    assert keeper.process is not None
    network = os.open(f"/proc/{keeper.process.pid}/ns/net", os.O_RDONLY)
    try:
        with in_namespace(network, lambda: socket.socket(socket.AF_UNIX)) as hosts:
            hosts.bind("\0syn-host")
            hosts.listen()
            async with linked(keeper) as link:
                output = await _told_by(link, program)
    finally:
        os.close(network)
        assert keeper.stop() == 0, keeper.errors.read_text()

    assert output.split() == ["own", "EPERM"]


async def test_a_jobs_own_bounds_of_files_hold(link: Link) -> None:
    """Descriptors and the size of a file as the job asked for them, a file no larger than the disk."""
    task = link.task({"Makefile": makefile("@ulimit -n; ulimit -f")})

    _, output = await task.run(Limits(disk_bytes=DISK, open_files=64, file_bytes=1 << 20))

    assert output.split() == ["64", str((1 << 20) // 512)]
