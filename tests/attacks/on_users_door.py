"""Attacks of users, with tokens of their own, on the manager: `run`s of attacks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from syndicate.client_api import SchedulerError, job_has_ended
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran, tar
from tests.attacks.on_doors import bearer
from tests.attacks.outside import MUCH, RawCall, done, grown, memory_of, student_of
from tests.support.cluster import eventually

_HUGE = 1 << 30
_LOOK_EVERY = 4 << 20
_TOO_LATE_S = 40.0  # for uploads, and for connections that say nothing: ten seconds, and as many as it takes
SILENT = 4_000  # connections that may be open still: those which came in late are given their time too
_SPARE_DESCRIPTORS = 500


def huge_message(arena: Arena, _attack: Attack) -> Ran:
    """One call whose one message is a gigabyte."""
    pid = arena.cluster.daemons["manager"].pid
    call = RawCall(arena.cluster.address, "/syndicate.v1.Scheduler/ListJobs", student_of(arena, "large"))
    try:
        call.begin()
        most, sent = grown(pid, memory_of(pid), call.message(_HUGE), MUCH, _LOOK_EVERY)
    finally:
        call.close()
    return done(arena, grown=most, sent=sent)


def endless_headers(arena: Arena, _attack: Attack) -> Ran:
    """One call whose headers never end, up to a gigabyte of them."""
    pid = arena.cluster.daemons["manager"].pid
    call = RawCall(arena.cluster.address, "/syndicate.v1.Scheduler/ListJobs", student_of(arena, "large"))
    steps = (sent for sent in iter(call.endless_headers()) if sent < _HUGE)
    try:
        most, sent = grown(pid, memory_of(pid), _up_to(steps, _HUGE // 4), MUCH, _LOOK_EVERY)
    finally:
        call.close()
    return done(arena, grown=most, sent=sent)


def _up_to(steps: Iterator[int], most: int) -> Iterator[int]:
    for step in steps:
        yield step
        if step > most:
            return


def slow_uploads(arena: Arena, _attack: Attack) -> Ran:
    """A student's uploads: one that never says what it is, and three of one byte a second."""
    over, began = threading.Event(), time.monotonic()
    lasted: list[float] = []

    def parts(header: bool) -> Iterator[scheduler.UploadSourceRequest]:
        if header:
            head = scheduler.UploadHeader(request_id=str(uuid.uuid4()), sha256=os.urandom(32).hex(), size=100)
            yield scheduler.UploadSourceRequest(header=head)
        while not over.wait(1.0):
            if header:
                yield scheduler.UploadSourceRequest(chunk=b"x")

    with grpc.insecure_channel(arena.cluster.address) as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        metadata = bearer(student_of(arena, "slow"))
        calls = [
            stub.UploadSource.future(parts(header), metadata=metadata) for header in (False, True, True, True)
        ]
        for call in calls:
            call.add_done_callback(lambda _: lasted.append(time.monotonic() - began))
        arena.upload(tar({"Makefile": f"# {time.monotonic()}\nmaster:\n\ttrue\n"}))  # others upload meanwhile
        with contextlib.suppress(TimeoutError):
            eventually("all are ended", lambda: len(lasted) == len(calls), _TOO_LATE_S, 0.1)
        open_still = sum(not call.done() for call in calls)
        over.set()
        for call in calls:
            call.cancel()
    return done(arena, open=open_still, lasted=sorted(lasted))


def silent_connections(arena: Arena, _attack: Attack) -> Ran:
    """Connections to the users' door that say nothing, more than it takes: do they go, do users get in?"""
    host, _, port = arena.cluster.address.rpartition(":")
    links: list[socket.socket] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for _ in range(min(9_000, hard - _SPARE_DESCRIPTORS)):
            try:
                links.append(socket.create_connection((host, int(port)), timeout=2))
            except OSError:
                break
        with contextlib.suppress(TimeoutError):
            eventually("all are closed", lambda: not _open_among(links), _TOO_LATE_S, 0.5)
        still = _open_among(links)
        got_in = True
        patience = 3.0 if still > SILENT else 60.0
        try:
            with arena.cluster.client(arena.cluster.token, connect_for=patience) as user:
                user.cluster()
        except SchedulerError:
            got_in = False
    finally:
        for link in links:
            link.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return done(arena, open=still, got_in=got_in, made=len(links))


def _open_among(links: list[socket.socket]) -> int:
    """How many the other side has not closed."""
    still = 0
    for link in links:
        link.setblocking(False)
        try:
            while data := link.recv(4096):  # the server's own first words
                del data
        except BlockingIOError:
            still += 1
        except OSError:
            continue
    return still


def idle_streams(arena: Arena, _attack: Attack) -> Ran:
    """A student's streams that only stand about, through one connection and through a hundred."""
    token = student_of(arena, "idle")
    held, took = asyncio.run(_idle(arena.cluster, token))
    return done(arena, open=held, took=took)


async def _idle(cluster: Any, token: str) -> tuple[int, float]:
    """How many streams could be held of ten thousand, and how long another user's call took meanwhile."""
    held = 0
    channels = [
        grpc.aio.insecure_channel(cluster.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(101)
    ]
    try:
        calls = []
        for number in range(10_000):
            # The first connection has a half of them.
            channel = channels[0] if number % 2 else channels[1 + number // 2 % 100]
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            calls.append(watch(health_pb2.HealthCheckRequest(), metadata=bearer(token)))
            if number % 200 == 199:
                held += sum(await asyncio.gather(*(_lasts(call) for call in calls[-200:])))
                if held > 1_000:
                    break
        began = time.monotonic()
        await asyncio.to_thread(cluster.users.cluster)
        took = time.monotonic() - began
    finally:
        for channel in channels:
            await channel.close(0)
    return held, took


async def _lasts(call: Any) -> bool:
    """Whether a stream is there to stay: it said something."""
    try:
        async with asyncio.timeout(1.0):
            return await call.read() is not grpc.aio.EOF
    except (grpc.aio.AioRpcError, TimeoutError):
        return False


def submit_flood(arena: Arena, attack: Attack) -> Ran:
    """A student submits without end jobs that wait for all slots; then somebody else's has its turn."""
    cluster, token = arena.cluster, student_of(arena, "flood")
    source = arena.upload(tar({"Makefile": "master slave:\n\t@sleep 600\n"}))
    spec = scheduler.JobSpec(source_sha256=source, machines=cluster.slots, no_client=True)
    taken: list[int] = []
    with grpc.insecure_channel(cluster.address) as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)

        def submit() -> None:
            request = scheduler.SubmitRequest(request_id=str(uuid.uuid4()), spec=spec)
            with contextlib.suppress(grpc.RpcError):
                taken.append(stub.Submit(request, metadata=bearer(token), timeout=60).job_id)

        for _ in range(2_000):
            submit()
            if len(taken) > 60:
                break
    try:
        began = time.monotonic()
        other = arena.upload(tar({"Makefile": "master:\n\t@true\n"}))
        job_id = cluster.users.submit(scheduler.JobSpec(source_sha256=other, machines=1, no_client=True))
        job = cluster.users.job(job_id)
        with contextlib.suppress(TimeoutError):
            job = eventually(
                "another's job ends",
                lambda: found if job_has_ended((found := cluster.users.job(job_id)).state) else None,
            )
        took = time.monotonic() - began
        if not job_has_ended(job.state):
            cluster.users.cancel(job_id)
    finally:
        for job_id in taken:
            cluster.users.cancel(job_id)
    return done(arena, taken=len(taken), turn=job_has_ended(job.state), took=took)
