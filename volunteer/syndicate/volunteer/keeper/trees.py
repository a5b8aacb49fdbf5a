"""Removing a folder that a task could fill as it liked: however deep, whatever its names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class _Level:
    """A folder that is being emptied: what it is, its name in the one above, and its folders left to do."""

    identity: tuple[int, int]
    name: str
    folders: list[str]


def remove_tree(top: Path) -> None:
    """Remove the folder `top` and all in it, following no link; raises OSError.

    It neither recurses nor builds paths, so that no depth is too deep, and holds three descriptors at most:
    the way back up is `..`, which is compared with the folder that was left.
    """
    above = os.open(top.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        here = os.open(top.name, _FLAGS, dir_fd=above)
        try:
            _empty(here)
        finally:
            os.close(here)
        os.rmdir(top.name, dir_fd=above)
    finally:
        os.close(above)


def _empty(here: int) -> None:
    """Remove all in the folder `here`, which is open there again at the end."""
    levels = [_unlink_files(here, "")]
    while True:
        level = levels[-1]
        if level.folders:
            name = level.folders.pop()
            _move(here, name)
            levels.append(_unlink_files(here, name))
            continue
        levels.pop()
        if not levels:
            return
        _move(here, "..")
        if _identity(here) != levels[-1].identity:
            raise OSError(f"the folder {level.name!r} was moved while it was removed")
        os.rmdir(level.name, dir_fd=here)


def _move(here: int, name: str) -> None:
    """Open `name` in the place of `here`: the number stays, so that its owner closes it whatever happens."""
    there = os.open(name, _FLAGS, dir_fd=here)
    try:
        os.dup2(there, here, inheritable=False)
    finally:
        os.close(there)


def _unlink_files(here: int, name: str) -> _Level:
    with os.scandir(here) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for each, is_folder in found:
        if not is_folder:
            os.unlink(each, dir_fd=here)
    return _Level(_identity(here), name, [each for each, is_folder in found if is_folder])


def _identity(here: int) -> tuple[int, int]:
    found = os.fstat(here)
    return found.st_dev, found.st_ino
