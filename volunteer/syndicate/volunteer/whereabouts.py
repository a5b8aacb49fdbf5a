"""Where the manager is, for a machine that nobody told: by the kernel's command line, or by DNS.

An image that is the same for all machines of a room needs no configuration then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

SERVICE: Final = "_syndicate._tcp"
"""The service's name in DNS, looked for in the machine's search domains (RFC 2782)."""
CMDLINE: Final = Path("/proc/cmdline")
_PARAMETER: Final = "syndicate.manager="
_LOOKUP_S: Final = 5.0


def find() -> tuple[str, ...]:
    """The managers, HOST:PORT each; empty where neither tells any. Blocks for up to 5 s."""
    return from_kernel() or from_dns()


def from_kernel(cmdline: Path = CMDLINE) -> tuple[str, ...]:
    """Those of `syndicate.manager=HOST:PORT[,HOST:PORT]`; the last one counts, as it does for the kernel."""
    try:
        words = cmdline.read_text().split()
    except OSError:  # a container may hide it
        return ()
    given = [word.removeprefix(_PARAMETER) for word in words if word.startswith(_PARAMETER)]
    return tuple(part for part in given[-1].strip('"').split(",") if part) if given else ()


Answer = tuple[int, int, str, int]
"""One record: priority, weight, host, port."""


def from_dns(ask: Callable[[], list[Answer]] | None = None) -> tuple[str, ...]:
    """The target of the SRV record of the least priority, of the most weight among these.

    One manager serves a cluster: the others stand by, and are no other clusters to join as well.
    """
    answers = sorted((ask or _lookup)(), key=lambda one: (one[0], -one[1], one[2:]))
    return tuple(f"{host}:{port}" for _, _, host, port in answers[:1] if host)


def _lookup() -> list[Answer]:
    try:
        import dns.exception
        import dns.resolver
    except ImportError:  # not among what was installed: no way is offered by it
        return []
    try:
        found = dns.resolver.resolve(SERVICE, "SRV", search=True, lifetime=_LOOKUP_S)
    except (dns.exception.DNSException, OSError):
        return []  # no such record, or nobody answers: the caller tells every way that was tried
    return [(one.priority, one.weight, str(one.target).rstrip("."), one.port) for one in found]
