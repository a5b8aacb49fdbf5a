"""Blobs: whole or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import pytest
from syndicate.manager.blobs import BlobDirectory
from syndicate.manager.core.errors import BadRequest, CoreError, Exhausted

DATA = b"some bytes " * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


def good(_file: BinaryIO) -> None:
    """A check that finds nothing wrong."""


@pytest.fixture
def blobs(tmp_path: Path) -> BlobDirectory:
    """An empty directory of blobs of at most 2,000 bytes."""
    return BlobDirectory(tmp_path, max_bytes=2000)


def store(blobs: BlobDirectory, data: bytes = DATA, sha256: str = DIGEST, size: int | None = None) -> None:
    """Upload in pieces of 100 bytes."""
    upload = blobs.begin(sha256, len(data) if size is None else size)
    try:
        for at in range(0, len(data), 100):
            upload.add(data[at : at + 100])
        upload.finish(good)
    finally:
        upload.abandon()


def incoming(tmp_path: Path) -> list[Path]:
    """What is left of uploads."""
    return list((tmp_path / "incoming").iterdir())


def test_a_blob_is_read_back_under_its_digest(blobs: BlobDirectory, tmp_path: Path) -> None:
    """What was uploaded is there whole, in its place, also for the next start."""
    store(blobs)

    again = BlobDirectory(tmp_path)
    with again.open(DIGEST) as file:
        assert file.read() == DATA
    assert again.size(DIGEST) == len(DATA)
    assert (tmp_path / DIGEST[:2] / DIGEST[2:4] / DIGEST).is_file()
    assert incoming(tmp_path) == []


@pytest.mark.parametrize(
    ("upload", "kind", "reason"),
    [
        ({"sha256": "0" * 64}, BadRequest, "DIGEST_MISMATCH"),
        ({"size": len(DATA) - 1}, BadRequest, "DIGEST_MISMATCH"),
        ({"data": b"", "sha256": hashlib.sha256().hexdigest()}, BadRequest, "EMPTY_SOURCE"),
        ({"size": 2001}, Exhausted, "SOURCE_TOO_LARGE"),
        ({"sha256": "../../etc/passwd"}, BadRequest, "BAD_FIELD"),
        ({"sha256": DIGEST.upper()}, BadRequest, "BAD_FIELD"),
        ({"size": -1}, BadRequest, "BAD_FIELD"),
    ],
)
def test_bad_uploads_leave_nothing(
    blobs: BlobDirectory, tmp_path: Path, upload: dict[str, object], kind: type[CoreError], reason: str
) -> None:
    """Each mistake has its reason, and neither a blob nor a piece of one stays."""
    with pytest.raises(kind) as refused:
        store(blobs, **upload)  # type: ignore[arg-type]  # as parametrised

    assert refused.value.reason == reason
    assert incoming(tmp_path) == []
    assert blobs.size(DIGEST) is None


def test_the_bound_is_a_running_total(blobs: BlobDirectory) -> None:
    """The first byte too many is refused when it comes, whatever the header said."""
    upload = blobs.begin(DIGEST, 2000)
    upload.add(b"x" * 2000)

    with pytest.raises(Exhausted):
        upload.add(b"x")
    upload.abandon()


def test_what_fails_its_check_is_not_kept(blobs: BlobDirectory, tmp_path: Path) -> None:
    """A source that the check refuses is forgotten."""

    def bad(_file: BinaryIO) -> None:
        raise BadRequest("NO_MAKEFILE", "none")

    upload = blobs.begin(DIGEST, len(DATA))
    upload.add(DATA)
    with pytest.raises(BadRequest):
        upload.finish(bad)
    upload.abandon()

    assert (blobs.size(DIGEST), incoming(tmp_path)) == (None, [])


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    """Half an upload of an earlier start goes at the next."""
    first = BlobDirectory(tmp_path)
    upload = first.begin(DIGEST, len(DATA))
    upload.add(DATA)

    BlobDirectory(tmp_path)

    assert incoming(tmp_path) == []
    upload.abandon()


def test_names_that_are_no_digest_lead_nowhere(blobs: BlobDirectory) -> None:
    """No name leaves the directory."""
    assert blobs.size("../incoming") is None
    with pytest.raises(FileNotFoundError):
        blobs.open("../../etc/passwd")
