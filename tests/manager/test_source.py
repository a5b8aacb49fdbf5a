"""The check of an uploaded source: what is told at once, and what passes."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest
from syndicate.manager.blobs import check_source
from syndicate.manager.core.errors import CoreError


def tar(*names: str, form: int = tarfile.PAX_FORMAT, size: int = 700) -> bytes:
    """A tar of files; a name that ends in a slash is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = size
                archive.addfile(entry, io.BytesIO(b"x" * size))
    return buffer.getvalue()


GOOD = tar("Makefile", "src/a.c")
LONG = "d/" + "l" * 300


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        gzip.compress(GOOD),
        gzip.compress(GOOD[:1000]) + gzip.compress(GOOD[1000:]),
        gzip.compress(GOOD) + b"\0" * 512,
        b"\x28\xb5\x2f\xfd anything: only the magic is known here",
        tar("./", "./Makefile"),
        tar("lab/", "lab/Makefile", "lab/src/main.py"),
        tar("GNUmakefile"),
        tar("makefile"),
        tar("Makefile", LONG),
        tar("Makefile", LONG, form=tarfile.GNU_FORMAT),
    ],
)
def test_good_sources_pass(data: bytes) -> None:
    """Plain, gzip and zstd; a Makefile at the top or in the only folder."""
    check_source(io.BytesIO(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "EMPTY_SOURCE"),
        (tar(), "EMPTY_SOURCE"),
        (b"\0" * 10_240, "EMPTY_SOURCE"),
        (b"#!/bin/sh\necho hello\n" * 100, "NOT_A_TAR"),
        (b"hi", "NOT_A_TAR"),
        (gzip.compress(b"hello" * 1000), "NOT_A_TAR"),
        (gzip.compress(b""), "NOT_A_TAR"),
        (b"PK\x03\x04" + b"\0" * 2000, "NOT_A_TAR"),
        (gzip.compress(GOOD)[:-10], "TRUNCATED_SOURCE"),
        (gzip.compress(GOOD)[:-4] + b"zzzz", "TRUNCATED_SOURCE"),
        (gzip.compress(GOOD)[:40] + b"zz" + gzip.compress(GOOD)[42:], "TRUNCATED_SOURCE"),
        (GOOD[:600], "TRUNCATED_SOURCE"),
        (GOOD[:1536], "TRUNCATED_SOURCE"),
        (tar("Makefile", LONG)[: 1536 + 612], "TRUNCATED_SOURCE"),
        (GOOD[:1536] + b"junk" * 512, "TRUNCATED_SOURCE"),
        (tar("a.c", "b/Makefile"), "NO_MAKEFILE"),
        (tar("x/Makefile", "y/Makefile"), "NO_MAKEFILE"),
        (tar("x/y/Makefile"), "NO_MAKEFILE"),
        (tar("Makefile/", "Makefile/x"), "NO_MAKEFILE"),
    ],
)
def test_bad_sources_are_told_apart(data: bytes, reason: str) -> None:
    """Each common mistake has its own reason."""
    with pytest.raises(CoreError) as refused:
        check_source(io.BytesIO(data))

    assert refused.value.reason == reason


def test_a_bomb_is_stopped_while_it_expands() -> None:
    """A small file that expands without end costs no more than the bound."""
    bomb = gzip.compress(tar("Makefile", size=3 << 20))

    with pytest.raises(CoreError) as refused:
        check_source(io.BytesIO(bomb), max_expanded_bytes=1 << 20)

    assert refused.value.reason == "SOURCE_TOO_LARGE"


def test_the_number_of_entries_is_bounded() -> None:
    """More files than the bound are refused."""
    with pytest.raises(CoreError) as refused:
        check_source(io.BytesIO(tar("Makefile", "b", "c")), max_entries=2)

    assert refused.value.reason == "SOURCE_TOO_LARGE"


def extended(kind: bytes, size: int, count: int = 1) -> bytes:
    """A tar whose first entry is described by extension headers of so many bytes each."""
    buffer = io.BytesIO()
    for _ in range(count):
        header = tarfile.TarInfo("././@LongLink")
        header.type, header.size = kind, size
        buffer.write(header.tobuf(tarfile.GNU_FORMAT) + b"x" * size + b"\0" * (-size % 512))
    return buffer.getvalue() + GOOD


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (extended(tarfile.GNUTYPE_LONGNAME, 1 << 20), "SOURCE_TOO_LARGE"),
        (extended(tarfile.XHDTYPE, 1 << 20), "SOURCE_TOO_LARGE"),
        (extended(tarfile.GNUTYPE_LONGLINK, 10, 5000), "NOT_A_TAR"),
        (extended(tarfile.GNUTYPE_SPARSE, 0), "NOT_A_TAR"),
    ],
)
def test_extensions_that_cost_the_manager_are_refused(data: bytes, reason: str) -> None:
    """tarfile reads them whole, one after the other by recursion: neither goes past a bound."""
    with pytest.raises(CoreError) as refused:
        check_source(io.BytesIO(data))

    assert refused.value.reason == reason
