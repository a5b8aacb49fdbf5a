"""STATE_DIR/tls: where the authority, the manager's certificate and the register lie.

ca.pem         the authority's certificate, for everybody
ca.key         its key; can be kept elsewhere, then nothing is signed
manager.pem    the manager's key and certificate, in one file so that both change in one step
register.json  what was issued and revoked, and the join tokens (their digests)
lock           held while any of it is changed

The folder is its owner's alone (0700), and so is every file but ca.pem. Each is replaced whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .authority import Authority, Signed
from .certificate import Certificate, read
from .errors import Busy, Damaged, Exists, KeyLost, Unknown
from .register import Register, day

_LOCK_S: Final = 10.0
_POLL_S: Final = 0.02
_MOST_BYTES: Final = 64 << 20
"""Of a file: a register of very many machines has less."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of one cluster."""

    path: Path
    called: Path | None = None
    """What people call it, where the path says something else."""

    @property
    def name(self) -> Path:
        """For messages."""
        return self.called or self.path

    @property
    def exists(self) -> bool:
        """Whether `make` was called once, whatever is gone since."""
        return any((self.path / name).exists() for name in ("ca.pem", "register.json"))

    def make(self, authority: Signed, manager: Signed, register: Register) -> None:
        """Make it, all or nothing. Raises Exists, Busy, OSError."""
        around = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Two at once would write into one folder: one's certificate with the other's key.
            self._wait_for(around)
            self.must_not_exist()
            fresh = self.path.with_name(f".{self.path.name}.new")
            if fresh.exists():
                shutil.rmtree(fresh)  # of one that was interrupted
            fresh.mkdir(mode=0o700)
            half = Folder(fresh)
            half.write("ca.pem", authority.certificate.pem, 0o644)
            half.write("ca.key", authority.key)
            half.write("manager.pem", manager.pem)
            half.write("register.json", register.to_json().encode())
            half.write("lock", b"")
            fresh.rename(self.path)
            os.fsync(around)
        finally:
            os.close(around)

    def must_not_exist(self) -> None:
        """Raises Exists."""
        if (self.path / "ca.pem").exists():
            there = self.authority_certificate()
            raise Exists(
                f"{self.name} holds the authority of cluster {there.cluster} already, good until "
                f"{day(there.not_after)}",
                f"Its fingerprint:  {there.fingerprint}",
                "A new one would shut every machine out. If that is wanted, move the folder away first.",
            )
        if self.path.exists():
            raise Exists(f"{self.name} is there, but holds no authority (ca.pem)", "Move it away first.")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes it meanwhile. Raises Busy, Unknown, OSError."""
        self.must_exist()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        """Takes the lock on what is open there. Raises Busy."""
        until = time.monotonic() + _LOCK_S
        while not _taken(descriptor):
            if time.monotonic() > until:
                raise Busy(f"another command has held {self.name} for {_LOCK_S:g} s", "Try again.")
            time.sleep(_POLL_S)  # flock tells nobody when it is free, and its waiting has no deadline

    def must_exist(self) -> None:
        """Raises Unknown."""
        if not self.exists:
            raise Unknown(
                f"there are no certificates in {self.name}",
                "Make the cluster's authority:  syndicatectl certs init --address HOST",
            )

    # ---- reading ----------------------------------------------------------------------------------------

    def authority_certificate(self) -> Certificate:
        """The authority, without its key. Raises Damaged, OSError."""
        with self._naming("ca.pem"):
            return read(self._authority_pem())

    def authority(self) -> Authority:
        """The authority with its key. Raises KeyLost, Damaged, OSError."""
        try:
            with self._naming("ca.key"):
                key = self._bytes("ca.key")
        except FileNotFoundError:
            raise KeyLost(
                f"the authority's key {self.name / 'ca.key'} is gone: nothing can be signed or renewed",
                "Certificates that were issued are good until they expire:  syndicatectl certs list",
                "Put the key back from its copy. Without one: move the folder away, make another authority",
                "(syndicatectl certs init), and add every machine again.",
            ) from None
        with self._naming("ca.pem"):
            certificate = self._authority_pem()
            read(certificate)  # a damaged one is not to be told as the key
        with self._naming("ca.key"):
            return Authority(certificate, key)

    def manager_pem(self) -> bytes:
        """The manager's key and certificate. Raises Damaged, OSError."""
        with self._naming("manager.pem"):
            return self._bytes("manager.pem")

    def manager(self) -> Certificate:
        """The manager's certificate. Raises Damaged, OSError."""
        with self._naming("manager.pem"):
            return read(self._bytes("manager.pem"))

    def register(self) -> Register:
        """What was issued. Raises Damaged, OSError."""
        with self._naming("register.json"):
            return Register.from_json(self._bytes("register.json"))

    def _authority_pem(self) -> bytes:
        try:
            return self._bytes("ca.pem")
        except FileNotFoundError:
            raise Damaged("it is gone") from None

    def _bytes(self, name: str) -> bytes:
        """A file's, where it is one. Raises Damaged, OSError.

        Operators read what the manager's user has laid here: a pipe would have them wait for ever.
        """
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a socket
                raise Damaged("it is no plain file") from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Damaged("it is no plain file")
            # Not by its size: a file of the kernel's has none, and one may grow meanwhile.
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                found = file.read(_MOST_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(found) > _MOST_BYTES:
            raise Damaged(f"it is larger than {_MOST_BYTES >> 20} MiB")
        return found

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Damaged names the file, and what helps."""
        try:
            yield
        except Damaged as error:
            raise Damaged(f"{self.name / name}: {error}", "Put the file back from a copy.") from None

    # ---- writing ----------------------------------------------------------------------------------------

    def write_register(self, register: Register) -> None:
        """Replace it. Under `locked`."""
        self.write("register.json", register.to_json().encode())

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Replace a file whole, on the disk when it returns. Raises OSError."""
        fresh = self.path / f".{name}.new"
        fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path / name)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
