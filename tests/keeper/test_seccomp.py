"""The filter of system calls: what its program answers, by running it, for each kind of machine."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import pytest
from keeper.bpf import Program
from syndicate.volunteer.keeper import seccomp
from syndicate.volunteer.keeper.errors import KeeperError

ALLOW = 0x7FFF_0000
KILL = 0x8000_0000
AARCH64, X86_64, I386, X32, ARM = 0xC000_00B7, 0xC000_003E, 0x4000_0003, 0x4000_0000, 0x4000_0028
UPPER = 1 << 32  # a bit that the kernel does not see where an argument is an int

# By number, from the kernel's tables (x86_64, aarch64); any libseccomp in use knows the names.
NUMBERS = {
    "read": (0, 63),
    "write": (1, 64),
    "openat": (257, 56),
    "execve": (59, 221),
    "exit_group": (231, 94),
    "rt_sigreturn": (15, 139),
    "restart_syscall": (219, 128),
    "futex": (202, 98),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "personality": (135, 92),
    "memfd_create": (319, 279),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "setresuid": (117, 147),
    "setgroups": (116, 159),
    "capset": (126, 91),
    "prctl": (157, 167),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "open_by_handle_at": (304, 265),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "quotactl": (179, 60),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "fanotify_init": (300, 262),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone": (56, 220),
    "unshare": (272, 97),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "mknodat": (259, 33),
    "prlimit64": (302, 261),
    "setrlimit": (160, 164),
}
_NAMES = list(NUMBERS)
ALLOWED = _NAMES[: _NAMES.index("mount")]
REFUSED = _NAMES[_NAMES.index("mount") : _NAMES.index("clone3")]
ABSENT = _NAMES[_NAMES.index("clone3") : _NAMES.index("clone")]

FORK = 0x0120_0011  # as fork: SIGCHLD, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID
THREAD = 0x003D_0F00  # as pthread_create
VFORK = 0x4111  # as posix_spawn
NAMESPACES = {
    **{"mount": 0x0002_0000, "cgroup": 0x0200_0000, "uts": 0x0400_0000, "ipc": 0x0800_0000},
    **{"user": 0x1000_0000, "pid": 0x2000_0000, "network": 0x4000_0000},
}
NEW_TIME = 0x80
TCP, UDP, ICMP, ICMP6, SCTP, MPTCP = 6, 17, 1, 58, 132, 262
ALG, PACKET, VSOCK, TIPC, BLUETOOTH = 38, 17, 40, 30, 31
TIOCSTI, TIOCLINUX, TIOCSETD, TCGETS, FIONREAD = 0x5412, 0x541C, 0x5423, 0x5401, 0x541B
CORE, NOFILE = 4, 7


def denied(number: int) -> int:
    """The filter's answer that becomes this errno."""
    return 0x5_0000 | number


@dataclass(frozen=True)
class Machine:
    """A kind of machine and the filter for it."""

    name: str
    architecture: int
    column: int

    def ask(self, name: str, *arguments: int) -> int:
        return _program(self.name).run(self.architecture, NUMBERS[name][self.column], *arguments)


MACHINES = [Machine("x86_64", X86_64, 0), Machine("aarch64", AARCH64, 1)]


@cache
def _program(machine: str) -> Program:
    file = os.memfd_create("syn-test-filter")
    try:
        count = seccomp.write_filter(machine, file)
        return Program.parse(os.pread(file, count * 8, 0))
    finally:
        os.close(file)


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    """Each kind of machine that there is a filter for."""
    found: Machine = request.param
    return found


@pytest.mark.parametrize("name", ALLOWED)
def test_usual_call_is_allowed(machine: Machine, name: str) -> None:
    """Calls of ordinary programs, of debuggers, and of what drops a task's rights pass."""
    assert machine.ask(name) == ALLOW


@pytest.mark.parametrize("name", REFUSED)
def test_dangerous_call_is_refused(machine: Machine, name: str) -> None:
    """Calls that reach beyond the task are not permitted, whatever their arguments."""
    assert machine.ask(name) == denied(errno.EPERM)
    assert machine.ask(name, *(~0,) * 6) == denied(errno.EPERM)


@pytest.mark.parametrize("name", ABSENT)
def test_hiding_call_is_absent(machine: Machine, name: str) -> None:
    """Calls whose work the filter could not see are not there."""
    assert machine.ask(name) == denied(errno.ENOSYS)


def test_unknown_numbers_are_absent(machine: Machine) -> None:
    """Numbers that the kernel may give a meaning later are not there, nor are negative ones."""
    answers = {_program(machine.name).run(machine.architecture, n) for n in (470, 999, 0x3FFF_FFFF, -1, -2)}

    assert answers == {denied(errno.ENOSYS)}


@pytest.mark.parametrize("other", [I386, ARM, 0])
def test_other_architectures_calls_kill(machine: Machine, other: int) -> None:
    """A call by another machine's numbers ends the process: i386's on x86_64, 32-bit Arm's on aarch64."""
    assert _program(machine.name).run(other, 20) == KILL


def test_x32_calls_are_absent() -> None:
    """On x86_64 the x32 numbers, which mean the same calls a second time, are not there."""
    answers = {_program("x86_64").run(X86_64, X32 | number) for number in range(600)}

    assert answers == {denied(errno.ENOSYS)}


@pytest.mark.parametrize("flags", [FORK, THREAD, VFORK])
def test_processes_and_threads_start(machine: Machine, flags: int) -> None:
    """fork, threads and posix_spawn pass."""
    assert machine.ask("clone", flags) == ALLOW


@pytest.mark.parametrize("kind", NAMESPACES)
def test_no_new_namespace(machine: Machine, kind: str) -> None:
    """Neither clone nor unshare makes a namespace of any kind, alone or beside other flags."""
    flag = NAMESPACES[kind]

    for flags in (flag, flag | FORK, flag | UPPER, sum(NAMESPACES.values())):
        assert machine.ask("clone", flags) == denied(errno.EPERM)
        assert machine.ask("unshare", flags) == denied(errno.EPERM)


def test_unshare_of_other_things(machine: Machine) -> None:
    """unshare makes no time namespace, but gives a thread files of its own."""
    assert machine.ask("unshare", NEW_TIME) == denied(errno.EPERM)
    assert machine.ask("unshare", 0x400) == ALLOW


def test_socket_families(machine: Machine) -> None:
    """Unix, IPv4, IPv6 and routing netlink are there; every other family is not supported."""
    usual = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

    assert {machine.ask("socket", family, 1, 0) for family in usual} == {ALLOW}
    others = set(range(64)) - set(usual) | {255, 1 << 31, ~0, UPPER | ALG, UPPER | VSOCK, UPPER}
    assert {machine.ask("socket", family, 1, 0) for family in others} == {denied(errno.EAFNOSUPPORT)}


def test_socket_protocols(machine: Machine) -> None:
    """TCP, UDP and ping are there; other protocols are not supported, SCTP and MPTCP among them."""
    usual = (0, TCP, UDP, ICMP, ICMP6)
    others = set(range(64)) - set(usual) | {SCTP, MPTCP, 255, ~0, UPPER | SCTP, UPPER | 2}
    families = (socket.AF_INET, socket.AF_INET6)

    assert {machine.ask("socket", f, 1, p) for f, p in product(families, usual)} == {ALLOW}
    refused = {machine.ask("socket", f, 1, p) for f, p in product(families, others)}
    assert refused == {denied(errno.EPROTONOSUPPORT)}


def test_netlink_protocols(machine: Machine) -> None:
    """Of netlink only interfaces and routes are there: not audit, netfilter, crypto."""
    answers = {machine.ask("socket", socket.AF_NETLINK, 3, p) for p in (*range(1, 32), UPPER, ~0)}

    assert answers == {denied(errno.EPROTONOSUPPORT)}


def test_socket_pairs(machine: Machine) -> None:
    """Pairs are of Unix sockets only."""
    assert machine.ask("socketpair", socket.AF_UNIX, 1) == ALLOW
    answers = {machine.ask("socketpair", f, 1) for f in (*range(2, 64), 0, UPPER | TIPC, ~0)}
    assert answers == {denied(errno.EAFNOSUPPORT)}


@pytest.mark.parametrize("request_", [TIOCSTI, TIOCLINUX, TIOCSETD])
def test_terminal_takes_no_input_and_no_discipline(machine: Machine, request_: int) -> None:
    """Neither can be put into a terminal, whatever the upper half of the request says."""
    assert machine.ask("ioctl", 0, request_) == denied(errno.EPERM)
    assert machine.ask("ioctl", 0, UPPER | request_) == denied(errno.EPERM)


def test_other_ioctls(machine: Machine) -> None:
    """Every other request passes, filled up with its sign or not."""
    refused = {TIOCSTI, TIOCLINUX, TIOCSETD}
    others = set(range(0x5400, 0x5480)) - refused | {0, 1, 0x8004_5430, 0xFFFF_FFFF_8004_5430}

    assert {machine.ask("ioctl", 0, each) for each in others} == {ALLOW}


def test_device_nodes(machine: Machine) -> None:
    """Files, pipes and sockets are made, device nodes are not."""
    devices = {stat.S_IFCHR, stat.S_IFBLK}

    for kind in range(0, 0x1_0000, 0x1000):
        wanted = denied(errno.EPERM) if kind in devices else ALLOW
        assert machine.ask("mknodat", 3, 0, kind | 0o666) == wanted
        assert machine.ask("mknodat", 3, 0, UPPER | kind | 0o666) == wanted


def test_bound_on_core_dumps_stays(machine: Machine) -> None:
    """Setting it succeeds without effect, so that nothing breaks and nothing changes; reading it works."""
    assert machine.ask("setrlimit", CORE, 1) == denied(0)
    assert machine.ask("prlimit64", 0, CORE, 1, 0) == denied(0)
    assert machine.ask("prlimit64", 0, CORE, 0xFFFF_0000_0000, 0) == denied(0)
    assert machine.ask("prlimit64", 0, CORE, 0, 1) == ALLOW
    assert machine.ask("prlimit64", 0, UPPER | CORE, 1, 0) == denied(errno.EINVAL)
    assert machine.ask("setrlimit", UPPER | CORE, 1) == denied(errno.EINVAL)


def test_other_limits_are_set(machine: Machine) -> None:
    """Every other limit of the kernel's is the task's own business."""
    others = set(range(16)) - {CORE}

    assert {machine.ask("setrlimit", each, 1) for each in others} == {ALLOW}
    assert {machine.ask("prlimit64", 0, each, 1, 1) for each in others} == {ALLOW}
    assert machine.ask("setrlimit", 16, 1) == denied(errno.EINVAL)


def test_allowed_calls_depend_on_no_argument(machine: Machine) -> None:
    """The kernel (5.11 and newer) can find once that they always pass, and ask the filter no more."""
    assert {machine.ask(name, *(~0,) * 6) for name in ALLOWED} == {ALLOW}
    assert len(_program(machine.name).instructions) <= 1024


def test_file_is_sealed_and_read_from_its_beginning_each_time() -> None:
    """Nobody changes the filter, and every sandbox reads all of it."""
    file = seccomp.open_filter()
    first, second = seccomp.reopened(file), seccomp.reopened(file)
    try:
        with pytest.raises(OSError, match="Operation not permitted"):
            os.pwrite(file, b"x", 0)
        assert len(whole := os.read(first, 65536)) == os.fstat(file).st_size
        assert os.read(second, 65536) == whole
    finally:
        for descriptor in (file, first, second):
            os.close(descriptor)


def test_other_machines_have_no_filter() -> None:
    """Where the list was not looked through, nothing runs."""
    with pytest.raises(KeeperError, match="riscv64"):
        seccomp.open_filter("riscv64")


def test_lacking_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libseccomp the error says what to install."""

    def absent(name: str) -> ctypes.CDLL:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(KeeperError, match="apt-get install libseccomp2"):
        seccomp.open_filter()


def _in_child(act: Callable[[ctypes.CDLL], int]) -> int:
    """The wait status of a process that takes up the filter, does this, and exits with what it answers."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = seccomp.open_filter()
    data = os.pread(file, os.fstat(file).st_size, 0)
    os.close(file)

    class FilterProgram(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    program = FilterProgram(len(data) // 8, data)
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            if libc.prctl(22, 2, ctypes.byref(program)) == 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
                status = act(libc)
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def test_kernel_takes_the_program() -> None:
    """This machine's kernel accepts it and answers by it."""

    def act(libc: ctypes.CDLL) -> int:
        libc.unshare(NAMESPACES["user"])
        return ctypes.get_errno()

    assert os.waitstatus_to_exitcode(_in_child(act)) == errno.EPERM


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is x86's")
def test_kernel_kills_by_the_program() -> None:
    """A process that makes an i386 call is ended."""
    code = bytes.fromhex("b814000000cd80c3")  # mov $20,%eax (getpid); int $0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    assert os.waitstatus_to_exitcode(_in_child(lambda libc: call() and 1)) == -signal.SIGSYS
