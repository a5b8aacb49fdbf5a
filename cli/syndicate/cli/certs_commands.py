"""``certs`` and ``join-token``: the cluster's own certificates, on the manager's machine.

They run ``syndicate-manager certs``, which is beside this command and owns the authority's key: what they do
must work before a manager can serve, and after its certificate has expired. Key and certificate of another
machine come through a pipe and go into files of its owner's alone, or through ``ssh``; never onto a command
line.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syndicate.cli import exit_codes
from syndicate.cli.context import context_path, read_context
from syndicate.cli.failure import CliError
from syndicate.cli.render.certificates import certificates_list, join_tokens_list
from syndicate.cli.render.plain import document
from syndicate.cli.terminal import Terminal

DEFAULT_STATE = "/var/lib/syndicate"
REMOTE_FOLDER = "/var/lib/syndicate-volunteer/tls"
_WITHIN_S = 60.0
_QUIET_S = 2.0
"""After so long it is told what is waited for."""
_TAKE_BACK_S = 30.0
"""Within it an interrupted command has taken back what it had begun."""
_SSH_S = 120.0
_SSH_LOST = 255
"""ssh's own failure: no connection, or one that broke."""
_KILLED = 128
"""From here on a shell tells of a program that a signal ended, which may have done its work."""
# Of syndicate-manager's exit codes the one that this command does not have.
_CODES = {74: exit_codes.BAD_MACHINE}
_LISTS: Mapping[str, Callable[[Mapping[str, Any], int, str], list[str]]] = {
    "list": certificates_list,
    "token-list": join_tokens_list,
}
# The folder and both files become those of the owner of the folder above, the volunteer's state. What was
# there stays until all of it has come. Owner and mode of the files are set where that owner cannot lay links.
# The key and certificate come last: a script that fails has not replaced them, and one that says that all is
# laid has, whatever becomes of the connection then.
_LAID = "syndicate: all is laid"
_INSTALL = """\
set -eu
umask 077
mkdir -p {folder}
cd {folder}
here=$(pwd -P)
owner=$(stat -c %u:%g ..)
new=$(mktemp -d ./.new.XXXXXX)
trap 'rm -rf "$here/$new"' EXIT
cd "$new"
tar --no-same-owner -xf -
chmod 0644 ca.pem
chown -h "$owner" ca.pem identity.pem
chown -h "$owner" "$here"
mv -fT ca.pem ../ca.pem
mv -fT identity.pem ../identity.pem
printf '\\n%s\\n' '{laid}'
"""


@dataclass(frozen=True, slots=True)
class HostWish:
    """What ``certs add`` and ``certs renew HOST`` ask for."""

    host: str
    addresses: Sequence[str] = ()
    days: int = 90
    out: str = ""
    ssh: str = ""
    ssh_folder: str = REMOTE_FOLDER
    as_json: bool = False


def state_dir(given: str | None) -> Path:
    """The manager's state folder: the one named, that of the cluster that is up here, the default."""
    if given is not None:
        return Path(given)
    context = read_context(context_path(os.environ))
    return Path(context.directory) / "manager" if context is not None else Path(DEFAULT_STATE)


def run_certs(
    words: Sequence[str], state: Path, as_json: bool, terminal: Terminal, about: Sequence[str] = ()
) -> int:
    """Runs one command of ``syndicate-manager certs`` and prints what it says. Raises CliError.

    ``about`` names machine or token. A machine that joins chooses its name, which may look like an option.
    """
    drawn = _LISTS.get(words[0])
    more = ["--json"] if as_json or drawn else []
    said = _certs([*words, *more, *(["--", *about] if about else [])], state, terminal)
    if as_json:
        terminal.say(document(json.loads(said)))
    elif drawn:
        terminal.say(drawn(json.loads(said), terminal.room, terminal.glyphs.more))
    else:
        terminal.say(said.rstrip("\n").split("\n"))
    return exit_codes.OK


def manager_addresses(state: Path) -> list[str]:
    """What the manager's certificate says that it is called, as `canonical` writes it. Raises CliError."""
    found: list[str] = json.loads(_certs(["list", "--json"], state))["manager_addresses"]
    return [canonical(name) for name in found]


def canonical(name: str) -> str:
    """A host's name or address as certificates have it."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def hand_over(verb: str, wish: HostWish, state: Path, terminal: Terminal) -> int:
    """Makes a machine's certificate (``add`` or ``renew``) and brings it there. Raises CliError.

    Where it does not arrive it is revoked again: nothing is half-done. Where that is not known, one that was
    added is revoked too, and another one is not: its machine may hold no other by now.
    """
    if wish.out and wish.ssh:
        raise CliError("--out and --ssh at once", "One of them says where it goes.", code=exit_codes.USAGE)
    folder = Path(wish.out or f"syndicate-{wish.host}")
    if not wish.ssh and (folder / "identity.pem").exists():
        raise CliError(
            f"{folder} holds a key and a certificate already",
            "Another folder:  --out DIR",
            code=exit_codes.REFUSED,
        )
    words = [verb, "--bundle", "--days", str(wish.days)]
    words += [f"--address={address}" for address in wish.addresses]
    try:
        made: dict[str, Any] = json.loads(_certs([*words, "--", wish.host], state, terminal))
    except _DoneAnyway as late:
        _certs(["revoke", "--serial", json.loads(late.said)["serial"]], state)
        raise KeyboardInterrupt from None
    if wish.ssh:
        terminal.note(f"(copies key and certificate to {wish.ssh}, by ssh)")
    try:
        where = _send(wish, made["files"]) if wish.ssh else _write(folder, made["files"])
    except _PerhapsThere as error:
        if verb == "renew":
            raise _kept(wish, made["expires_at"], error) from None
        _certs(["revoke", "--serial", made["serial"]], state)
        worth = "Nothing was added: what arrived there is worth nothing, it is revoked."
        raise CliError(error.message, worth, code=error.code) from None
    except KeyboardInterrupt:
        _certs(["revoke", "--serial", made["serial"]], state)
        raise
    except CliError as error:
        _certs(["revoke", "--serial", made["serial"]], state)
        raise CliError(error.message, *error.lines, "Nothing was added.", code=error.code) from None
    values = {
        "name": made["name"],
        "serial": made["serial"],
        "expires_at": made["expires_at"],
        "where": where,
        "first": made["first"],
    }
    lines = _next(wish, where, made["expires_at"])
    if verb == "renew" and made["first"]:
        undo = f"Another was meant?  syndicatectl certs revoke {wish.host}"
        lines.append(f"{wish.host} had no certificate before. {undo}")
    terminal.say(document(values) if wish.as_json else lines)
    return exit_codes.OK


def _kept(wish: HostWish, expires_at: int, why: CliError) -> CliError:
    until = datetime.fromtimestamp(expires_at, UTC)
    return CliError(
        f"it is not known whether the new certificate arrived on {wish.ssh}: {why.message}",
        f"It may have, so it stays good, until {until:%Y-%m-%d}; what {wish.host} had before is not revoked "
        "either.",
        "Run the command again.",
        code=why.code,
    )


def _next(wish: HostWish, where: str, expires_at: int) -> list[str]:
    until = datetime.fromtimestamp(expires_at, UTC)  # no longer than the authority's, whatever was asked for
    lines = [
        f"{wish.host}   key and certificate in {where}",
        f"Good until {until:%Y-%m-%d}; it renews itself.",
    ]
    if not wish.ssh:
        lines.append(f"Bring it to {wish.host}, as STATE_DIR/tls of its volunteer, and remove it here.")
    return lines


def _write(folder: Path, files: dict[str, str]) -> str:
    """Both or none."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _own(folder) as at:
            _write_all(at, files)
    except OSError as error:
        raise CliError(
            f"{error.filename or folder} cannot be written ({(error.strerror or str(error)).lower()})",
            code=exit_codes.BAD_MACHINE,
        ) from None
    return str(folder)


@contextlib.contextmanager
def _own(folder: Path) -> Iterator[int]:
    """The folder as a descriptor, never through a link. Raises CliError, OSError.

    Whoever else could write to it could put another authority there, and the machine would obey that one.
    """
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(at)
        by_group = found.st_mode & stat.S_IWGRP and found.st_gid != os.getegid()
        if found.st_uid != os.geteuid() or by_group or found.st_mode & stat.S_IWOTH:
            raise CliError(
                f"others can write to {folder}, and could replace what a machine is to trust",
                "Another folder:  --out DIR",
                code=exit_codes.REFUSED,
            )
        yield at
    finally:
        os.close(at)


def _write_all(at: int, files: dict[str, str]) -> None:
    made: list[str] = []
    try:
        for name, text in files.items():
            mode = 0o644 if name == "ca.pem" else 0o600
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
            made.append(name)
            with os.fdopen(os.open(name, flags, mode, dir_fd=at), "w") as file:
                file.write(text)
    except OSError:
        for name in made:
            with contextlib.suppress(OSError):  # what failed is told; a half-written key is no use to anybody
                os.unlink(name, dir_fd=at)
        raise


class _PerhapsThere(CliError):
    """Whether it was laid on the machine is not known."""


def _send(wish: HostWish, files: dict[str, str]) -> str:
    """Into a folder of another machine, through ssh's standard input: no command line has it.

    Raises CliError where nothing was laid there, _PerhapsThere where that is not known.
    """
    script = _INSTALL.format(folder=shlex.quote(wish.ssh_folder), laid=_LAID)
    command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "--", wish.ssh, script]
    try:
        done = subprocess.run(
            command, input=_archive(files), capture_output=True, timeout=_SSH_S, check=False
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except FileNotFoundError:
        raise CliError("ssh is not installed", code=exit_codes.BAD_MACHINE) from None
    except subprocess.TimeoutExpired as late:
        code, out, err = _SSH_LOST, late.stdout or b"", f"no end after {_SSH_S:g} s".encode()
    except KeyboardInterrupt:
        raise _PerhapsThere("interrupted", code=exit_codes.INTERRUPTED) from None
    if _LAID.encode() in out.splitlines():
        return f"{wish.ssh}:{wish.ssh_folder}"
    said = err.decode(errors="replace").strip().splitlines()
    why = said[-1] if said else f"ssh ended with {code}"
    if 0 < code < _KILLED:  # the script's own
        raise CliError(f"nothing could be copied to {wish.ssh}: {why}", code=exit_codes.BAD_MACHINE)
    raise _PerhapsThere(f"{wish.ssh} did not say that it has it ({why})", code=exit_codes.BAD_MACHINE)


def _archive(files: dict[str, str]) -> bytes:
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o600
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


class _DoneAnyway(KeyboardInterrupt):
    """Ctrl-C came when the command had done its work, and told it: ``said``."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said


def _certs(words: Sequence[str], state: Path, terminal: Terminal | None = None) -> str:
    """What ``syndicate-manager certs`` prints. Raises CliError where it fails, with its own words.

    A terminal is told what is waited for. Ctrl-C is passed on, and what was begun is taken back first.
    """
    program = Path(sys.executable).parent / "syndicate-manager"
    command = [str(program), "certs", words[0], f"--state-dir={state}", *words[1:]]
    try:
        done = _run(command, terminal)
    except FileNotFoundError:
        raise CliError(
            f"syndicate-manager is not installed beside {sys.executable}",
            "Certificates are made on the manager's machine.",
            code=exit_codes.BAD_MACHINE,
        ) from None
    except subprocess.TimeoutExpired:
        raise CliError(f"no end after {_WITHIN_S:g} s", code=exit_codes.INTERNAL) from None
    if done.returncode:
        first, *more = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        code = _CODES.get(done.returncode, done.returncode)
        raise CliError(
            first.removeprefix("error: "),
            *(line.strip() for line in more),
            code=code if code in exit_codes.MEANINGS else exit_codes.INTERNAL,
        )
    return done.stdout


def _run(command: Sequence[str], terminal: Terminal | None) -> subprocess.CompletedProcess[str]:
    # A session of its own: the terminal's Ctrl-C reaches this process alone, which passes it on and waits.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            try:
                out, err = process.communicate(timeout=_QUIET_S if terminal is not None else _WITHIN_S)
            except subprocess.TimeoutExpired:
                if terminal is None:
                    raise
                terminal.note(
                    f"(waits for the manager, or another such command, for at most {_WITHIN_S:g} s)"
                )
                out, err = process.communicate(timeout=_WITHIN_S)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=_TAKE_BACK_S)
                if process.returncode == 0:
                    raise _DoneAnyway(out) from None
            raise
        finally:
            if process.poll() is None:
                process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)
