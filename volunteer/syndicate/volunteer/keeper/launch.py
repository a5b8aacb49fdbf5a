"""The keeper's side of the launcher: start a process inside a cgroup and a network namespace."""

from __future__ import annotations

import array
import json
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from .errors import failed

_ANSWER_SECONDS = 10.0


class Launcher:
    """One launcher process; threads may start things at once, which are started one after the other."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        self._link = link
        self._pid = pid
        self._lock = threading.Lock()

    @classmethod
    def open(cls) -> Launcher:
        """Start the launcher; from the main thread, whose end ends what it started (die-with-parent)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("launcher.py")
        argv = [sys.executable, "-I", "-S", str(program)]
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
        with theirs:
            pid = os.posix_spawn(argv[0], argv, {}, file_actions=actions)
        ours.settimeout(_ANSWER_SECONDS)
        launcher = cls(ours, pid)
        try:
            if not ours.recv(64):
                raise failed("the launcher ended as it started")
        except TimeoutError:
            launcher.close()
            raise failed(f"the launcher did not start within {_ANSWER_SECONDS:.0f} s") from None
        return launcher

    def start(
        self,
        argv: Sequence[str],
        cgroup: int,
        netns: int | None,
        descriptors: Sequence[int],
        join: Sequence[str],
    ) -> int:
        """Exec `argv` inside the cgroup (a descriptor) with `descriptors` as 0, 1, 2, …; its pid.

        The keeper is its parent and must reap it. An exec that fails shows as exit status 126. Raises
        KeeperError.
        """
        message = json.dumps({"argv": list(argv), "netns": netns is not None, "join": list(join)}).encode()
        sent = array.array("i", [cgroup, *([] if netns is None else [netns]), *descriptors])
        with self._lock:
            try:
                self._link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
                answer = json.loads(self._link.recv(4096) or b'{"error": "the launcher is gone"}')
            except OSError as error:
                raise failed(f"the launcher does not answer: {error}") from error
        if "pid" not in answer:
            raise failed(str(answer["error"]))
        return int(answer["pid"])

    def close(self) -> None:
        """End the launcher and reap it."""
        self._link.close()
        os.waitpid(self._pid, 0)
