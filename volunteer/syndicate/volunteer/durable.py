"""Small files that must survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces the file whole: after the return the new text is on the disk, before it the old one. Blocks.

    `mode` holds for each new file, less what the process's mask takes.

    Raises OSError.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(fresh, flags, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
    rename(fresh, path)


def rename(path: Path, to: Path) -> None:
    """Puts a file that is on the disk in another's place, and has that on the disk too. Raises OSError."""
    os.replace(path, to)
    # A rename lasts over a power cut once its folder is written.
    folder = os.open(to.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
