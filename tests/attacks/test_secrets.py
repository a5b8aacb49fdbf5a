"""Ways to what a client knows, to what it may, to other users' jobs, and to a score that nobody earned."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.client_api import SchedulerClient, SchedulerError
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc, common_pb2, registry_pb2, registry_pb2_grpc
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran, claimed, client_source, each, each_shown, job_source
from tests.attacks.weak import WeakArena

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("secrets")
_MARK = "how the client works 34a7f5e9"
_CALL_S = 20.0


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def best(ran: Ran) -> str:
    """A result that the client did not give, or what the attacker says."""
    assert ran.job is not None, ran.end
    won = [task.result for task in ran.job.tasks if task.result.outcome == common_pb2.OUTCOME_PASS]
    return f"a result of {won[0]}" if won else claimed(ran)


def answered(ran: Ran) -> str:
    """What was answered to the host-side part of an attack."""
    return "; ".join(ran.facts["answers"]) or claimed(ran)


def _informed(arena: Arena, attack: Attack) -> Ran:
    return arena.submit(attack, {**arena.facts(), "cluster": arena.cluster.users.cluster().cluster_id})


def _spec(arena: Arena, attack: Attack, facts: dict[str, Any], **more: Any) -> scheduler.JobSpec:
    spec = scheduler.JobSpec(
        source_sha256=arena.upload(job_source(attack, facts)),
        machines=attack.machines,
        time_limit_s=attack.time_limit_s,
        **more,
    )
    if (client := client_source(attack, facts)) is not None:
        spec.client_sha256 = arena.upload(client)
    else:
        spec.no_client = True
    return spec


def _of_two_clients(arena: Arena, attack: Attack) -> Ran:
    facts = arena.facts()
    return arena.finished(arena.cluster.users.submit(_spec(arena, attack, facts, clients=2)), facts)


def _unfinished(arena: Arena, attack: Attack) -> Ran:
    """Under a name that looks like a score."""
    facts = arena.facts()
    return arena.finished(
        arena.cluster.users.submit(_spec(arena, attack, facts, name="pass-score-100")), facts
    )


@contextlib.contextmanager
def _student(arena: Arena, name: str) -> Iterator[SchedulerClient]:
    """A user of that name with the least role, by a token of its own."""
    arena.cluster.users.put_users([scheduler.User(name=name, role=scheduler.USER_ROLE_STUDENT)])
    made = arena.cluster.users.create_token(user=name)
    try:
        with arena.cluster.client(made.secret) as client:
            yield client
    finally:
        arena.cluster.users.revoke_token(made.token.token_id)


class _Tries:
    """Calls that should all be refused; what came of each that was not."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.refusals: list[str] = []

    def make(self, what: str, call: Callable[[], object]) -> None:
        """One of them."""
        try:
            answer = call()
        except SchedulerError as error:
            self.refusals.append(f"{what}: {error.reason}")
        except grpc.RpcError as error:
            told = dict(error.trailing_metadata() or ())  # type: ignore[attr-defined]
            self.refusals.append(f"{what}: {error.code().name} {told.get('syndicate-reason', '')}")  # type: ignore[attr-defined]
        else:
            self.answers.append(f"{what}: {str(answer)[:80]!r}")


@contextlib.contextmanager
def _running_client(arena: Arena, attack: Attack) -> Iterator[tuple[scheduler.Job, str]]:
    """A job whose client waits, and how its volunteer would attest for it; it is cancelled in the end."""
    job_id = arena.start(attack, arena.facts())
    assert isinstance(job_id, int), job_id
    job = arena.cluster.until_running(job_id)
    cluster_id = arena.cluster.users.cluster().cluster_id
    try:
        yield job, f"{cluster_id}/{job_id}/{job.attempt}/client-0/1"
    finally:
        with contextlib.suppress(SchedulerError):  # where the attack succeeded it has ended
            arena.cluster.users.cancel(job_id)


def _after(arena: Arena, job: scheduler.Job, tries: _Tries) -> Ran:
    """How it ended, and what was answered to whom."""
    return arena.finished(job.job_id, {**arena.facts(), **vars(tries)})


def _call_as(door: str, token: str, session: str, task: str) -> dict[str, Any]:
    """What each of the client's calls gives at a door of the manager, made from outside."""
    told = [("syndicate-session", session), ("syndicate-task", task), ("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(door) as channel:
        stub = chaos_pb2_grpc.ChaosControlStub(channel)
        result = common_pb2.Result(outcome=common_pb2.OUTCOME_PASS, score=100.0)
        request = chaos_pb2.FinishRequest(request_id=str(uuid.uuid4()), result=result)
        stub.ListMembers(chaos_pb2.ListMembersRequest(), metadata=told, timeout=_CALL_S)
        return {"finish": stub.Finish(request, metadata=told, timeout=_CALL_S)}


def _forged_calls(arena: Arena, attack: Attack) -> Ran:
    """ChaosControl from outside: at both doors, with every token, in the name of a stream that is guessed."""
    cluster, tries = arena.cluster, _Tries()
    with _running_client(arena, attack) as (job, task), _student(arena, "mallory") as student:
        own = student._metadata[0][1].removeprefix("Bearer ")
        for door in (cluster.volunteers_address, cluster.address):
            for token in (own, "", cluster.token, cluster.volunteer_token):
                for session in ("", "0" * 32, "local", cluster.volunteer_token):
                    tries.make(f"{door}", lambda d=door, t=token, s=session: _call_as(d, t, s, task))
    return _after(arena, job, tries)


def _sources_of(arena: Arena, job: scheduler.Job, token: str) -> bytes:
    """The client's source, as a volunteer would fetch it."""
    told = [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(arena.cluster.volunteers_address) as channel:
        stub = registry_pb2_grpc.RegistryStub(channel)
        request = registry_pb2.FetchSourceRequest(sha256=job.spec.client_sha256)
        return b"".join(each.chunk for each in stub.FetchSource(request, metadata=told, timeout=_CALL_S))


def _volunteers_door(arena: Arena, attack: Attack) -> Ran:
    """Users' tokens at the volunteers' door, for the source that volunteers may fetch."""
    tries = _Tries()
    with _running_client(arena, attack) as (job, _), _student(arena, "mallory") as student:
        own = student._metadata[0][1].removeprefix("Bearer ")
        for token in (
            own,
            "",
            arena.cluster.token,
            arena.cluster.token + "x",
            arena.cluster.volunteer_token[:-1],
        ):
            tries.make("fetch", lambda t=token: _sources_of(arena, job, t))
    return _after(arena, job, tries)


@contextlib.contextmanager
def _stranger(arena: Arena, name: str, boot_id: str) -> Iterator[Any]:
    """The stream of a volunteer that is not the cluster's, but has its token."""
    hello = registry_pb2.Hello(
        volunteer_id=name, boot_id=boot_id, instance="ab" * 16, network=registry_pb2.NETWORK_KIND_FABRIC
    )
    told = [("authorization", f"Bearer {arena.cluster.volunteer_token}")]
    done = threading.Event()

    def says() -> Iterator[registry_pb2.AttachRequest]:
        yield registry_pb2.AttachRequest(hello=hello)
        done.wait(_CALL_S)  # the end of what it says would be the end of the stream

    with grpc.insecure_channel(arena.cluster.volunteers_address) as channel:
        stream = registry_pb2_grpc.RegistryStub(channel).Attach(says(), metadata=told, timeout=_CALL_S)
        try:
            yield stream
        finally:
            done.set()
            stream.cancel()


def _session_of(stream: Any) -> str:
    """The name that the manager gives it. Raises RpcError."""
    for message in stream:
        if message.HasField("welcome"):
            return str(message.welcome.session)
    raise AssertionError("the stream ended without a word")


def _claimed_slots(arena: Arena, attack: Attack) -> Ran:
    """One volunteer speaks for another's client, and comes under its name."""
    cluster, tries = arena.cluster, _Tries()
    victim = _node(arena)
    own_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with _running_client(arena, attack) as (job, task):
        with _stranger(arena, "synstranger", str(uuid.uuid4())) as stream:
            session = _session_of(stream)
            call = (cluster.volunteers_address, cluster.volunteer_token, session, task)
            tries.make("attest", lambda: _call_as(*call))
        for boot_id in (str(uuid.uuid4()), own_boot):
            with _stranger(arena, victim, boot_id) as stream:
                tries.make("come under another's id", lambda s=stream: _session_of(s))
    return _after(arena, job, tries)


def _as_a_student(arena: Arena, attack: Attack) -> Ran:
    """All that one can ask about a job that is not one's own, and about what one's role does not allow."""
    tries, beside = _Tries(), arena.bystander.job_id
    with _student(arena, "mallory") as student:
        tries.make("job", lambda: student.job(beside))
        tries.make("cancel", lambda: student.cancel(beside))
        tries.make("logs", lambda: list(student.logs(beside)))
        tries.make("a task's logs", lambda: list(student.logs(beside, tasks=["master"])))
        tries.make("watch", lambda: next(iter(student.watch(beside))))
        if found := [job.job_id for job in student.jobs() if job.job_id == beside]:
            tries.answers.append(f"listed: {found}")
        if found := [job.job_id for job in student.jobs(owner=arena.bystander.job.owner)]:
            tries.answers.append(f"listed by owner: {found}")
    return Ran(arena, "done", facts={**arena.facts(), **vars(tries)})


def _node(arena: Arena) -> str:
    """The cluster's own volunteer; strangers of other attacks may be remembered, as away."""
    nodes = arena.cluster.users.nodes()
    return next(n.volunteer_id for n in nodes if n.state == scheduler.NODE_STATE_READY and n.slots)


def _roles(arena: Arena, attack: Attack) -> Ran:
    """What staff may, by a student's token, and somebody else's name on one's own jobs."""
    tries, facts, node = _Tries(), arena.facts(), _node(arena)
    with _student(arena, "mallory") as student:
        admin = scheduler.User(name="mallory", role=scheduler.USER_ROLE_ADMIN)
        tries.make("a role", lambda: student.put_users([admin]))
        tries.make("a token", lambda: student.create_token(user=arena.bystander.job.owner))
        tries.make("tokens", lambda: list(student.tokens(user=arena.bystander.job.owner)))
        tries.make("users", lambda: list(student.users()))
        tries.make("audit", lambda: list(student.audit()))
        tries.make("publish", lambda: student.publish(arena.bystander.job_id))
        try:
            tries.make("drain", lambda: student.drain(node))
        finally:
            arena.cluster.users.drain(node, False)
        token = student._metadata[0][1].removeprefix("Bearer ")
        spec = _spec(arena, attack, facts)
        with arena.cluster.client(token, user=arena.bystander.job.owner) as posing:
            job_id = posing.submit(spec)
        if (owner := arena.cluster.wait(job_id).owner) != "mallory":
            tries.answers.append(f"a job in the name of {owner}")
    return Ran(arena, "done", facts={**facts, **vars(tries)})


def _own_clients(arena: Arena, attack: Attack) -> Ran:
    """What the client of one's own job prints, and where its source is."""
    tries, facts = _Tries(), arena.facts()
    spec = _spec(arena, attack, facts)
    with _student(arena, "mallory") as student:
        job_id = student.submit(spec)
        job = arena.cluster.wait(job_id)
        tries.make("logs of the client", lambda: list(student.logs(job_id, tasks=["client-0"])))
        whole = b"".join(answer.piece.data for answer in student.logs(job_id))
        shown = student.job(job_id)
        for where, text in (("all logs", whole.decode(errors="replace")), ("the job", str(shown))):
            if _MARK in text or spec.client_sha256 in text:
                tries.answers.append(f"{where} tell of the client")
        if any(spec.client_sha256 in str(each) for each in student.jobs()):
            tries.answers.append("the list tells of the client")
    assert _MARK in arena.output(job_id, "client-0"), "it was printed"
    assert "master's own" in arena.output(job_id, "master")
    ran = arena.finished(job.job_id, facts)
    return replace(ran, facts={**facts, **vars(tries)})


_TOLD = {"told.py": script("told")}
_WAITING = "import time\ntime.sleep(600)\n"

ATTACKS = (
    Attack(
        id="client-source",
        tries="the client's source in every file, process, descriptor and folder of the host, from a slave",
        held_by="the cache of sources lies in no sandbox; each disk holds its own role's source",
        slave=script("client_source"),
        files=_TOLD,
        client=script("client_waits"),
        client_files={"words.txt": _MARK},
        machines=2,
        ends=("failed ",),
        got=claimed,
        without="walls/uid+secrets/cache",
    ),
    Attack(
        id="slave-calls",
        tries="the client's socket by every path, the daemons' sockets and doors, for a Finish from a slave",
        held_by="the socket lies in the client's view only; a network namespace",
        slave=script("slave_calls"),
        files=_TOLD,
        client=script("client_waits"),
        machines=2,
        ends=("failed ",),
        got=best,
        without="secrets/socket",
    ),
    Attack(
        id="forged-calls",
        tries="ChaosControl from outside: both doors, every token, guessed streams, for another's client",
        held_by="the volunteers' token; streams of 128 random bits, by which a volunteer is known",
        client=_WAITING,
        run=_forged_calls,
        ends=("cancelled ",),
        got=answered,
        without="secrets/attestation+secrets/volunteers-door",
    ),
    Attack(
        id="claimed-slots",
        tries="a volunteer with the token that attests for another's client, and that comes under its id",
        held_by="a call's volunteer is known by its own stream; an id has one machine while it is heard",
        client=_WAITING,
        run=_claimed_slots,
        ends=("cancelled ",),
        got=answered,
        without="secrets/attestation",
    ),
    Attack(
        id="volunteers-door",
        tries="the client's source at the volunteers' door, with users' tokens and none",
        held_by="the volunteers' door takes the volunteers' token only",
        client=_WAITING,
        client_files={"words.txt": _MARK},
        run=_volunteers_door,
        ends=("cancelled ",),
        got=answered,
        without="secrets/volunteers-door",
    ),
    Attack(
        id="other-jobs-members",
        tries="Kill, Revive, Disconnect of the bystander by a client, in all spellings; forged attestations",
        held_by="the manager takes members of the caller's own job; the relay attests, not the task",
        client=script("other_jobs"),
        run=_informed,
        ends=("succeeded client_passed",),
        got=claimed,
        without="secrets/membership",
    ),
    Attack(
        id="after-finish",
        tries="faults and a better score from a client that has called Finish, while another goes on",
        held_by="the manager takes nothing more from a client that has finished",
        client=script("after_finish"),
        client_files=_TOLD,
        run=_of_two_clients,
        ends=("failed ",),
        got=claimed,
        without="secrets/finished",
    ),
    Attack(
        id="score-by-output",
        tries="a score by output, files, job name and exit status of all members, without Finish",
        held_by="a result comes by Finish over the client's socket, and in no other way",
        master=script("score_files"),
        slave=script("score_files"),
        client=script("score_files"),
        machines=2,
        run=_unfinished,
        ends=("unknown ",),
        got=best,
        because="nothing reads a score from there that could be told not to",
    ),
    Attack(
        id="environment-leak",
        tries="variables, descriptors, command lines and auxiliary vectors of all processes to be seen",
        held_by="an environment that is made anew; descriptors that are handed over one by one",
        master=script("environment"),
        got=claimed,
        without="secrets/environment",
    ),
    Attack(
        id="another-users-job",
        tries="a student's look at, and hand on, a job of somebody else's: get, list, watch, logs, cancel",
        held_by="a job that one may not see does not exist",
        run=_as_a_student,
        ends=("done",),
        got=answered,
        without="secrets/whose",
    ),
    Attack(
        id="higher-role",
        tries="a role, tokens, users, audit, publishing and draining by a student; jobs in another's name",
        held_by="each method has the role that it needs; the token says who calls",
        files={"Makefile": "master:\n\t@true\n"},
        run=_roles,
        ends=("done",),
        got=answered,
        without="secrets/roles",
    ),
    Attack(
        id="client-logs",
        tries="a student's look at what the client of the own job printed, and at its source's digest",
        held_by="what clients print is for staff until the job is published",
        master='print("the master\'s own", flush=True)\nfrom told import tell\ntell()\n',
        files=_TOLD,
        client=f"print({_MARK!r}, flush=True)\n"
        "import socket\nfrom syndicate.client_api import Chaos\n"
        "socket.create_server(('', 5401)).accept()\nChaos.from_env().finish('pass')\n",
        run=_own_clients,
        ends=("succeeded client_passed",),
        got=answered,
        without="secrets/hidden",
    ),
)


@each(ATTACKS)
def test_attack_is_repelled(arena: Arena, attack: Attack) -> None:
    """It gets nothing, and all beside it is unharmed."""
    arena.assert_repelled(attack)


@each_shown(ATTACKS)
def test_attack_succeeds_without_its_defence(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets what it is after where its defence is gone, so that it is a real attack."""
    weak_arena.assert_succeeds(attack)
