"""Barriers: members of a job wait for each other, through the job's sync server.

One member says how many it waits for, the others come; when all have come, all go on::

    from syndicate.client_api import sync

    sync.init(4, "start")  # the master: waits for four others
    sync.wait("start")  # each of the four

Both return the largest error that any of them gave (`error=`), 0 to 239. A waiter may come before the init,
and a barrier can be used again once it has opened. The protocol is emulab-sync's, so its clients and
servers mix with these.

Standard library only, and no import of the rest of this package but its name: a sandbox can load these files
alone.

Errors, and what is to blame::

    SyncError
    ├── ServerUnknown   no server was named, or its name has no address: the surroundings
    ├── NoAnswer        the connection failed, or the request was refused: the network, or the caller
    ├── Dropped         the server dropped the barrier, or all: its operator
    ├── TimedOut        not all came in time: the others
    └── Abandoned       who had initialised the barrier went away: the others
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import NamedTuple

from syndicate.client_api.sync_ways import TOO_LATE, Say, over_tcp, over_udp
from syndicate.client_api.sync_wire import (
    COUNT_MAX,
    ERROR_MAX,
    NAME_BYTES,
    NAME_BYTES_WITH_EXTENSION,
    Abandoned,
    Dropped,
    NoAnswer,
    Request,
    ServerUnknown,
    SyncError,
    TimedOut,
    checked,
    shown,
)

__all__ = [
    "ABANDONED",
    "COUNT_MAX",
    "DEFAULT_NAME",
    "DEFAULT_PORT",
    "DROPPED",
    "ERROR_MAX",
    "FILES",
    "NAME_BYTES",
    "NAME_BYTES_WITH_EXTENSION",
    "TIMED_OUT",
    "TIMEOUT_MAX_S",
    "VARIABLE",
    "Abandoned",
    "Dropped",
    "NoAnswer",
    "Request",
    "Server",
    "ServerUnknown",
    "SyncError",
    "TimedOut",
    "Whoami",
    "checked",
    "find_server",
    "init",
    "take_part",
    "wait",
    "whoami",
]

DEFAULT_NAME = "barrier"
DEFAULT_PORT = 16534
VARIABLE = "SYNDICATE_SYNC_SERVER"
FILES = ("/run/syndicate/syncserver", "/var/emulab/boot/syncserver")
TIMEOUT_MAX_S = 4_000_000.0

DROPPED, TIMED_OUT, ABANDONED = 240, 241, 242
"""What the server answers by itself; exit codes of `syndicate-sync`, too. The first is emulab-sync's."""


class Server(NamedTuple):
    """Where a sync server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Whoami(NamedTuple):
    """`server` as it was named; `is_server`: whether it is on this very machine."""

    server: str
    is_server: bool


def wait(
    name: str = DEFAULT_NAME,
    *,
    error: int = 0,
    timeout: float | None = None,
    abandon: bool = False,
    udp: bool = False,
    server: str | None = None,
) -> int:
    """Wait at a barrier until all have come; returns the largest error that anyone gave.

    `timeout` is in seconds, from now on. With `abandon` the end of whoever initialised the barrier ends the
    waiting. `server` is `host[:port]`. Raises SyncError, and ValueError for what no server could take.
    """
    request = checked(name, error=error, abandon=abandon, udp=udp)
    return take_part(request, find_server(server), timeout=timeout, udp=udp)


def init(
    count: int,
    name: str = DEFAULT_NAME,
    *,
    no_wait: bool = False,
    error: int = 0,
    timeout: float | None = None,
    abandon: bool = False,
    udp: bool = False,
    server: str | None = None,
) -> int:
    """Let a barrier wait for `count` others (more), and wait with them; with `no_wait` return 0 at once.

    With `abandon` all who wait at the barrier are told should this process end before it opens. All else is
    as in `wait`.
    """
    request = checked(name, count=count, error=error, no_wait=no_wait, abandon=abandon, udp=udp)
    return take_part(request, find_server(server), timeout=timeout, udp=udp)


def whoami(server: str | None = None) -> Whoami:
    """Which server this job has, and whether it is on this member. Raises ServerUnknown."""
    named = named_server(server)
    return Whoami(named, is_here(address(split(named))))


# ---- where ------------------------------------------------------------------------------------------------


def named_server(server: str | None = None) -> str:
    """The server as it is named: given, else by SYNDICATE_SYNC_SERVER, else in a file. Raises
    ServerUnknown.
    """
    named = server or os.environ.get(VARIABLE, "").strip()
    for file in () if named else FILES:
        with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as lines:
            named = named or lines.readline(1024).strip()
    if not named:
        raise ServerUnknown(f"no sync server is named: not by -s, not by {VARIABLE}, not in {FILES[0]}")
    return named


def find_server(server: str | None = None, port: int | None = None) -> Server:
    """Where the server is; `port` goes before the one that is named with it. Raises ServerUnknown."""
    found = split(named_server(server))
    return found if port is None else Server(found.host, port)


def split(named: str) -> Server:
    """`host[:port]`. Raises ServerUnknown."""
    host, colon, port = named.partition(":")
    if not host or (colon and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536)):
        raise ServerUnknown(f"{named!r} is no HOST[:PORT]")
    return Server(host, int(port) if colon else DEFAULT_PORT)


def address(server: Server) -> str:
    """The server's IPv4 address. Raises ServerUnknown."""
    try:
        found = socket.getaddrinfo(server.host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServerUnknown(f"the sync server {server.host!r} has no address") from error
    return str(found[0][4][0])


def is_here(ip: str) -> bool:
    """Whether this machine has the address: only then can something be bound to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


# ---- taking part ------------------------------------------------------------------------------------------


def take_part(
    request: Request,
    server: Server,
    *,
    timeout: float | None = None,
    udp: bool = False,
    say: Say = lambda _: None,
) -> int:
    """Ask, and wait for the answer. Raises SyncError, which names the barrier and the server.

    `say` is told what goes on.
    """
    if timeout is not None and not 0 < timeout <= TIMEOUT_MAX_S:
        raise ValueError(f"a time-out is above 0 and at most {TIMEOUT_MAX_S:,.0f} s, not {timeout}")
    until = None if timeout is None else time.monotonic() + timeout
    place = (address(server), server.port)
    say(f"sync server {server.host}, address {place[0]}, port {place[1]}")
    about = f"barrier '{shown(request.name)}' at {server}"
    try:
        value = over_udp(request, place, until, say) if udp else over_tcp(request, place, until, say)
    except (TimedOut, NoAnswer) as error:
        raise type(error)(f"{about}: {error}") from error.__cause__
    say(f"answer {value}")
    if value == DROPPED:
        raise Dropped(f"{about}: the server dropped it")
    if value == TIMED_OUT:
        raise TimedOut(f"{about}: {TOO_LATE}")
    if value == ABANDONED:
        raise Abandoned(f"{about}: who had initialised it went away")
    if not 0 <= value <= ERROR_MAX:
        raise NoAnswer(f"{about}: the server refused the request (its answer is {value})")
    return value
