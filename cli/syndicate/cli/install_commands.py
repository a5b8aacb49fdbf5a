"""``install`` and ``uninstall``: a part of a cluster as services of this machine, or of an image of one.

What is there already is left as it is, so that a second run changes nothing. What the operator may have
changed, the configuration, is replaced with ``--force`` alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.install_plan import CONFIGURATION, RUN, UNITS, File, Role, unit_files, users_file

_RUNNING = Path("/run/systemd/system")  # sd_booted(3)
_COMMAND_S = 150.0
_LIBRARIES = ("usr/lib/systemd", "lib/systemd", "usr/lib64/systemd")
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
        _tool("systemd-sysusers", *_root_option(target), str(target.at(role.sysusers)))
    changed += _write([*wanted, *settled], target)
    changed += _prepare_folders(role, target)
    before_start()
    stale = [name for name in role.units if UNITS / name in changed]
    started = _enable(role, target, reload=bool(stale))
    settings_changed = any(file.path in changed for file in settled)
    running = [name for name in role.units if (name in stale or settings_changed) and name not in started]
    return Report(
        written=[target.shown(path) for path in changed],
        enabled=started,
        restart=[] if target.is_image else running,
    )


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
        raise CliError(f"{target.root} holds no system: there is no etc in it", code=exit_codes.BAD_MACHINE)
    for tool in ("systemctl", "systemd-sysusers"):
        if shutil.which(tool) is None:
            raise CliError(f"{tool} is not installed", "apt-get install systemd", code=exit_codes.BAD_MACHINE)
    program = target.bin_folder / role.program
    if not os.access(target.at(program), os.X_OK):
        raise CliError(
            f"there is no {target.shown(program)}",
            f"Install it:  pip install 'syndicate-cluster[cli,{role.name}]'     Where it is:  --bin DIR",
            code=exit_codes.BAD_MACHINE,
        )
    for folder in {target.bin_folder, _resolved(target.bin_folder, target)}:
        if any(folder.is_relative_to(closed) for closed in _CLOSED):
            raise CliError(
                f"services have no access to {folder}, where this software is",
                "Install it elsewhere, as into a virtual environment in /opt/syndicate.",
                code=exit_codes.BAD_MACHINE,
            )


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
        for library in target.at(folder).glob("libsystemd-shared-*.so"):
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
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, file, uid, gid)
        except OSError as error:
            raise CliError(
                f"{path} cannot be written ({(error.strerror or str(error)).lower()})",
                code=exit_codes.CANNOT_WRITE,
            ) from None
        changed.append(file.path)
    return changed


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


def _uid(user: str, target: Target) -> tuple[int, int] | None:
    """The user's and its group's number on the machine, which for an image is not this one."""
    try:
        lines = target.at("/etc/passwd").read_text().splitlines()
    except OSError:
        return None
    for fields in (line.split(":") for line in lines):
        if fields[0] == user and len(fields) >= 4:
            return int(fields[2]), int(fields[3])
    return None


def _ids(user: str, target: Target) -> tuple[int, int]:
    found = (0, 0) if user == "root" else _uid(user, target)
    if found is None:
        raise CliError(f"systemd-sysusers made no user {user}", code=exit_codes.BAD_MACHINE)
    return found


def _prepare_folders(role: Role, target: Target) -> list[Path]:
    """The home of its user, which systemd makes for a unit that starts; certificates come before that."""
    home, (uid, gid) = target.at(role.home), _ids(role.user, target)
    if home.is_dir():
        return []
    home.mkdir(parents=True, mode=0o700)
    os.chown(home, uid, gid)
    return [Path(role.home)]


def _enable(role: Role, target: Target, *, reload: bool) -> list[str]:
    """Those that were not enabled, or did not run."""
    if target.is_image:
        names = [name for name in role.units if _asked("is-enabled", name, target) != "enabled"]
        if names:
            _tool("systemctl", *_root_option(target), "enable", *names)
        return names
    if reload:
        _tool("systemctl", "daemon-reload")
    names = [
        name
        for name in role.units
        if _asked("is-enabled", name, target) != "enabled"
        or _asked("is-active", name, target) not in ("active", "activating")
    ]
    if names:
        _tool("systemctl", "enable", *names)
        # What makes a start fail is told by the unit; it goes on trying, and so it is no failure here.
        _tool("systemctl", "start", "--no-block", *names)
    return names


def _asked(question: str, unit: str, target: Target) -> str:
    command = ["systemctl", *_root_option(target), question, unit]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_COMMAND_S
    ).stdout.strip()


def _root_option(target: Target) -> list[str]:
    return [f"--root={target.root}"] if target.is_image else []


def _tool(*command: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CliError(
            f"{' '.join(command)}: no end after {_COMMAND_S:g} s", code=exit_codes.BAD_MACHINE
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise CliError(f"{' '.join(command)}: {said[0]}", *said[1:4], code=exit_codes.BAD_MACHINE)


def uninstall(role: Role, target: Target, *, purge: bool) -> Report:
    """Takes all of it away; its state and its user with ``purge`` alone. Raises CliError."""
    _need_root()
    there = [name for name in role.units if target.at(UNITS / name).exists()]
    if there:
        now = [] if target.is_image or not _RUNNING.is_dir() else ["--now"]
        # The volunteer before the keeper, which ends all tasks.
        for name in reversed(there):
            _tool("systemctl", *_root_option(target), "disable", *now, name)
    removed = []
    for path in (*(UNITS / name for name in role.units), role.sysusers, *role.files):
        if target.at(path).exists():
            target.at(path).unlink()
            removed.append(path)
    for folder in (CONFIGURATION, Path(RUN)):
        with contextlib.suppress(OSError):  # another part's files are in it, or it is not there
            target.at(folder).rmdir()
    if there and not target.is_image and _RUNNING.is_dir():
        _tool("systemctl", "daemon-reload")
    if purge:
        removed += _purge(role, target)
    left = [Path(state) for state in role.states if target.at(state).exists()]
    return Report(
        removed=[target.shown(path) for path in removed], kept=[target.shown(path) for path in left]
    )


def _purge(role: Role, target: Target) -> list[Path]:
    removed = []
    for state in role.states:
        if target.at(state).is_dir():
            shutil.rmtree(target.at(state))
            removed.append(Path(state))
    if _uid(role.user, target) is not None:
        _tool("userdel", *(["--root", str(target.root)] if target.is_image else []), role.user)
    return removed
