"""One whole cluster for all attacks, and one that lacks a defence at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.arena import Arena, opened
from tests.attacks.weak import WeakArena

_SLOTS, _WEAK_SLOTS = 6, 5


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A whole cluster, made once: the bystander has two of its slots."""
    with opened(tmp_path_factory.mktemp("arena"), _SLOTS) as whole:
        yield whole


@pytest.fixture(scope="session")
def weak_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeakArena]:
    """A cluster that is started without one defence after the other."""
    with opened(tmp_path_factory.mktemp("weak"), _WEAK_SLOTS) as whole:
        weak = WeakArena(whole)
        try:
            yield weak
        finally:
            weak.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attacks that need one defence gone stand together, whatever the order was: a daemon starts once."""

    def defence(item: pytest.Item) -> str:
        callspec = getattr(item, "callspec", None)
        attack = callspec.params.get("attack") if callspec is not None else None
        if attack is None or "weak_arena" not in getattr(item, "fixturenames", ()):
            return ""
        granted = "granted" in getattr(item, "originalname", "")
        return attack.given if granted else attack.without

    places = [number for number, item in enumerate(items) if defence(item)]
    grouped = sorted((items[number] for number in places), key=defence)
    for number, item in zip(places, grouped, strict=True):
        items[number] = item
