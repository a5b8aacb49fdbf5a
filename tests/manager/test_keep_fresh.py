"""A manager that runs for long: its own certificate is renewed, and what runs out is warned of."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from syndicate.manager.control import Control, tell_manager
from syndicate.manager.pki import (
    Certificate,
    Damaged,
    Folder,
    HalfRead,
    Office,
    Register,
    day,
    renewal_due,
)
from syndicate.manager.pki import read as certificate_of
from syndicate.manager.transport import Transport

from tests.manager.authorities import DAY, of_bundle, office, signed
from tests.manager.certified import Place
from tests.manager.conftest import Start
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


async def test_a_certificate_made_by_a_clock_that_was_ahead_is_replaced(tmp_path: Path) -> None:
    """Nobody would talk to the manager until then, else."""
    at_work = office(tmp_path / "state")
    Office(at_work.folder, lambda: int(time.time()) + 400 * DAY).renew_manager()
    async with kept(at_work.folder):
        assert at_work.folder.manager().not_before < time.time()


@pytest.mark.parametrize("damage", [b"", b"no certificate", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["manager.pem", "register.json"])
async def test_a_damaged_file_is_told_and_ends_nothing(tmp_path: Path, name: str, damage: bytes) -> None:
    """The manager goes on with what it read before."""
    at_work = office(tmp_path / "state")
    with capture_logs() as lines:
        async with kept(at_work.folder) as (transport, hours):
            Office(at_work.folder, by="ann").create_token(1, 3600)
            transport._on_deeds = lambda deeds: asyncio.sleep(0, True)
            (at_work.folder.path / name).write_bytes(damage)
            await hours.another()
            await hours.another()
    trouble = told(lines, "certificates.trouble")
    assert [line["log_level"] for line in trouble] == ["error", "error"]


@pytest.mark.parametrize("damage", [b"nothing", None])
@pytest.mark.parametrize("name", ["manager.pem", "ca.pem"])
async def test_who_was_revoked_is_cut_off_whatever_else_is_damaged(
    tmp_path: Path, name: str, damage: bytes | None
) -> None:
    """Or gone. The command is told of the damage all the same."""
    at_work, ended = office(tmp_path / "state"), list[Any]()
    certificate = at_work.add("node-a", ()).certificate
    async with kept(at_work.folder) as (transport, _):
        with transport.peers.attached(certificate, ended.append):
            (at_work.folder.path / name).unlink()
            if damage is not None:
                (at_work.folder.path / name).write_bytes(damage)
            at_work.revoke("node-a")
            with pytest.raises(HalfRead, match=rf"/tls/{name}") as caught:
                await transport.reload()
        line = transport.peers.register.find(certificate.serial)
    assert line is not None and line.revoked_at
    assert caught.value.cut == ["node-a"] and [error.reason for error in ended] == ["CERTIFICATE_REVOKED"]


async def test_of_a_register_beside_another_authority_what_is_revoked_is_taken_alone(tmp_path: Path) -> None:
    """Only ca.pem was replaced, by mistake: nobody is let in by what was added, or shut out by what lacks."""
    at_work, other = office(tmp_path / "state"), office(tmp_path / "other")
    gone, stays = (at_work.add(name, ()).certificate for name in ("node-a", "node-b"))
    async with kept(at_work.folder) as (transport, _):
        added = at_work.add("node-c", ()).certificate
        at_work.revoke("node-a")
        with at_work.folder.locked():
            register = at_work.folder.register()
            kept_lines = tuple(one for one in register.issued if one.serial != stays.serial)
            at_work.folder.write_register(replace(register, issued=kept_lines))
        (at_work.folder.path / "ca.pem").write_bytes((other.folder.path / "ca.pem").read_bytes())
        with pytest.raises(HalfRead, match="was replaced"):
            await transport.reload()
        found = [transport.peers.register.find(one.serial) for one in (gone, stays, added)]
    assert [line and bool(line.revoked_at) for line in found] == [True, False, None]


async def test_of_a_register_that_has_nothing_of_ours_nothing_is_said_to_be_taken(tmp_path: Path) -> None:
    """The folder was replaced whole: whoever is revoked there is attached here by another certificate."""
    at_work, other = office(tmp_path / "state"), office(tmp_path / "other")
    for each in (at_work, other):
        each.add("node-a", ())
    other.revoke("node-a")
    async with kept(at_work.folder) as (transport, _):
        for name in ("ca.pem", "register.json"):
            (at_work.folder.path / name).write_bytes((other.folder.path / name).read_bytes())
        with pytest.raises(Damaged, match="was replaced") as caught:
            await transport.reload()
    assert not isinstance(caught.value, HalfRead)


async def test_what_is_revoked_while_a_manager_starts_is_known_when_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    """It has read the register by then, and nobody could tell it of another one before it serves."""
    at_work = office(tmp_path / "state")
    pair = of_bundle(at_work.add("node-a", ()).identity)
    begin = Control.start

    async def late(control: Control) -> None:
        at_work.revoke("node-a")
        assert tell_manager(at_work.folder.path) is None
        await begin(control)

    monkeypatch.setattr(Control, "start", late)
    async with start(state_dir=tmp_path / "state", insecure=False) as manager:
        place = Place(manager, at_work)
        volunteer = place.volunteer("node-a", pair)
        async with volunteer.attached(), asyncio.timeout(WAIT_S):
            error = await volunteer.ended
    assert error is not None and "was revoked on" in (error.details() or "")


async def test_an_authority_that_was_made_anew_beneath_is_not_taken_by_halves(tmp_path: Path) -> None:
    """Until it is started again the manager is of the old one: it signs nothing, and cuts nobody off."""
    at_work = office(tmp_path / "state")
    serial, ended = at_work.add("node-a", ()).certificate, list[Any]()
    deeds = list[Any]()

    async def on_deeds(told: Any) -> bool:
        deeds.extend(told)
        return True

    with capture_logs() as lines, ThreadPoolExecutor(2) as files:
        transport, hours = Transport(at_work.folder, files, on_deeds), Hours()
        keeping = asyncio.create_task(transport.keep_fresh(hours))
        await hours.looked()
        before = transport.peers.register
        with transport.peers.attached(serial, ended.append):
            at_work.folder.path.rename(tmp_path / "moved")
            Office(at_work.folder, by="ann").init("c-other", ())
            await hours.another()
            with pytest.raises(Damaged, match="was replaced; restart the manager"):
                await transport.reload()
            with pytest.raises(Damaged, match="was replaced"):
                await transport.sign(lambda: at_work.add("node-b", ()).certificate)
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
    assert transport.peers.register == before and not ended and not deeds
    assert at_work.folder.register().live("node-b", 0) == []
    assert ["replaced" in line["detail"] for line in told(lines, "certificates.trouble")] == [True]


async def test_an_authority_that_is_made_anew_while_it_is_read_is_not_taken_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is replaced behind any look at it, and before the register is read."""
    at_work = office(tmp_path / "state")
    certificate, ended = at_work.add("node-a", ()).certificate, list[Any]()
    register = Folder.register

    def late(folder: Folder) -> Register:
        folder.path.rename(tmp_path / "moved")
        monkeypatch.undo()
        Office(at_work.folder).init("c-other", ())
        return register(folder)

    with ThreadPoolExecutor(2) as files:
        transport = Transport(at_work.folder, files)
        with transport.peers.attached(certificate, ended.append):
            monkeypatch.setattr(Folder, "register", late)
            with pytest.raises(Damaged, match="was replaced"):
                await transport.reload()
    assert not ended and transport.peers.register.find(certificate.serial) is not None
