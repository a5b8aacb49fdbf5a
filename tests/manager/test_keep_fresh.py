"""A manager that runs for long: its own certificate is renewed, and what runs out is warned of."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from syndicate.manager.pki import Certificate, Folder, Office, Register, day, renewal_due
from syndicate.manager.pki import read as certificate_of
from syndicate.manager.transport import Transport

from tests.manager.authorities import DAY, office, signed
from tests.manager.scripted import WAIT_S


class Hours:
    """Stands in for the pause between two looks: a test says when an hour is over."""

    def __init__(self) -> None:
        self.paused = asyncio.Event()
        self._over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        """Waits for the test."""
        assert seconds == 3600
        self.paused.set()
        await self._over.wait()
        self._over.clear()

    async def looked(self) -> None:
        """Until the look that is under way is done."""
        async with asyncio.timeout(WAIT_S):
            await self.paused.wait()

    async def another(self) -> None:
        """An hour is over, and what comes of it is done."""
        await self.looked()
        self.paused.clear()
        self._over.set()
        await self.looked()


@asynccontextmanager
async def kept(folder: Folder) -> AsyncIterator[tuple[Transport, Hours]]:
    """Certificates that are kept fresh, after the first look."""
    with ThreadPoolExecutor(2) as files:
        transport, hours = Transport(folder, files), Hours()
        keeping = asyncio.create_task(transport.keep_fresh(hours))
        await hours.looked()
        try:
            yield transport, hours
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping


def told(lines: list[Any], event: str) -> list[dict[str, Any]]:
    """The log's lines of one kind."""
    return [line for line in lines if line["event"] == event]


async def test_what_runs_out_within_two_weeks_is_warned_of_once(tmp_path: Path) -> None:
    """By name and day; a volunteer that has renewed is no matter, and is warned of again in its time."""
    at_work = office(tmp_path / "state")
    soon = certificate_of(
        signed(at_work.folder, uri="syndicate://c-test/volunteer/node-a", end=5 * DAY).certificate
    )
    signed(at_work.folder, uri="syndicate://c-test/volunteer/node-b", end=15 * DAY)
    with capture_logs() as lines:
        async with kept(at_work.folder) as (transport, hours):
            await hours.another()
            (line,) = told(lines, "certificate.expires")
            assert line["log_level"] == "warning"
            assert (line["name"], line["expires"]) == (
                "node-a",
                day(soon.not_after),
            )
            at_work.renew("node-a", ())
            await transport.reload()
            await hours.another()
            at_work.revoke("node-a")
            signed(at_work.folder, uri="syndicate://c-test/volunteer/node-a", end=5 * DAY)
            await transport.reload()
            await hours.another()
    assert [line["name"] for line in told(lines, "certificate.expires")] == ["node-a", "node-a"]


async def test_the_managers_own_certificate_is_renewed_in_its_last_third(tmp_path: Path) -> None:
    """While it runs, without anybody's word."""
    folder = Folder(tmp_path / "tls")
    Office(folder, lambda: int(time.time()) - 300 * DAY).init("c-test", ("mgr.lan",))
    assert renewal_due(folder.manager(), int(time.time()))
    before = folder.manager()
    with capture_logs() as lines:
        async with kept(folder):
            after = folder.manager()
    assert after.serial != before.serial and not renewal_due(after, int(time.time()))
    assert "mgr.lan" in after.addresses
    assert [line["name"] for line in told(lines, "certificate.renewed")] == ["manager"]


async def test_a_lost_key_is_told_while_there_is_time(tmp_path: Path) -> None:
    """An error in the log each hour, with the file; what runs goes on."""
    at_work = office(tmp_path / "state")
    (at_work.folder.path / "ca.key").unlink()
    with capture_logs() as lines:
        async with kept(at_work.folder) as (_, hours):
            await hours.another()
    trouble = told(lines, "certificates.trouble")
    assert [line["log_level"] for line in trouble] == ["error", "error"]
    assert "ca.key is gone: nothing can be signed or renewed" in trouble[0]["detail"]


async def test_a_register_that_was_read_earlier_is_not_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was revoked while another certificate was being signed stays revoked."""
    at_work = office(tmp_path / "state")
    one = at_work.add("node-a", ()).certificate
    read, go_on, armed = threading.Event(), threading.Event(), threading.Event()
    register_of = Folder.register

    def slow(folder: Folder) -> Register:
        found = register_of(folder)
        if armed.is_set():
            armed.clear()
            read.set()
            go_on.wait(WAIT_S)
        return found

    def work() -> Certificate:
        made = at_work.renew("node-b", ()).certificate
        armed.set()
        return made

    async with kept(at_work.folder) as (transport, _):
        monkeypatch.setattr(Folder, "register", slow)
        signing = transport.sign(work)
        await asyncio.to_thread(read.wait, WAIT_S)
        at_work.revoke("node-a")
        reloading = asyncio.create_task(transport.reload())
        await asyncio.sleep(0.1)  # as long as a reload takes that does not wait
        go_on.set()
        await asyncio.gather(reloading, signing)
        line = transport.peers.register.find(one.serial)
    assert line is not None and line.revoked_at
