"""STATE_DIR/tls/control: how `certs` commands tell the manager that runs that certificates have changed.

One line each way: `reload`, answered by JSON with the volunteers that were cut off (`cut`), with why it could
not be read (`error`), or with both where only what was revoked could be. Only the folder's owner and root
reach the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from .pki import HalfRead, PkiError

_NAME: Final = "control"
_WITHIN_S: Final = 30.0  # a manager whose disk is slow, or that had no processor for a while, is not stuck
_LONGEST_ANSWER: Final = 1 << 20

_log = structlog.get_logger()


class ManagerStuck(Exception):
    """A manager runs, and did not say that it has read the change; `why` is what it said instead."""

    def __init__(self, why: str, text: str = "") -> None:
        stuck = f"it is written down, but the manager that runs did not read it ({why}); restart it"
        super().__init__(text or stuck)
        self.why = why


class NotAllRead(ManagerStuck):
    """A manager runs, refuses what was revoked, and could not read the rest; `cut` are those it cut off."""

    def __init__(self, why: str, cut: list[str]) -> None:
        text = f"it is written down, but the manager that runs read only what was revoked ({why})"
        super().__init__(why, text)
        self.cut = cut


class Control:
    """The manager's side. `reload` reads everything again and returns the volunteers that were cut off."""

    def __init__(self, folder: Path, reload: Callable[[], Awaitable[list[str]]]) -> None:
        self._folder = folder
        self._reload = reload
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Serve. Raises OSError."""
        (self._folder / _NAME).unlink(missing_ok=True)  # of a manager that crashed; the store's lock is ours
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _reachable(self._folder) as path:
            listening.bind(path)
        (self._folder / _NAME).chmod(0o600)
        if sys.version_info >= (3, 13):
            # The loop would look where it was bound; the number in that path may be another file's by now.
            self._server = await asyncio.start_unix_server(self._serve, sock=listening, cleanup_socket=False)
        else:
            self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.close()
            (self._folder / _NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_WITHIN_S):
                if await reader.readline() == b"reload\n":
                    writer.write(json.dumps(await self._answer()).encode() + b"\n")
                    await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            return  # whoever asked has gone; it tells its user that no answer came
        finally:
            writer.close()

    async def _answer(self) -> dict[str, Any]:
        try:
            return {"cut": await self._reload()}
        except HalfRead as error:
            _log.error("certificates.trouble", detail=str(error), cut=error.cut)
            return {"cut": error.cut, "error": str(error)}
        except (PkiError, OSError) as error:
            _log.error("certificates.trouble", detail=str(error))
            return {"error": str(error)}


def tell_manager(folder: Path) -> list[str] | None:
    """Have the manager read the folder again; the volunteers it cut off, or None where none runs.

    Raises ManagerStuck; NotAllRead where it cut off who was revoked, and could not read the rest.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, _reachable(folder) as path:
        asking.settimeout(_WITHIN_S)
        try:
            asking.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            asking.sendall(b"reload\n")
            with asking.makefile("rb") as answer:
                line = answer.readline(_LONGEST_ANSWER)
                said: dict[str, Any] = json.loads(line) if line else {"error": "it hung up"}
        except (OSError, ValueError) as error:
            raise ManagerStuck(str(error) or "no answer") from None
        if "cut" not in said:
            raise ManagerStuck(str(said.get("error", "no answer")))
        cut: list[str] = said["cut"]
        if "error" in said:
            raise NotAllRead(str(said["error"]), cut)
        return cut


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """The socket's path, short enough for any folder: sun_path holds 107 bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
