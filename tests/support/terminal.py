"""A command on a terminal of its own, and a slow way to a manager."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

ERASED = "\x1b[2K"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OnTerminal:
    """A process whose standard streams are a terminal of 24 lines and 100 columns."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end within a letter
        self.raw = ""

    @property
    def text(self) -> str:
        """All that came so far, without the sequences that colour and erase."""
        return _ESCAPES.sub("", self.raw)

    def until(self, pattern: str, deadline_s: float = 60.0) -> re.Match[str]:
        """Reads on until the text so far matches; fails when it never does."""
        until = time.monotonic() + deadline_s
        while not (found := re.search(pattern, self.text)):
            assert self._read(until), f"never shown: {pattern}\n{self.text!r}"
        return found

    def to_its_end(self, deadline_s: float = 60.0) -> int:
        """Reads all that is left and returns the exit status."""
        until = time.monotonic() + deadline_s
        while self._read(until):
            pass
        return self.process.wait(max(0.1, until - time.monotonic()))

    def _read(self, until: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            piece = os.read(self._master, 1 << 16)
        except OSError:  # the last process on the terminal has ended
            return False
        self.raw += self._decoder.decode(piece)
        return bool(piece)


@contextlib.contextmanager
def on_terminal(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[OnTerminal]:
    """Starts a command on a terminal; it is ended with the block whatever happens."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    sized = {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    try:
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**sized, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    finally:
        os.close(slave)
    try:
        yield OnTerminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


class Valve:
    """A way to a server that lets some bytes of its caller's through, and the rest when it is opened.

    Args:
        target: `HOST:PORT` of the server.
        first: bytes that pass at once.
    """

    def __init__(self, target: str, first: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._left = first
        self._opened = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._server]
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """Where callers connect to."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def open(self) -> None:
        """Lets everything through from now on."""
        self._opened.set()

    def __enter__(self) -> Valve:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        for each in self._sockets:
            with contextlib.suppress(OSError):  # its peer may have closed it
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]  # a callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._target, 60)
            self._sockets += [caller, server]
            self._run(self._copy, caller, server, True)
            self._run(self._copy, server, caller, False)

    def _copy(self, source: socket.socket, sink: socket.socket, held: bool) -> None:
        try:
            while piece := source.recv(1 << 14):
                if held:
                    self._left -= len(piece)
                    if self._left < 0:
                        self._opened.wait(120)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # either side is gone
            return
