"""What a task may not ask of the kernel, and what it is told instead.

A call that is refused gets the error that programs expect of a machine without it or without the right to it:
most have another way then. Where the kernel reads only the lower half of an argument, a rule must not be
evaded by the upper half, so values that are let through are compared whole, or by a mask of the lower half.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

_ERRNO = 0x0005_0000
ALLOW = 0x7FFF_0000
BAD_ARCHITECTURE = 0x8000_0000  # the process is killed: i386's calls by int 0x80, 32-bit Arm programs
OTHERWISE = _ERRNO | errno.ENOSYS
# The highest number that was looked at for this list (Linux 6.18): newer calls are not there.
NEWEST = 469

_FORBIDDEN = _ERRNO | errno.EPERM
_PRETENDED = _ERRNO | 0  # success, and nothing done


@dataclass(frozen=True)
class Machine:
    """The kernel's AUDIT_ARCH of a kind of machine, and of those that share its door for calls."""

    architecture: int
    siblings: tuple[int, ...] = ()


MACHINES = {"x86_64": Machine(0xC000_003E, siblings=(0x4000_003E,)), "aarch64": Machine(0xC000_00B7)}


class Operation(IntEnum):
    """enum scmp_compare; MASKED: argument & first == second."""

    DIFFERENT = 1
    EQUAL = 4
    ABOVE = 6
    MASKED = 7


@dataclass(frozen=True)
class Test:
    """A comparison with an argument, all 64 bits of it."""

    argument: int
    operation: Operation
    first: int
    second: int = 0


@dataclass(frozen=True)
class Rule:
    """What happens to a call where all tests hold; without tests, always."""

    name: str
    action: int
    tests: tuple[Test, ...] = ()


# Refused whatever the arguments. ptrace, process_vm_*, personality, seccomp, landlock_* are left: debuggers
# and sanitizers need them, and they reach no further than the task's pid namespace and uid.
_REFUSED = (
    # the root and its mounts
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen"),
    *("fsconfig", "fsmount", "fspick", "mount_setattr", "statmount", "listmount", "setns"),
    # keyrings, which outlive a task: a uid's is the next task's on the slot
    *("keyctl", "add_key", "request_key"),
    # large parts of the kernel that have no business here
    *("bpf", "perf_event_open", "userfaultfd", "fanotify_init", "fanotify_mark", "lookup_dcookie"),
    *("open_by_handle_at", "kcmp", "pidfd_getfd", "memfd_secret", "nfsservctl", "lsm_set_self_attr"),
    # whose memory is used: a task that binds itself to one node of many can use that one up, and what then
    # runs out is not its own group's
    *("mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages"),
    # the machine itself
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module"),
    *("swapon", "swapoff", "reboot", "acct", "syslog", "sethostname", "setdomainname", "settimeofday"),
    *("clock_settime", "clock_adjtime", "adjtimex", "quotactl", "quotactl_fd", "iopl", "ioperm"),
    *("modify_ldt", "vm86", "uselib"),
)
# As on a kernel without them: clone3 hides its flags in memory (the C library falls back to clone), io_uring
# does its work past every rule here.
_ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; unshare has NEWTIME also.
_NEW_NAMESPACES = (1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30)
_NEW_TIME = 1 << 7

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_PROTOCOLS = (0, 1, 6, 17, 58)  # the usual one, ICMP, TCP, UDP, ICMPv6
_NETLINK_ROUTE = 0
# Two feed a terminal's input; the last has the kernel load line disciplines, a source of many holes.
_TERMINALS = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
_DEVICES = (stat.S_IFCHR >> 12, stat.S_IFBLK >> 12)  # a mode's upper four bits are the kind of file
_RLIMIT_CORE, _RLIMIT_BITS = 4, 4


def rules(known: Iterable[str]) -> Iterator[Rule]:
    """Rules for the calls that are known by name, no two of which contradict each other."""
    for name in known:
        if name in _SHAPED:
            yield from _SHAPED[name](name)
        elif name in _REFUSED:
            yield Rule(name, _FORBIDDEN)
        elif name not in _ABSENT:
            yield Rule(name, ALLOW)


def _clone(name: str) -> Iterator[Rule]:
    return _without_flags(name, _NEW_NAMESPACES)


def _unshare(name: str) -> Iterator[Rule]:
    return _without_flags(name, (_NEW_TIME, *_NEW_NAMESPACES))


def _without_flags(name: str, flags: Sequence[int]) -> Iterator[Rule]:
    yield Rule(name, ALLOW, (_masked(0, sum(flags), 0),))
    for flag in flags:
        yield Rule(name, _FORBIDDEN, (_masked(0, flag, flag),))


def _socket(name: str) -> Iterator[Rule]:
    """Unix, IPv4 and IPv6 with common protocols, and what the C library asks for interfaces and routes."""
    yield Rule(name, ALLOW, (_equal(0, _AF_UNIX),))
    unsupported = _ERRNO | errno.EPROTONOSUPPORT
    for family in (_AF_INET, _AF_INET6):
        for protocol in _PROTOCOLS:
            yield Rule(name, ALLOW, (_equal(0, family), _equal(2, protocol)))
        for other in _others(2, _PROTOCOLS, 6):
            yield Rule(name, unsupported, (_equal(0, family), other))
    yield Rule(name, ALLOW, (_equal(0, _AF_NETLINK), _equal(2, _NETLINK_ROUTE)))
    different = Test(2, Operation.DIFFERENT, _NETLINK_ROUTE)
    yield Rule(name, unsupported, (_equal(0, _AF_NETLINK), different))
    for other in _others(0, (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK), 5):
        yield Rule(name, _ERRNO | errno.EAFNOSUPPORT, (other,))


def _socketpair(name: str) -> Iterator[Rule]:
    yield Rule(name, ALLOW, (_equal(0, _AF_UNIX),))
    yield Rule(name, _ERRNO | errno.EAFNOSUPPORT, (Test(0, Operation.DIFFERENT, _AF_UNIX),))


def _ioctl(name: str) -> Iterator[Rule]:
    """By the lower 16 bits: some C libraries fill the upper half of the request with its sign."""
    for request in _TERMINALS:
        yield Rule(name, _FORBIDDEN, (_masked(1, 0xFFFF, request),))
    for mask, value in _cover(_TERMINALS, 16):
        yield Rule(name, ALLOW, (_masked(1, mask, value),))


def _mknod(name: str) -> Iterator[Rule]:
    return _without_devices(name, 1)


def _mknodat(name: str) -> Iterator[Rule]:
    return _without_devices(name, 2)


def _without_devices(name: str, argument: int) -> Iterator[Rule]:
    for kind in _DEVICES:
        yield Rule(name, _FORBIDDEN, (_masked(argument, 0xF000, kind << 12),))
    for mask, value in _cover(_DEVICES, 4):
        yield Rule(name, ALLOW, (_masked(argument, mask << 12, value << 12),))


def _setrlimit(name: str) -> Iterator[Rule]:
    """The bound on core dumps stays: 1 byte, which alone keeps the kernel from starting the host's helper."""
    yield Rule(name, _PRETENDED, (_equal(0, _RLIMIT_CORE),))
    yield from _other_limits(name, 0)


def _prlimit(name: str) -> Iterator[Rule]:
    yield Rule(name, ALLOW, (_equal(1, _RLIMIT_CORE), _equal(2, 0)))
    yield Rule(name, _PRETENDED, (_equal(1, _RLIMIT_CORE), Test(2, Operation.DIFFERENT, 0)))
    yield from _other_limits(name, 1)


def _other_limits(name: str, argument: int) -> Iterator[Rule]:
    *others, above = _others(argument, (_RLIMIT_CORE,), _RLIMIT_BITS)
    for other in others:
        yield Rule(name, ALLOW, (other,))
    yield Rule(name, _ERRNO | errno.EINVAL, (above,))  # the kernel knows 16


_SHAPED: dict[str, Callable[[str], Iterator[Rule]]] = {
    "clone": _clone,
    "unshare": _unshare,
    "socket": _socket,
    "socketpair": _socketpair,
    "ioctl": _ioctl,
    "mknod": _mknod,
    "mknodat": _mknodat,
    "setrlimit": _setrlimit,
    "prlimit64": _prlimit,
}


def _equal(argument: int, value: int) -> Test:
    return Test(argument, Operation.EQUAL, value)


def _masked(argument: int, mask: int, value: int) -> Test:
    return Test(argument, Operation.MASKED, mask, value)


def _others(argument: int, values: Sequence[int], bits: int) -> list[Test]:
    """Tests of which exactly one holds for each 64-bit number but `values`, which are below 2**bits."""
    upper = (1 << 64) - (1 << bits)
    within = [_masked(argument, upper | mask, value) for mask, value in _cover(values, bits)]
    return [*within, Test(argument, Operation.ABOVE, (1 << bits) - 1)]


def _cover(values: Sequence[int], bits: int) -> list[tuple[int, int]]:
    """Masks and values that select each number of so many bits but `values`, once: the least there are."""
    if not values:
        return [(0, 0)]
    if bits == 0:
        return []
    top = 1 << bits - 1
    low = _cover([value for value in values if not value & top], bits - 1)
    high = _cover([value & ~top for value in values if value & top], bits - 1)
    return [(top | mask, value) for mask, value in low] + [(top | mask, top | value) for mask, value in high]
