"""A pytest plugin: a test that leaves the handler of a signal behind has failed.

What it left would take the Ctrl-C or the end that a later test sends to its own process, in whatever file and
for whatever order of the tests: there nobody finds it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def signals_kept() -> Iterator[None]:
    """Of all that the test and its own fixtures do: automatic fixtures are set up before those."""
    before = {number: signal.getsignal(number) for number in _WATCHED}
    yield
    left = {number: handler for number in _WATCHED if (handler := signal.getsignal(number)) != before[number]}
    for number in left:
        signal.signal(number, before[number])
    assert not left, f"handlers of signals stayed behind: {left}"
