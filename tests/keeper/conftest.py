"""Fixtures of the keeper's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, linked, network_instance


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeeperProcess]:
    """A keeper with two slots for the tests of a module; it must leave nothing."""
    running = KeeperProcess(tmp_path_factory.mktemp("keeper"), network_instance())
    running.start()
    yield running
    status = running.stop()
    assert status == 0, running.errors.read_text()
    assert not running.cgroup.exists()


@pytest.fixture
async def link(keeper: KeeperProcess) -> AsyncIterator[Link]:
    """A connection to the module's keeper with a lease."""
    async with linked(keeper) as connected:
        yield connected


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path, for a keeper of a test's own."""
    return tmp_path_factory.mktemp("k")
