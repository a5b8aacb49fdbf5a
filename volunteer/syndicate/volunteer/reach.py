"""Whether this machine comes through to its managers, for `syndicate-volunteer doctor`."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Final

from . import offset, whereabouts
from .identity import BadIdentity, Identity, folder_for, load, show
from .keeper.requirements import Level, Requirement
from .settings import load as load_settings
from .settled import BadSettings, Settled

INSTALLED: Final = Path("/etc/syndicate/volunteer.toml")
_TRY_S: Final = 5.0
_LEAST_MTU: Final = 1280  # what IPv6 asks of every link (RFC 8200)
_IP_MTU: Final = 14  # ip(7); Python has no name for it
_DAY_S: Final = 86_400
_MEND_FILE: Final = "correct that file, or name another:  --config FILE"
_NOTICED_S: Final = 1.0  # from here on people who compare two machines' logs are misled
_MOST_OFF_S: Final = 300.0  # beyond it a manager lets no machine join


def settings_of(config: Path | None, managers: list[str]) -> Settled | list[Requirement]:
    """The volunteer's settings, or what is wrong with them; nothing where no volunteer is installed."""
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
        return settings if settings.manager else settings.at(_asked())
    except BadSettings as error:
        lines = str(error).splitlines()
        return [Requirement("configuration", Level.MISSING, line, _MEND_FILE) for line in lines]


def _asked() -> tuple[str, ...]:
    """The manager that DNS names. Raises BadSettings."""
    try:
        found = whereabouts.from_dns()
    except whereabouts.NoAnswer as error:
        raise BadSettings(f"{whereabouts.NOBODY}, which does not answer: {error}") from None
    if not found:
        raise BadSettings(whereabouts.NOBODY)
    return found


def check(settings: Settled) -> list[Requirement]:
    """Tries each manager that the settings name, with this machine's certificate. Blocks, 5 s a step."""
    found = []
    for target in settings.manager:
        found += _manager(target, settings)
    return found


def _manager(target: str, settings: Settled) -> list[Requirement]:
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
            found.append(_mtu(stream, target))
            spoken = _spoken(stream, host.strip("[]"), target, identity, folder)
            found.append(spoken)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        return [*found, _missing("manager", f"{target}: {said}", f"start it, or let TCP pass to port {port}")]
    if spoken.level is Level.OK and (identity is not None or settings.insecure):
        found.append(_clock(target, identity))
    return found


def _clock(target: str, identity: Identity | None) -> Requirement:
    """Leases do not depend on it; certificates, and people who read two machines' logs, do."""
    remedy = "timedatectl set-ntp true, here and on the manager's machine"
    try:
        off, error = offset.measure(target, identity)
    except offset.Unknown as unknown:
        return Requirement("clock", Level.DEGRADED, str(unknown), "")
    if abs(off) - error < _NOTICED_S:
        return Requirement("clock", Level.OK, f"{off * 1e3:+.1f} ms from the manager's, ± {error * 1e3:.1f}")
    level = Level.MISSING if abs(off) > _MOST_OFF_S else Level.DEGRADED
    where = "ahead of" if off > 0 else "behind"
    return Requirement("clock", level, f"{abs(off):,.1f} s {where} the manager's", remedy)


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
    show(context, folder)
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
