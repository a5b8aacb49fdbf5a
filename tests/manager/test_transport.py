"""Both listeners over TLS: who gets in with which certificate, and what is cut off when."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.manager.control import tell_manager
from syndicate.manager.pki import Certificate, Kind, Office, Register, Unknown
from syndicate.manager.pki.register import Issued
from syndicate.manager.rpc.peers import Peers
from syndicate.manager.settings import BadSettings, load
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import chaos_pb2_grpc as chaos_grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc as scheduler_grpc

from tests.manager.authorities import DAY, Pair, manager_process, of_bundle, office, request, signed, stranger
from tests.manager.conftest import Running, Start
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, reason, stamp, tarball, upload

LOCAL = [("grpc.use_local_subchannel_pool", 1)]
# Of a certificate that runs out. The longer ones are for machines that stood still until a shorter one had.
SHORT_LIVES_S = (6, 12, 24, 48)


class Place:
    """A manager with TLS, and its authority."""

    def __init__(self, manager: Running, at_work: Office) -> None:
        self.manager = manager
        self.office = at_work
        self.ca = (at_work.folder.path / "ca.pem").read_bytes()

    def users(self) -> grpc.aio.Channel:
        """As a user connects."""
        return grpc.aio.secure_channel(
            self.manager.users, grpc.ssl_channel_credentials(self.ca), options=LOCAL
        )

    def volunteers(self, pair: Pair) -> grpc.aio.Channel:
        """As a volunteer connects."""
        return grpc.aio.secure_channel(self.manager.volunteers, pair.channel(self.ca), options=LOCAL)

    def volunteer(self, name: str, pair: Pair | None = None) -> ScriptedVolunteer:
        """A scripted volunteer with a certificate; with its own one unless another is given."""
        pair = pair or of_bundle(self.office.renew(name, ()).identity)
        made = ScriptedVolunteer("", self.manager.volunteers, volunteer_id=name)
        made.credentials = pair.channel(self.ca)
        return made

    async def reload(self) -> list[str]:
        """What `certs` commands do at their end."""
        cut = await asyncio.to_thread(tell_manager, self.office.folder.path)
        assert cut is not None
        return cut


@pytest.fixture
async def place(start: Start, tmp_path: Path) -> AsyncIterator[Place]:
    """A manager with TLS on an empty state directory."""
    async with running(start, tmp_path) as made:
        yield made


@asynccontextmanager
async def running(start: Start, tmp_path: Path) -> AsyncIterator[Place]:
    """It, with an authority of its own."""
    state = tmp_path / "state"
    at_work = office(state)
    async with start(state_dir=state, insecure=False) as manager:
        yield Place(manager, at_work)


async def attach(place: Place, pair: Pair, name: str = "node-a") -> None:
    """Attaches and is welcomed. Raises AioRpcError."""
    await place.reload()
    volunteer = place.volunteer(name, pair)
    async with volunteer.attached():
        ended = volunteer.ended
    # Its own leaving ends it too, without an error.
    if not volunteer.welcome.session:
        error = ended.result()
        assert error is not None
        raise error


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


# ---- what is cut off -------------------------------------------------------------------------------------


async def test_a_revoked_volunteer_is_cut_off_at_once(place: Place) -> None:
    """Its stream ends, its next one is refused, and so is any other call on the connection that stands."""
    pair = of_bundle(place.office.add("node-a", ()).identity)
    await place.reload()
    volunteer = place.volunteer("node-a", pair)
    async with volunteer.attached(), place.volunteers(pair) as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as known:
            await read_all(stub.FetchSource(registry.FetchSourceRequest(sha256="0" * 64), timeout=WAIT_S))
        assert reason(known) == "NO_SUCH_BLOB"

        place.office.revoke("node-a")
        assert await place.reload() == ["node-a"]

        async with asyncio.timeout(WAIT_S):
            error = await volunteer.ended
        assert error is not None and error.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_all(stub.FetchSource(registry.FetchSourceRequest(sha256="0" * 64), timeout=WAIT_S))
        assert reason(caught) == "CERTIFICATE_REVOKED"
    with pytest.raises(grpc.aio.AioRpcError) as again:
        await attach(place, pair)
    assert reason(again) == "CERTIFICATE_REVOKED"


async def test_a_revoked_volunteer_is_sent_no_more_of_a_source(place: Place) -> None:
    """It may read slowly."""
    pair = of_bundle(place.office.add("node-a", ()).identity)
    await place.reload()
    data = tarball(Makefile="run:\n", data="0" * (9 << 20))
    sha256 = (await upload(place.manager.scheduler, data, place.manager.token)).sha256
    async with place.volunteers(pair) as channel:
        stub: Any = registry_grpc.RegistryStub(channel)
        call = stub.FetchSource(registry.FetchSourceRequest(sha256=sha256), timeout=WAIT_S)
        await call.read()
        place.office.revoke("node-a")
        await place.reload()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_the_end(call)
    assert reason(caught) == "CERTIFICATE_REVOKED"


async def to_the_end(call: Any) -> None:
    """Reads on, message by message."""
    while await call.read() is not grpc.aio.EOF:
        continue


async def test_a_stream_that_outlived_its_certificate_is_cut_off_at_once_too() -> None:
    """It stands by a newer one: when that is revoked, and not while its own line is merely forgotten."""
    now, ended = 1000, list[Any]()
    old = Issued("1", Kind.VOLUNTEER, "node-a", 0, 2000)
    new = Issued("2", Kind.VOLUNTEER, "node-a", 900, 9000)
    peers = Peers("c-test", Register((old, new)), lambda: now)
    certificate = Certificate(Kind.VOLUNTEER, "c-test", "node-a", "1", 0, 2000, (), "", True, b"")
    renewed = replace(certificate, serial="2", not_after=9000)
    with peers.attached(certificate, ended.append):
        peers.renewed(renewed)
        now = 3000
        assert peers.update(Register((new,))) == [] and not ended
        assert peers.update(Register((replace(new, revoked_at=3000),))) == ["node-a"]
        assert [error.reason for error in ended] == ["CERTIFICATE_REVOKED"]
    now, ended[:] = 1000, []
    with peers.attached(certificate, ended.append):
        peers.renewed(renewed)
        gone = Register((old, replace(new, revoked_at=1000)))
        assert peers.update(gone) == [] and peers.until("node-a") == 2000
        third = Issued(
            "3", Kind.VOLUNTEER, "node-a", 900, 9500
        )  # made by an operator, and nobody has it here
        now = 2000
        assert peers.update(Register((*gone.issued, third))) == ["node-a"]
    now = 3000
    peers.update(Register((old, new)))
    with peers.attached(renewed, ended.append):
        revoked, _ = Register((old, new)).without("node-a", now)
        assert peers.update(revoked) == ["node-a"]


@asynccontextmanager
async def attached_briefly(
    place: Place, in_time: Callable[[Pair], Awaitable[bool]]
) -> AsyncIterator[tuple[ScriptedVolunteer, float]]:
    """Attached by a certificate that runs out soon, and in how many seconds it does.

    Before it has `in_time` does what it must do, and says whether that was so.
    """
    for life_s in SHORT_LIVES_S:
        pair = signed(place.office.folder, end=life_s)
        await place.reload()
        volunteer = place.volunteer("node-a", pair)
        async with volunteer.attached():
            if volunteer.welcome.session and await in_time(pair):
                yield volunteer, life_s
                return
    raise AssertionError("every one of them had run out before")


async def test_a_stream_ends_when_its_certificate_does(place: Place) -> None:
    """A connection that stands is no way around the date."""

    async def nothing(_: Pair) -> bool:
        return True

    async with attached_briefly(place, nothing) as (volunteer, _), asyncio.timeout(WAIT_S):
        error = await volunteer.ended
    assert error is not None and "has expired" in (error.details() or "")


async def test_a_stream_goes_on_where_its_volunteer_has_renewed(place: Place) -> None:
    """The manager has signed for it: the stream outlives the certificate that it began with."""
    asked = registry.RenewRequest(
        request_id=str(uuid.uuid4()), signing_request=request().decode(), sent_at=stamp()
    )

    async def renew(pair: Pair) -> bool:
        async with place.volunteers(pair) as channel:
            stub: Any = registry_grpc.RegistryStub(channel)
            try:
                answer = await stub.Renew(asked, timeout=WAIT_S)
                assert (await stub.Renew(asked, timeout=WAIT_S)) == answer
            except grpc.aio.AioRpcError as error:
                # Once it has run out it is refused, by the manager or by the handshake.
                if error.code() is not grpc.StatusCode.UNAVAILABLE and "expired" not in str(error.details()):
                    raise
                return False
            return True

    async with attached_briefly(place, renew) as (volunteer, life_s):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(life_s + 1.0):
                await asyncio.shield(volunteer.ended)
    issued = place.office.folder.register().live("node-a", int(time.time()))
    assert len(issued) == 1 and issued[0].not_after > time.time() + 80 * DAY


async def test_what_a_volunteer_has_is_told_and_not_what_lies_elsewhere(place: Place) -> None:
    """By its stream while it is attached, and what it was given for that; else by the newest of its name."""

    async def expires() -> float:
        asked = scheduler.ListNodesRequest()
        (node,) = (await place.manager.scheduler.ListNodes(asked, **place.manager.credentials)).nodes
        return float(node.certificate_expires_at.utc_ns / 1e9)

    async def elsewhere(_: Pair) -> bool:
        place.office.renew("node-a", ())
        await place.reload()
        # Once it has run out its stream is over, and the newest is told.
        return await expires() <= time.time() + max(SHORT_LIVES_S)

    async with attached_briefly(place, elsewhere) as (volunteer, _):
        async with asyncio.timeout(WAIT_S):
            error = await volunteer.ended
        assert error is not None and "has expired" in (error.details() or "")
    assert await expires() > time.time() + 80 * DAY


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
