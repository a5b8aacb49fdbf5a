"""The command lines of ``install`` and ``uninstall``."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from syndicate.cli import exit_codes
from syndicate.cli.certs_commands import canonical, manager_addresses, run_certs
from syndicate.cli.failure import CliError
from syndicate.cli.install_commands import Report, Target, install, uninstall
from syndicate.cli.install_plan import (
    MANAGER,
    MANAGER_STATE,
    ROLES,
    VOLUNTEER,
    ManagerWish,
    VolunteerWish,
    checked,
    manager_files,
    volunteer_files,
)
from syndicate.cli.render.plain import document
from syndicate.cli.terminal import Terminal, this_terminal

install_app = typer.Typer(
    help="Makes this machine a part of a cluster, by systemd.", no_args_is_help=True, rich_markup_mode=None
)

RootOption = Annotated[
    str, typer.Option("--root", metavar="DIR", help="Not this machine, but the image of one in DIR.")
]
BinOption = Annotated[
    str, typer.Option("--bin", metavar="DIR", help="Where its programs are; else beside this one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a configuration that is there.")]


def _target(root: str, bin_folder: str) -> Target:
    programs = Path(bin_folder) if bin_folder else Path(sys.executable).parent
    return Target(Path(root).resolve(), programs.absolute())


@install_app.command("volunteer")
def install_volunteer(
    manager: Annotated[
        list[str] | None,
        typer.Option("--manager", metavar="HOST:PORT", help="Where it listens for volunteers; repeatable."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", help="Tasks at a time; else 4.", min=1, max=1000)
    ] = None,
    name: Annotated[str, typer.Option("--id", metavar="NAME", help="Lasting name; else the host's.")] = "",
    join: Annotated[
        str,
        typer.Option("--join", metavar="HOST:PORT", help="Where users call; else port 7000."),
    ] = "",
    join_token_file: Annotated[
        str,
        typer.Option("--join-token-file", metavar="FILE", help="Holds a join token; - for stdin."),
    ] = "",
    fingerprint: Annotated[
        str, typer.Option("--ca-fingerprint", metavar="SHA256", help="Of the cluster's authority.")
    ] = "",
    network: Annotated[str, typer.Option("--network", metavar="KIND", help="fabric (default) or host.")] = "",
    address: Annotated[str, typer.Option("--address", metavar="IP", help="The host's, for host.")] = "",
    after_job: Annotated[
        str, typer.Option("--after-job", metavar="WHAT", help="keep (default) or reboot: a fresh boot each.")
    ] = "",
    root: RootOption = "",
    bin_folder: BinOption = "",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Makes it a volunteer, and starts it.

    That is units, a configuration and a user. A second run changes nothing. Without --manager its address
    comes from SYNDICATE_VOLUNTEER_MANAGER, from syndicate.manager= on the kernel's command line, or from DNS
    (SRV of _syndicate._tcp).
    """
    token = _token(join_token_file)
    wish = VolunteerWish(
        tuple(manager or ()), slots, name, join, token, fingerprint, network, address, after_job
    )
    checked(wish)
    target = _target(root or "/", bin_folder)
    report = install(
        VOLUNTEER,
        volunteer_files(wish),
        target,
        configured=wish != VolunteerWish(),
        force=force,
    )
    _tell(report, json, this_terminal(), "is installed already")


def _token(file: str) -> str:
    if not file:
        return ""
    try:
        text = (sys.stdin.read() if file == "-" else Path(file).read_text()).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no text" if isinstance(error, UnicodeDecodeError) else str(error.strerror).lower()
        raise CliError(f"{file} cannot be read ({why})", code=exit_codes.USAGE) from None
    if not text or "\n" in text:
        raise CliError(f"{file} holds no join token", code=exit_codes.USAGE)
    return text


@install_app.command("manager")
def install_manager(
    listen_users: Annotated[
        str, typer.Option("--listen-users", metavar="HOST:PORT", help="Else 127.0.0.1:7000.")
    ] = "",
    listen_volunteers: Annotated[
        str, typer.Option("--listen-volunteers", metavar="HOST:PORT", help="Else 127.0.0.1:7001.")
    ] = "",
    addresses: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="HOST|IP", help="What it is called by; repeatable. Else the host."),
    ] = None,
    root: RootOption = "",
    bin_folder: BinOption = "",
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Makes it the manager, and starts it.

    That is units, a configuration, a user and certificates. A second run changes nothing; an --address that
    its certificate lacks is added. An image gets no certificates: `certs init` makes them on the machine.
    """
    wish = ManagerWish(listen_users, listen_volunteers)
    checked(wish)
    target = _target(root or "/", bin_folder)

    def certify() -> None:
        if not target.is_image:
            _certify(addresses or [], wish, _aside(json))

    report = install(
        MANAGER,
        manager_files(wish),
        target,
        configured=wish != ManagerWish(),
        force=force,
        before_start=certify,
    )
    _tell(report, json, this_terminal(), "is installed already")


def _certify(addresses: Sequence[str], wish: ManagerWish, terminal: Terminal) -> None:
    """Makes the cluster's certificates; what is there gets the names that it lacks. Raises CliError."""
    state = Path(MANAGER_STATE)
    if (state / "tls" / "ca.pem").exists():
        has = set(manager_addresses(state)) if addresses else set()
        verb, names = "renew", [name for name in addresses if canonical(name) not in has]
    else:
        verb, names = "init", list(addresses) or _own_names(wish)
    if names:
        run_certs([verb, *(f"--address={name}" for name in names)], state, False, terminal)


def _own_names(wish: ManagerWish) -> list[str]:
    """What others may call this machine: its name, and where it listens."""
    hosts = [one.rpartition(":")[0].strip("[]") for one in (wish.listen_users, wish.listen_volunteers) if one]
    names = [socket.gethostname(), "127.0.0.1", *(host for host in hosts if host not in ("0.0.0.0", "::"))]  # noqa: S104 - named, not bound
    return list(dict.fromkeys(names))


def _aside(as_json: bool) -> Terminal:
    """The terminal; beside a JSON document what is said for people goes to standard error."""
    terminal = this_terminal()
    return replace(terminal, out=terminal.err) if as_json else terminal


def _tell(report: Report, as_json: bool, terminal: Terminal, unchanged: str) -> None:
    if as_json:
        terminal.say(document(asdict(report)))
        return
    for word, what in (
        ("written", report.written),
        ("removed", report.removed),
        ("enabled", report.enabled),
    ):
        terminal.say([f"{word:<10} {one}" for one in what])
    if not report.changed:
        terminal.say(f"it {unchanged}; nothing was changed")
    if report.restart:
        terminal.say(f"{'not yet':<10} in use by what runs:  systemctl restart {' '.join(report.restart)}")
    if report.kept:
        terminal.say(f"{'kept':<10} {', '.join(report.kept)}; with --purge it goes too")


def uninstall_part(
    part: Annotated[str, typer.Argument(metavar="volunteer|manager", help="What to take away.")],
    purge: Annotated[
        bool, typer.Option("--purge", help="Also its state: jobs, certificates, logs; and its user.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    root: RootOption = "",
    json: JsonOption = False,
) -> None:
    """Takes volunteer or manager away; tasks that run end."""
    role = ROLES.get(part)
    if role is None:
        raise CliError(f"{part} is neither volunteer nor manager", code=exit_codes.USAGE)
    terminal = this_terminal()
    target = _target(root or "/", "")
    if purge and not yes:
        states = ", ".join(str(target.at(state)) for state in role.states)
        if not sys.stdin.isatty():
            raise CliError(
                "--purge removes what cannot be made again", "Say so:  --yes", code=exit_codes.USAGE
            )
        terminal.note(f"This removes {states} for ever. Type yes to go on:")
        if sys.stdin.readline().strip() != "yes":
            raise CliError("nothing was removed", code=exit_codes.REFUSED)
    _tell(uninstall(role, target, purge=purge), json, terminal, "is not installed")
