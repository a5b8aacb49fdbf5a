"""Runs a daemon without root's rights, though the software may lie in a folder that only root can enter.

bubblewrap gives it a view of its own: the system, this interpreter and every import path read-only, the few
folders that it may write, and nothing else of the machine. The folders above a bound one are new and open to
everybody, so a checkout under ``/root`` can be read. setpriv drops the rights inside: a ``bwrap --uid`` that
root runs would still write as root. The daemon outlives its starter on purpose.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

UNPRIVILEGED_UID = 199999
"""Of nobody else; no entry in /etc/passwd is needed."""
TOOLS = ("bwrap", "setpriv")

_BOUND = (Path("/usr"), Path("/etc"))
_LINKS_TO_USR = ("bin", "sbin", "lib", "lib32", "lib64")


def unprivileged_command(
    command: Sequence[str],
    *,
    writable: Iterable[Path] = (),
    readable: Iterable[Path] = (),
    uid: int = UNPRIVILEGED_UID,
    status_fd: int | None = None,
) -> list[str]:
    """The argument list that runs ``command`` as ``uid``. Each folder named is absolute and must be there.

    The network is the machine's. With ``status_fd`` bubblewrap writes the daemon's pid there, as JSON
    (``child-pid``); it stays as the daemon's parent and ends with it.
    """
    arguments = ["bwrap", "--ro-bind", "/usr", "/usr"]
    for name in _LINKS_TO_USR:
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev"]
    arguments += ["--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - its own, not the machine's
    read_only, own = _outermost([*import_folders(), *readable]), list(writable)
    # Made by hand: bubblewrap itself makes the folders above a bound one for root only (seen with 0.8).
    for parent in _parents([*read_only, *own]):
        arguments += ["--dir", str(parent)]
    for path in read_only:
        arguments += ["--ro-bind", str(path), str(path)]
    for path in own:
        arguments += ["--bind", str(path), str(path)]
    if status_fd is not None:
        arguments += ["--json-status-fd", str(status_fd)]
    arguments += ["--chdir", "/", "--"]
    arguments += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    arguments += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
    return [*arguments, *command]


def import_folders() -> list[Path]:
    """The folders that this interpreter and its imports live in, editable sources included."""
    found = [
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.prefix).resolve(),
        Path(sys.base_prefix).resolve(),
    ]
    found += [Path(entry) for entry in sys.path if os.path.isabs(entry)]
    return [path for path in found if path.exists() and path != Path("/")]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Each folder once, without those that lie in another or in what is bound already."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        covered = [*_BOUND, *kept]
        if not any(path.is_relative_to(other) for other in covered):
            kept.append(path)
    return kept


def _parents(paths: Iterable[Path]) -> list[Path]:
    """All folders above these, the outermost first, but for those that are bound anyway."""
    above = {parent for path in paths for parent in path.parents if parent != Path("/")}
    outside = [path for path in above if not any(path.is_relative_to(bound) for bound in _BOUND)]
    return sorted(outside, key=lambda path: len(path.parts))
