"""The source cache, on a real folder."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from syndicate.volunteer.cache import CacheSettings, FetchFailed, SourceCache
from syndicate.volunteer.core.model import Source


def source(data: bytes) -> Source:
    """What names these bytes."""
    return Source(hashlib.sha256(data).hexdigest(), len(data))


def opened(folder: Path, limit: int = 1 << 20, timeout: float = 60.0) -> SourceCache:
    """A cache in this folder."""
    cache = SourceCache(CacheSettings(folder / "cache", folder / "pins", limit, timeout))
    cache.open()
    return cache


class Store:
    """Gives out bytes, fails as told, and counts."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {source(data).sha256: data for data in blobs}
        self.fetches = 0
        self.failures: list[Exception] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, digest: str) -> AsyncIterator[bytes]:
        """One fetch."""
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        data = self.blobs[digest]
        yield data[:3]
        if self.failures:
            raise self.failures.pop(0)
        yield data[3:]


def failure(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    """What a failed call raises."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "as told")


def names(folder: Path) -> set[str]:
    """The files of the cache."""
    return set(os.listdir(folder / "cache"))


async def test_a_source_lies_under_its_digest(tmp_path: Path) -> None:
    """Whole, and for root and the group only."""
    wanted = source(b"hello world")
    cache = opened(tmp_path)

    await cache.ensure(wanted, Store(b"hello world"))

    path = tmp_path / "cache" / wanted.sha256
    assert path.read_bytes() == b"hello world"
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == {wanted.sha256}


async def test_a_source_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    """The second time costs nothing."""
    store, cache = Store(b"hello"), opened(tmp_path)
    await cache.ensure(source(b"hello"), store)

    await cache.ensure(source(b"hello"), store)

    assert store.fetches == 1


async def test_fetches_of_one_source_are_one(tmp_path: Path) -> None:
    """Ten slots that want the same wait for the same fetch."""
    store, cache = Store(b"hello"), opened(tmp_path)

    await asyncio.gather(*(cache.ensure(source(b"hello"), store) for _ in range(10)))

    assert store.fetches == 1


async def test_a_caller_that_gives_up_does_not_end_the_fetch(tmp_path: Path) -> None:
    """Another waits for it."""
    store, cache = Store(b"hello"), opened(tmp_path)
    store.gate = asyncio.Event()
    first = asyncio.create_task(cache.ensure(source(b"hello"), store))
    second = asyncio.create_task(cache.ensure(source(b"hello"), store))
    await asyncio.sleep(0)
    first.cancel()
    store.gate.set()
    await second

    assert cache.holds(source(b"hello"))
    assert store.fetches == 1


async def test_another_digest_is_refused(tmp_path: Path) -> None:
    """What came is not what was wanted; nothing of it stays."""
    wanted = source(b"hello")
    store = Store()
    store.blobs[wanted.sha256] = b"hellO"

    with pytest.raises(FetchFailed, match="another digest"):
        await opened(tmp_path).ensure(wanted, store)
    assert names(tmp_path) == set()


async def test_more_bytes_than_told_are_refused(tmp_path: Path) -> None:
    """Before they fill the disk."""
    wanted = Source(source(b"hello world").sha256, 5)

    with pytest.raises(FetchFailed, match="larger than the 5 bytes"):
        await opened(tmp_path).ensure(wanted, Store(b"hello world"))


async def test_a_fetch_that_breaks_off_is_tried_again(tmp_path: Path) -> None:
    """From the beginning, within the deadline."""
    store, cache = Store(b"hello"), opened(tmp_path)
    store.failures = [failure(grpc.StatusCode.UNAVAILABLE)]

    await cache.ensure(source(b"hello"), store)

    assert store.fetches == 2


async def test_a_source_that_the_manager_lacks_fails_at_once(tmp_path: Path) -> None:
    """Trying again would not help."""
    store, cache = Store(b"hello"), opened(tmp_path)
    store.failures = [failure(grpc.StatusCode.NOT_FOUND)]

    with pytest.raises(FetchFailed, match="as told"):
        await cache.ensure(source(b"hello"), store)
    assert store.fetches == 1


async def test_a_fetch_has_a_deadline(tmp_path: Path) -> None:
    """With all its tries; a failure is not remembered."""
    store, cache = Store(b"hello"), opened(tmp_path, timeout=0.05)
    store.gate = asyncio.Event()
    with pytest.raises(FetchFailed, match=r"not fetched within 0\.05 s"):
        await cache.ensure(source(b"hello"), store)
    store.gate = None
    cache._settings = replace(cache._settings, fetch_timeout_s=60.0)  # a disk may take longer for it

    await cache.ensure(source(b"hello"), store)

    assert cache.holds(source(b"hello"))


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    """The bound is kept."""
    blobs = [bytes([n]) * 100 for n in range(3)]
    store, cache = Store(*blobs), opened(tmp_path, limit=250)
    await cache.ensure(source(blobs[0]), store)
    await cache.ensure(source(blobs[1]), store)
    cache.holds(source(blobs[0]))

    await cache.ensure(source(blobs[2]), store)

    assert names(tmp_path) == {source(blobs[0]).sha256, source(blobs[2]).sha256}


async def test_what_a_slot_needs_is_kept_past_the_bound(tmp_path: Path) -> None:
    """Until the slot lets it go."""
    blobs = [bytes([n]) * 100 for n in range(3)]
    store, cache = Store(*blobs), opened(tmp_path, limit=100)
    for slot in (0, 1):
        cache.pin(slot, source(blobs[slot]).sha256)
        await cache.ensure(source(blobs[slot]), store)
    both = names(tmp_path)

    cache.unpin(0)

    assert both == {source(blobs[0]).sha256, source(blobs[1]).sha256}
    assert names(tmp_path) == {source(blobs[1]).sha256}


async def test_a_restart_keeps_sources_and_pins(tmp_path: Path) -> None:
    """And removes what a broken fetch left."""
    blobs = [b"first", b"second"]
    cache = opened(tmp_path)
    cache.pin(0, source(blobs[0]).sha256)
    for data in blobs:
        await cache.ensure(source(data), Store(*blobs))
    (tmp_path / "cache" / ".fetch-left").touch()

    again, store = opened(tmp_path, limit=1), Store()
    await again.ensure(source(blobs[0]), store)
    again.unpin(7)
    again.pin(1, source(blobs[1]).sha256)
    again.unpin(1)

    assert store.fetches == 0
    assert names(tmp_path) == {source(blobs[0]).sha256}


async def test_a_file_that_was_damaged_meanwhile_is_fetched_again(tmp_path: Path) -> None:
    """What is found at a start is verified before its first use."""
    await opened(tmp_path).ensure(source(b"hello"), Store(b"hello"))
    (tmp_path / "cache" / source(b"hello").sha256).write_bytes(b"hel\0\0")
    again, store = opened(tmp_path), Store(b"hello")

    await again.ensure(source(b"hello"), store)

    assert store.fetches == 1
    assert (tmp_path / "cache" / source(b"hello").sha256).read_bytes() == b"hello"


async def test_closing_ends_fetches(tmp_path: Path) -> None:
    """Nothing runs on."""
    store, cache = Store(b"hello"), opened(tmp_path)
    store.gate = asyncio.Event()
    waiting = asyncio.create_task(cache.ensure(source(b"hello"), store))
    await asyncio.sleep(0)

    await cache.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_gzipped_source_is_expanded_beside_it(tmp_path: Path) -> None:
    """The keeper unpacks from the expanded one; it counts towards the bound and goes with its source."""
    plain = os.urandom(3000)
    packed = gzip.compress(plain)
    wanted, other = source(packed), source(b"x" * 4000)
    cache = opened(tmp_path, limit=8000)

    await cache.ensure(wanted, Store(packed))

    expanded = tmp_path / "cache" / f"{wanted.sha256}.tar"
    assert expanded.read_bytes() == plain
    assert expanded.stat().st_mode & 0o777 == 0o640
    await cache.ensure(other, Store(b"x" * 4000))
    assert names(tmp_path) == {other.sha256}


async def test_a_damaged_source_is_left_as_it_is(tmp_path: Path) -> None:
    """What cannot be expanded is kept for the sandbox to judge."""
    packed = gzip.compress(b"hello" * 1000)[:-9]
    cache = opened(tmp_path)

    await cache.ensure(source(packed), Store(packed))

    assert names(tmp_path) == {source(packed).sha256}


async def test_an_expanded_source_is_made_again_after_a_restart(tmp_path: Path) -> None:
    """One that lies there is not believed: it was not verified."""
    packed = gzip.compress(b"right")
    wanted = source(packed)
    await opened(tmp_path).ensure(wanted, Store(packed))
    expanded = tmp_path / "cache" / f"{wanted.sha256}.tar"
    expanded.write_bytes(b"wrong")

    await opened(tmp_path).ensure(wanted, Store())

    assert expanded.read_bytes() == b"right"
