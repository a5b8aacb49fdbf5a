"""What guards the daemons, and how each of it is switched off for a test."""

from __future__ import annotations

import os
from typing import Any

from tests.attacks.defence import Defence

_ENDLESS_S = 3600.0


def _any_frame() -> None:
    """The keeper reads whatever length a frame says it has."""
    from syndicate.volunteer import frames

    frames.body_length = lambda prefix, longest=0: int.from_bytes(prefix, "big")


def _first_come() -> None:
    """Whoever connects first stays."""
    from syndicate.volunteer.keeper import server

    def admit(self: server.Server, connection: server.Connection, uid: int) -> str:
        if len(self._open) >= server._MAX_CONNECTIONS:
            return "too many connections"
        self._open[connection] = None
        return ""

    server.Server.admit = admit  # type: ignore[method-assign]


def _any_peer() -> None:
    """The keeper's socket is open to every user, and nobody asks who it is."""
    from syndicate.volunteer.keeper import server

    admit, opened = server.Server.admit, server.Server.open

    async def open_to_all(self: server.Server, *rest: Any) -> None:
        await opened(self, *rest)
        self._path.chmod(0o666)
        self._path.parent.chmod(0o755)

    server.Server.admit = lambda self, connection, _: admit(self, connection, 0)  # type: ignore[method-assign]
    server.Server.open = open_to_all  # type: ignore[method-assign]


def _plain_open() -> None:
    """What lies in the cache is opened as it is."""
    from syndicate.volunteer.keeper import ground

    ground.open_source = lambda cache, digest: os.open(cache / digest, os.O_RDONLY | os.O_CLOEXEC)


def _any_silence() -> None:
    """Nobody has to say anything at first, nor to answer whether he is there."""
    from syndicate.manager import app
    from syndicate.manager.rpc import server

    off = {"grpc.server_handshake_timeout_ms": 3_600_000, "grpc.keepalive_time_ms": 3_600_000}
    users, both = dict(app.USERS_OPTIONS), dict(server.OPTIONS)
    assert off.keys() <= users.keys() | both.keys()
    app.USERS_OPTIONS = tuple((name, off.get(name, value)) for name, value in users.items())  # type: ignore[misc]
    server.OPTIONS = tuple((name, off.get(name, value)) for name, value in both.items())  # type: ignore[misc]


def _any_message() -> None:
    from syndicate.manager import app

    app.LARGEST_FROM_USERS = -1  # type: ignore[attr-defined]  # imported there


def _endless_uploads() -> None:
    from syndicate.manager.rpc import upload

    upload._HEADER_WITHIN_S = _ENDLESS_S  # type: ignore[misc]
    upload._GRACE_S = _ENDLESS_S  # type: ignore[misc]


def _any_use() -> None:
    """A user's calls and streams are not counted."""
    from syndicate.manager.rpc import limits

    limits._share = lambda _: None


def _any_relay() -> None:
    from syndicate.volunteer import relay

    relay.MAX_CONNECTIONS = 100_000
    relay.MAX_STREAMS = 100_000


def _any_attestation() -> None:
    """A volunteer may speak for any client."""
    from syndicate.manager.core import clients

    clients._client = lambda world, caller: world.find(caller.ref)


def _any_volunteer() -> None:
    """The volunteers' door is open."""
    from syndicate.manager.rpc.doors import VolunteersDoor

    VolunteersDoor.known = lambda *_: None  # type: ignore[method-assign]


def _any_user() -> None:
    """Whoever comes to the users' door with some token is an admin."""
    from syndicate.manager.core.access import Caller
    from syndicate.manager.core.model import TokenScope, UserRole
    from syndicate.manager.rpc.doors import UsersDoor

    known = UsersDoor.known

    def anybody(self: UsersDoor, token: str) -> Caller:
        if token.startswith("syn_"):
            return known(self, token)
        return Caller("admin", UserRole.ADMIN, TokenScope.ALL, "", "")

    UsersDoor.known = anybody  # type: ignore[method-assign]
    UsersDoor.changed = lambda *_: None  # type: ignore[method-assign]


def _any_quota() -> None:
    from syndicate.manager.core import quota

    quota._parties = lambda *_, **__: []


DEFENCES = {
    "frame-length": Defence("keeper", "a bound of a frame's length", _any_frame),
    "oldest-goes": Defence("keeper", "the oldest silent connection gives up its place", _first_come),
    "peer": Defence("keeper", "the socket's mode, and the uid that the kernel tells", _any_peer),
    "open-source": Defence("keeper", "only plain files are opened, and never waited for", _plain_open),
    "message": Defence("manager", "a bound of a message's size", _any_message),
    "handshake": Defence("manager", "whoever says nothing is sent away", _any_silence),
    "upload-rate": Defence("manager", "an upload's least rate", _endless_uploads),
    "use": Defence("manager", "a user's bounds of calls and streams", _any_use),
    "relay": Defence("volunteer", "the bounds of a client's socket", _any_relay),
    "attestation": Defence("manager", "a volunteer speaks for its own clients only", _any_attestation),
    "volunteers-token": Defence("manager", "the volunteers' token", _any_volunteer),
    "users-token": Defence("manager", "the users' tokens", _any_user),
    "quota": Defence("manager", "a user's quota", _any_quota),
}
