"""Where the manager is, for a machine that nobody told: by the kernel's command line, or by DNS.

An image that is the same for all machines of a room needs no configuration then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

SERVICE: Final = "_syndicate._tcp"
"""The service's name in DNS, looked for in the machine's search domains (RFC 2782)."""
CMDLINE: Final = Path("/proc/cmdline")
_PARAMETER: Final = "syndicate.manager="
_LOOKUP_S: Final = 5.0
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
NOBODY: Final = (
    "manager: nobody told where it is: not --manager, the file, SYNDICATE_VOLUNTEER_MANAGER, "
    f"the kernel's command line (syndicate.manager=HOST:PORT), nor DNS ({SERVICE})"
)


class NoAnswer(Exception):
    """No name server says whether there is such a record; the text says why."""


def from_kernel(cmdline: Path = CMDLINE) -> tuple[str, ...]:
    """Those of `syndicate.manager=HOST:PORT[,HOST:PORT]`; the last one counts, as it does for the kernel."""
    try:
        words = cmdline.read_text(errors="replace").split()
    except OSError:  # a container may hide it
        return ()
    given = [word.removeprefix(_PARAMETER) for word in words if word.startswith(_PARAMETER)]
    return tuple(part for part in given[-1].strip('"').split(",") if part) if given else ()


Answer = tuple[int, int, str, int]
"""One record: priority, weight, host, port."""


def from_dns(ask: Callable[[], list[Answer]] | None = None) -> tuple[str, ...]:
    """The target of the SRV record of the least priority, of the most weight among these. Blocks, up to 5 s.

    One manager serves a cluster: the others stand by, and are no other clusters to join as well. Empty where
    there is no such record. Raises NoAnswer.
    """
    answers = sorted((ask or _lookup)(), key=lambda one: (one[0], -one[1], one[2:]))
    good = [f"{host}:{port}" for _, _, host, port in answers if _HOST.fullmatch(host) and port]
    return tuple(good[:1])


def _lookup() -> list[Answer]:
    try:
        import dns.exception
        import dns.resolver
    except ImportError:  # not among what was installed: no way is offered by it
        return []
    try:
        # A new one each time: which servers there are to ask changes while a machine boots.
        found = dns.resolver.Resolver().resolve(SERVICE, "SRV", search=True, lifetime=_LOOKUP_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise NoAnswer(" ".join(str(error).split()) or type(error).__name__) from None
    return [(one.priority, one.weight, str(one.target).rstrip("."), one.port) for one in found]
