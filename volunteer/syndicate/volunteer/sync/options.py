"""The command line of `syndicate-syncd`: emulab-syncd's options, and those for a program that owns it."""

from __future__ import annotations

import getopt
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .core.wire import DEFAULT_PORT

USAGE: Final = f"""\
usage: syndicate-syncd [-p PORT] [-v] [-d] [-l FILE] [-h] [-V]

Serves named barriers over TCP and UDP, in the protocol of emulab-sync. It goes to
the background once it listens, unless told to stay.

options:
  -p PORT          the port, of both; default {DEFAULT_PORT}
  -v               tell what happens at the barriers
  -d               stay in the foreground, log to stderr, and tell all of it
  -l FILE          log there; else to syslog, or with -d to stderr
  -h               show this and exit
  -V               print the version and exit
  --address IP     listen there only; default all of this host's
  --keepalive S    a peer that is silent for so long is probed, and gone when it does
                   not answer for as long again; default 10
  --open-files N   raise the limit of open files to so many, which bounds the waiters over TCP;
                   default 65536
  --owner FD       an open socket: tell what happens as JSON lines, and end with it
  --standby        with --owner: wait until it hands the sockets over
  --shut-in DIR    with --standby, as root: keep nothing but what is handed over, and
                   become the user who is named with it; DIR is an empty folder
  --member IP=TASK the task behind an address, for what is told; repeatable

signals:
  HUP   drop all barriers: their waiters get 240      USR1, USR2   verbose, or not
  TERM  end

exit status: 0 ended as asked; 64 wrong usage; 71 it cannot listen; 73 the log cannot be
opened; 76 the owner handed over what are no sockets
"""


_LONG: Final = ("address=", "keepalive=", "open-files=", "owner=", "standby", "shut-in=", "member=")


class BadUsage(Exception):
    """The command line makes no sense; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    port: int = DEFAULT_PORT
    verbose: bool = False
    foreground: bool = False
    log_file: str = ""
    help: bool = False
    version: bool = False
    address: str = "0.0.0.0"  # noqa: S104 - the job's network is all that its namespace has
    keepalive_s: int = 10
    open_files: int | None = None
    owner: int | None = None
    standby: bool = False
    shut_in: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


def parse(arguments: Sequence[str]) -> Options:
    """Raises BadUsage."""
    try:
        given, rest = getopt.gnu_getopt(
            list(arguments),
            "p:vdl:hV",
            [*_LONG, "help", "version"],
        )
    except getopt.GetoptError as error:
        raise BadUsage(str(error)) from error
    if rest:
        raise BadUsage(f"{rest[0]}: there are no arguments but options")
    values = dict(given)
    debug = "-d" in values
    if "--standby" in values and "--owner" not in values:
        raise BadUsage("--standby goes with --owner only")
    if "--shut-in" in values and "--standby" not in values:
        raise BadUsage("--shut-in goes with --standby only")
    return Options(
        port=_number("-p", values.get("-p"), DEFAULT_PORT, 1, 65_535),
        verbose=debug or "-v" in values,
        # An owner waits for its child itself.
        foreground=debug or "--owner" in values,
        log_file=values.get("-l", ""),
        help="-h" in values or "--help" in values,
        version="-V" in values or "--version" in values,
        address=_address("--address", values.get("--address", "0.0.0.0")),  # noqa: S104 - as above
        keepalive_s=_number("--keepalive", values.get("--keepalive"), 10, 1, 32_767),
        open_files=_given("--open-files", values, 65, 1 << 20),
        owner=_given("--owner", values, 0, 1 << 20),
        standby="--standby" in values,
        shut_in=values.get("--shut-in", ""),
        names=dict(_member(value) for name, value in given if name == "--member"),
    )


def _given(name: str, values: Mapping[str, str], least: int, most: int) -> int | None:
    return _number(name, values[name], 0, least, most) if name in values else None


def _number(name: str, value: str | None, default: int, least: int, most: int) -> int:
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) <= 10 and least <= int(value) <= most):
        raise BadUsage(f"{name} {value}: a number from {least} to {most} is needed")
    return int(value)


def _address(name: str, value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError as error:
        raise BadUsage(f"{name} {value}: an IPv4 address is needed") from error


def _member(value: str) -> tuple[str, str]:
    address, equals, task = value.partition("=")
    if not equals or not task:
        raise BadUsage(f"--member {value}: IP=TASK is needed")
    return _address("--member", address), task
