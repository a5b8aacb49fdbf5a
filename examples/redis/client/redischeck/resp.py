"""The part of the Redis protocol (RESP 2) that a client needs, with a deadline on every call."""

from __future__ import annotations

import socket
import time

PORT = 6379
CONNECT_S = 30.0
ANSWER_S = 60.0  # a busy machine may stand still for a while, and who gives up has nothing to say

Reply = str | int | None | list["Reply"]


class RedisError(Exception):
    """The server refused a command; the text is its own."""


class SilentError(Exception):
    """No whole answer in time. A write may or may not have happened."""


class Redis:
    """One connection to one server, made when it is needed and given up when it fails."""

    def __init__(self, address: str, port: int = PORT) -> None:
        self.address = address
        self._port = port
        self._sock: socket.socket | None = None
        self._data = b""

    def call(self, *words: str | int, seconds: float = ANSWER_S) -> Reply:
        """Sends a command and returns its reply.

        Raises:
            RedisError: the server refused it.
            SilentError: the server did not answer within `seconds`, or went away.
        """
        until = time.monotonic() + seconds
        try:
            if self._sock is None:
                self._sock = socket.create_connection((self.address, self._port), min(CONNECT_S, seconds))
                self._data = b""
            self._sock.settimeout(seconds)
            self._sock.sendall(_encode(words))
            return self._reply(self._sock, until)
        except OSError as error:
            self.close()
            raise SilentError(f"{self.address} does not answer {words[0]}: {error}") from error

    def text(self, *words: str | int, seconds: float = ANSWER_S) -> str | None:
        """The reply of a command that answers with a text or nothing."""
        reply = self.call(*words, seconds=seconds)
        if reply is None or isinstance(reply, str):
            return reply
        raise RedisError(f"{words[0]} answered {reply!r}")

    def info(self, section: str, seconds: float = ANSWER_S) -> dict[str, str]:
        """A section of INFO."""
        lines = (self.text("INFO", section, seconds=seconds) or "").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def close(self) -> None:
        """Gives the connection up."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _reply(self, sock: socket.socket, until: float) -> Reply:
        line = self._line(sock, until)
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._exactly(sock, length, until).decode()
        if kind == b"*":
            return [self._reply(sock, until) for _ in range(int(rest))]
        raise OSError(f"no reply of Redis: {line[:40]!r}")

    def _line(self, sock: socket.socket, until: float) -> bytes:
        while b"\r\n" not in self._data:
            self._more(sock, until)
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def _exactly(self, sock: socket.socket, length: int, until: float) -> bytes:
        while len(self._data) < length + 2:
            self._more(sock, until)
        text, self._data = self._data[:length], self._data[length + 2 :]
        return text

    def _more(self, sock: socket.socket, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(left)
        piece = sock.recv(1 << 16)
        if not piece:
            raise ConnectionError("the server went away")
        self._data += piece


def _encode(words: tuple[str | int, ...]) -> bytes:
    texts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in texts)
