"""A cgroup that is removed while it is looked at is as one that was gone before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """An empty one, which the test removes."""
    mount = find_mount()
    assert mount is not None
    made = Cgroup.make(mount / f"syn-vanish-{os.getpid()}")
    yield made
    try:
        assert not made.path.exists()
    finally:
        with suppress(FileNotFoundError):
            made.path.rmdir()


def test_no_process_is_in_one_that_is_removed_as_it_is_read(
    cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an audit looks at a task that ends: its file was opened, and is of no cgroup any more."""

    def read_text(path: Path) -> str:
        with path.open() as file:
            path.parent.rmdir()
            return file.read()

    monkeypatch.setattr(Path, "read_text", read_text)

    assert cgroup.pids() == []


def test_one_that_is_removed_as_it_is_looked_at_is_empty(
    cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not have been removed otherwise."""
    read = os.pread

    def pread(descriptor: int, size: int, at: int) -> bytes:
        cgroup.path.rmdir()
        return read(descriptor, size, at)

    monkeypatch.setattr(os, "pread", pread)

    assert cgroup.is_empty()
