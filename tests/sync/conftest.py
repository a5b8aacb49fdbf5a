"""A server for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sync.daemon import Daemon, daemon


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    """The module's server; its members have names."""
    with daemon("--member", "127.0.0.2=slave-0", "--member", "127.0.0.3=slave-1") as made:
        yield made


@pytest.fixture
def server(running: Daemon) -> Iterator[Daemon]:
    """The module's server without a barrier, before and after."""
    assert running.listed() == []
    yield running
    running.ask("drop")
    assert running.listed() == []
