"""Attacks on the manager's doors by those who have no right to come in: `run`s of attacks."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from syndicate.client_api import SchedulerError
from syndicate.v1 import (
    chaos_pb2,
    chaos_pb2_grpc,
    common_pb2,
    registry_pb2,
    registry_pb2_grpc,
    scheduler_pb2_grpc,
)
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran
from tests.attacks.outside import done, student_of


def bearer(token: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"), *more)


def _refusal(call: Callable[[], object]) -> str:
    """The reason with which a call is refused; empty where it is not."""
    try:
        call()
    except grpc.RpcError as error:
        trailing: dict[Any, Any] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]  # pairs
        return str(trailing.get("syndicate-reason") or error.code().name)
    return ""


def wrong_door(arena: Arena, _attack: Attack) -> Ran:
    """Each door, with the other's token, with none, and with what looks like one."""
    cluster, opened = arena.cluster, []
    student = student_of(arena, "intruder")
    with grpc.insecure_channel(cluster.volunteers_address) as channel:
        for token in (
            cluster.token,
            student,
            "",
            "x",
            cluster.volunteer_token[:-1],
            cluster.volunteer_token + "x",
        ):
            ping = chaos_pb2_grpc.ChaosControlStub(channel).Ping
            fetch = registry_pb2_grpc.RegistryStub(channel).FetchSource
            digest = registry_pb2.FetchSourceRequest(sha256="0" * 64)
            attach = registry_pb2_grpc.RegistryStub(channel).Attach
            reasons = {
                "Ping": _refusal(lambda: ping(chaos_pb2.PingRequest(), metadata=bearer(token), timeout=30)),  # noqa: B023 - called at once
                "FetchSource": _refusal(lambda: list(fetch(digest, metadata=bearer(token), timeout=30))),  # noqa: B023 - as above
                "Attach": _refusal(lambda: list(attach(iter(()), metadata=bearer(token), timeout=30))),  # noqa: B023 - as above
            }
            opened += [f"volunteers: {name}: {said}" for name, said in reasons.items() if said != "BAD_TOKEN"]
    with grpc.insecure_channel(cluster.address) as channel:
        for token in (
            cluster.volunteer_token,
            "",
            "syn_",
            "syn_admin_",
            f"{student[:-1]}-",
            student.replace("syn_", "SYN_"),
        ):
            list_jobs = scheduler_pb2_grpc.SchedulerStub(channel).ListJobs
            said = _refusal(
                lambda: list_jobs(scheduler.ListJobsRequest(), metadata=bearer(token), timeout=30)  # noqa: B023 - as above
            )
            opened += [f"users: {said}"] if said != "BAD_TOKEN" else []
        # A student's own token, where only others' roles will do.
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        put = scheduler.PutUsersRequest(
            request_id=str(uuid.uuid4()),
            users=[scheduler.User(name="intruder", role=scheduler.USER_ROLE_ADMIN)],
        )
        drain = scheduler.DrainNodeRequest(request_id=str(uuid.uuid4()), volunteer_id="local", draining=True)
        more_calls: tuple[tuple[Any, Any], ...] = ((stub.PutUsers, put), (stub.DrainNode, drain))
        for call, request in more_calls:
            if not _refusal(lambda: call(request, metadata=bearer(student), timeout=30)):  # noqa: B023 - as above
                opened.append(f"a student may {request.DESCRIPTOR.name}")
    return done(arena, opened=opened)


def claim_slots(arena: Arena, attack: Attack) -> Ran:
    """A volunteer of its own, with the true token, speaks for a client and for tasks that another has."""
    facts, cluster = arena.facts(), arena.cluster
    job_id = arena.start(attack, facts)
    assert isinstance(job_id, int), job_id
    got = []
    job = cluster.until_running(job_id)
    try:
        with grpc.insecure_channel(cluster.volunteers_address) as channel:
            true = job.tasks[0].volunteer_id
            twin = _Attached(channel, cluster.volunteer_token, true)
            if twin.session:
                got.append(f"it is {true}")
            evil = _Attached(channel, cluster.volunteer_token, "evil")
            cluster_id = cluster.users.cluster().cluster_id
            ref = f"{cluster_id}/{job_id}/{job.attempt}/client-0/1"
            finish = chaos_pb2.FinishRequest(
                request_id=str(uuid.uuid4()), result=common_pb2.Result(outcome=common_pb2.OUTCOME_PASS)
            )
            kill = chaos_pb2.KillRequest(request_id=str(uuid.uuid4()), ip=facts["bystander"]["slave-0"])
            stub = chaos_pb2_grpc.ChaosControlStub(channel)
            calls: tuple[tuple[Any, Any], ...] = ((stub.Kill, kill), (stub.Finish, finish))
            for session in (evil.session, "", "0" * 32, true):
                for call, request in calls:
                    more = (
                        ("syndicate-session", session),
                        ("syndicate-task", ref),
                        ("syndicate-volunteer", true),
                    )
                    metadata = bearer(cluster.volunteer_token, *more)
                    if not _refusal(lambda: call(request, metadata=metadata, timeout=30)):  # noqa: B023 - as above
                        got.append(f"{request.DESCRIPTOR.name} as {session or 'nobody'}")
            task = common_pb2.TaskRef(
                cluster_id=cluster_id, job_id=facts["bystander_job"], attempt=1, task="master", generation=1
            )
            stamp = common_pb2.Stamp(boot_id="boot-evil", monotonic_ns=1, utc_ns=1)
            ended = registry_pb2.TaskEvent(
                event_id=1,
                task=task,
                at=stamp,
                exited=common_pb2.TaskExit(reason=common_pb2.REASON_EXITED_NONZERO, exit_status=1),
            )
            piece = common_pb2.LogPiece(offset=0, data=b'{"n":0,"gap_s":0,"changed":"all"}\n', read_at=stamp)
            evil.say(registry_pb2.AttachRequest(log=registry_pb2.LogChunk(task=task, piece=piece)))
            evil.say(registry_pb2.AttachRequest(event=ended))
            evil.close()
            twin.close()
    finally:
        with contextlib.suppress(SchedulerError):
            cluster.users.cancel(job_id)
    ran = arena.finished(job_id, facts)
    return dataclasses.replace(ran, facts={**facts, "got": got, "session": evil.session})


class _Attached:
    """A volunteer's stream, by hand; `session` is empty where it was not welcomed."""

    def __init__(self, channel: grpc.Channel, token: str, volunteer_id: str) -> None:
        self._out: list[registry_pb2.AttachRequest] = []
        self._more = threading.Condition()
        self._closed = False
        stamp = common_pb2.Stamp(boot_id="boot-evil", monotonic_ns=1, utc_ns=1)
        hello = registry_pb2.Hello(
            volunteer_id=volunteer_id,
            boot_id="boot-evil",
            version="test",
            network=registry_pb2.NETWORK_KIND_FABRIC,
            capabilities=["cut", "kill"],
            resources=common_pb2.Resources(cpus=1, memory_bytes=1 << 30, disk_bytes=1 << 30),
            sent_at=stamp,
        )
        self.say(registry_pb2.AttachRequest(hello=hello))
        stub = registry_pb2_grpc.RegistryStub(channel)
        self._call = stub.Attach(self._messages(), metadata=bearer(token), timeout=20)
        self.session, self.why = "", ""
        try:
            self.session = next(self._call).welcome.session
        except grpc.RpcError as error:
            self.why = str(error)

    def say(self, message: registry_pb2.AttachRequest) -> None:
        """Sends it."""
        with self._more:
            self._out.append(message)
            self._more.notify()

    def close(self) -> None:
        """Ends the stream once all is said."""
        with self._more:
            self._closed = True
            self._more.notify()
        with contextlib.suppress(grpc.RpcError):
            for _ in self._call:
                pass

    def _messages(self) -> Iterator[registry_pb2.AttachRequest]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._out or self._closed, 20)
                if not self._out:
                    return
                message = self._out.pop(0)
            yield message
