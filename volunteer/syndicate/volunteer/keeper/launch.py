"""The keeper's side of the launcher: start a process inside a cgroup, a mount and a network namespace."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import failed
from .process import reap

_ANSWER_SECONDS = 10.0
_REAP_SECONDS = 5.0


class Launcher:
    """One launcher process; threads may start things at once, which are started one after the other."""

    def __init__(self, link: socket.socket, pid: int, seconds: float) -> None:
        self.pid = pid
        self._link = link
        self._seconds = seconds
        self._lock = threading.Lock()
        self._number = 0  # of the last request; its answer has the same

    @classmethod
    def open(cls, seconds: float = _ANSWER_SECONDS) -> Launcher:
        """Start the launcher; from the main thread, whose end ends what it started (die-with-parent).

        Its answers are waited for at most so long. Raises KeeperError.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("launcher.py")
        argv = [sys.executable, "-I", "-S", str(program)]
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
        with theirs:
            # What it calls first in a new process is looked up now, not there: that copies pages.
            pid = os.posix_spawn(argv[0], argv, {"LD_BIND_NOW": "1"}, file_actions=actions)
        ours.settimeout(seconds)
        launcher = cls(ours, pid, seconds)
        try:
            if not ours.recv(64):
                raise failed("the launcher ended as it started")
        except TimeoutError:
            launcher.close()
            raise failed(f"the launcher did not start within {seconds:.0f} s") from None
        return launcher

    def start(
        self,
        argv: Sequence[str],
        cgroup: int,
        mntns: int,
        netns: int | None,
        descriptors: Sequence[int],
        join: Sequence[str],
    ) -> int:
        """Exec `argv` inside the cgroup and the namespaces with `descriptors` as 0, 1, 2, …; its pid.

        All of these are descriptors; without `netns` it keeps the keeper's network. The keeper is its parent
        and must reap it. An exec that fails shows as exit status 126. Raises KeeperError.
        """
        request = {"argv": list(argv), "netns": netns is not None, "join": list(join)}
        sent = array.array("i", [cgroup, mntns, *([] if netns is None else [netns]), *descriptors])
        with self._lock:
            try:
                self._number += 1
                message = json.dumps(request | {"number": self._number}).encode()
                self._link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
                answer = self._await_answer()
            except OSError as error:
                raise failed(f"the launcher does not answer: {error}") from error
        if "pid" not in answer:
            raise failed(str(answer["error"]))
        return int(answer["pid"])

    def _await_answer(self) -> dict[str, Any]:
        """The answer to the last request; raises OSError.

        What was started for an earlier one, whose answer came too late for it, is nobody's: it is ended.
        """
        deadline = time.monotonic() + self._seconds
        while True:
            self._link.settimeout(max(deadline - time.monotonic(), 0.001))
            answer: dict[str, Any] = json.loads(self._link.recv(4096) or b"{}")
            if not answer:
                return {"error": "the launcher is gone"}
            if answer["number"] == self._number:
                return answer
            if "pid" in answer:
                os.kill(answer["pid"], signal.SIGKILL)  # it cannot be another's: it was not reaped
                reap(answer["pid"], _REAP_SECONDS)

    def close(self) -> None:
        """End the launcher and reap it; one that does not end by itself soon is killed."""
        self._link.close()
        if not reap(self.pid, _REAP_SECONDS):
            os.kill(self.pid, signal.SIGKILL)
            reap(self.pid, _REAP_SECONDS)
