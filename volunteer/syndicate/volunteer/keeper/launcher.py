"""Starts processes right inside their cgroup: a program of its own, run by the keeper as a child.

Moving a running process into a version 2 cgroup waits for a grace period of the kernel, 19 ms where it was
measured; clone3 with CLONE_INTO_CGROUP does not. clone3 without exec's vfork is only safe in a process of one
thread, and cheap only in a small one: hence this program, which imports little and is nobody's module.
CLONE_PARENT makes the keeper the parent of what is started, so that it reaps it.

Requests come over a SOCK_SEQPACKET socket (descriptor 3) as JSON, with descriptors beside: the cgroup's, the
network namespace's if `netns`, then those that become 0, 1, 2, … in the new process. The answer is
`{"pid": n}` or `{"error": text}`. It ends when the socket does.
"""

from __future__ import annotations

import array
import ctypes
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
_CLONE_NEWNET = 0x4000_0000
_MAX_MESSAGE = 128 * 1024
_MAX_DESCRIPTORS = 16
_FIRST_FREE = 32  # received descriptors start here, so that dup2 to low numbers overwrites none of them
_SOCKET = 3
# Tasks stand behind the daemons that hold, cut and kill them: beside a hundred busy or dying processes a
# fault would else wait its turn. Among themselves tasks share as before.
_NICENESS = 10

_libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock over clone3
_libc.syscall.restype = ctypes.c_long


def _clone_into(cgroup: int) -> int:
    # struct clone_args; the exit signal must be 0 with CLONE_PARENT: the new process inherits this one's.
    words = (_CLONE_INTO_CGROUP | _CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, cgroup)
    buffer = ctypes.create_string_buffer(struct.pack("11Q", *words), 88)
    pid = int(_libc.syscall(_SYS_CLONE3, buffer, ctypes.c_size_t(88)))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def _become(argv: list[str], join: list[str], netns: int | None, descriptors: list[int]) -> None:
    """In the new process: take up everything and exec; returns never."""
    try:
        if netns is not None and _libc.setns(netns, _CLONE_NEWNET) != 0:
            os._exit(126)
        for path in join:  # version 1 hierarchies: writing 0 to `tasks` moves the writer without any wait
            with open(path, "w") as tasks:
                tasks.write("0")
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.nice(_NICENESS)
        os.execve(argv[0], argv, {})  # noqa: S606 - argv is a list made by the keeper; no shell is meant
    except OSError as error:
        os.write(2, f"syndicate: cannot start: {error}\n".encode())
    finally:
        os._exit(126)


def _answer(message: bytes, received: list[int]) -> dict[str, object]:
    request = json.loads(message)
    cgroup, rest = received[0], received[1:]
    netns = rest.pop(0) if request["netns"] else None
    try:
        pid = _clone_into(cgroup)
    except OSError as error:
        return {"error": f"cannot start a process in its cgroup: {error.strerror}"}
    if pid == 0:
        _become(request["argv"], request["join"], netns, rest)
    return {"pid": pid}


def _receive(link: socket.socket) -> tuple[bytes, list[int]]:
    numbers = array.array("i")
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * numbers.itemsize)
    message, ancillary, _, _ = link.recvmsg(_MAX_MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return message, list(numbers)


def _settle() -> None:
    """What every started process inherits: a session without terminal, default signals, no cores."""
    os.setsid()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(ignored, signal.SIG_DFL)
    os.umask(0o022)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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
    os.set_inheritable(_SOCKET, False)
    _settle()
    link = socket.socket(fileno=_SOCKET)
    link.send(b"{}")
    while True:
        message, received = _receive(link)
        if not message:
            return 0
        answer = _answer(message, received)
        for descriptor in received:
            os.close(descriptor)
        link.send(json.dumps(answer).encode())


if __name__ == "__main__":
    sys.exit(main())
