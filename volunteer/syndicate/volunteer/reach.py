"""Whether this machine comes through to its managers, for `syndicate-volunteer doctor`."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Final

from .identity import BadIdentity, Identity, folder_for, load
from .keeper.requirements import Level, Requirement
from .settings import BadSettings, Settings
from .settings import load as load_settings

INSTALLED: Final = Path("/etc/syndicate/volunteer.toml")
_TRY_S: Final = 5.0
_LEAST_MTU: Final = 1280  # what IPv6 asks of every link (RFC 8200)
_IP_MTU: Final = 14  # ip(7); Python has no name for it
_DAY_S: Final = 86_400


def check(config: Path | None, managers: list[str]) -> list[Requirement]:
    """Tries each manager that the settings name, with this machine's own certificate. Blocks, 5 s for each.

    Without either, nothing is asked for but what is installed.
    """
    if config is None and not managers:
        if not INSTALLED.is_file():
            return []
        config = INSTALLED
    flags = {
        "manager": managers or None,
        "state_dir": None if config else Path("/var/lib/syndicate-volunteer"),
    }
    try:
        settings = load_settings(flags, config)
    except BadSettings as error:
        lines = str(error).splitlines()
        return [Requirement("configuration", Level.MISSING, line, "mend the line; --help") for line in lines]
    found = []
    for target in settings.manager:
        found += _manager(target, settings)
    return found


def _manager(target: str, settings: Settings) -> list[Requirement]:
    found, identity = [], None
    folder = folder_for(settings.certificates, target)
    if not settings.insecure:
        try:
            identity = load(folder)
            found.append(_lifetime(identity))
        except BadIdentity as error:
            remedy = f"syndicatectl certs add {settings.id} --ssh root@HOST, on the manager's machine"
            found.append(_missing("certificate", str(error), f"{remedy}; or join with a join token"))
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_TRY_S) as stream:
            found += [_mtu(stream, target), _spoken(stream, host.strip("[]"), target, identity, folder)]
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        found.append(_missing("manager", f"{target}: {said}", f"start it, or let TCP pass to port {port}"))
    return found


def _missing(name: str, detail: str, remedy: str) -> Requirement:
    return Requirement(name, Level.MISSING, detail, remedy)


def _lifetime(identity: Identity) -> Requirement:
    left = identity.not_after - time.time()
    name = f"{identity.volunteer_id} of {identity.cluster}"
    remedy = f"syndicatectl certs renew {identity.volunteer_id} --ssh root@HOST, on the manager's machine"
    if time.time() < identity.not_before:
        return _missing("certificate", f"{name}: not good yet; one of the clocks is off", "set the clock")
    if left <= 0:
        return _missing("certificate", f"{name}: expired", remedy)
    if time.time() > identity.renew_at + (identity.not_after - identity.renew_at) / 2:
        detail = f"{name}: {left / _DAY_S:.0f} days left, and it did not renew itself"
        return Requirement("certificate", Level.DEGRADED, detail, remedy)
    return Requirement("certificate", Level.OK, f"{name}: {left / _DAY_S:.0f} days left")


def _mtu(stream: socket.socket, target: str) -> Requirement:
    """What the kernel knows of the way; a smaller one that swallows packets is not seen by it."""
    level = socket.IPPROTO_IPV6 if stream.family == socket.AF_INET6 else socket.IPPROTO_IP
    name = getattr(socket, "IPV6_MTU", 24) if stream.family == socket.AF_INET6 else _IP_MTU
    mtu = stream.getsockopt(level, name)
    if mtu < _LEAST_MTU:
        remedy = f"ip link set dev DEVICE mtu {_LEAST_MTU}, or more"
        return Requirement("mtu", Level.DEGRADED, f"{mtu} on the way to {target}", remedy)
    return Requirement("mtu", Level.OK, f"{mtu} on the way to {target}")


def _spoken(
    stream: socket.socket, host: str, target: str, identity: Identity | None, folder: Path
) -> Requirement:
    """Whether it is this cluster's manager that answers, by its certificate."""
    if identity is None:
        return Requirement("manager", Level.OK, f"{target} takes connections")
    context = ssl.create_default_context(cadata=identity.authority.decode("ascii"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "identity.pem")
    try:
        with context.wrap_socket(stream, server_hostname=host):
            return Requirement("manager", Level.OK, f"{target} is the manager of {identity.cluster}")
    except ssl.SSLCertVerificationError as error:
        detail = f"{target} shows a certificate that will not do: {error.verify_message}"
        return _missing(
            "manager", detail, "syndicatectl certs renew --address NAME, on the manager's machine"
        )
    except (ssl.SSLError, TimeoutError) as error:
        said = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        return _missing("manager", f"{target} speaks no TLS 1.3 ({said})", "name the volunteers' address")
