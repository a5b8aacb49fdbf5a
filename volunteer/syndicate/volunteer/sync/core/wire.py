"""The bytes: requests of 76, answers of 4, and what our own client lays where the original sends zeros.

The layout is emulab-sync's: `char name[64]; int16_t request, flags; int32_t count, error`, in the byte
order of the host, and one int32_t back. The last 16 bytes of the name's field may hold our extension, if
the name ends before them: a magic number, a version, flags, a request id and a time-out. A server that does
not know it compares names up to their NUL and never sees it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

REQUEST: Final = struct.Struct("=64shhii")
ANSWER: Final = struct.Struct("=i")
EXTENSION: Final = struct.Struct("=2sBBQI")
REPLY: Final = struct.Struct("=2sBBQi")

DEFAULT_PORT: Final = 16534
NAME_BYTES: Final = 64
EXTENSION_AT: Final = NAME_BYTES - EXTENSION.size
MAGIC: Final = b"\xb5S"
VERSION: Final = 1
COUNT_MAX: Final = 2**31 - 1
ERROR_MAX: Final = 239

_INIT_WITHOUT_WAITING: Final = 1


class Kind(IntEnum):
    """What a request asks for."""

    INIT = 1
    WAIT = 2


class Value(IntEnum):
    """What the server itself answers, above all errors of participants. Only the first is the original's."""

    DROPPED = 240  # all barriers were dropped
    TIMED_OUT = 241  # the time-out in the request ran out
    ABANDONED = 242  # who had initialised the barrier went away
    REFUSED = 243  # the request makes no sense, or has no room; told to our own client only


class Flag(IntFlag):
    """Of the extension."""

    ABANDON = 1  # tell when an init's owner goes away: an init says so for all, a waiter for itself
    ACKNOWLEDGE = 2  # UDP: the answer came
    LEAVE = 4  # UDP: waits no more


NO_FLAGS: Final = Flag(0)


class ReplyKind(IntEnum):
    """Of a reply to our own client over UDP."""

    WAITING = 1  # the request came and is counted
    ANSWER = 2


class Malformed(ValueError):
    """The bytes are no request; the text says why."""


@dataclass(frozen=True, slots=True)
class Extension:
    """What our own client adds. `timeout_ms` 0: none."""

    request_id: int
    flags: Flag = NO_FLAGS
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `count` is 0 for a wait; `extension` is None where the client is not ours."""

    name: bytes
    kind: Kind
    count: int = 0
    error: int = 0
    no_wait: bool = False
    extension: Extension | None = None


def decode(data: bytes) -> Request:
    """A request of exactly 76 bytes. Raises Malformed.

    A name without a NUL is cut to 63 bytes, as the original server does. Unknown flags mean nothing to
    either.
    """
    if len(data) != REQUEST.size:
        raise Malformed(f"{len(data)} bytes instead of {REQUEST.size}")
    field, kind, flags, count, error = REQUEST.unpack(data)
    extension = _extension(field)
    # Said before all else is checked: these two are about a request that was checked when it came.
    if extension is not None and extension.flags & (Flag.ACKNOWLEDGE | Flag.LEAVE):
        return Request(_name(field), Kind.WAIT, extension=extension)
    if kind not in (Kind.INIT, Kind.WAIT):
        raise Malformed(f"request {kind} is neither init nor wait")
    if not 0 <= error <= ERROR_MAX:
        raise Malformed(f"error {error} is not between 0 and {ERROR_MAX}")
    name = _name(field)
    if not name:  # no client sends one, and an owner who drops "" could not say which it means
        raise Malformed("a barrier without a name")
    if kind == Kind.WAIT:
        return Request(name, Kind.WAIT, 0, error, extension=extension)
    if count < 1:
        raise Malformed(f"an init of {count} waiters")
    return Request(name, Kind.INIT, count, error, bool(flags & _INIT_WITHOUT_WAITING), extension)


def _name(field: bytes) -> bytes:
    return field[: NAME_BYTES - 1].split(b"\0", 1)[0]


def _extension(field: bytes) -> Extension | None:
    if 0 not in field[:EXTENSION_AT]:
        return None
    magic, version, flags, request_id, timeout_ms = EXTENSION.unpack_from(field, EXTENSION_AT)
    if magic != MAGIC or version != VERSION:
        return None
    return Extension(request_id, Flag(flags & 7), timeout_ms)


def answer(value: int) -> bytes:
    """The answer to everyone over TCP, and to the original client over UDP."""
    return ANSWER.pack(value)


def reply(kind: ReplyKind, request_id: int, value: int = 0) -> bytes:
    """The answer to our own client over UDP."""
    return REPLY.pack(MAGIC, VERSION, kind, request_id, value)
