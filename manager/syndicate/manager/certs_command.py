"""`syndicate-manager certs`: the authority's own command, on the manager's machine.

It works on STATE_DIR/tls itself, not through the manager: the first certificate is needed before a manager
can serve, and the last one expired must still be replaced. A manager that runs is told of each change.
Run as root it becomes the folder's owner first, so that what it writes is the manager's.

Exit status: 0 done; 64 wrong usage; 65 refused, nothing was changed; 66 no such certificate; 70 a file is
damaged, or the manager did not answer; 71 the authority's key is gone, or the clock is off; 74 the folder
cannot be read or written; 75 another command works on it; 77 not allowed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from .control import ManagerStuck, NotAllRead, tell_manager
from .pki import (
    SOON_S,
    BadInput,
    Bundle,
    Busy,
    ClockOff,
    Damaged,
    Exists,
    Folder,
    Issued,
    JoinToken,
    KeyLost,
    Office,
    PkiError,
    Revoked,
    TokenRefused,
    Unknown,
    day,
    without_secret,
)

EX_USAGE: Final = 64
_STATUS: Final[dict[type[PkiError], int]] = {
    Exists: 65, BadInput: 65, TokenRefused: 65, Revoked: 65, Unknown: 66, Damaged: 70, KeyLost: 71,
    ClockOff: 71, Busy: 75,
}  # fmt: skip
_STUCK: Final = 70
_IO: Final = 74
_DENIED: Final = 77
_INTERRUPTED: Final = 130
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

Say = Callable[[str], object]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # `syndicatectl certs` shows this as its own: one line, without the name of the option's command.
        self.exit(EX_USAGE, f"error: {message.removeprefix('argument ')}\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line behind `certs`."""
    parser = _Parser(prog="syndicate-manager certs", description="The cluster's own certificates.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text)
        made.add_argument("--state-dir", type=Path, required=True, metavar="DIR", help="the manager's")
        made.add_argument("--json", action="store_true", help="as one JSON object")
        return made

    init = command("init", "make the authority and the manager's certificate")
    init.add_argument("--cluster", default="", metavar="NAME", help="default: drawn")
    both = (("add", "a certificate for a volunteer"), ("renew", "another one; without HOST: the manager's"))
    for name, text in both:
        made = command(name, text)
        made.add_argument("host", nargs=None if name == "add" else "?", metavar="HOST")
        made.add_argument("--out", type=Path, metavar="DIR", help="a folder to write key and certificate to")
        made.add_argument("--bundle", action="store_true", help="key and certificate on standard output")
        made.add_argument("--days", type=int, default=90, metavar="N", help="how long it is good; default 90")
    for made in commands.choices.values():
        made.add_argument("--address", action="append", default=[], metavar="HOST|IP", help="repeatable")
    command("list", "what was issued")
    revoke = command("revoke", "refuse a volunteer from now on")
    revoke.add_argument("host", nargs="?", metavar="HOST")
    revoke.add_argument("--serial", default="", metavar="HEX", help="one certificate only")
    token = command("token-create", "a join token")
    token.add_argument("--uses", type=int, default=1, metavar="N", help="machines that may join; default 1")
    token.add_argument("--ttl", type=_seconds, default=86_400, metavar="TIME", help="90s, 1h30m, 24h, 7d")
    command("token-list", "join tokens")
    command("token-revoke", "let nobody join by it any more").add_argument("token_id", metavar="ID")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    wish = parse(arguments)
    by = _who()
    try:
        reached = _become_owner(wish.state_dir)
        office = Office(Folder(reached / "tls", wish.state_dir / "tls"), by=by)
        return _COMMANDS[wish.command](office, wish)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, "interrupted")
    except PkiError as error:
        return _fail(_STATUS[type(error)], str(error), *error.lines)
    except ManagerStuck as error:
        return _fail(_STUCK, str(error))
    except PermissionError as error:
        text = f"{_called(error, wish.state_dir)}: permission denied"
        return _fail(_DENIED, text, "Run it as root, or as the user that the manager runs as.")
    except OSError as error:
        text = (error.strerror or str(error)).lower()
        return _fail(_IO, f"{_called(error, wish.state_dir)}: {text}")


# ---- commands --------------------------------------------------------------------------------------------


def _init(office: Office, wish: argparse.Namespace) -> int:
    wish.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster = wish.cluster or f"c-{secrets.token_hex(4)}"
    authority, manager = office.init(cluster, wish.address)
    ca = office.folder.name / "ca.pem"
    if wish.json:
        return _document(
            cluster=cluster, ca_file=str(ca), fingerprint=authority.fingerprint,
            expires_at=authority.not_after, manager_expires_at=manager.not_after,
            addresses=list(manager.addresses),
        )  # fmt: skip
    _out(f"cluster      {cluster}")
    _out(f"authority    {ca}, good until {day(authority.not_after)}")
    _out(f"fingerprint  {authority.fingerprint}")
    _out(f"manager      {', '.join(manager.addresses)}; good until {day(manager.not_after)}, renews itself")
    _out("             Keep a copy of ca.key where this machine's fate cannot reach it.")
    _out("             Next:  syndicatectl certs add HOST     or  syndicatectl join-token create")
    return 0


def _add(office: Office, wish: argparse.Namespace) -> int:
    if (refused := _nowhere(wish)) is not None:
        return refused
    return _hand_over(office, wish, lambda: office.add(wish.host, wish.address, wish.days * 86_400))


def _renew(office: Office, wish: argparse.Namespace) -> int:
    if wish.host is not None:
        if (refused := _nowhere(wish)) is not None:
            return refused
        return _hand_over(office, wish, lambda: office.renew(wish.host, wish.address, wish.days * 86_400))
    made = office.renew_manager(wish.address)
    running = tell_manager(office.folder.path)
    if wish.json:
        return _document(serial=made.serial, expires_at=made.not_after, addresses=list(made.addresses))
    how = "the manager uses it now" if running is not None else "the manager uses it when it starts"
    _out(f"manager      {', '.join(made.addresses)}; good until {day(made.not_after)}; {how}")
    return 0


def _nowhere(wish: argparse.Namespace) -> int | None:
    """The exit status where key and certificate have no place to go, before anything is signed."""
    if not wish.bundle and wish.out is None:
        return _fail(EX_USAGE, "say where key and certificate go: --out DIR or --bundle")
    if wish.out is not None and wish.command == "add":
        _must_be_free(wish.out)
    return None


def _hand_over(office: Office, wish: argparse.Namespace, sign: Callable[[], Bundle]) -> int:
    # Ctrl-C is let in while it can be taken back, and not any more: the process ends with what follows.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    bundle, is_told = sign(), False
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        tell_manager(office.folder.path)
        is_told = True
        status = _deliver(wish, bundle)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    except BaseException as error:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        office.revoke_serial(bundle.certificate.serial)  # nobody has its key
        if isinstance(error, ManagerStuck):
            text = f"the manager that runs does not read what is changed ({error.why})"
            return _fail(_STUCK, text, "Nothing was added. Restart it, then try again.")
        if is_told:  # it may lie in its folder already
            with contextlib.suppress(ManagerStuck):
                tell_manager(office.folder.path)
        raise
    return status


def _deliver(wish: argparse.Namespace, bundle: Bundle) -> int:
    """Raises OSError."""
    made = bundle.certificate
    files = {"ca.pem": bundle.ca.decode(), "identity.pem": bundle.identity.decode()}
    told = {
        "name": made.name, "serial": made.serial, "expires_at": made.not_after, "first": bundle.first,
    }  # fmt: skip
    if wish.bundle:
        return _document(**told, files=files)
    _write_bundle(wish.out, files)
    if wish.json:
        return _document(**told, out=str(wish.out))
    _out(f"{made.name}   key and certificate in {wish.out}, good until {day(made.not_after)}")
    if bundle.first and wish.command == "renew":
        _out(f"{made.name} had no certificate before.")
    return 0


def _list(office: Office, wish: argparse.Namespace) -> int:
    office.folder.must_exist()
    now, authority = int(time.time()), office.folder.authority_certificate()
    issued = sorted(office.folder.register().issued, key=lambda one: (one.kind, one.name, one.not_after))
    has_key = (office.folder.path / "ca.key").exists()
    if wish.json:
        lines = [
            {
                "name": one.name, "kind": str(one.kind), "serial": one.serial, "expires_at": one.not_after,
                "state": _state(one, now), "token_id": one.token_id, "revoked_at": one.revoked_at,
            }
            for one in issued
        ]  # fmt: skip
        return _document(
            cluster=authority.cluster, fingerprint=authority.fingerprint, expires_at=authority.not_after,
            has_key=has_key, certificates=lines, manager_addresses=_manager_addresses(office),
        )  # fmt: skip
    _out(f"cluster {authority.cluster}   {authority.fingerprint}   good until {day(authority.not_after)}")
    if not has_key:
        _out("the authority's key (ca.key) is not here: nothing can be signed or renewed")
    rows: list[tuple[str, ...]] = [("NAME", "KIND", "EXPIRES", "STATE", "SERIAL")]
    rows += [(one.name, str(one.kind), day(one.not_after), _state(one, now), one.serial) for one in issued]
    _table(rows)
    return 0


def _manager_addresses(office: Office) -> list[str]:
    """What the manager's certificate says; nothing where it cannot be read: the list is good without."""
    try:
        return list(office.folder.manager().addresses)
    except (Damaged, OSError):
        return []


def _state(one: Issued, now: int) -> str:
    if one.revoked_at:
        return "revoked"
    if now >= one.not_after:
        return "expired"
    return "expires soon" if one.not_after - now < SOON_S else "good"


def _revoke(office: Office, wish: argparse.Namespace) -> int:
    if wish.serial:
        office.revoke_serial(wish.serial)
    elif wish.host is not None:
        with _told_again(office):
            office.revoke(wish.host)
    else:
        return _fail(EX_USAGE, "say whose certificate: HOST or --serial HEX")
    cut, trouble = _tell_of_revoked(office, wish.state_dir)
    good = _good_tokens(office, wish.host)
    if wish.json:
        tokens = [one.token_id for one in good]
        return _document(
            name=wish.host or "", cut=cut or [], manager_runs=cut is not None, tokens=tokens, trouble=trouble
        )
    if cut is None:
        how = "no manager runs here; it is refused from its next start on"
    else:
        was_cut = wish.host in cut if wish.host else bool(cut)
        how = "cut off" if was_cut else "it was not attached; refused from now on"
    _out(f"{wish.host or wish.serial}   revoked; {how}")
    for one in good:
        left = one.uses - len(one.used_by)
        _out(f"It joined by token {one.token_id}, which lets {left:,} more in; under another name, it too:")
        _out(f"  syndicatectl join-token revoke {one.token_id}")
    return _out(f"Not as it should be:  {trouble}") if trouble else 0


def _tell_of_revoked(office: Office, state_dir: Path) -> tuple[list[str] | None, str]:
    """Whom the manager cut off, as `tell_manager`, and what else is wrong: no reason to let anybody in."""
    try:
        cut, trouble = tell_manager(office.folder.path), ""
    except NotAllRead as error:
        cut, trouble = error.cut, error.why
    try:
        office.folder.authority_certificate()
    except PkiError as error:
        trouble = " ".join((f"{error}.", *error.lines))
    except OSError as error:
        trouble = f"{_called(error, state_dir)}: {(error.strerror or str(error)).lower()}"
    return cut, trouble


@contextlib.contextmanager
def _told_again(office: Office) -> Iterator[None]:
    """Of what is revoked already the manager may not know: a command was ended before it could tell."""
    try:
        yield
    except Unknown:
        if office.folder.exists:
            with contextlib.suppress(NotAllRead):
                tell_manager(office.folder.path)
        raise


def _good_tokens(office: Office, host: str | None) -> list[JoinToken]:
    """The join tokens that a machine holds and that are good for more machines."""
    now = int(time.time())
    return [
        one
        for one in office.folder.register().tokens
        if host in one.used_by and not one.revoked_at and now < one.expires_at and len(one.used_by) < one.uses
    ]


def _token_create(office: Office, wish: argparse.Namespace) -> int:
    token, text = office.create_token(wish.uses, wish.ttl)
    tell_manager(office.folder.path)
    fingerprint = office.folder.authority_certificate().fingerprint
    if wish.json:
        return _document(token=text, ca_fingerprint=fingerprint, **without_secret(token))
    _out(f"token        {text}")
    _out(f"fingerprint  {fingerprint}")
    machines = "1 machine" if token.uses == 1 else f"{token.uses:,} machines"
    _out(f"             for {machines}, until {day(token.expires_at)}; it is not shown again")
    _out("             On the machine, with the token in a file of mode 0600:")
    _out("             syndicate-volunteer run --join MANAGER:7000 --join-token-file FILE --ca-fingerprint …")
    return 0


def _token_list(office: Office, wish: argparse.Namespace) -> int:
    office.folder.must_exist()
    now, tokens = int(time.time()), office.folder.register().tokens
    if wish.json:
        return _document(tokens=[{**without_secret(one), "state": _token_state(one, now)} for one in tokens])
    rows: list[tuple[str, ...]] = [("ID", "USED", "EXPIRES", "STATE", "BY")]
    for one in tokens:
        used, state = f"{len(one.used_by)} of {one.uses}", _token_state(one, now)
        rows.append((one.token_id, used, day(one.expires_at), state, ", ".join(one.used_by)))
    _table(rows)
    return 0


def _token_state(one: JoinToken, now: int) -> str:
    if one.revoked_at:
        return "revoked"
    return "expired" if now >= one.expires_at else "good"


def _token_revoke(office: Office, wish: argparse.Namespace) -> int:
    # Whoever has seen a token has all of it: what is behind the dot is secret, and written nowhere.
    token_id = wish.token_id.partition(".")[0]
    with _told_again(office):
        office.revoke_token(token_id)
    _, trouble = _tell_of_revoked(office, wish.state_dir)
    if wish.json:
        return _document(token_id=token_id, trouble=trouble)
    _out(f"{token_id}   revoked")
    return _out(f"Not as it should be:  {trouble}") if trouble else 0


_COMMANDS: Final = {
    "init": _init, "add": _add, "renew": _renew, "list": _list, "revoke": _revoke,
    "token-create": _token_create, "token-list": _token_list, "token-revoke": _token_revoke,
}  # fmt: skip


# ---- files and lines -------------------------------------------------------------------------------------


def _who() -> str:
    """The login name of whoever runs this; behind sudo, of the person."""
    behind = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    try:
        name = behind or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
    return os.fsencode(name).decode(errors="replace")  # the audit log holds text


def _become_owner(state_dir: Path) -> Path:
    """Root works as the folder's owner: it can then be led astray by nothing that this owner laid there.

    Returns the way to the folder, which may lie where its owner alone does not get.
    """
    if os.geteuid() != 0 or not state_dir.is_dir():
        return state_dir
    held = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # for the rest of this process
    owner = os.fstat(held)
    if owner.st_uid == 0:
        os.close(held)
        return state_dir
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    return Path(f"/proc/self/fd/{held}")


def _called(error: OSError, state_dir: Path) -> str:
    """The file that an error is about, by the name that people know."""
    return re.sub(r"^/proc/self/fd/\d+", str(state_dir), str(error.filename or state_dir))


def _must_be_free(folder: Path) -> None:
    if (folder / "identity.pem").exists():
        raise Exists(f"{folder} holds a key and a certificate already", "Another folder:  --out DIR")


def _write_bundle(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = Folder(folder)
    half.write("ca.pem", files["ca.pem"].encode(), 0o644)
    half.write("identity.pem", files["identity.pem"].encode())


def _seconds(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}|(\d{1,9}[smhd])+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 90s, 30m, 1h30m, 24h, 7d")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd]?)", text))


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        _out("   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _document(**values: object) -> int:
    return _out(json.dumps(values))


def _out(line: str) -> int:
    sys.stdout.write(line + "\n")
    return 0


def _fail(status: int, text: str, *lines: str) -> int:
    sys.stderr.write("\n".join([f"error: {text}", *(f"  {line}" for line in lines)]) + "\n")
    return status
