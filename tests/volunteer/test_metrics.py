"""What a volunteer that runs tells Prometheus: scraped over HTTP, read with the OpenMetrics parser."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from syndicate.v1 import registry_pb2 as pb
from volunteer.fakes import Bench, bench, eventually

from tests.support.metrics import families, offences, scrape, value


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bench]:
    """Keeper and manager stand, the volunteer serves metrics."""
    async with bench(tmp_path) as made:
        await made.start(metrics_listen="127.0.0.1:0")
        await made.manager.attached()
        yield made


async def seen(world: Bench) -> dict[str, Any]:
    """All its metrics, by name."""
    assert world.app is not None
    text, _ = await asyncio.to_thread(scrape, world.app.metrics_address)
    return families(text)


async def until_keeper_is(world: Bench, wanted: int) -> None:
    """Scrapes until the metrics say so."""
    async with asyncio.timeout(60):
        for _ in itertools.count():
            if value(await seen(world), "syndicate_volunteer_keeper_up") == wanted:
                return


async def test_a_task_is_in_the_metrics(world: Bench) -> None:
    """Slots by state, the source in the cache, keeper and manager up, the lease running."""
    await world.manager.bring_up()
    found = await seen(world)

    target = world.manager.target
    assert value(found, "syndicate_volunteer_slots", state="running") == 1
    assert value(found, "syndicate_volunteer_slots", state="free") == 1
    assert value(found, "syndicate_volunteer_cache_bytes") == len(b"a tarball")
    assert value(found, "syndicate_volunteer_keeper_up") == 1
    assert value(found, "syndicate_volunteer_manager_up", manager=target) == 1
    assert value(found, "syndicate_volunteer_lease_left_seconds", manager=target) > 0
    assert value(found, "syndicate_volunteer_manager_reconnects_total", manager=target) == 0


async def test_reconnects_are_counted(world: Bench) -> None:
    """One for each stream that was welcomed after the first."""
    world.manager.streams[-1].end()
    await world.manager.attached(2)
    found = await seen(world)

    target = world.manager.target
    assert value(found, "syndicate_volunteer_manager_reconnects_total", manager=target) == 1
    assert value(found, "syndicate_volunteer_manager_attempts_total", manager=target) >= 2


async def test_a_keeper_that_is_gone_is_down(world: Bench) -> None:
    """Until it is back."""
    await world.keeper.close()

    await until_keeper_is(world, 0)
    await world.keeper.open()
    await until_keeper_is(world, 1)

    assert value(await seen(world), "syndicate_volunteer_keeper_connections_total") == 2


async def test_names_labels_and_texts_keep_to_the_conventions(world: Bench) -> None:
    """All of them."""
    await world.manager.bring_up()
    await world.manager.ask(release=pb.Release())
    found = await seen(world)

    assert len(found) > 15
    assert offences(found.values()) == []


async def test_a_volunteer_that_ends_serves_nobody(world: Bench) -> None:
    """The port is free again."""
    assert world.app is not None
    address = world.app.metrics_address
    await world.stop()

    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_nothing_is_served_unless_it_is_asked_for(tmp_path: Path) -> None:
    """The default."""
    async with bench(tmp_path) as made:
        await made.start()
        await made.manager.attached()
        await eventually(lambda: made.app is not None)
        assert made.app is not None and made.app.metrics_address == ""
