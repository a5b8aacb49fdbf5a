"""Both listeners over TLS: who gets in with which certificate, and what is cut off when."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.manager.core.errors import NotAllowed
from syndicate.manager.pki import Unknown
from syndicate.manager.rpc.peers import Peers
from syndicate.manager.settings import BadSettings, load
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import chaos_pb2_grpc as chaos_grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc as scheduler_grpc

from tests.manager.authorities import manager_process, of_bundle, office, signed, stranger
from tests.manager.certified import LOCAL, Place, attach, running
from tests.manager.conftest import Start
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, reason


@pytest.fixture
async def place(start: Start, tmp_path: Path) -> AsyncIterator[Place]:
    """A manager with TLS on an empty state directory."""
    async with running(start, tmp_path) as made:
        yield made


# ---- who gets in -----------------------------------------------------------------------------------------


async def test_a_volunteer_attaches_by_its_certificate_alone(place: Place) -> None:
    """No token is asked for on its listener."""
    await attach(place, signed(place.office.folder))


@pytest.mark.parametrize(
    "wrong",
    [
        {"end": -60},
        {"begin": 3600},
        {"usage": ExtendedKeyUsageOID.SERVER_AUTH},
        {"usage": ExtendedKeyUsageOID.CODE_SIGNING},
    ],
    ids=["expired", "not-yet-valid", "a-servers", "for-code"],
)
async def test_certificates_that_tls_refuses(place: Place, wrong: dict[str, Any]) -> None:
    """Over a real channel: the handshake fails, and no method is reached."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await attach(place, signed(place.office.folder, **wrong))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(caught) is None


async def test_another_authority_of_the_same_name_is_refused(place: Place) -> None:
    """Names prove nothing."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await attach(place, stranger())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"uri": "syndicate://c-test/volunteer/node-b"}, "WRONG_IDENTITY"),
        ({"uri": "syndicate://c-other/volunteer/node-a"}, "WRONG_IDENTITY"),
        ({"uri": "syndicate://c-test/manager"}, "WRONG_IDENTITY"),
        ({"uri": "syndicate://c-test"}, "WRONG_IDENTITY"),
        ({"uri": "syndicate://c-test/volunteer/node-a/x", "register": False}, "WRONG_IDENTITY"),
        ({"uri": "https://c-test/volunteer/node-a", "register": False}, "WRONG_IDENTITY"),
        ({"uri": "", "register": False}, "WRONG_IDENTITY"),
        ({"register": False}, "CERTIFICATE_UNKNOWN"),
        ({"addresses": ["10.9.9.9"]}, "WRONG_ADDRESS"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "WRONG_IDENTITY"),
    ],
)
async def test_certificates_that_the_register_refuses(place: Place, wrong: dict[str, Any], why: str) -> None:
    """Signed by the right key, and still not this volunteer's to use here."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await attach(place, signed(place.office.folder, **wrong))
    assert (caught.value.code(), reason(caught)) == (grpc.StatusCode.PERMISSION_DENIED, why)


async def test_a_certificate_with_its_address_is_good_from_there(place: Place) -> None:
    """`certs add --address`."""
    await attach(place, signed(place.office.folder, addresses=["127.0.0.1"]))


@pytest.mark.parametrize(
    ("named", "peer"),
    [
        ("fe80::1%eth0", "ipv6:%5Bfe80::1%253%5D:40000"),
        ("FE80:0::1", "ipv6:%5Bfe80::1%253%5D:40000"),
        ("::ffff:10.0.0.5", "ipv4:10.0.0.5:40000"),
        ("10.0.0.5", "ipv6:%5B::ffff:10.0.0.5%5D:40000"),
    ],
)
def test_an_address_is_the_same_however_it_is_written(place: Place, named: str, peer: str) -> None:
    """gRPC says by which device a call from a link-local one came, which no certificate can."""
    pair = of_bundle(place.office.add("node-a", (named,)).identity)

    class Call:
        def auth_context(self) -> dict[str, list[bytes]]:
            return {"x509_pem_cert": [pair.certificate]}

        def peer(self) -> str:
            return peer

    call: Any = Call()
    peers = Peers("c-test", place.office.folder.register(), lambda: int(time.time()))
    assert peers.caller(call).name == "node-a"
    peer = "ipv6:%5Bfe80::2%253%5D:40000"
    with pytest.raises(NotAllowed, match="the call came from fe80::2"):
        peers.caller(call)
    peer = "unix:"
    with pytest.raises(NotAllowed, match="the call came from unix"):
        peers.caller(call)


async def test_a_listener_on_all_addresses_knows_where_ipv4_calls_come_from(
    start: Start, tmp_path: Path
) -> None:
    """It sees them as ::ffff:127.0.0.1; certificates and the audit log have 127.0.0.1."""
    at_work = office(tmp_path / "state")
    pair = signed(at_work.folder, addresses=["127.0.0.1"])
    async with start(state_dir=tmp_path / "state", insecure=False, listen_volunteers="[::]:0") as manager:
        port = manager.volunteers.rpartition(":")[2]
        place = Place(replace(manager, volunteers=f"127.0.0.1:{port}"), at_work)
        await attach(place, pair)


async def test_without_a_certificate_nothing_answers(place: Place) -> None:
    """Also with the manager's token, health and reflection included: TLS asks first."""
    credentials = grpc.ssl_channel_credentials(place.ca)
    async with grpc.aio.secure_channel(place.manager.volunteers, credentials, options=LOCAL) as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(
                stub.FetchSource(
                    registry.FetchSourceRequest(sha256="0" * 64),
                    metadata=bearer(place.manager.token),
                    timeout=WAIT_S,
                )
            )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_clear_text_reaches_neither_listener(place: Place) -> None:
    """A channel without TLS gets no answer from either."""
    for address in (place.manager.users, place.manager.volunteers):
        async with grpc.aio.insecure_channel(address, options=LOCAL) as channel:
            stub: Any = scheduler_grpc.SchedulerStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetCluster(
                    scheduler.GetClusterRequest(), metadata=bearer(place.manager.token), timeout=WAIT_S
                )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_user_needs_a_token_beside_tls(place: Place) -> None:
    """Knowing the authority lets nobody in."""
    async with place.users() as channel:
        stub: Any = scheduler_grpc.SchedulerStub(channel)
        answer = await stub.GetCluster(
            scheduler.GetClusterRequest(), metadata=bearer(place.manager.token), timeout=WAIT_S
        )
        assert answer.cluster_id
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCluster(scheduler.GetClusterRequest(), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("node-a", (grpc.StatusCode.OK, None)),
        ("node-b", (grpc.StatusCode.PERMISSION_DENIED, "WRONG_IDENTITY")),
    ],
)
async def test_a_relayed_call_is_its_own_volunteers(
    place: Place, caller: str, expected: tuple[grpc.StatusCode, str | None]
) -> None:
    """The name of a volunteer's stream attests tasks with that volunteer's certificate, and no other."""
    pairs = {name: of_bundle(place.office.add(name, ()).identity) for name in ("node-a", "node-b")}
    await place.reload()
    async with (
        place.volunteer("node-a", pairs["node-a"]).attached() as stream,
        place.volunteers(pairs[caller]) as channel,
    ):
        stub: Any = chaos_grpc.ChaosControlStub(channel)
        metadata = (("syndicate-session", stream.welcome.session), ("syndicate-task", "c/1/1/client-0/1"))
        call = stub.Ping(chaos.PingRequest(), metadata=metadata, timeout=WAIT_S)
        code, why = await call.code(), dict(await call.trailing_metadata()).get("syndicate-reason")

    assert (code, why) == expected


async def test_a_stream_speaks_for_its_own_slots_alone(place: Place) -> None:
    """What it says of another volunteer's commands and tasks is nothing: the job goes on as its own says."""
    node_a, node_b = place.volunteer("node-a"), place.volunteer("node-b")
    await place.reload()
    node_a.answers, node_b.slots = False, 0
    async with node_a.attached(), node_b.attached():
        job_id = await place.manager.submit(no_client=True)
        await node_a.until(lambda: bool(node_a.commands("reserve")))
        (reserve,) = node_a.commands("reserve")
        node_b.answer(reserve, registry.ANSWER_CODE_READY, address="10.77.0.99")
        await heard(node_b)
        assert (await place.manager.job(job_id)).state == common.JOB_STATE_RESERVING

        node_a.answers = True
        node_a._obey(reserve)
        await place.manager.reaches(job_id, common.JOB_STATE_RUNNING)
        node_b.exit(node_a.task("master"))
        await node_b.until(lambda: any(one.HasField("event_ack") for one in node_b.told))
        await heard(node_b)
        assert (await place.manager.job(job_id)).state == common.JOB_STATE_RUNNING
        node_a.exit(node_a.task("master"))
        await place.manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)


async def heard(volunteer: ScriptedVolunteer) -> None:
    """All that the volunteer said before is handled."""
    before = sum(one.HasField("heartbeat_ack") for one in volunteer.told)
    volunteer.beat()
    await volunteer.until(lambda: sum(one.HasField("heartbeat_ack") for one in volunteer.told) > before)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A manager in a process of its own, as the command runs it: its users' and volunteers' addresses."""
    state = tmp_path_factory.mktemp("manager")
    identity = state / "identity.pem"
    identity.write_bytes(office(state).add("node-a", ()).identity)
    with manager_process(state) as said:
        yield said | {"identity": str(identity)}


@pytest.mark.parametrize("door", ["users", "volunteers"])
def test_tls_1_3_alone_is_spoken(process: dict[str, str], door: str) -> None:
    """Python's own ssl gets nothing below it from either listener of the real command."""
    spoken = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        context.maximum_version = version
        context.load_cert_chain(process["identity"])
        host, _, port = process[door].rpartition(":")
        try:
            with (
                socket.create_connection((host, int(port)), timeout=WAIT_S) as raw,
                context.wrap_socket(raw) as stream,
            ):
                spoken[version] = stream.version()
        except (ssl.SSLError, ConnectionError):
            spoken[version] = None
    assert spoken == {ssl.TLSVersion.TLSv1_2: None, ssl.TLSVersion.TLSv1_3: "TLSv1.3"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_at_either_door_are_no_harm(process: dict[str, str], junk: bytes) -> None:
    """What is no TLS is dropped, and the next caller is served."""
    for door in ("users", "volunteers"):
        host, _, port = process[door].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as raw:
            raw.sendall(junk)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = process["users"].rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=WAIT_S) as raw,
        context.wrap_socket(raw) as stream,
    ):
        assert stream.version() == "TLSv1.3"


async def test_new_handshakes_show_the_managers_new_certificate(place: Place) -> None:
    """`certs renew`, without a restart: who is attached stays attached."""
    volunteer = place.volunteer("node-a")
    await place.reload()
    async with volunteer.attached():
        before = await asyncio.to_thread(shown, place.manager.users)
        place.office.renew_manager()
        await place.reload()
        after = {await asyncio.to_thread(shown, address) for address in (place.manager.users,)}
        assert before not in after
        assert not volunteer.ended.done()
        await attach(place, of_bundle(place.office.add("node-b", ()).identity), "node-b")


async def test_without_certificates_a_manager_does_not_start(start: Start, tmp_path: Path) -> None:
    """It says what to do instead of serving in clear text."""
    with pytest.raises(Unknown, match="there are no certificates in"):
        async with start(state_dir=tmp_path / "state", insecure=False):
            pass


def test_insecure_is_refused_beyond_loopback(tmp_path: Path) -> None:
    """For either listener, with the address in the line."""
    for name in ("listen_users", "listen_volunteers"):
        for address in ("0.0.0.0:7000", "10.0.0.5:7000", "[::]:7000", "example.org:7000"):
            with pytest.raises(BadSettings, match="insecure is clear text, and for loopback only"):
                load({"state_dir": tmp_path, "insecure": True, name: address}, None)


def shown(address: str) -> bytes:
    """The certificate that a listener shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=WAIT_S) as raw,
        context.wrap_socket(raw) as stream,
    ):
        return stream.getpeercert(binary_form=True) or b""


async def read_all(call: Any) -> None:
    """To its end."""
    async for _ in call:
        pass
