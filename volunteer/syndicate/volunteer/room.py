"""Whether the slots of this machine have addresses, for `syndicate-volunteer doctor`."""

from __future__ import annotations

import ipaddress
import socket
import tomllib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from .core.addresses import room_in
from .keeper.errors import one_line
from .keeper.requirements import Level, Requirement
from .keeper.settings import KeeperSettings, load, stands_at

INSTALLED: Final = Path("/etc/syndicate/keeper.toml")


def settings_of(config: Path | None) -> tuple[KeeperSettings | None, list[Requirement]]:
    """The keeper's settings, None where none is installed; and what is wrong with them."""
    if config is None and not INSTALLED.is_file():
        return None, []
    words = ["--config", str(config or INSTALLED)]
    try:
        return load(words), []
    except ValidationError as error:
        said = [
            f"{stands_at(words, one['loc'])}{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors()
        ]
    except (tomllib.TOMLDecodeError, OSError) as error:
        said = [f"{words[1]}: {error}"]
    return None, [
        Requirement("configuration", Level.MISSING, one_line(line), "syndicate-keeper --help")
        for line in said
    ]


def check(keeper: KeeperSettings | None, network: str, prefix: str) -> Requirement:
    """What slots have: of the operator's prefix (empty: of the manager's), or the host's own address."""
    if network == "host":
        return _of_host(keeper.address if keeper else "")
    slots = keeper.slots if keeper else 1
    if not prefix:
        whose = "the slot its own" if slots == 1 else f"{slots} slots theirs"
        return Requirement("addresses", Level.OK, f"the manager gives {whose}")
    try:
        free = room_in(ipaddress.IPv4Network(prefix))
    except ValueError as error:
        return Requirement("addresses", Level.MISSING, f"prefix {prefix}: {error}", _larger(slots))
    if free < slots:
        return Requirement(
            "addresses", Level.MISSING, f"{prefix} has {free} for {slots} slots", _larger(slots)
        )
    if free < 2 * slots:
        detail = f"{prefix} has {free} for {slots} slots: a job gets what the one before it had"
        return Requirement("addresses", Level.DEGRADED, detail, _larger(2 * slots))
    return Requirement("addresses", Level.OK, f"{prefix} has {free} for {slots} slots")


def _larger(slots: int) -> str:
    """The longest prefix with so many usable addresses."""
    length = next(n for n in range(30, -1, -1) if room_in(ipaddress.IPv4Network((0, n))) >= slots)
    return f"prefix = a /{length} or larger, in volunteer.toml"


def _of_host(address: str) -> Requirement:
    if not address:
        remedy = 'address = "IP" in keeper.toml'
        return Requirement("addresses", Level.MISSING, "the host's is not said", remedy)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            detail = f"{address} is of no device of this machine"
            return Requirement("addresses", Level.MISSING, detail, "ip -4 address tells what it has")
    return Requirement("addresses", Level.OK, f"{address} is this machine's")
