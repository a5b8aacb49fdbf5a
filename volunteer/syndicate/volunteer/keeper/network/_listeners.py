"""Where the processes of a machine take TCP connections, by the kernel's tables; see proc_pid_net(5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_LISTENS = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
_MOST = 1024
"""So many ports are told at most, the lowest: those of services."""


def listening(but: int | None) -> list[int]:
    """Ports at which another machine reaches a process of any user but this one, in the caller's namespace.

    One that the user has as well, at another address, is not among them.
    """
    found = list(_listeners())
    its_own = {port for uid, port in found if uid == but}
    return sorted({port for _, port in found} - its_own)[:_MOST]


def _listeners() -> Iterator[tuple[int, int]]:
    """Uid and port of each."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for fields in map(str.split, lines):
            address, _, port = fields[1].partition(":")
            if fields[3] == _LISTENS and address not in _LOOPBACK:
                yield int(fields[7]), int(port, 16)
