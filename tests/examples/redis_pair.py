"""A Redis primary and one replica on loopback, with a gate between them, as a fake job's members."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

from made_job import EXAMPLES, MadeJob

PORT = 6379


class Gate:
    """Passes TCP on from one address to another while it is open; while shut it is silent, not refusing."""

    def __init__(self, listen: str, target: str) -> None:
        self.open = threading.Event()
        self.open.set()
        self._target = target
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((listen, PORT))
        self._run(self._accept)

    def close(self) -> None:
        """Ends all connections and threads."""
        self.open.set()
        with contextlib.suppress(OSError):  # wakes accept, which close alone does not
            self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _run(self, work: Any, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection((self._target, PORT), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._sockets += [near, far]
            self._run(self._pump, near, far)
            self._run(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.open.wait()
                sink.sendall(data)
        self.open.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


class Pair(MadeJob):
    """A primary and a replica that reaches it through a gate; cuts and heals shut and open the gate.

    Args:
        net: the first three bytes of the addresses; each test takes its own.
    """

    def __init__(self, folder: Path, net: str) -> None:
        self._gate = Gate(f"{net}.9", f"{net}.1")
        targets = {f"{net}.1": ["master"], f"{net}.2": [f"MASTER={net}.9", "slave"]}
        super().__init__(folder, EXAMPLES / "redis", targets)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._gate.close()

    def answer(self, caller: str, rpc: str, request: Any) -> Any:
        """What the fake answers, after the effect."""
        if rpc == "Disconnect":
            self._gate.open.clear()
        elif rpc == "Reconnect":
            self._gate.open.set()
        return super().answer(caller, rpc, request)
