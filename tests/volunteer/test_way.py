"""The volunteer's certificate: read, shown, got by a token, renewed, and what is said where that fails."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from syndicate.manager.pki import Office, read
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc
from syndicate.volunteer import enrol, identity, joining, renewal
from syndicate.volunteer.clock import Clock
from syndicate.volunteer.link import LinkEdges, LinkSettings, ManagerLink
from syndicate.volunteer.way import MutualTls, NoWay

from tests.manager.authorities import DAY, Pair, office, signed, stranger

WAIT_S = 60.0
WELCOME = pb.Welcome(
    session="s",
    cluster_id="c1",
    epoch=1,
    prefix="10.77.0.0/24",
    heartbeat_interval_s=5,
    orphan_after_s=30,
)


async def until(condition: Callable[[], bool]) -> None:
    """For facts that tell nobody."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def put(folder: Path, ca: bytes, pair: Pair) -> Path:
    """Files as `certs add` leaves them."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(ca)
    (folder / "identity.pem").write_bytes(pair.key + pair.certificate)
    return folder


@dataclass
class Manager(registry_pb2_grpc.RegistryServicer):
    """Accepts every stream, and signs."""

    office: Office
    target: str = ""
    attached: list[str] = field(default_factory=list)
    renewed: int = 0
    refuse: tuple[grpc.StatusCode, str] | None = None
    lifetime_s: int = 90 * DAY
    busy: asyncio.Event | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def Attach(self, request_iterator: Any, context: Any) -> None:
        """Welcomes, and holds the stream."""
        await context.read()
        self.attached.append(who(context))
        await context.write(pb.AttachResponse(welcome=WELCOME))
        await self.held.wait()

    async def Join(self, request: Any, context: Any) -> pb.JoinResponse:
        """By the office, or as told."""
        if self.refuse is not None:
            await context.abort(*self.refuse)
        made = self.office.join(request.token, request.volunteer_id, request.signing_request.encode())
        return pb.JoinResponse(certificate=made.pem.decode(), authority=self.authority())

    async def Renew(self, request: Any, context: Any) -> pb.RenewResponse:
        """By the office, or as told."""
        self.renewed += 1
        if self.refuse is not None:
            await context.abort(*self.refuse)
        if self.busy is not None:
            await self.busy.wait()
        holder = read(context.auth_context()["x509_pem_cert"][0])
        made = self.office.sign_again(holder, request.signing_request.encode(), self.lifetime_s)
        return pb.RenewResponse(certificate=made.pem.decode(), authority=self.authority())

    def authority(self) -> str:
        """As PEM."""
        return (self.office.folder.path / "ca.pem").read_text()


def who(context: Any) -> str:
    """The name in the caller's certificate."""
    uris = context.auth_context().get("peer_uri") or [b""]
    return str(next(iter(uris)).decode().rpartition("/")[2])


@asynccontextmanager
async def serving(
    at_work: Office, *, mutual: bool = True, shown: Pair | None = None
) -> AsyncIterator[Manager]:
    """A manager that shows its certificate, or another one."""
    pem = at_work.folder.manager_pem()
    ca = (at_work.folder.path / "ca.pem").read_bytes()
    at = pem.index(b"-----BEGIN CERTIFICATE")
    pair = shown or Pair(pem[at:], pem[:at])
    credentials = grpc.ssl_server_credentials(
        [(pair.key, pair.certificate + ca)], ca if mutual else None, mutual
    )
    server = grpc.aio.server()
    manager = Manager(at_work)
    add: Any = registry_pb2_grpc.add_RegistryServicer_to_server
    add(manager, server)
    manager.target = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    try:
        yield manager
    finally:
        manager.held.set()
        await server.stop(0)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake by hand may take as long as anything here."""
    monkeypatch.setattr("syndicate.volunteer.way._PROBE_S", WAIT_S)


@pytest.fixture
def at_work(tmp_path: Path) -> Office:
    """An authority."""
    return office(tmp_path / "state")


def ca_of(at_work: Office) -> bytes:
    """Its certificate."""
    return (at_work.folder.path / "ca.pem").read_bytes()


# ---- what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "says"),
    [
        (-DAY, -3 * 3600, "the certificate expired 3 h ago"),
        (3 * 3600, DAY, "begins in 3 h: this machine's clock is at least so much behind"),
    ],
)
def test_a_certificate_out_of_its_time_is_told_with_the_offset(
    tmp_path: Path, at_work: Office, begin: int, end: int, says: str
) -> None:
    """Before anything is connected."""
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), signed(at_work.folder, begin=begin, end=end)))
    with pytest.raises(NoWay, match=says):
        way.metadata()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "identity.pem").unlink(), "identity.pem is missing"),
        (lambda folder: (folder / "ca.pem").unlink(), "ca.pem is missing"),
        (
            lambda folder: (folder / "identity.pem").write_text("junk"),
            "is no key with a volunteer",
        ),
        (lambda folder: (folder / "ca.pem").write_text("junk"), "is no key with a volunteer"),
    ],
)
def test_files_that_cannot_be_used_are_told(
    tmp_path: Path, at_work: Office, spoil: Callable[[Path], object], says: str
) -> None:
    """One line each, and no part of a key in it."""
    folder = put(tmp_path / "tls", ca_of(at_work), signed(at_work.folder))
    spoil(folder)
    with pytest.raises(NoWay, match=says) as caught:
        MutualTls(folder).metadata()
    assert "\n" not in str(caught.value) and "PRIVATE" not in str(caught.value)


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path, at_work: Office) -> None:
    """Root looks into this folder too, where the volunteer's user lays what it likes."""
    folder = put(tmp_path / "tls", ca_of(at_work), signed(at_work.folder))
    for name in ("identity.pem", "ca.pem"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(NoWay, match=f"{name} is no plain file"):
            MutualTls(folder).metadata()
        (folder / name).unlink()
        (folder / name).write_text("junk")


def test_an_encrypted_key_is_not_asked_for(tmp_path: Path, at_work: Office) -> None:
    """Nobody sits at a terminal."""
    pair = signed(at_work.folder)
    key = load_pem_private_key(pair.key, None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    folder = put(tmp_path / "tls", ca_of(at_work), Pair(pair.certificate, locked))
    reads = (
        "import sys, pathlib; from syndicate.volunteer.identity import load; load(pathlib.Path(sys.argv[1]))"
    )
    command = ["script", "-qec", f"{sys.executable} -c '{reads}' {folder}", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    assert "BadIdentity" in done.stdout and "pass phrase" not in done.stdout


def test_a_key_of_another_certificate_is_told(tmp_path: Path, at_work: Office) -> None:
    """As after half of a copy."""
    one, other = signed(at_work.folder), signed(at_work.folder)
    folder = put(tmp_path / "tls", ca_of(at_work), Pair(one.certificate, other.key))
    with pytest.raises(NoWay, match="the key is that of another certificate"):
        MutualTls(folder).metadata()


@pytest.mark.parametrize(
    ("server", "mine", "says"),
    [
        (
            {"begin": -2 * DAY, "end": -DAY},
            {},
            "has expired.*it ended 24 h ago: it has, or the clock",
        ),
        ({"begin": 7200}, {}, "not yet valid.*this machine's clock is at least 1?[0-9]+ (min|h) behind"),
        ({"addresses": ["10.0.0.5"]}, {}, "IP address mismatch"),
        (
            {},
            {"stranger": True},
            "hangs up at this certificate: its own authority is not",
        ),
    ],
)
async def test_why_there_is_no_connection(
    tmp_path: Path, at_work: Office, server: dict[str, Any], mine: dict[str, Any], says: str
) -> None:
    """gRPC says `Socket closed`, or less; a handshake by hand tells more."""
    usage = {"usage": ExtendedKeyUsageOID.SERVER_AUTH, "uri": "syndicate://c-test/manager", "register": False}
    shown = signed(at_work.folder, **{"addresses": ["127.0.0.1"], **usage, **server})
    pair = stranger() if mine else signed(at_work.folder)
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), pair))
    way.metadata()
    async with serving(at_work, shown=shown) as manager:
        why = await way.why(manager.target)
    assert re.search(says, why), why


async def test_another_clusters_manager_is_told(tmp_path: Path, at_work: Office) -> None:
    """Its certificate is good, and of an authority that is not ours."""
    other = office(tmp_path / "other")
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), signed(at_work.folder)))
    way.metadata()
    async with serving(other) as manager:
        assert "is not of the authority in ca.pem" in await way.why(manager.target)


# ---- joining ---------------------------------------------------------------------------------------------


def invitation(folder: Path, manager: Manager, token: str, fingerprint: str) -> enrol.Invitation:
    """With the token in a file."""
    (folder / "token").write_text(token + "\n")
    return enrol.Invitation(manager.target, folder / "token", fingerprint)


async def test_a_machine_joins_with_token_and_fingerprint(tmp_path: Path, at_work: Office) -> None:
    """Key and certificate are its own alone, 0600, and the key was made here."""
    _, text = at_work.create_token(1, 3600)
    async with serving(at_work, mutual=False) as manager:
        wish = invitation(tmp_path, manager, text, at_work.folder.authority_certificate().fingerprint)
        made = await enrol.join(wish, "node-j", tmp_path / "tls", Clock())
    assert (made.volunteer_id, made.cluster) == ("node-j", "c-test")
    assert identity.load(tmp_path / "tls") == made
    assert stat.S_IMODE((tmp_path / "tls" / "identity.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


async def test_a_manager_of_another_fingerprint_is_told_nothing(tmp_path: Path, at_work: Office) -> None:
    """The token does not go out."""
    other = office(tmp_path / "other")
    _, text = at_work.create_token(1, 3600)
    async with serving(other, mutual=False) as manager:
        wish = invitation(tmp_path, manager, text, at_work.folder.authority_certificate().fingerprint)
        with pytest.raises(enrol.JoinRefused, match="shows no authority of the fingerprint"):
            await enrol.join(wish, "node-j", tmp_path / "tls", Clock())
    assert not (tmp_path / "tls").exists()


async def test_who_shows_the_authority_without_its_key_is_told_nothing(
    tmp_path: Path, at_work: Office
) -> None:
    """The fingerprint alone proves nothing: the connection that carries the token is checked by it."""
    name = "syndicate://c-test/manager"
    _, text = at_work.create_token(1, 3600)
    async with serving(at_work, mutual=False, shown=stranger(name)) as manager:
        wish = invitation(tmp_path, manager, text, at_work.folder.authority_certificate().fingerprint)
        with pytest.raises((enrol.JoinRefused, enrol.ManagerAway)):
            await enrol.join(wish, "node-j", tmp_path / "tls", Clock())
    assert at_work.folder.register().tokens[0].used_by == ()


async def test_a_refusal_and_an_absence_are_told_apart(tmp_path: Path, at_work: Office) -> None:
    """One ends the volunteer, the other is tried again."""
    fingerprint = at_work.folder.authority_certificate().fingerprint
    async with serving(at_work, mutual=False) as manager:
        manager.refuse = (grpc.StatusCode.PERMISSION_DENIED, "no such join token")
        wish = invitation(tmp_path, manager, "x.y", fingerprint)
        with pytest.raises(enrol.JoinRefused, match="no such join token"):
            await enrol.join(wish, "node-j", tmp_path / "tls", Clock())
    with pytest.raises(enrol.ManagerAway, match="connection refused"):
        await enrol.join(wish, "node-j", tmp_path / "tls", Clock())


@pytest.mark.parametrize("after", range(1, 6))
async def test_a_machine_that_crashes_while_it_moves_to_another_cluster_joins_again(
    tmp_path: Path, at_work: Office, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whichever file was replaced last: it has all of its new certificate, or asks for another one."""
    other = office(tmp_path / "other")
    folder = put(tmp_path / "tls", ca_of(other), signed(other.folder))
    fingerprint = at_work.folder.authority_certificate().fingerprint
    made = at_work.add("node-a", ())
    key, at = identity.new_request("node-a"), made.identity.index(b"-----BEGIN CERTIFICATE-----")
    request = identity.Request(made.identity[:at].decode(), key.csr)
    replaced = 0
    replace = os.replace

    def crash(one: Path, to: Path) -> None:
        nonlocal replaced
        replaced += 1
        if replaced == after:
            raise KeyboardInterrupt
        replace(one, to)

    monkeypatch.setattr(os, "replace", crash)
    with suppress(KeyboardInterrupt):
        identity.save(folder, request, made.identity[at:].decode(), made.ca.decode())
    monkeypatch.undo()
    there = (folder / "identity.pem").read_bytes(), (folder / "ca.pem").read_bytes()
    assert joining._is_good(folder, fingerprint, Clock()) == (there == (made.identity, made.ca))


# ---- renewal ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def linked(way: MutualTls, manager: Manager) -> AsyncIterator[ManagerLink]:
    """A link with a stream that stands, and its renewal."""
    stop = asyncio.Event()
    edges = LinkEdges(
        lambda event: None, lambda: None, lambda ref, at: None, lambda *_: None, lambda _: None, lambda: None
    )  # type: ignore[arg-type,return-value]  # nothing is measured
    link = ManagerLink(manager.target, way, LinkSettings(goodbye_s=0.05), edges, Random(1))
    running = asyncio.create_task(link.run(stop))
    renewing = asyncio.create_task(renewal.keep_renewed(link, way, Clock()))
    await say_hello(link)
    try:
        async with asyncio.timeout(WAIT_S):
            await link.up.wait()
        yield link
    finally:
        renewing.cancel()
        stop.set()
        await asyncio.wait({running, renewing})


async def say_hello(link: ManagerLink) -> None:
    """The app does so; here nobody else would."""
    await until(lambda: link._outbox is not None)
    link.push(pb.AttachRequest(hello=pb.Hello(volunteer_id="node-a")))


async def test_a_certificate_in_its_last_third_is_renewed_while_the_stream_goes_on(
    tmp_path: Path, at_work: Office
) -> None:
    """The new one is in the file and on new connections; the stream that stood still stands."""
    pair = signed(at_work.folder, begin=-3 * DAY, end=DAY)
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), pair))
    async with serving(at_work) as manager, linked(way, manager) as link:
        before = way.identity
        assert before is not None
        await until(lambda: identity.load(way.folder).serial != before.serial)
        assert link.up.is_set() and manager.attached == ["node-a"]
        assert way.identity is not None and way.identity.not_after > time.time() + 80 * DAY
        assert manager.renewed == 1


async def test_a_renewal_that_fails_is_tried_again_and_leaves_the_files(
    tmp_path: Path, at_work: Office
) -> None:
    """The old certificate is good until its end."""
    pair = signed(at_work.folder, begin=-3 * DAY, end=20)
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), pair))
    async with serving(at_work) as manager:
        manager.refuse = (grpc.StatusCode.FAILED_PRECONDITION, "cannot sign now")
        async with linked(way, manager):
            await until(lambda: manager.renewed >= 2)
            assert (way.folder / "identity.pem").read_bytes() == pair.key + pair.certificate
            manager.refuse = None
            await until(lambda: (way.folder / "identity.pem").read_bytes() != pair.key + pair.certificate)


async def test_a_clock_that_is_ahead_makes_no_flood_of_renewals(tmp_path: Path, at_work: Office) -> None:
    """Each is refused, and a line of the log; the stream stands meanwhile."""
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), signed(at_work.folder)))
    async with serving(at_work) as manager, linked(way, manager) as link:
        manager.refuse = (grpc.StatusCode.FAILED_PRECONDITION, "the machine's clock is ahead")
        ahead = asyncio.create_task(renewal.keep_renewed(link, way, Clock(), lambda: time.time() + 400 * DAY))
        await until(lambda: manager.renewed == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await until(lambda: manager.renewed > 1)
        ahead.cancel()
        assert link.up.is_set()


async def test_a_new_certificate_that_is_due_at_once_is_not_asked_for_on_and_on(
    tmp_path: Path, at_work: Office
) -> None:
    """As near the end of the authority: the manager is asked once in a while."""
    pair = signed(at_work.folder, begin=-3 * DAY, end=DAY)
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), pair))
    async with serving(at_work) as manager:
        manager.lifetime_s = 100
        async with linked(way, manager):
            await until(lambda: (way.folder / "identity.pem").read_bytes() != pair.key + pair.certificate)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await until(lambda: manager.renewed > 1)


async def test_a_renewal_whose_connection_is_closed_is_tried_again(tmp_path: Path, at_work: Office) -> None:
    """gRPC calls that a cancellation; the renewal goes on all the same."""
    pair = signed(at_work.folder, begin=-3 * DAY, end=20)
    way = MutualTls(put(tmp_path / "tls", ca_of(at_work), pair))
    async with serving(at_work) as manager:
        manager.busy = asyncio.Event()
        async with linked(way, manager) as link:
            await until(lambda: manager.renewed == 1)
            channel, link._channel = link.channel, None
            manager.busy.set()
            manager.busy = None
            link.close("as a link ends its stream before its connection")
            await channel.close()
            await until(lambda: not link.up.is_set())
            await say_hello(link)
            await until(lambda: (way.folder / "identity.pem").read_bytes() != pair.key + pair.certificate)
    assert manager.renewed >= 2
