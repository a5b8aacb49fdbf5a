"""What `sync` says and hears: requests, the bytes, and the errors."""

from __future__ import annotations

import math
import os
import struct
from typing import NamedTuple

NAME_BYTES = 63
ERROR_MAX = 239
COUNT_MAX = 2**31 - 1
NAME_BYTES_WITH_EXTENSION = 47
"""Our own server is told more in the last 16 bytes of a name: over UDP, and for `abandon`."""

REQUEST = struct.Struct("=64shhii")
EXTENSION = struct.Struct("=2sBBQI")
REPLY = struct.Struct("=2sBBQi")
ANSWER = struct.Struct("=i")
MAGIC, VERSION = b"\xb5S", 1
ABANDON, ACKNOWLEDGE, LEAVE = 1, 2, 4
WAITING, ANSWERED = 1, 2
_INIT, _WAIT = 1, 2
_NO_WAIT = 1


class SyncError(Exception):
    """A barrier was not passed."""


class ServerUnknown(SyncError):
    """No server was named, or its name has no address."""


class NoAnswer(SyncError):
    """The server gave no answer of this protocol: it refused the request, went away, or is something else."""


class Dropped(SyncError):
    """The server dropped the barrier, or all."""


class TimedOut(SyncError, TimeoutError):
    """Not all came in time. Whoever raises this is counted no more."""


class Abandoned(SyncError):
    """Who had initialised the barrier went away before it opened."""


class Request(NamedTuple):
    """What is asked of a barrier. 0 waiters is a wait, any other number an init of so many."""

    name: bytes
    waiters: int = 0
    error: int = 0
    no_wait: bool = False
    abandon: bool = False


def checked(
    name: str,
    *,
    count: int = 0,
    error: int = 0,
    no_wait: bool = False,
    abandon: bool = False,
    udp: bool = False,
) -> Request:
    """A request. Raises ValueError for one that no server could take."""
    encoded = os.fsencode(name)
    if not encoded or b"\0" in encoded:
        raise ValueError("a barrier's name has no NUL, and at least one byte")
    if len(encoded) > NAME_BYTES:
        raise ValueError(f"a barrier's name has at most {NAME_BYTES} bytes, not {len(encoded)}")
    if (udp or abandon) and len(encoded) > NAME_BYTES_WITH_EXTENSION:
        raise ValueError(
            f"over UDP, and to be told of an abandon, a barrier's name has at most "
            f"{NAME_BYTES_WITH_EXTENSION} bytes, not {len(encoded)}"
        )
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"a count is a number from 1 to {COUNT_MAX}, not {count}")
    if not 0 <= error <= ERROR_MAX:
        raise ValueError(f"an error is a number from 0 to {ERROR_MAX}, not {error}")
    if no_wait and not count:
        raise ValueError("only an init can be without waiting")
    if no_wait and abandon:
        raise ValueError("an init that does not wait cannot be abandoned: nobody looks after it")
    return Request(encoded, count, error, no_wait, abandon)


def shown(name: bytes) -> str:
    """A barrier's name as the server tells it: printable ASCII, with all else escaped byte by byte."""
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and chr(byte) not in "'\\" else f"\\x{byte:02x}" for byte in name
    )


def packed(request: Request, request_id: int, flags: int, timeout_s: float | None) -> bytes:
    """The 76 bytes; the extension only where the name leaves room for it."""
    name = request.name
    if len(name) <= NAME_BYTES_WITH_EXTENSION:
        milliseconds = 0 if timeout_s is None else max(1, math.ceil(timeout_s * 1000))
        tail = EXTENSION.pack(MAGIC, VERSION, flags, request_id, milliseconds)
        name = name.ljust(64 - EXTENSION.size, b"\0") + tail
    kind = _INIT if request.waiters else _WAIT
    return REQUEST.pack(name, kind, _NO_WAIT if request.no_wait else 0, request.waiters, request.error)
