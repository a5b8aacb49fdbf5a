"""What others than the manager read of the folder of a cluster's manager, DIR/manager.

That folder belongs to the manager's own user, who may put anything into it: a link to what root alone may
read, a fifo that hangs whoever opens it. So nothing is taken from it but plain files of that user's or of
root's, of a bounded size, by their own names and through no link.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.unprivileged import UNPRIVILEGED_UID

_TOKEN: Final = PurePosixPath("manager/admin.token")
_AUTHORITY: Final = PurePosixPath("manager/tls/ca.pem")
_READY: Final = PurePosixPath("manager/manager.ready")
_MOST_BYTES: Final = 64 * 1024
"""No file that is read here is larger."""
_SHAPE: Final = re.compile(r"syn_[a-z0-9-]{1,63}_[A-Za-z0-9]{1,128}")


def token_file(directory: Path) -> Path:
    """The token of the first admin, of the cluster in a folder."""
    return directory / _TOKEN


def ca_file(directory: Path) -> Path:
    """The certificate of the cluster's own authority."""
    return directory / _AUTHORITY


def ready_file(directory: Path) -> Path:
    """Where the manager listens, written once it does."""
    return directory / _READY


def read_token(directory: Path) -> str:
    """The token of the first admin. Raises CliError for what is none; what was found is never shown."""
    path = token_file(directory)
    try:
        text = _read(directory, _TOKEN).decode("ascii").removesuffix("\n")
    except UnicodeDecodeError:
        text = ""
    if not _SHAPE.fullmatch(text):
        raise _refused(path, "it is no token")
    return text


def read_ca(directory: Path) -> bytes:
    """The authority's certificate as it stands there, unchecked. Raises CliError."""
    return _read(directory, _AUTHORITY)


def authority(named: str, directory: str) -> str | bytes:
    """What a connection takes as its authority: a file's name, or where it is `ca_file`, what that holds.

    ``directory`` is of the cluster that `up` left word of, or empty. Raises CliError.
    """
    if directory and named == str(ca_file(Path(directory))):
        return read_ca(Path(directory))
    return named


def read_ready(directory: Path) -> bytes:
    """What `ready_file` holds, unchecked. Raises CliError."""
    return _read(directory, _READY)


def _read(directory: Path, below: PurePosixPath) -> bytes:
    """A file below a folder that is itself trusted, as is what is above it."""
    path = directory / below
    try:
        with _opened(directory, below) as descriptor:
            found = os.fstat(descriptor)
            # What is the caller's own nobody planted; to root that is what is root's.
            if found.st_uid not in (0, UNPRIVILEGED_UID, os.geteuid()):
                raise _refused(path, f"it belongs to another user, uid {found.st_uid}")
            if not stat.S_ISREG(found.st_mode):
                raise _refused(path, "it is no plain file")
            if found.st_nlink != 1:  # another's file under a second name has that one's owner
                raise _refused(path, "it has a second name, by a hard link")
            data = os.read(descriptor, _MOST_BYTES + 1)
    except (FileNotFoundError, PermissionError) as error:
        raise CliError(
            f"{path} cannot be read ({_why(error)})",
            "It is the manager's, and root's to read. Does the cluster still run?",
            code=exit_codes.NOT_ALLOWED,
        ) from None
    except OSError as error:
        raise _refused(path, _why(error)) from None
    if len(data) > _MOST_BYTES:
        raise _refused(path, "it is too large")
    return data


@contextmanager
def _opened(directory: Path, below: PurePosixPath) -> Iterator[int]:
    """A descriptor to read from: each folder on the way is opened in the one before. Raises OSError."""
    *folders, name = below.parts
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(folder, flags, dir_fd=at)
            os.close(at)
            at = inner
        # Without waiting: a fifo that nobody writes to is opened at once, and refused then.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        inner = os.open(name, flags, dir_fd=at)
    finally:
        os.close(at)
    try:
        yield inner
    finally:
        os.close(inner)


def _why(error: OSError) -> str:
    known = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "it is a socket"}
    return known.get(error.errno or 0) or (error.strerror or str(error)).lower()


def _refused(path: Path, why: str) -> CliError:
    return CliError(
        f"{path} cannot be read ({why})",
        "The manager's user can change it, and the manager writes it. Ask who else did.",
        code=exit_codes.NOT_ALLOWED,
    )
