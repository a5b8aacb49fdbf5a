"""Chaos and AioChaos against a server that may be away, late or refuse; and the fakes for client code."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from syndicate.client_api import (
    AioChaos,
    AttemptEnded,
    Chaos,
    ChaosError,
    ClientFinished,
    DeadlineExceeded,
    FaultFailed,
    JobNotRunning,
    MemberState,
    NoSuchMember,
    NotAClient,
    NotAnAddress,
    NotConfigured,
    Outcome,
    RetryPolicy,
    Role,
    TaskAlive,
    TaskState,
    Unavailable,
)
from syndicate.client_api.testing import AioFakeChaos, FakeChaos, FakeChaosServer, FakeJob
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc, common_pb2

MASTER, SLAVE, CLIENT = "10.77.0.11", "10.77.0.12", "10.77.0.250"


class Scripted(chaos_pb2_grpc.ChaosControlServicer):
    """Answers Kill and Ping by a script: a status code to refuse with, "hang", or "ok"."""

    def __init__(self, *script: tuple[grpc.StatusCode, str] | str) -> None:
        self.script = list(script)
        self.request_ids: list[str] = []
        self.over = threading.Event()

    def Kill(self, request: chaos_pb2.KillRequest, context: grpc.ServicerContext) -> Any:
        self.request_ids.append(request.request_id)
        self._step(context)
        return chaos_pb2.KillResponse(processes=4)

    def Ping(self, request: chaos_pb2.PingRequest, context: grpc.ServicerContext) -> Any:
        self._step(context)
        at = common_pb2.Stamp(boot_id="m", monotonic_ns=7)
        return chaos_pb2.PingResponse(manager_at=at)

    def _step(self, context: grpc.ServicerContext) -> None:
        step = self.script.pop(0) if self.script else "ok"
        if step == "hang":
            self.over.wait(60)
        elif isinstance(step, tuple):
            context.set_trailing_metadata((("syndicate-reason", step[1]), ("syndicate-meta-ip", "x")))
            context.abort(step[0], "why")


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/chaos.sock"


class Served:
    """A servicer on a Unix socket while the block runs."""

    def __init__(self, servicer: Scripted, address: str) -> None:
        self._servicer = servicer
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        chaos_pb2_grpc.add_ChaosControlServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(address)

    def __enter__(self) -> Scripted:
        self._server.start()
        return self._servicer

    def __exit__(self, *_: object) -> None:
        self._servicer.over.set()
        self._server.stop(None).wait(60)


def test_unavailable_is_tried_again_under_one_request_id(address: str) -> None:
    """While the manager is away a call is repeated as the same call, so that its effect happens once."""
    away = (grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY")
    with Served(Scripted(away, away, "ok"), address) as served, Chaos(address) as chaos:
        assert chaos.kill(SLAVE).processes == 4
    assert len(served.request_ids) == 3
    assert len(set(served.request_ids)) == 1


def test_two_calls_have_two_request_ids(address: str) -> None:
    """Each call is its own."""
    with Served(Scripted(), address) as served, Chaos(address) as chaos:
        chaos.kill(SLAVE)
        chaos.kill(SLAVE)
    assert len(set(served.request_ids)) == 2


def test_a_try_that_hangs_is_given_up_and_repeated(address: str) -> None:
    """A relay that swallowed a call does not hold it until the deadline."""
    retry = RetryPolicy(per_try_s=0.2)
    with Served(Scripted("hang", "ok"), address) as served, Chaos(address, retry=retry) as chaos:
        assert chaos.kill(SLAVE).processes == 4
    assert len(set(served.request_ids)) == 1


def test_a_call_that_is_never_answered_ends_at_its_deadline(address: str) -> None:
    """Past the deadline it is not known whether the effect holds."""
    with Served(Scripted("hang"), address), Chaos(address) as chaos:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            chaos.kill(SLAVE, timeout=0.3)
        assert time.monotonic() - started < 20


# Of a call that has a minute a second try begins within it, and a third one would not.
PATIENT = RetryPolicy(first_pause_s=80.0, longest_pause_s=160.0, per_try_s=60.0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which take no time here: each try has nearly all of its call's.

    One for which little is left may end by the deadline before it is known that nobody listens.
    """
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(random, "random", lambda: 0.0)
    blocking = SimpleNamespace(monotonic=time.monotonic, sleep=taken.append)
    monkeypatch.setattr("syndicate.client_api._chaos.time", blocking)
    awaited = SimpleNamespace(get_running_loop=asyncio.get_running_loop, sleep=sleep)
    monkeypatch.setattr("syndicate.client_api._aio_chaos.asyncio", awaited)
    return taken


def test_a_socket_with_nobody_behind_it(address: str, pauses: list[float]) -> None:
    """Nobody listening is Unavailable, after some tries and within the deadline."""
    with Chaos(address, timeout=60.0, retry=PATIENT) as chaos, pytest.raises(Unavailable):
        chaos.members()
    assert pauses == [40.0]


def test_a_server_that_comes_late_is_found(address: str) -> None:
    """A call that begins before its server succeeds once it is there."""
    late = Served(Scripted(), address)
    threading.Timer(0.3, late.__enter__).start()
    with Chaos(address) as chaos:
        assert chaos.kill(SLAVE).processes == 4
    late.__exit__()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "NOT_AN_ADDRESS", NotAnAddress),
        ("NOT_FOUND", "NO_SUCH_MEMBER", NoSuchMember),
        ("FAILED_PRECONDITION", "JOB_NOT_RUNNING", JobNotRunning),
        ("FAILED_PRECONDITION", "CLIENT_FINISHED", ClientFinished),
        ("FAILED_PRECONDITION", "TASK_ALIVE", TaskAlive),
        ("PERMISSION_DENIED", "", NotAClient),
        ("ABORTED", "ATTEMPT_ENDED", AttemptEnded),
        ("INTERNAL", "FAULT_FAILED", FaultFailed),
        ("INTERNAL", "", ChaosError),
    ],
)
def test_refusals_have_their_own_errors(address: str, code: str, reason: str, kind: type[ChaosError]) -> None:
    """Code and reason choose the error, which keeps them and the server's metadata; it is not tried again."""
    refusal = (grpc.StatusCode[code], reason)
    with (
        Served(Scripted(refusal), address) as served,
        Chaos(address) as chaos,
        pytest.raises(ChaosError) as caught,
    ):
        chaos.kill(SLAVE)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.metadata == {"ip": "x"}
    assert str(caught.value) == "why"
    assert len(served.request_ids) == 1


def test_ping_bounds_the_clock(address: str) -> None:
    """The manager's stamp lies between the two ends: the offset is right to within half the round trip."""
    with Served(Scripted(), address), Chaos(address) as chaos:
        pong = chaos.ping()
    assert pong.manager_at.monotonic_ns == 7
    assert abs(pong.clock.error_ns - pong.round_trip_ns / 2) <= 1
    assert pong.clock.offset_ns > 0


def test_call_that_a_stopping_relay_cancels_is_tried_again(address: str) -> None:
    """A server that is stopped says so of what has just come, without a reason; nobody here cancelled it."""
    with Served(Scripted((grpc.StatusCode.CANCELLED, ""), "ok"), address) as served, Chaos(address) as chaos:
        assert chaos.kill(SLAVE).processes == 4
    assert len(served.request_ids) == 2 and len(set(served.request_ids)) == 1


def test_call_whose_connection_is_given_back_is_not_tried_again(address: str) -> None:
    """By another thread, while it is under way."""
    with Served(Scripted("hang"), address) as served:
        chaos = Chaos(address)
        threading.Timer(0.2, chaos.close).start()
        with pytest.raises(ChaosError) as caught:
            chaos.kill(SLAVE)
    assert type(caught.value) is ChaosError and caught.value.code == "CANCELLED"
    assert len(served.request_ids) == 1


async def test_aio_calls_do_the_same(address: str) -> None:
    """AioChaos retries under one request id and raises the same errors."""
    away = (grpc.StatusCode.UNAVAILABLE, "VOLUNTEER_AWAY")
    missing = (grpc.StatusCode.NOT_FOUND, "NO_SUCH_MEMBER")
    with Served(Scripted(away, "ok", missing), address) as served:
        async with AioChaos(address) as chaos:
            assert (await chaos.kill(SLAVE)).processes == 4
            with pytest.raises(NoSuchMember):
                await chaos.kill(SLAVE)
            assert (await chaos.ping()).manager_at.boot_id == "m"
    assert len(set(served.request_ids[:2])) == 1


async def test_aio_deadline(address: str, pauses: list[float]) -> None:
    """A call of AioChaos ends at its deadline too."""
    async with AioChaos(address, timeout=60.0, retry=PATIENT) as chaos:
        with pytest.raises(Unavailable):
            await chaos.members()
    assert pauses == [40.0]


async def test_aio_takes_several_too() -> None:
    """AioChaos has the same calls."""
    async with AioFakeChaos(members=[MASTER, SLAVE]) as fake:
        assert (await fake.kill([MASTER, SLAVE])).processes == 4
        assert len((await fake.revive([MASTER, SLAVE])).members) == 2
        assert len((await fake.disconnect([MASTER, SLAVE])).members) == 2
        assert len((await fake.reconnect([MASTER, SLAVE])).members) == 2


def test_from_env_needs_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SYNDICATE_CHAOS it says that this is no client task."""
    monkeypatch.delenv("SYNDICATE_CHAOS", raising=False)
    with pytest.raises(NotConfigured, match="SYNDICATE_CHAOS is not set"):
        Chaos.from_env()
    with pytest.raises(NotConfigured):
        AioChaos.from_env()


@pytest.fixture(params=["in memory", "over a socket"])
def chaos(request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """The fake itself, and the real thing on the fake's server: they must not differ."""
    if request.param == "in memory":
        with FakeChaos(members=[MASTER, SLAVE]) as fake:
            yield fake
        return
    with FakeChaosServer(members=[MASTER, SLAVE]) as server, Chaos(server.address) as real:
        yield real


def test_kill_and_revive(chaos: Chaos) -> None:
    """A kill ends processes, a second one finds it so; a revival counts generations."""
    first, second = chaos.kill(SLAVE), chaos.kill(SLAVE)
    assert (first.already, first.fault_id, first.processes) == (False, 1, 2)
    assert (second.already, second.fault_id, second.processes) == (True, 0, 0)
    revived = chaos.revive(SLAVE, with_disk=False)
    assert (revived.already, revived.generation) == (False, 2)
    assert second.applied_at is None
    assert first.applied_at is not None and revived.applied_at is not None
    assert first.applied_at.monotonic_ns < revived.applied_at.monotonic_ns


def test_revive_of_a_live_task(chaos: Chaos) -> None:
    """With disk, said or unsaid, it is left alone; without disk it is refused."""
    assert chaos.revive(MASTER).already
    assert chaos.revive(MASTER, with_disk=True).already
    with pytest.raises(TaskAlive):
        chaos.revive(MASTER, with_disk=False)


def test_disconnect_and_reconnect(chaos: Chaos) -> None:
    """A cut persists over a kill and a revival; what is so already says so."""
    assert not chaos.disconnect(SLAVE).already
    chaos.kill(SLAVE)
    chaos.revive(SLAVE)
    assert chaos.disconnect(SLAVE).already
    assert [member.disconnected for member in chaos.members()] == [False, True, False]
    assert not chaos.reconnect(SLAVE).already
    assert chaos.reconnect(SLAVE).already


def test_several_at_once(chaos: Chaos) -> None:
    """A sequence of addresses is one call; the answer has each member, in its order."""
    chaos.kill(SLAVE)
    killed = chaos.kill([MASTER, SLAVE])
    assert [(member.ip, member.already, member.processes) for member in killed.members] == [
        (MASTER, False, 2),
        (SLAVE, True, 0),
    ]
    assert (killed.already, killed.processes, killed.fault_id) == (False, 2, killed.members[0].fault_id)
    revived = chaos.revive((SLAVE, MASTER))
    assert [member.generation for member in revived.members] == [2, 2]
    assert not chaos.disconnect([MASTER, SLAVE]).already
    assert chaos.disconnect([MASTER, SLAVE]).already
    assert [member.already for member in chaos.reconnect([MASTER, SLAVE]).members] == [False, False]


def test_one_address_has_one_member(chaos: Chaos) -> None:
    """What is said of the call is what is said of its member."""
    killed = chaos.kill(SLAVE)
    [member] = killed.members
    assert (member.ip, member.fault_id, member.applied_at) == (SLAVE, killed.fault_id, killed.applied_at)
    assert member.processes == killed.processes


def test_several_are_checked_before_any_is_touched(chaos: Chaos) -> None:
    """A stranger, a live one that is to lose its disk, or the same twice: nothing happens to the others."""
    with pytest.raises(NoSuchMember):
        chaos.kill([MASTER, "10.77.0.99"])
    with pytest.raises(ChaosError, match="named twice"):
        chaos.kill([MASTER, MASTER])
    chaos.kill(SLAVE)
    with pytest.raises(TaskAlive):
        chaos.revive([SLAVE, MASTER], with_disk=False)
    with pytest.raises(ValueError, match="no address"):
        chaos.kill([])
    assert [member.state for member in chaos.members()][:2] == [TaskState.RUNNING, TaskState.KILLED]


def test_only_addresses_of_the_job(chaos: Chaos) -> None:
    """What is no address, and what is nobody's, are two errors."""
    with pytest.raises(NotAnAddress):
        chaos.kill("slave-0")
    with pytest.raises(NoSuchMember):
        chaos.disconnect("10.77.0.99")


def test_after_finish_only_reading_is_allowed(chaos: Chaos) -> None:
    """A client that has finished may list members and ping."""
    done = chaos.finish("fail", score=0.5, metrics={"lost": 3}, text="three writes lost")
    assert done.clients_left == 0
    with pytest.raises(ClientFinished):
        chaos.finish()
    for call in (lambda: chaos.kill(SLAVE), lambda: chaos.reconnect(SLAVE)):
        with pytest.raises(JobNotRunning):
            call()
    assert len(chaos.members()) == 3
    assert chaos.ping().manager_at.boot_id == "fake-boot"


def test_members_have_roles_and_states(chaos: Chaos) -> None:
    """Members come as master, slaves, clients."""
    chaos.kill(SLAVE)
    master, slave, client = chaos.members()
    assert (master.task, master.role, master.address) == ("master", Role.MASTER, MASTER)
    assert (slave.task, slave.state) == ("slave-0", TaskState.KILLED)
    assert (client.role, client.address) == (Role.CLIENT, CLIENT)


def test_the_fake_records_and_is_deterministic() -> None:
    """Every call is recorded with who made it, and two runs give the same stamps."""

    def play() -> FakeChaos:
        fake = FakeChaos(members=[MASTER, SLAVE])
        fake.kill(SLAVE)
        fake.finish(Outcome.PASS, text="fine")
        return fake

    first, second = play(), play()
    assert [(call.caller, call.rpc, call.error) for call in first.job.calls] == [
        ("client-0", "Kill", ""),
        ("client-0", "Finish", ""),
    ]
    assert first.job.results["client-0"].text == "fine"
    assert first.ping().manager_at == second.ping().manager_at


def test_the_fake_fails_as_it_is_told() -> None:
    """A scripted failure comes once and at once, as the error of the real thing."""
    fake = FakeChaos(members=[MASTER, SLAVE])
    fake.job.fail_next("Kill", "VOLUNTEER_AWAY")
    with pytest.raises(Unavailable):
        fake.kill(SLAVE)
    assert fake.kill(SLAVE).processes == 2
    fake.job.end()
    with pytest.raises(JobNotRunning):
        fake.kill(SLAVE)


async def test_two_fakes_share_a_job() -> None:
    """Clients of one job see each other's faults; the last one to finish leaves none."""
    members = [MemberState("master", Role.MASTER, MASTER)]
    job = FakeJob(members, clients=[CLIENT, "10.77.0.251"])
    one, two = AioFakeChaos(job=job), FakeChaos(job=job, caller="client-1")
    await one.kill(MASTER)
    assert two.kill(MASTER).already
    assert (await one.finish()).clients_left == 1
    assert two.finish().clients_left == 0


def test_a_repeated_request_id_gets_the_first_answer() -> None:
    """Over bare stubs: the same request twice has one effect and one answer."""
    with FakeChaosServer(members=[MASTER, SLAVE]) as server, grpc.insecure_channel(server.address) as channel:
        stub = chaos_pb2_grpc.ChaosControlStub(channel)
        request = chaos_pb2.KillRequest(request_id=str(uuid.uuid4()), ip=SLAVE)
        assert stub.Kill(request) == stub.Kill(request)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Kill(chaos_pb2.KillRequest(request_id=str(uuid.uuid4()), ip="nonsense"))
        assert ("syndicate-reason", "NOT_AN_ADDRESS") in caught.value.trailing_metadata()


def test_a_request_id_is_a_uuid_and_of_one_fault() -> None:
    """The fake refuses what the manager would: other words, and one id for two faults."""
    job = FakeJob([MASTER, SLAVE])
    request_id = str(uuid.uuid4())
    job.answer("client-0", "Kill", chaos_pb2.KillRequest(request_id=request_id, ip=SLAVE))
    for wrong in (
        chaos_pb2.KillRequest(request_id="5f0c", ip=SLAVE),
        chaos_pb2.KillRequest(request_id=request_id, ip=MASTER),
        chaos_pb2.KillRequest(request_id=request_id, ips=[SLAVE, MASTER]),
        chaos_pb2.KillRequest(request_id=str(uuid.uuid4()), ip=SLAVE, ips=[MASTER]),
    ):
        with pytest.raises(ChaosError) as caught:
            job.answer("client-0", "Kill", wrong)
        assert caught.value.reason == "BAD_FIELD"


def test_a_fault_that_failed_has_failed_for_its_repeat() -> None:
    """What the volunteer could not do is told again; what was not tried is tried."""
    job = FakeJob([MASTER, SLAVE])
    for reason, again in (("FAULT_FAILED", "FAULT_FAILED"), ("VOLUNTEER_AWAY", "")):
        request = chaos_pb2.KillRequest(request_id=str(uuid.uuid4()), ip=SLAVE)
        job.fail_next("Kill", reason)
        for expected in (reason, again):
            with contextlib.suppress(ChaosError):
                job.answer("client-0", "Kill", request)
            assert job.calls[-1].error == expected


def test_the_last_finish_ends_the_fake_job() -> None:
    """A client that was killed is not waited for; until then one that has finished is told so."""
    job = FakeJob([MASTER], clients=[CLIENT, "10.77.0.251", "10.77.0.252"])
    one, two = FakeChaos(job=job), FakeChaos(job=job, caller="client-1")
    two.kill("10.77.0.252")
    assert one.finish().clients_left == 1
    with pytest.raises(ClientFinished):
        one.kill(MASTER)
    assert two.finish().clients_left == 0
    with pytest.raises(JobNotRunning):
        one.kill(MASTER)


def test_finish_refuses_an_outcome_that_there_is_not() -> None:
    """A word that is no outcome is a bug of the caller."""
    with pytest.raises(ValueError, match="great"):
        FakeChaos(members=[MASTER]).finish("great")


@pytest.mark.parametrize("said", [{"score": math.nan}, {"metrics": {"rate": math.nan}}])
def test_finish_refuses_what_is_not_a_number(said: dict[str, Any]) -> None:
    """NaN has no place in an order of grades: it is a bug of the caller, and named."""
    with pytest.raises(ValueError, match=r"score is not a number|metric 'rate' is not a number"):
        FakeChaos(members=[MASTER]).finish("pass", **said)


def test_a_clock_that_is_not_known_is_none(address: str) -> None:
    """Before a volunteer's clock is bounded there is no bound; none is not the same as exact."""
    with Served(Scripted(), address), Chaos(address) as chaos:
        killed = chaos.kill(SLAVE)
    assert killed.clock is None


def test_a_text_that_is_too_long_is_cut() -> None:
    """A result is never lost to the length of its text."""
    fake = FakeChaos(members=[MASTER])
    fake.finish("pass", text="ä" * 100_000)
    text = fake.job.results["client-0"].text
    assert len(text.encode()) <= 64 * 1024
    assert text.endswith("(200000 bytes in all, cut here)")
