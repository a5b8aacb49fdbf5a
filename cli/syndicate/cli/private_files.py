"""A folder of its owner's alone, with small files in it that nobody else can read, and files made once.

The folder is opened once and never through a symbolic link, and its files by their names in it: what somebody
else puts in the way is refused or replaced, never followed. A write is whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError

_MOST_BYTES = 64 * 1024
"""No file that belongs in such a folder is larger."""


class PrivateFolder:
    """The folder at ``path``, mode 0700. It is made when something is written to it first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """The names in it, sorted; none where it is not there or is not to be read."""
        try:
            return sorted(os.listdir(self.path))
        except OSError:
            return []

    def read(self, name: str) -> str | None:
        """The text of a file of its owner's alone; None for no file. Raises CliError for any other."""
        path = self.path / name
        try:
            owner = os.stat(self.path).st_uid
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as error:
            raise _unreadable(path, _why(error)) from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _unreadable(path, "it is no plain file")
            # Root is let into anybody's file: one that was laid here would say whom a token is sent to.
            if found.st_uid not in (os.geteuid(), owner):
                raise _unreadable(path, f"it belongs to another user, uid {found.st_uid}")
            if found.st_mode & 0o077:
                raise CliError(
                    f"{path} is open to others on this machine",
                    f"If nobody else has read it:  chmod 600 {path}",
                    code=exit_codes.NOT_ALLOWED,
                )
            data = os.read(descriptor, _MOST_BYTES + 1)
        finally:
            os.close(descriptor)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise _unreadable(path, "it is no text") from None
        if len(data) > _MOST_BYTES:
            raise _unreadable(path, "it is too large")
        return text

    def write(self, name: str, text: str) -> None:
        """Writes a file, mode 0600, in one step; a symbolic link of its name is replaced. Raises CliError."""
        path = self.path / name
        fresh = f".{name}.{secrets.token_hex(8)}"
        try:
            with self._opened() as folder:
                try:
                    _write_new(fresh, text, folder)
                    os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(fresh, dir_fd=folder)
                    raise
                os.fsync(folder)
        except OSError as error:
            raise _unwritable(path, _why(error)) from None

    def remove(self, name: str) -> bool:
        """Removes a file; returns whether it was there. Raises CliError."""
        try:
            (self.path / name).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unwritable(self.path / name, _why(error)) from None
        return True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder, made if need be, as a descriptor. It must be the caller's, and is closed to others."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if self.path.is_symlink():
                raise _unwritable(self.path, "it is a symbolic link") from None
            raise _unwritable(self.path, _why(error)) from None
        try:
            found = os.fstat(folder)
            if found.st_uid != os.geteuid():
                raise _unwritable(self.path, f"it belongs to another user, uid {found.st_uid}")
            if found.st_mode & 0o077:
                os.fchmod(folder, 0o700)
            yield folder
        finally:
            os.close(folder)


def create_private(path: Path) -> int:
    """Makes a file that is not there yet, mode 0600, and returns its descriptor. Raises CliError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CliError(
            f"{path} is there already",
            "Name a file that is not: what is there is not overwritten.",
            code=exit_codes.CANNOT_WRITE,
        ) from None
    except OSError as error:
        raise _unwritable(path, _why(error)) from None
    os.fchmod(descriptor, 0o600)  # a mask may have taken the owner's own rights
    return descriptor


def _write_new(name: str, text: str, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text.encode())
        file.flush()
        os.fsync(descriptor)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _unreadable(path: Path, why: str) -> CliError:
    return CliError(f"{path} cannot be read ({why})", code=exit_codes.USAGE)


def _unwritable(path: Path, why: str) -> CliError:
    return CliError(f"{path} cannot be written ({why})", code=exit_codes.CANNOT_WRITE)
