"""Starts processes right inside their cgroup: a program of its own, run by the keeper as a child.

Moving a running process into a version 2 cgroup waits for a grace period of the kernel, 19 ms where it was
measured; clone3 with CLONE_INTO_CGROUP does not. clone3 without exec's vfork is only safe in a process of one
thread, and cheap only in a small one: hence this program, which imports little and is nobody's module.
CLONE_PARENT makes the keeper the parent of what is started, so that it reaps it.

Requests come over a SOCK_SEQPACKET socket (descriptor 3) as JSON, with descriptors beside: the cgroup's, the
mount namespace's, the network namespace's if `netns`, then those that become 0, 1, 2, … in the new process.
The answer is `{"number": n, "pid": n}` or `{"number": n, "error": text}` with the request's number. It ends
when the socket does.
"""

from __future__ import annotations

import array
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import struct
import sys

_SYS_CLONE3 = 435  # the same number on every architecture
_CLONE_INTO_CGROUP = 0x2_0000_0000
_CLONE_PARENT = 0x8000
_CLONE_NEWNS = 0x0002_0000
_CLONE_NEWNET = 0x4000_0000
_MAX_MESSAGE = 128 * 1024
_MAX_DESCRIPTORS = 16
_FIRST_FREE = 32  # received descriptors start here, so that dup2 to low numbers overwrites none of them
_SOCKET = 3
_ALL_DESCRIPTORS = (1 << 31) - 1
# Tasks stand behind the daemons that hold, cut and kill them: beside a hundred busy or dying processes a
# fault would else wait its turn. Among themselves tasks share as before.
_NICENESS = 10

_BOUNDS = {
    # A core of 1 byte fits no file, and where the host hands cores to a helper, 1 alone keeps the kernel from
    # starting it: to a pipe 0 means no bound (core(5), and do_coredump in the kernel).
    resource.RLIMIT_CORE: 1,
    resource.RLIMIT_MEMLOCK: 64 << 10,
    resource.RLIMIT_MSGQUEUE: 800 << 10,  # the kernel's own default
    resource.RLIMIT_NICE: 0,  # nobody gets before the daemons again
    resource.RLIMIT_RTPRIO: 0,
}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SYS_LANDLOCK_CREATE_RULESET, _SYS_LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every architecture
_LANDLOCK_VERSION = 1
_SCOPES_SINCE = 6  # Landlock's version, of Linux 6.12
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2

_libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock over clone3
_libc.syscall.restype = ctypes.c_long


def _start(argv: list[str], cgroup: int, joined: list[int], descriptors: list[int], shut_in: bool) -> int:
    """Exec `argv` in a new process inside the cgroup; its pid. Raises OSError.

    The new process copies each page that it touches: what can be made before the clone is made before it, and
    after it there are calls of the C library's functions alone, by the way that the clone itself took.
    """
    # struct clone_args; the exit signal must be 0 with CLONE_PARENT: the new process inherits this one's.
    words = (_CLONE_INTO_CGROUP | _CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, cgroup)
    size = struct.calcsize("11Q")
    flags = ctypes.create_string_buffer(struct.pack("11Q", *words), size)
    arguments = (ctypes.c_char_p * (len(argv) + 1))(*map(os.fsencode, argv), None)
    program, environment = arguments[0], (ctypes.c_char_p * 1)(None)
    write, dup2, nice, execve = _libc.write, _libc.dup2, _libc.nice, _libc.execve
    pid = int(_libc.syscall(_SYS_CLONE3, flags, ctypes.c_size_t(size)))
    if pid < 0:
        raise _failure("clone3")
    if pid > 0:
        return pid
    try:
        if shut_in:
            _shut_in()
        for tasks in joined:  # of version 1: writing 0 moves the writer without any wait
            if write(tasks, b"0", 1) != 1:
                raise _failure("join a cgroup")
        for number, descriptor in enumerate(descriptors):
            if dup2(descriptor, number) != number:
                raise _failure("dup2")
        nice(_NICENESS)
        execve(program, arguments, environment)
        raise _failure(argv[0])
    except OSError as error:
        os.write(2, f"syndicate: cannot start: {error}\n".encode())
    finally:
        os._exit(126)


def _failure(what: str) -> OSError:
    """Why the C library's last function failed."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), what)


def _join_keyring() -> None:
    """Leave the keeper's session keyring, which all slots would share, for a fresh one of its own."""
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is None or _libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None) >= 0:
        return
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):  # a kernel or container without keyrings
        raise OSError(ctypes.get_errno(), "cannot take a keyring of its own")


def _shut_in() -> None:
    """On the host's network: reach none of the host's abstract Unix sockets, and signal no process of its.

    Landlock does so where the kernel is new enough; the doctor tells where it is not.
    """
    nothing, no_bytes = None, ctypes.c_size_t(0)
    version = _libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, nothing, no_bytes, _LANDLOCK_VERSION)
    if version < _SCOPES_SINCE:
        return
    attributes = struct.pack("3Q", 0, 0, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
    size = ctypes.c_size_t(len(attributes))
    ruleset = _libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0 or _libc.syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot be kept from the host's sockets")


def _enter(namespaces: list[tuple[int, int]]) -> None:
    """Go into namespaces, each a descriptor and its kind; raises OSError."""
    for namespace, kind in namespaces:
        if _libc.setns(namespace, kind) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter a namespace of the slot's")


def _answer(message: bytearray, received: list[int], home: list[tuple[int, int]]) -> dict[str, object]:
    """Start what is asked for, from the slot's namespaces, and be back in those of `home`."""
    request = json.loads(message)
    cgroup, rest = received[0], received[1:]
    namespaces = [(rest.pop(0), _CLONE_NEWNS)]
    if request["netns"]:
        namespaces.append((rest.pop(0), _CLONE_NEWNET))
    number = request["number"]
    joined: list[int] = []
    try:
        try:
            _enter(namespaces)
            _join_keyring()
            for path in request["join"]:
                joined.append(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        except OSError as error:
            return {"number": number, "error": f"cannot start a process: {error.strerror}"}
        try:
            pid = _start(request["argv"], cgroup, joined, rest, shut_in=not request["netns"])
        except OSError as error:
            return {"number": number, "error": f"cannot start a process in its cgroup: {error.strerror}"}
    finally:
        for tasks in joined:
            os.close(tasks)
        _enter(home)  # else the slot's mounts would outlive its thread
    return {"number": number, "pid": pid}


def _receive(link: socket.socket, room: bytearray) -> tuple[bytearray, list[int]]:
    numbers = array.array("i")
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * numbers.itemsize)
    size, ancillary, _, _ = link.recvmsg_into([room], space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return room[:size], list(numbers)


def _settle() -> None:
    """What every started process inherits: a session without terminal, default signals, bounds, no cores."""
    os.setsid()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(ignored, signal.SIG_DFL)
    os.umask(0o022)
    os.chdir("/")
    for kind, most in _BOUNDS.items():
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    try:  # a keeper that the system's settings protect from the out-of-memory killer must not protect tasks
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("0")
    except PermissionError:
        pass  # it was below 0 for another reason than the keeper's, and may not be raised here
    filler = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for number in range(_SOCKET + 1, _FIRST_FREE):
        if number != filler:
            os.dup2(filler, number, inheritable=False)


def main() -> int:
    """Serve until the keeper is gone."""
    # Whatever the keeper's own starter left open, a folder say, would be a way out of every task's root.
    os.closerange(_SOCKET + 1, _ALL_DESCRIPTORS)
    os.set_inheritable(_SOCKET, False)
    _settle()
    link = socket.socket(fileno=_SOCKET)
    home = [
        (os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), _CLONE_NEWNS),
        (os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), _CLONE_NEWNET),
    ]
    try:
        link.send(b"{}")
        room = bytearray(_MAX_MESSAGE)
        while True:
            message, received = _receive(link, room)
            if not message:
                return 0
            answer = _answer(message, received, home)
            for descriptor in received:
                os.close(descriptor)
            link.send(json.dumps(answer).encode())
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the keeper went with something unread or unanswered


if __name__ == "__main__":
    sys.exit(main())
