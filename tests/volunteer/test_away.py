"""A manager that is away, or another one: said at once, then once a minute, and tried until it is there."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
import structlog
from syndicate.volunteer.link import LinkEdges, LinkSettings, ManagerLink
from syndicate.volunteer.retelling import MINUTE_S, Retelling
from syndicate.volunteer.settings import Settings
from syndicate.volunteer.way import MutualTls
from volunteer.fakes import bench

from tests.manager.authorities import office, signed
from tests.volunteer.test_way import WAIT_S, put, serving, until

Lines = list[MutableMapping[str, Any]]
SETTINGS = LinkSettings(backoff_first_s=0.02, backoff_most_s=0.05, refused_least_s=0.02, retold_s=0.5)


def test_what_lasts_is_told_once_a_minute() -> None:
    """And at once where it begins, changes, or begins anew; each time with how long it has been so."""
    trouble = Retelling()
    told = [trouble.tell("away", float(now)) for now in range(0, 130, 10)]
    changed = trouble.tell("refused", 131.0)
    trouble.over()

    assert told == [0, *[None] * 5, 60, *[None] * 5, 120]
    assert (MINUTE_S, changed, trouble.tell("refused", 132.0)) == (60.0, 0, 0)


@asynccontextmanager
async def trying(folder: Path, target: str) -> AsyncIterator[tuple[ManagerLink, Lines]]:
    """A link of the machine with the certificate in this folder, and what its log says."""
    edges = LinkEdges(
        lambda event: None, lambda: None, lambda ref, at: None, lambda *_: None, lambda _: None, lambda: None
    )  # type: ignore[arg-type,return-value]  # nothing is measured
    link, stop = ManagerLink(target, MutualTls(folder), SETTINGS, edges, Random(1)), asyncio.Event()
    with structlog.testing.capture_logs() as told:
        running = asyncio.create_task(link.run(stop))
        try:
            yield link, told
            assert not running.done()
        finally:
            stop.set()
            await asyncio.wait({running})


def ends(told: Lines) -> Lines:
    """The lines about a stream that did not come to be."""
    return [line for line in told if line["event"] in ("link.down", "link.refused")]


async def test_a_manager_that_is_away_is_told_now_and_then(tmp_path: Path) -> None:
    """With for how long and after how many tries; between two lines there are many tries."""
    at_work = office(tmp_path / "manager", "127.0.0.1")
    folder = put(tmp_path / "tls", (at_work.folder.path / "ca.pem").read_bytes(), signed(at_work.folder))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        target = f"127.0.0.1:{taken.getsockname()[1]}"

    async with trying(folder, target) as (link, told):
        await until(lambda: len(ends(told)) >= 2 and ends(told)[-1].get("tries", 0) > 4)
        lines, tries = ends(told), link.attempts

    assert {line["status"] for line in lines} == {"UNAVAILABLE"} and "tries" not in lines[0]
    assert len(lines) < lines[-1]["tries"] <= tries  # it went on trying meanwhile


async def test_a_manager_of_another_cluster_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate is of another authority: that is said, also later, and nothing ends."""
    monkeypatch.setattr("syndicate.volunteer.way._PROBE_S", WAIT_S)  # for a handshake, too
    mine, other = office(tmp_path / "mine", "127.0.0.1"), office(tmp_path / "other", "127.0.0.1")
    folder = put(tmp_path / "tls", (mine.folder.path / "ca.pem").read_bytes(), signed(mine.folder))

    async with serving(other) as manager, trying(folder, manager.target) as (_, told):
        await until(lambda: len(ends(told)) >= 2)

    assert {line["event"] for line in ends(told)} == {"link.refused"}
    assert "is not of the authority in ca.pem" in ends(told)[1]["detail"]
    assert manager.attached == []


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "away"])
async def test_a_machine_that_is_not_let_in_tries_on(tmp_path: Path, refused: bool) -> None:
    """Its token is bad or nobody is there: it is told once, and the certificate comes when it can."""
    at_work = office(tmp_path / "manager", "127.0.0.1")
    _, text = at_work.create_token(1, 3600)
    (tmp_path / "join").write_text(text)
    async with serving(at_work, mutual=False) as manager, bench(tmp_path) as world:
        manager.refuse = (
            grpc.StatusCode.PERMISSION_DENIED if refused else grpc.StatusCode.UNAVAILABLE,
            "not now",
        )
        mark = at_work.folder.authority_certificate().fingerprint
        with structlog.testing.capture_logs() as told:
            await world.start(**invited(tmp_path, manager.target, mark))
            await until(lambda: any(line["event"].startswith("join.") for line in told))
            manager.refuse = None
            await until(lambda: (world.folder / "state" / "tls" / "identity.pem").exists())

    said = [line["event"] for line in told if line["event"].startswith("join.")]
    assert said == ["join.refused" if refused else "join.manager_away", "join.done"]


def invited(folder: Path, target: str, fingerprint: str) -> dict[str, Any]:
    """The settings of a machine that asks there for a certificate, by the token in FOLDER/join."""
    said: dict[str, Any] = {"insecure": False, "token_file": None, "join": target}
    return {**said, "join_token_file": folder / "join", "ca_fingerprint": fingerprint}


async def test_a_machine_that_waits_takes_a_certificate_that_is_laid_there(tmp_path: Path) -> None:
    """Its operator added it by hand, or set the clock by which it had ended: it asks no more."""
    at_work = office(tmp_path / "manager", "127.0.0.1")
    (tmp_path / "join").write_text("used.up")
    mark, ca = at_work.folder.authority_certificate().fingerprint, at_work.folder.path / "ca.pem"
    async with (
        serving(at_work, mutual=False) as door,
        serving(at_work) as manager,
        bench(tmp_path) as world,
    ):
        door.refuse = (grpc.StatusCode.PERMISSION_DENIED, "no such token")
        with structlog.testing.capture_logs() as told:
            await world.start(manager=(manager.target,), **invited(tmp_path, door.target, mark))
            await until(lambda: any(line["event"] == "join.refused" for line in told))
            put(world.folder / "state" / "tls", ca.read_bytes(), signed(at_work.folder))
            await until(lambda: manager.attached == ["node-a"])


async def test_a_machine_of_another_cluster_joins_the_one_that_it_was_told(tmp_path: Path) -> None:
    """Its certificate is good and of another authority; it keeps it until it has the new one."""
    before, at_work = office(tmp_path / "before"), office(tmp_path / "manager", "127.0.0.1")
    _, text = at_work.create_token(1, 3600)
    (tmp_path / "join").write_text(text)
    mark, ca = at_work.folder.authority_certificate().fingerprint, before.folder.path / "ca.pem"
    async with (
        serving(at_work, mutual=False) as door,
        serving(at_work) as manager,
        bench(tmp_path) as world,
    ):
        (world.folder / "state").mkdir()
        folder = put(world.folder / "state" / "tls", ca.read_bytes(), signed(before.folder))
        old = (folder / "identity.pem").read_bytes()
        door.refuse = (grpc.StatusCode.UNAVAILABLE, "not now")
        with structlog.testing.capture_logs() as told:
            await world.start(manager=(manager.target,), **invited(tmp_path, door.target, mark))
            await until(lambda: any(line["event"] == "join.manager_away" for line in told))
            kept = (folder / "identity.pem").read_bytes()
            door.refuse = None
            await until(lambda: manager.attached == ["node-a"])

    assert kept == old and (folder / "ca.pem").read_bytes() == (at_work.folder.path / "ca.pem").read_bytes()


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "the join token cannot be read: .*join .No such file"),
        (b"\xff\xfe", "the join token cannot be read: .*join is no text"),
    ],
)
async def test_a_token_that_cannot_be_read_is_told_and_looked_at_again(
    tmp_path: Path, token: bytes | None, says: str
) -> None:
    """In one line; the file may come later, and the volunteer goes on."""
    at_work = office(tmp_path / "manager", "127.0.0.1")
    if token is not None:
        (tmp_path / "join").write_bytes(token)
    mark = at_work.folder.authority_certificate().fingerprint
    async with serving(at_work, mutual=False) as door, bench(tmp_path) as world:
        with structlog.testing.capture_logs() as told:
            await world.start(**invited(tmp_path, door.target, mark))
            await until(lambda: any(line["event"] == "join.refused" for line in told))
        assert world.running
    (line,) = (line for line in told if line["event"] == "join.refused")
    assert re.search(says, line["detail"])


def test_the_settings_of_a_service_say_a_minute() -> None:
    """Nothing sets it otherwise."""
    assert LinkSettings().retold_s == MINUTE_S and "retold_s" not in Settings.model_fields
