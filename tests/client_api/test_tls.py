"""How a manager is known: by its cluster's authority, or not at all."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from syndicate.client_api import NotTrusted, SchedulerClient, ca_fingerprint, fetch_ca, is_loopback
from syndicate.manager.pki import Office
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc

from tests.manager.authorities import DAY, office, signed


class Scheduler(scheduler_pb2_grpc.SchedulerServicer):
    """Answers, and keeps what it was sent."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def GetCluster(self, request: object, context: grpc.ServicerContext) -> scheduler_pb2.GetClusterResponse:
        """Whoever asks."""
        self.tokens.append(str(dict(context.invocation_metadata())["authorization"]))
        return scheduler_pb2.GetClusterResponse(cluster_id="c1")


@pytest.fixture
def at_work(tmp_path: Path) -> Office:
    """An authority whose manager is called localhost."""
    return office(tmp_path / "state")


@pytest.fixture
def serving(at_work: Office) -> Iterator[tuple[Scheduler, int]]:
    """A manager with TLS, and its port."""
    pem = at_work.folder.manager_pem()
    shown = pem[pem.index(b"-----BEGIN CERTIFICATE") :] + (at_work.folder.path / "ca.pem").read_bytes()
    server, scheduler = grpc.server(futures.ThreadPoolExecutor(2)), Scheduler()
    scheduler_pb2_grpc.add_SchedulerServicer_to_server(scheduler, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, shown)]))
    server.start()
    yield scheduler, port
    server.stop(0).wait()


@pytest.mark.parametrize("form", ["path", "text", "bytes", "name"])
def test_an_authority_is_taken_in_any_form(
    at_work: Office, serving: tuple[Scheduler, int], form: str
) -> None:
    """A file's path, as Path or str, or the PEM text itself."""
    path = at_work.folder.path / "ca.pem"
    forms = {"path": path, "text": path.read_text(), "bytes": path.read_bytes(), "name": str(path)}
    with SchedulerClient(f"localhost:{serving[1]}", "t", ca=forms[form]) as client:
        assert client.cluster().cluster_id == "c1"


def test_whoever_is_not_trusted_is_told_nothing(
    tmp_path: Path, at_work: Office, serving: tuple[Scheduler, int]
) -> None:
    """Another authority, or none that is known here: refused at once, and no token goes out."""
    other = office(tmp_path / "other").folder.path / "ca.pem"
    for ca in (other, None):
        began = time.monotonic()
        known = SchedulerClient(f"127.0.0.1:{serving[1]}", "t", ca=ca, connect_for=60.0)
        with known as client, pytest.raises(NotTrusted):
            client.cluster()
        assert time.monotonic() - began < 20
    assert serving[0].tokens == []


def test_clear_text_to_another_machine_is_refused() -> None:
    """Before anything is sent, also to a name that may lead anywhere."""
    for address in ("10.0.0.5:7000", "example.org:7000", "localhost.example.org:7000"):
        with pytest.raises(NotTrusted, match="clear text is for this machine only"):
            SchedulerClient(address, "t", insecure=True)
    assert all(map(is_loopback, ("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1")))


@pytest.mark.parametrize("ca", ["/nowhere/ca.pem", b"junk", "-----BEGIN CERTIFICATE-----\njunk"])
def test_what_is_no_authority_is_told(ca: str | bytes) -> None:
    """At once."""
    with pytest.raises(NotTrusted, match="authority"):
        SchedulerClient("127.0.0.1:1", "t", ca=ca)


def test_the_authority_is_found_by_its_fingerprint(at_work: Office, serving: tuple[Scheduler, int]) -> None:
    """In the forms in which tools print it; any other digest finds nothing."""
    pem = (at_work.folder.path / "ca.pem").read_text()
    digest = ca_fingerprint(pem).removeprefix("sha256:")
    pairs = ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper()
    for form in (digest, f"sha256:{digest}", pairs):
        assert ca_fingerprint(fetch_ca(f"127.0.0.1:{serving[1]}", form)) == f"sha256:{digest}"
    for wrong in ("", "0" * 64, digest[:-1], digest[:-1] + ("0" if digest[-1] != "0" else "1")):
        with pytest.raises(NotTrusted, match="shows no authority"):
            fetch_ca(f"127.0.0.1:{serving[1]}", wrong)


@pytest.mark.parametrize(
    ("begin", "end", "says"),
    [
        (
            3 * 3600,
            DAY,
            "it has not begun, or the clock here is behind; the clock here is at least 3 h behind",
        ),
        (
            -9 * DAY,
            -5 * DAY,
            "it has expired, or the clock here is ahead; it ended 5 days ago by the clock here",
        ),
    ],
)
def test_a_clock_that_is_off_is_told_with_the_offset(
    at_work: Office, begin: int, end: int, says: str
) -> None:
    """By what the manager shows: nobody else knows the time."""
    uri, usage = "syndicate://c-test/manager", ExtendedKeyUsageOID.SERVER_AUTH
    pair = signed(at_work.folder, uri=uri, addresses=["127.0.0.1"], usage=usage, begin=begin, end=end)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        ca = at_work.folder.path / "ca.pem"
        with SchedulerClient(f"127.0.0.1:{port}", "t", ca=ca) as client, pytest.raises(NotTrusted) as caught:
            client.cluster()
    finally:
        server.stop(0).wait()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("found", "taken"),
    [(("127.0.0.1", "::1"), True), (("10.9.9.9",), False), (("127.0.0.1", "10.9.9.9"), False), ((), True)],
)
def test_clear_text_follows_localhost_to_no_other_machine(
    monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...], taken: bool
) -> None:
    """Where /etc/hosts does not have the name, whoever answers for it would be sent the token."""

    def lookup(*_words: Any, **_options: Any) -> list[Any]:
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    if taken:
        SchedulerClient("localhost:1", "t", insecure=True).close()
    else:
        with pytest.raises(NotTrusted, match=r"10\.9\.9\.9"):
            SchedulerClient("localhost:1", "t", insecure=True)
