"""What one volunteer is to do, as a plain value: the serving process holds no settings library."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

DEFAULT_RUN_DIR = Path("/run/syndicate")
USERS_PORT = 7000
DEFAULT_KEEPER = DEFAULT_RUN_DIR / "keeper.sock"


class BadSettings(Exception):
    """The settings make no sense; the text is one line for each mistake."""


@dataclass(frozen=True)
class Settled:
    """Settled and checked settings; `settings.Settings` describes each."""

    manager: tuple[str, ...]
    token_file: Path | None
    tls_dir: Path | None
    insecure: bool
    join: str
    join_token_file: Path | None
    ca_fingerprint: str
    state_dir: Path
    keeper: Path
    run_dir: Path
    id: str
    log_format: Literal["auto", "json", "console"]
    allow_root: bool
    metrics_listen: str
    host_address: str
    prefix: str
    reach_domain: str
    cache_bytes: int
    fetch_timeout_s: float
    push_deadline_s: float
    backoff_first_s: float
    backoff_most_s: float
    abandon_after_s: float

    @property
    def certificates(self) -> Path:
        """Where this machine's certificate is."""
        return self.tls_dir or self.state_dir / "tls"

    @property
    def joins_at(self) -> str:
        """Where it asks for a certificate: `join`, else the first manager's host at the users' usual port.

        Empty where it was not invited.
        """
        if self.join or self.join_token_file is None or self.insecure or not self.manager:
            return self.join
        return f"{self.manager[0].rpartition(':')[0]}:{USERS_PORT}"

    @property
    def cache_dir(self) -> Path:
        """Where sources are; the keeper's --cache-dir names the same."""
        return self.state_dir / "cache"

    def at(self, manager: tuple[str, ...]) -> Settled:
        """The same for a manager that was found. Raises BadSettings."""
        try:
            for target in manager:
                check_target(target)
            if self.insecure:
                check_near(manager)
        except ValueError as error:
            raise BadSettings(f"manager: {error}") from None
        return replace(self, manager=manager)

    def encode(self) -> str:
        """As one argument for the serving process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decode(cls, text: str) -> Settled:
        """What `encode` made."""
        values: dict[str, Any] = json.loads(text)
        for name in ("token_file", "tls_dir", "join_token_file", "state_dir", "keeper", "run_dir"):
            values[name] = None if values[name] is None else Path(values[name])
        values["manager"] = tuple(values["manager"])
        return cls(**values)


def check_target(target: str) -> None:
    """Raises ValueError for what is not HOST:PORT."""
    host, colon, port = target.rpartition(":")
    if not (host and colon and port.isascii() and port.isdecimal() and 0 < int(port) <= 65_535):
        raise ValueError(f"{target!r} is not HOST:PORT")
    try:
        host.encode("idna")  # as each resolver does, which raises no OSError there
    except UnicodeError:
        raise ValueError(f"{target!r}: no host has such a name") from None


def check_near(manager: tuple[str, ...]) -> None:
    """Raises ValueError where clear text would leave this machine."""
    far = [told for target in manager if (told := elsewhere(target))]
    if far:
        raise ValueError(f"insecure is clear text, for managers on this machine only, not {far[0]}")


def is_loopback(target: str) -> bool:
    """Whether what listens on HOST:PORT is on this machine."""
    return not elsewhere(target)


def elsewhere(target: str) -> str:
    """HOST:PORT where it is on another machine, for messages; else empty.

    `localhost` is looked up: where /etc/hosts does not have it, it may lead anywhere.
    """
    host = target.rpartition(":")[0].strip("[]")
    try:
        if host != "localhost":
            return "" if ip_address(host).is_loopback else target
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except ValueError:
        return target
    except OSError:
        return ""  # nor does gRPC find one then
    far = sorted(one for one in found if not ip_address(one).is_loopback)
    return f"{target} ({', '.join(far)} here)" if far else ""
