"""``install`` and ``uninstall``: a part of a cluster as services of this machine, or of an image of one.

What is there already is left as it is, so that a second run changes nothing. What the operator may have
changed, the configuration, is replaced with ``--force`` alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.install_plan import (
    CONFIGURATION,
    RUN,
    SYSUSERS,
    UNITS,
    USED,
    VOLUNTEER,
    File,
    Role,
    unit_files,
    users_file,
)
from syndicate.cli.installed_units import asked, runs_with_older, tool
from syndicate.cli.ownership import who_else_may_change

_RUNNING = Path("/run/systemd/system")  # sd_booted(3)
# Debian and Ubuntu have it in the folder of their architecture.
_LIBRARIES = ("usr/lib/systemd", "usr/lib/*/systemd", "lib/systemd", "lib/*/systemd", "usr/lib64/systemd")
# What means something to systemd or to a shell in the path of a unit's program.
_NOT_IN_A_PATH = frozenset("%$\"'\\")
# What the units close to their users (ProtectHome=, PrivateTmp=).
_CLOSED = ("/root", "/home", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named, not used


@dataclass(slots=True)
class Report:
    """What was done, as paths and names of the machine."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    enabled: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    """Units that run with what was there before. A restart of the keeper ends tasks: none is done unasked."""
    kept: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.written or self.removed or self.enabled)


@dataclass(frozen=True, slots=True)
class Target:
    """The machine: this one, or the image in a folder."""

    root: Path = Path("/")
    bin_folder: Path = field(default_factory=lambda: Path(sys.executable).parent)

    @property
    def is_image(self) -> bool:
        """Whether nothing of it runs."""
        return self.root != Path("/")

    def at(self, path: Path | str) -> Path:
        """Where a path of the machine is for this process."""
        return self.root / str(path).lstrip("/")

    def shown(self, path: Path) -> str:
        """A path of the machine, as it is said."""
        return str(self.at(path))


def install(
    role: Role,
    files: Sequence[File],
    target: Target,
    *,
    configured: bool,
    force: bool,
    before_start: Callable[[], None] = lambda: None,
) -> Report:
    """Puts all in place and starts it. Raises CliError.

    Without ``configured`` nothing was said about the configuration, and one that is there stays.
    """
    check_machine(role, target)
    systemd = _version(target)
    wanted = [*unit_files(role, target.bin_folder, systemd), users_file(role)]
    settled = [file for file in files if configured or not target.at(file.path).exists()]
    if not force:
        _refuse_to_replace(settled, target)
    changed = _write([users_file(role)], target)
    if changed or _uid(role.user, target) is None:
        tool("systemd-sysusers", *_root_option(target), str(target.at(role.sysusers)))
    changed += _write([*wanted, *settled], target)
    changed += _prepare_folders(role, target)
    before_start()
    started = _enable(role, target)
    return Report(
        written=[target.shown(path) for path in changed],
        enabled=started,
        restart=[]
        if target.is_image
        else _with_older(role, [name for name in role.units if name not in started]),
    )


def _with_older(role: Role, units: Sequence[str]) -> list[str]:
    """Those of them that run with another unit or other settings than are there now."""
    return [name for name in units if runs_with_older(name, (UNITS / name, role.settings_of(name)))]


def check_machine(role: Role, target: Target) -> None:
    """Raises CliError where it cannot be installed."""
    _need_root()
    if not target.is_image and not _RUNNING.is_dir():
        raise CliError(
            "this machine is not run by systemd",
            "Into an image of one that is:  --root DIR",
            code=exit_codes.BAD_MACHINE,
        )
    if not target.at("/etc").is_dir():
        raise CliError(
            f"{target.root} holds no system: there is no etc in it",
            "Name the root of an image, as debootstrap makes it:  --root DIR",
            code=exit_codes.BAD_MACHINE,
        )
    for name in ("systemctl", "systemd-sysusers"):
        if shutil.which(name) is None:
            raise CliError(f"{name} is not installed", "apt-get install systemd", code=exit_codes.BAD_MACHINE)
    _check_program(role, target)
    _check_user(role, target)


def _check_program(role: Role, target: Target) -> None:
    """Raises CliError for one that services cannot run, and for one that others than root could replace."""
    folder, program = target.bin_folder, target.bin_folder / role.program
    if any(letter.isspace() or letter in _NOT_IN_A_PATH for letter in str(folder)):
        raise CliError(
            f"{folder} cannot be named in a unit: it has a blank or one of % $ \" ' \\ in it",
            "Install it elsewhere, as into a virtual environment in /opt/syndicate.",
            code=exit_codes.BAD_MACHINE,
        )
    if not os.access(target.at(program), os.X_OK):
        raise CliError(
            f"there is no {target.shown(program)}",
            f"Install it:  pip install 'syndicate-cluster[cli,{role.name}]'     Where it is:  --bin DIR",
            code=exit_codes.BAD_MACHINE,
        )
    named = [program, *_interpreter(target.at(program))]
    paths = list(dict.fromkeys([*named, *(_resolved(path, target) for path in named)]))
    for path in paths:
        closed = any(path.is_relative_to(one) for one in _CLOSED)
        if closed or not _is_open(target.at(path), target.root):
            raise CliError(
                f"services have no access to {path.parent}, where this software is",
                "Install it elsewhere, as into a virtual environment in /opt/syndicate.",
                code=exit_codes.BAD_MACHINE,
            )
    for path in paths:
        why = who_else_may_change(target.at(path), (0,), target.root)
        if why:
            raise CliError(
                f"{why}, and so could the program of a service",
                f"As root's alone:  chown -R root:root {folder.parent} && chmod -R go-w {folder.parent}",
                code=exit_codes.BAD_MACHINE,
            )


def _interpreter(program: Path) -> list[Path]:
    """What the first line of a script names."""
    with program.open("rb") as file:
        line = file.readline(4096)
    words = os.fsdecode(line.removeprefix(b"#!")).split() if line.startswith(b"#!") else []
    return [Path(word) for word in words[:1] if word.startswith("/")]


def _is_open(path: Path, root: Path) -> bool:
    """Whether every user may run it."""
    above = [folder for folder in path.parents if folder.is_relative_to(root) and folder != root]
    try:
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in above) and bool(
            path.stat().st_mode & stat.S_IXOTH
        )
    except OSError:  # a link of an image that leads nowhere on this machine
        return True


def _check_user(role: Role, target: Target) -> None:
    """Raises CliError where its name is another's: it would run as that one, and be taken away with it."""
    found = _entry(role.user, target)
    if found is not None and not _is_ours(role, found):
        raise CliError(
            f"there is a user {role.user} already, with home {found[5]} and shell {found[6]}",
            f"A service's has home {role.home} and no shell. Rename or remove that one.",
            "Nothing was changed.",
            code=exit_codes.REFUSED,
        )


def _is_ours(role: Role, entry: Sequence[str]) -> bool:
    return entry[5] == role.home and Path(entry[6]).name in ("nologin", "false")


def _resolved(folder: Path, target: Target) -> Path:
    """Where a folder of the machine is when all links are followed, as the machine names it."""
    real = target.at(folder).resolve()
    return Path("/") / real.relative_to(target.root) if real.is_relative_to(target.root) else folder


def _need_root() -> None:
    if os.geteuid() != 0:
        raise CliError("this needs root", "sudo syndicatectl …", code=exit_codes.NOT_ALLOWED)


def _version(target: Target) -> int:
    """Of the machine's systemd, by the name of its library; 0 where it cannot be told."""
    for folder in _LIBRARIES:
        for library in target.root.glob(f"{folder}/libsystemd-shared-*.so"):
            digits = library.name.removeprefix("libsystemd-shared-")[:3]
            if digits.isdecimal():
                return int(digits)
    return 0


def _refuse_to_replace(files: Sequence[File], target: Target) -> None:
    for file in files:
        path = target.at(file.path)
        if file.kept and path.exists() and path.read_text() != file.text:
            raise CliError(
                f"{path} is there, and says something else",
                "Replace it:  --force     Keep it:  say nothing about the configuration",
                "Nothing was changed.",
                code=exit_codes.REFUSED,
            )


def _write(files: Sequence[File], target: Target) -> list[Path]:
    """Those that were not there as they should be. Raises CliError."""
    changed = []
    for file in files:
        path = target.at(file.path)
        uid, gid = _ids(file.owner, target)
        try:
            if _is_so(path, file, uid):
                continue
            _make_folders(path.parent)
            _replace(path, file, uid, gid)
        except OSError as error:
            raise CliError(
                f"{path} cannot be written ({(error.strerror or str(error)).lower()})",
                code=exit_codes.CANNOT_WRITE,
            ) from None
        changed.append(file.path)
    return changed


def _make_folders(folder: Path) -> None:
    """Those that are not there, open to all who read, whatever mask the caller has. Raises OSError."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755)


def _is_so(path: Path, file: File, uid: int) -> bool:
    if path.is_symlink() or not path.is_file() or path.read_text() != file.text:
        return False
    status = path.stat()
    return status.st_mode & 0o7777 == file.mode and status.st_uid == uid


def _replace(path: Path, file: File, uid: int, gid: int) -> None:
    """Whole or not at all; never open to others than it is meant for, also not for a moment."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(file.text)
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, file.mode)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what failed is told; the rest is a stray file
            os.unlink(name)
        raise


def _entry(user: str, target: Target) -> list[str] | None:
    """The user's line in passwd(5) of the machine, which for an image is not this one."""
    try:
        lines = target.at("/etc/passwd").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    fields = (line.split(":") for line in lines)
    return next((one for one in fields if one[0] == user and len(one) == 7), None)


def _uid(user: str, target: Target) -> tuple[int, int] | None:
    found = _entry(user, target)
    return None if found is None else (int(found[2]), int(found[3]))


def _ids(user: str, target: Target) -> tuple[int, int]:
    found = (0, 0) if user == "root" else _uid(user, target)
    if found is None:
        raise CliError(f"systemd-sysusers made no user {user}", code=exit_codes.BAD_MACHINE)
    return found


def _prepare_folders(role: Role, target: Target) -> list[Path]:
    """That of the settings, and the home of its user, which systemd would make for a unit that starts.

    Certificates come before that. Raises CliError.
    """
    settings, home, (uid, gid) = target.at(CONFIGURATION), target.at(role.home), _ids(role.user, target)
    made = []
    found = settings.stat() if settings.is_dir() else None
    # What services read: one that was made by who has a narrow mask was closed to them.
    if found is not None and (found.st_uid != 0 or found.st_mode & 0o777 != 0o755):
        os.chown(settings, 0, 0)
        settings.chmod(0o755)
        made.append(CONFIGURATION)
    if not home.is_dir():
        home.mkdir(parents=True, mode=0o700)
        os.chown(home, uid, gid)
        made.append(Path(role.home))
    return made


def _enable(role: Role, target: Target) -> list[str]:
    """Those that were not enabled, or did not run."""
    option = _root_option(target)
    if not target.is_image:
        # Each time: one that was interrupted may have written what systemd has not read.
        tool("systemctl", "daemon-reload")
    names = [
        name
        for name in role.units
        if asked("is-enabled", name, option) != "enabled"
        or (not target.is_image and asked("is-active", name) not in ("active", "activating"))
    ]
    if names:
        tool("systemctl", *option, "enable", *names)
    if names and not target.is_image:
        # What makes a start fail is told by the unit; it goes on trying, and so it is no failure here.
        tool("systemctl", "start", "--no-block", *names)
    return names


def _root_option(target: Target) -> list[str]:
    return [f"--root={target.root}"] if target.is_image else []


def uninstall(role: Role, target: Target, *, purge: bool) -> Report:
    """Takes all of it away; its state and its user with ``purge`` alone. Raises CliError."""
    _need_root()
    there = [name for name in role.units if target.at(UNITS / name).exists()]
    runs = not target.is_image and _RUNNING.is_dir()
    # The volunteer before the keeper, which ends all tasks.
    for name in reversed(there):
        tool("systemctl", *_root_option(target), "disable", *(["--now"] if runs else []), name)
    removed = []
    for path in (*(UNITS / name for name in role.units), role.sysusers, *role.files):
        if target.at(path).exists():
            target.at(path).unlink()
            removed.append(path)
    _forget_use(role, target)
    for folder in (CONFIGURATION, SYSUSERS, Path(RUN)):
        with contextlib.suppress(OSError):  # others' files are in it, or it is not there
            target.at(folder).rmdir()
    if runs:
        tool("systemctl", "daemon-reload")
    if purge:
        removed += _purge(role, target)
    left = [Path(state) for state in role.states if target.at(state).exists()]
    return Report(
        removed=[target.shown(path) for path in removed], kept=[target.shown(path) for path in left]
    )


def _forget_use(role: Role, target: Target) -> None:
    """That tasks were here since the boot: a later `install` with a boot after each job starts afresh.

    Where a keeper is there that was not started by its unit, it is left its mark.
    """
    if role is not VOLUNTEER or target.is_image:
        return
    with socket.socket(socket.AF_UNIX) as keeper:
        if keeper.connect_ex(f"{RUN}/keeper.sock") != 0:
            USED.unlink(missing_ok=True)


def _purge(role: Role, target: Target) -> list[Path]:
    removed = []
    for state in role.states:
        if target.at(state).is_dir():
            shutil.rmtree(target.at(state))
            removed.append(Path(state))
    found = _entry(role.user, target)
    if found is not None and _is_ours(role, found):
        tool("userdel", *(["--root", str(target.root)] if target.is_image else []), role.user)
    return removed
