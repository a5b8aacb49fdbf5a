"""Tells systemd that the service is ready, where systemd asked to be told (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def ready() -> bool:
    """Sends READY=1 to NOTIFY_SOCKET; False where nobody listens."""
    return _send(b"READY=1")


def stopping() -> bool:
    """Sends STOPPING=1."""
    return _send(b"STOPPING=1")


def _send(text: bytes) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    path = "\0" + address[1:] if address[0] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as peer:
        try:
            peer.connect(path)
            peer.send(text)
        except OSError:
            return False  # systemd is gone: there is nobody to tell
    return True
