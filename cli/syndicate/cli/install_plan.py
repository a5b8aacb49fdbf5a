"""What ``install`` puts on a machine, as values: nothing here writes or asks."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError

CONFIGURATION = Path("/etc/syndicate")
UNITS = Path("/etc/systemd/system")
SYSUSERS = Path("/etc/sysusers.d")
JOIN_TOKEN = CONFIGURATION / "join-token"
RUN = "/run/syndicate"
USED = Path(RUN) / "used"
"""The keeper's mark that something of a task was on the machine since its boot."""
KEEPER_STATE, VOLUNTEER_STATE, MANAGER_STATE = (
    "/var/lib/syndicate-keeper",
    "/var/lib/syndicate-volunteer",
    "/var/lib/syndicate",
)
# From this version on systemd lets the pauses between restarts grow.
_GROWING_PAUSES = 254
_BACKOFF = "RestartSteps=6\nRestartMaxDelaySec=60"


@dataclass(frozen=True, slots=True)
class Role:
    """A part of a cluster that a machine can have."""

    name: str
    package: str
    program: str
    units: tuple[str, ...]
    user: str
    home: str
    states: tuple[str, ...]
    files: tuple[Path, ...]
    """What the operator owns once it is there: configuration, and what it names."""

    @property
    def sysusers(self) -> Path:
        """The file that says which user it runs as."""
        return SYSUSERS / f"syndicate-{self.name}.conf"

    @staticmethod
    def settings_of(unit: str) -> Path:
        """The configuration of one of the units."""
        return CONFIGURATION / f"{unit.removeprefix('syndicate-').removesuffix('.service')}.toml"


VOLUNTEER = Role(
    name="volunteer",
    package="syndicate.volunteer",
    program="syndicate-volunteer",
    units=("syndicate-keeper.service", "syndicate-volunteer.service"),
    user="syndicate-volunteer",
    home=VOLUNTEER_STATE,
    states=(KEEPER_STATE, VOLUNTEER_STATE),
    files=(CONFIGURATION / "keeper.toml", CONFIGURATION / "volunteer.toml", JOIN_TOKEN),
)
MANAGER = Role(
    name="manager",
    package="syndicate.manager",
    program="syndicate-manager",
    units=("syndicate-manager.service",),
    user="syndicate",
    home=MANAGER_STATE,
    states=(MANAGER_STATE,),
    files=(CONFIGURATION / "manager.toml",),
)
ROLES = {role.name: role for role in (VOLUNTEER, MANAGER)}


@dataclass(frozen=True, slots=True)
class File:
    """A file to be there. One that is ``kept`` is the operator's: it is never replaced unasked."""

    path: Path
    text: str = field(repr=False)
    mode: int = 0o644
    owner: str = "root"
    kept: bool = False


def unit_files(role: Role, bin_folder: Path, systemd: int) -> list[File]:
    """The units of a role, for programs in this folder and this version of systemd. Raises CliError."""
    folder = _units_folder(role)
    made = []
    for name in role.units:
        text = (folder / name).read_text().replace("@BIN@", str(bin_folder))
        backoff = _BACKOFF + "\n" if systemd >= _GROWING_PAUSES else ""
        made.append(File(UNITS / name, text.replace("@BACKOFF@\n", backoff)))
    return made


def _units_folder(role: Role) -> Path:
    try:
        found = importlib.util.find_spec(role.package)  # imports the bare namespace, and no daemon
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise CliError(
            f"the {role.name} is not installed here: there is no {role.package}",
            f"Install it:  pip install 'syndicate-cluster[cli,{role.name}]'",
            code=exit_codes.BAD_MACHINE,
        )
    return Path(found.origin).parent / "units"


def users_file(role: Role) -> File:
    """Its user, for systemd-sysusers."""
    return File(role.sysusers, f'u {role.user} - "Syndicate {role.name}" {role.home}\n')


@dataclass(frozen=True, slots=True)
class VolunteerWish:
    """What ``install volunteer`` was told."""

    managers: tuple[str, ...] = ()
    slots: int | None = None
    name: str = ""
    join: str = ""
    join_token: str = field(default="", repr=False)
    fingerprint: str = ""
    network: str = ""
    address: str = ""
    after_job: str = ""


@dataclass(frozen=True, slots=True)
class ManagerWish:
    """What ``install manager`` was told."""

    listen_users: str = ""
    listen_volunteers: str = ""
    names: tuple[str, ...] = ()


def volunteer_files(wish: VolunteerWish) -> list[File]:
    """Configuration of keeper and volunteer."""
    keeper: dict[str, object] = {
        "instance": "syn",
        "run_dir": RUN,
        "state_dir": KEEPER_STATE,
        "cache_dir": f"{VOLUNTEER_STATE}/cache",
        "volunteer_uid": VOLUNTEER.user,
        "slots": wish.slots if wish.slots is not None else (1 if wish.network == "host" else 4),
    }
    volunteer: dict[str, object] = {
        "state_dir": VOLUNTEER_STATE,
        "run_dir": RUN,
        "keeper": f"{RUN}/keeper.sock",
    }
    if wish.network:
        keeper["network"] = wish.network
    if wish.after_job:
        keeper["after_job"] = wish.after_job
    if wish.address:
        keeper["address"] = volunteer["host_address"] = wish.address
    if wish.managers:
        volunteer["manager"] = list(wish.managers)
    if wish.name:
        volunteer["id"] = wish.name
    if wish.join:
        volunteer["join"] = wish.join
    made = []
    if wish.join_token:
        volunteer["join_token_file"] = str(JOIN_TOKEN)
        volunteer["ca_fingerprint"] = wish.fingerprint
        made = [File(JOIN_TOKEN, wish.join_token + "\n", 0o600, VOLUNTEER.user, kept=True)]
    files = (("keeper", keeper), ("volunteer", volunteer))
    return [File(CONFIGURATION / f"{name}.toml", toml(values), kept=True) for name, values in files] + made


def manager_files(wish: ManagerWish) -> list[File]:
    """Configuration of the manager."""
    values: dict[str, object] = {"state_dir": MANAGER_STATE}
    if wish.listen_users:
        values["listen_users"] = wish.listen_users
    if wish.listen_volunteers:
        values["listen_volunteers"] = wish.listen_volunteers
    return [File(CONFIGURATION / "manager.toml", toml(values), kept=True)]


def toml(values: Mapping[str, object]) -> str:
    """Strings, whole numbers and lists of strings as a TOML document."""
    return "".join(f"{name} = {_literal(value)}\n" for name, value in values.items())


def _literal(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in plain) + '"'


_ENDPOINT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})")
_FINGERPRINT = re.compile(r"(sha256:)?([0-9A-Fa-f]{2}:?){32}")
_NAME = re.compile(r"[a-z0-9-]{1,63}")


def checked(wish: VolunteerWish | ManagerWish) -> None:
    """Raises CliError for what the daemons would refuse."""
    if isinstance(wish, ManagerWish):
        _endpoints("--listen-users", [wish.listen_users])
        _endpoints("--listen-volunteers", [wish.listen_volunteers])
        return
    _endpoints("--manager", wish.managers)
    _endpoints("--join", [wish.join])
    if wish.name and not _NAME.fullmatch(wish.name):
        raise _usage("--id", wish.name, "1 to 63 of a-z, 0-9 and -")
    if bool(wish.join_token) != bool(wish.fingerprint):
        raise CliError(
            "--join-token-file and --ca-fingerprint belong together",
            "Both are told by:  syndicatectl join-token create",
            code=exit_codes.USAGE,
        )
    if wish.fingerprint and not _FINGERPRINT.fullmatch(wish.fingerprint):
        raise _usage("--ca-fingerprint", wish.fingerprint, "a SHA-256 in hexadecimal")
    if wish.network not in ("", "fabric", "host"):
        raise _usage("--network", wish.network, "fabric or host")
    if wish.after_job not in ("", "keep", "reboot"):
        raise _usage("--after-job", wish.after_job, "keep or reboot")
    if wish.address and not _is_address(wish.address):
        raise _usage("--address", wish.address, "an IPv4 address")
    if wish.address and wish.network != "host":
        raise CliError(
            "--address is the host's in the host's network, and means nothing in any other",
            f"Is that meant?  --network host --address {wish.address}     Else leave --address out.",
            code=exit_codes.USAGE,
        )
    if wish.network == "host" and (not wish.address or wish.slots not in (None, 1)):
        raise CliError("--network host needs --address IP, and has one slot", code=exit_codes.USAGE)


def _endpoints(option: str, values: Iterable[str]) -> None:
    for value in filter(None, values):
        found = _ENDPOINT.fullmatch(value)
        if found is None or int(found[1]) > 65_535:
            raise _usage(option, value, "HOST:PORT")


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _usage(option: str, value: str, wanted: str) -> CliError:
    return CliError(f"{option} {value}: {wanted} is meant", code=exit_codes.USAGE)
