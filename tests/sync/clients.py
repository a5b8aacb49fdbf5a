"""Clients on bare sockets, as the original is one."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

WAIT_S: Final = 60.0
INIT: Final = 1
WAIT: Final = 2
_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h


def request(kind: int = WAIT, count: int = 0, error: int = 0, name: bytes = b"b", flags: int = 0) -> bytes:
    """The 76 bytes."""
    return struct.pack("=64shhii", name, kind, flags, count, error)


class Client:
    """One connection."""

    def __init__(self, port: int, data: bytes = b"", source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=WAIT_S, source_address=(source, 0)
        )
        self.socket.sendall(data)

    def answer(self) -> int | None:
        """The value, once the server ended the connection; None for none."""
        heard = b""
        try:
            while data := self.socket.recv(64):
                heard += data
        except ConnectionResetError:
            return None
        finally:
            self.close()
        if len(heard) != 4:
            assert heard == b""
            return None
        (value,) = struct.unpack("=i", heard)
        return int(value)

    def reset(self) -> None:
        """End the connection by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()


def waiter(port: int, error: int = 0, name: bytes = b"b", source: str = "127.0.0.1") -> Client:
    """One that waits."""
    return Client(port, request(WAIT, 0, error, name), source)


def init(port: int, count: int, error: int = 0, name: bytes = b"b", source: str = "127.0.0.1") -> Client:
    """One that initialises and waits."""
    return Client(port, request(INIT, count, error, name), source)


def cut_off(peer: socket.socket) -> None:
    """From now on the kernel drops all that comes to this socket."""
    drop_all = (ctypes.c_char * 8).from_buffer_copy(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HL", 1, ctypes.addressof(drop_all))
    peer.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
