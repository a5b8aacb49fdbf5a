"""A sync server in a process of its own, with the test as its owner."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S = 60.0

Event = dict[str, Any]


def free_port() -> int:
    """A port that nobody listens on, for TCP and UDP; none that a connection is given by chance meanwhile."""
    for _ in range(200):
        port = random.randrange(20_000, 32_768)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


class Daemon:
    """`syndicate-syncd` with an owner's socket; `events` keeps what it told, in order."""

    def __init__(self, *options: str, port: int = 0, open_files: int = 0) -> None:
        self.port = port or free_port()
        self.events: list[Event] = []
        self.ready: Event
        self._mine, theirs = socket.socketpair()
        self._unread = b""
        line = [sys.executable, "-P", "-m", "syndicate.volunteer.sync", "-p", str(self.port)]
        line += ["--owner", str(theirs.fileno()), *options]
        if open_files:
            line = ["prlimit", f"--nofile={open_files}:{open_files}", "setpriv", "--bounding-set=-all", *line]
        self._log = tempfile.TemporaryFile(prefix="syn-syncd-")  # noqa: SIM115 - closed with the rest
        with theirs:
            self.process = subprocess.Popen(line, pass_fds=[theirs.fileno()], stderr=self._log)
        try:
            self.ready = {} if "--standby" in options else self.until("ready")
        except BaseException:
            self.process.kill()
            self.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    def until(self, event: str, **fields: Any) -> Event:
        """The next event of this kind with these fields; raises TimeoutError."""
        deadline = time.monotonic() + WAIT_S
        while True:
            told = self.next(deadline)
            if told["event"] == event and all(told[name] == value for name, value in fields.items()):
                return told

    def next_of(self, *events: str) -> Event:
        """The next event of one of these kinds; raises TimeoutError."""
        deadline = time.monotonic() + WAIT_S
        while (told := self.next(deadline))["event"] not in events:
            pass
        return told

    def until_listed(self, barrier: str, remaining: int) -> None:
        """Wait until a barrier has this count; raises TimeoutError."""
        deadline = time.monotonic() + WAIT_S
        while not any((each["barrier"], each["remaining"]) == (barrier, remaining) for each in self.listed()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{barrier} never had {remaining}: {self.listed()}")

    def next(self, deadline: float) -> Event:
        """The next event; raises TimeoutError at `deadline` (monotonic), EOFError where it has ended."""
        while b"\n" not in self._unread:
            if not select.select([self._mine], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no such event; there were {self.events[-20:]}")
            data = self._mine.recv(1 << 16)
            if not data:
                raise EOFError("the server has ended")
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        told: Event = json.loads(line)
        self.events.append(told)
        return told

    def ask(self, what: str) -> None:
        """Say something to it."""
        self._mine.sendall(json.dumps({"ask": what}).encode() + b"\n")

    def say(self, data: bytes) -> None:
        """Send it bytes as its owner."""
        self._mine.sendall(data)

    def listed(self) -> list[Event]:
        """The open barriers."""
        self.ask("list")
        barriers: list[Event] = self.until("list")["barriers"]
        return barriers

    def descriptors(self) -> int:
        """How many files it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def rss_bytes(self) -> int:
        """Its resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def log(self) -> str:
        """What it has logged so far."""
        # Not by the file's position, which is the server's, too: it would write at the beginning meanwhile.
        data = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)
        return data.decode()

    def until_logged(self, text: str) -> None:
        """Wait until its log has this; raises TimeoutError."""
        deadline = time.monotonic() + WAIT_S
        while text not in self.log():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} is not in the log:\n{self.log()}")
            self.listed()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def hand_over(self, line: bytes, *sockets: socket.socket) -> None:
        """Send it a line with sockets."""
        socket.send_fds(self._mine, [line], [each.fileno() for each in sockets])

    def hang_up(self) -> None:
        """End the connection as its owner."""
        self._mine.close()

    def close(self) -> str:
        """End it; returns what it logged."""
        self.process.terminate()
        try:
            self.process.wait(WAIT_S)
            return self.log()
        finally:
            self.process.kill()
            self._mine.close()
            self._log.close()


@contextmanager
def daemon(*options: str, **more: int) -> Iterator[Daemon]:
    """A server of its own, gone afterwards."""
    made = Daemon(*options, **more)
    try:
        yield made
    finally:
        made.close()


def command(*words: str) -> Sequence[str]:
    """The line that runs our own client."""
    return [sys.executable, "-P", "-m", "syndicate.client_api.sync_command", *words]
