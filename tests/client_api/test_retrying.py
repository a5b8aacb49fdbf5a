"""How long a call and a stream are tried where the first try hangs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from syndicate.client_api import Unreachable
from syndicate.client_api._presence import Presence
from syndicate.client_api._retrying import Retrying

from tests.client_api.pauses import Pauses

CONNECT_FOR = 5.0


class Way:
    """To a manager that some tries do not reach; they hang for six seconds, or for none."""

    def __init__(self, pauses: Pauses, *hangs: float) -> None:
        self.pauses = pauses
        self.tries = 0
        self._hangs = hangs

    def once(self, timeout: float = 30.0) -> str:
        """One call."""
        self.tries += 1
        if self.tries > len(self._hangs):
            return "answer"
        self.pauses.now += self._hangs[self.tries - 1]
        raise AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "connection refused")

    def initial_metadata(self) -> None:
        """Of a stream that is opened."""
        self.once()

    def is_active(self) -> bool:
        """It stands."""
        return True

    def cancel(self) -> None:
        """Nothing is to be let go."""

    def __iter__(self) -> Iterator[str]:
        return iter(["answer"])


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def retrying(pauses: Pauses, monkeypatch: pytest.MonkeyPatch) -> Retrying:
    made = Retrying("a:1", CONNECT_FOR, 60.0, 30.0, Presence(None))
    pauses.of(made, monkeypatch)
    return made


def call(retrying: Retrying, way: Way) -> Any:
    return retrying.call(way.once, 30.0)


def stream(retrying: Retrying, way: Way) -> Any:
    (answer,) = filter(None, retrying.stream(lambda: way, until_end=True))
    return answer


@pytest.mark.parametrize("ask", [call, stream])
def test_a_first_try_that_hung_is_not_the_only_one(
    retrying: Retrying, pauses: Pauses, ask: Callable[[Retrying, Way], Any]
) -> None:
    """As where this machine stood still while it connected: others have their time, too."""
    way = Way(pauses, 6.0, 0.0, 0.0)
    assert ask(retrying, way) == "answer"
    assert way.tries == 4


@pytest.mark.parametrize("ask", [call, stream])
@pytest.mark.parametrize(("hangs", "most"), [(6.0, 9.0), (0.0, CONNECT_FOR + 0.1)])
def test_a_manager_that_is_away_is_told_all_the_same(
    retrying: Retrying, pauses: Pauses, ask: Callable[[Retrying, Way], Any], hangs: float, most: float
) -> None:
    """After the time that was said, or half as long again."""
    way = Way(pauses, hangs, *([0.0] * 1000))
    with pytest.raises(Unreachable):
        ask(retrying, way)
    assert CONNECT_FOR <= pauses.now <= most
    assert 3 < way.tries < 1000
