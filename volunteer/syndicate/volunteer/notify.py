"""Tells systemd how the service fares, where it asked to be told: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import asyncio
import os
import socket


def ready() -> bool:
    """Sends READY=1 to NOTIFY_SOCKET; False where nobody listens."""
    return _send("READY=1")


def status(text: str) -> bool:
    """Sends STATUS=, one line that `systemctl status` shows."""
    return _send(f"STATUS={' '.join(text.split())}")


def stopping() -> bool:
    """Sends STOPPING=1."""
    return _send("STOPPING=1")


def watchdog_seconds() -> float | None:
    """Within what time systemd wants to hear from this process; None where it does not wait for it."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    given = os.environ.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if given.isascii() and given.isdecimal() and int(given) else None


async def keep_watchdog() -> None:
    """Tells the watchdog from the loop that it turns, three times in its time; returns where there is none.

    A loop that hangs says nothing, and systemd ends and restarts the service.
    """
    seconds = watchdog_seconds()
    if seconds is None:
        return
    while True:
        _send("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)


def _send(text: str) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    path = "\0" + address[1:] if address[0] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
        try:
            peer.connect(path)
            peer.send(text.encode())
        except OSError:
            return False  # systemd is gone: there is nobody to tell
    return True
