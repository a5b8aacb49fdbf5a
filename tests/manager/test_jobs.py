"""Jobs over real channels: the real core, the real store, and volunteers that follow a script."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from syndicate.manager.core import model
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.records import JobRecord
from syndicate.manager.core.views import JobView
from syndicate.manager.rpc import pace
from syndicate.manager.store import SqliteStore
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.scripted import WAIT_S, bearer, reason, tarball, trailer, upload


async def test_a_scripted_volunteer_takes_a_job_to_its_end(manager: Running) -> None:
    """A job of two is reserved, prepared, started and, when both makes exit 0, SUCCEEDED."""
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit(machines=2, name="pair")
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)
        for task in ("master", "slave-0"):
            volunteer.exit(volunteer.task(task))
        job = await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)

    assert [t.ref.task for t in job.tasks] == ["master", "slave-0"]
    assert job.spec.name == "pair"
    assert job.owner == "admin"
    assert job.gang_start_ns > 0
    assert {line.event for line in job.story} >= {"job.queued", "task.started"}
    assert len(volunteer.commands("release")) == 2


async def test_slaves_start_only_after_the_master_is_acknowledged(manager: Running) -> None:
    """The start of a slave is sent after the master's was answered."""
    async with manager.volunteer().attached() as volunteer:
        await manager.submit(machines=3)
        await volunteer.until(lambda: len(volunteer.commands("start")) == 3)

    assert volunteer.commands("start")[0].task.task == "master"


async def test_submitting_without_any_volunteer_is_refused(manager: Running) -> None:
    """An empty cluster says so instead of queueing."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await manager.submit()

    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(refused) == "NO_SLOTS"


async def test_too_large_a_job_says_what_fits(manager: Running) -> None:
    """The refusal carries the cluster's slots and the largest number of machines."""
    async with manager.volunteer(slots=4).attached():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await manager.submit(machines=40)

    told = trailer(refused.value)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(refused) == "TOO_LARGE"
    assert told["syndicate-meta-slots"] == "4"
    assert told["syndicate-meta-largest_machines"] == "4"


async def test_a_repeated_request_gets_the_first_answer(manager: Running) -> None:
    """Submitting twice under one request id makes one job."""
    request_id = str(uuid.uuid4())
    async with manager.volunteer().attached():
        first = await manager.submit(request_id=request_id)
        again = await manager.submit(request_id=request_id)
        jobs = await manager.scheduler.ListJobs(scheduler.ListJobsRequest(), **manager.credentials)

    assert first == again
    assert len(jobs.jobs) == 1


async def test_a_request_is_remembered_beyond_what_a_restart_restores(start: Start) -> None:
    """A repeat gets the first answer from the store where the machine has forgotten the job."""
    request_id = str(uuid.uuid4())
    async with start(keep_ended=1) as manager, manager.volunteer(exit_at_start=True).attached():
        first = await manager.submit(request_id=request_id)
        await manager.reaches(first, common.JOB_STATE_SUCCEEDED)
        other = await manager.submit()
        await manager.reaches(other, common.JOB_STATE_SUCCEEDED)
    async with start(keep_ended=1) as manager:
        again = await manager.submit(request_id=request_id)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await manager.submit(request_id=request_id, user="mallory")

    assert again == first
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_job_that_the_machine_forgot_is_still_shown(start: Start) -> None:
    """GetJob, WatchJob and CancelJob answer from the store for jobs that ended long ago."""
    async with start(keep_ended=1) as manager, manager.volunteer(exit_at_start=True).attached():
        jobs = [await manager.submit() for _ in range(2)]
        for job_id in jobs:
            live = await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
    first = live.job_id - 1
    async with start(keep_ended=1) as manager:
        job = await manager.job(first)
        watched = await manager.reaches(first, common.JOB_STATE_SUCCEEDED)
        cancelled = await manager.scheduler.CancelJob(
            scheduler.CancelJobRequest(request_id=str(uuid.uuid4()), job_id=first), **manager.credentials
        )

    assert job.state == common.JOB_STATE_SUCCEEDED
    assert job.tasks[0].runs[0].exit.reason == common.REASON_EXITED_ZERO
    assert job.story[0].event == "job.queued"
    assert watched == job
    assert cancelled.state == common.JOB_STATE_SUCCEEDED


async def test_lists_are_paged_newest_first(manager: Running) -> None:
    """Following the page tokens gives every job once, newest first."""
    async with manager.volunteer(slots=1).attached():
        made = [await manager.submit() for _ in range(5)]
        seen: list[int] = []
        token = ""
        while True:
            page = await manager.scheduler.ListJobs(
                scheduler.ListJobsRequest(page_size=2, page_token=token), **manager.credentials
            )
            seen += [job.job_id for job in page.jobs]
            token = page.next_page_token
            if not token:
                break

    assert seen == sorted(made, reverse=True)


async def test_lists_take_owner_and_states(manager: Running) -> None:
    """Only the jobs of the owner and in the states asked for are listed, with their place in the queue."""
    async with manager.volunteer(slots=1).attached() as volunteer:
        await manager.submit(user="alice")
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        waiting = await manager.submit(user="alice")
        await manager.submit(user="bob")
        page = await manager.scheduler.ListJobs(
            scheduler.ListJobsRequest(owner="alice", states=[common.JOB_STATE_QUEUED]), **manager.credentials
        )

    assert [(job.job_id, job.owner) for job in page.jobs] == [(waiting, "alice")]
    assert page.jobs[0].queue_length == 2
    assert page.jobs[0].queue_place > 0


async def test_lists_leave_out_what_is_long(start: Start, tmp_path: Path) -> None:
    """Reports are told of one job at a time, and a page ends before it is too large for a client of gRPC."""
    at = model.Stamp("b", 1, 1)
    spec = model.JobSpec("lab", model.Source("a" * 64, 1), 1, None, 0, 600.0)
    result = model.Result(model.Outcome.PASS, 0.5, (("operations", 7.0),), "x" * 60_000)
    store = SqliteStore.open(tmp_path / "state")
    store.start(lambda ticket: None, lambda error: None)
    for number in range(1, 81):
        job = JobRecord(number, str(uuid.uuid4()), "alice", spec, model.JobState.SUCCEEDED, 1, at, at)
        store.submit([replace(job, ended_at=at, result=result, detail="y" * 60_000)])
    await store.close()
    listed: list[scheduler.Job] = []
    async with start(state_dir=tmp_path / "state") as manager:
        token = ""
        while token or not listed:
            request = scheduler.ListJobsRequest(page_token=token)
            page = await manager.scheduler.ListJobs(request, **manager.credentials)
            listed += page.jobs
            token = page.next_page_token
        whole = await manager.job(80)

    assert [job.job_id for job in listed] == list(range(80, 0, -1))
    assert (listed[0].result.text, dict(listed[0].result.metrics)) == ("", {})
    assert (listed[0].result.outcome, listed[0].result.score) == (common.OUTCOME_PASS, 0.5)
    assert len(whole.result.text) == 60_000


async def test_a_watcher_takes_no_more_than_its_share(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it costs the machine to draw a job counts: 10 ms for a picture are followed by half a second."""
    picture = Machine.job
    drawn: list[tuple[float, float]] = []  # when it was begun and done

    def dear(self: Machine, job_id: int) -> JobView | None:
        began, at = time.thread_time(), time.monotonic()
        while time.thread_time() - began < 0.01:
            pass
        drawn.append((at, time.monotonic()))
        return picture(self, job_id)

    monkeypatch.setattr(Machine, "job", dear)
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit(machines=2)
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)
        call = manager.scheduler.WatchJob(scheduler.WatchJobRequest(job_id=job_id), **manager.credentials)
        while (await call.read()).job.state != common.JOB_STATE_RUNNING:
            pass
        volunteer.exit(volunteer.task("slave-0"))
        seen = await call.read()

    assert seen.job.state == common.JOB_STATE_RUNNING
    assert min(after[0] - before[1] for before, after in pairwise(drawn)) > 0.4


async def test_a_watcher_that_rests_is_told_of_the_end_at_once(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However dear the pictures were, the last one is due when the job has ended."""
    monkeypatch.setattr(pace, "SHARE", 1e-9)  # one picture is followed by hours
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        call = manager.scheduler.WatchJob(scheduler.WatchJobRequest(job_id=job_id), **manager.credentials)
        await call.read()
        volunteer.exit(volunteer.task("master"))
        seen = await call.read()

    assert seen.job.state == common.JOB_STATE_SUCCEEDED


def test_a_machine_that_stood_still_has_not_worked() -> None:
    """Only what the watcher itself cost makes it rest: not a wait for the disk, nor for the processor."""
    watcher = pace.Pace()
    with watcher.working():
        time.sleep(0.2)

    assert watcher.rest_s < 1.0


async def test_a_bad_page_token_is_refused(manager: Running) -> None:
    """A token that no list gave is the caller's mistake."""
    for token in ("x", "-1", "١", "9" * 40):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await manager.scheduler.ListJobs(
                scheduler.ListJobsRequest(page_token=token), **manager.credentials
            )
        assert reason(refused) == "BAD_PAGE_TOKEN"


async def test_cancel_ends_a_running_job(manager: Running) -> None:
    """A cancelled job releases its slot and is CANCELLED."""
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        answer = await manager.scheduler.CancelJob(
            scheduler.CancelJobRequest(request_id=str(uuid.uuid4()), job_id=job_id), **manager.credentials
        )
        job = await manager.reaches(job_id, common.JOB_STATE_CANCELLED)

    assert answer.state in (common.JOB_STATE_STOPPING, common.JOB_STATE_CANCELLED)
    assert job.reason == common.REASON_CANCELLED


async def test_unknown_jobs_are_not_found(manager: Running) -> None:
    """Every RPC that names a job says NO_SUCH_JOB for one that never was."""
    stub, credentials = manager.scheduler, manager.credentials
    cancel = scheduler.CancelJobRequest(request_id=str(uuid.uuid4()), job_id=99)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: stub.GetJob(scheduler.GetJobRequest(job_id=99), **credentials),
        lambda: stub.CancelJob(cancel, **credentials),
        lambda: stub.WatchJob(scheduler.WatchJobRequest(job_id=99), **credentials).read(),
        lambda: stub.ReadLogs(scheduler.ReadLogsRequest(job_id=99), **credentials).read(),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason(refused) == "NO_SUCH_JOB"


async def test_malformed_requests_name_the_field(manager: Running) -> None:
    """A bad request id, digest, time limit or number of machines is refused by its field's name."""
    source = await upload(manager.scheduler, tarball(), manager.token)
    good = scheduler.JobSpec(source_sha256=source.sha256, machines=1)
    cases = {
        "request_id": scheduler.SubmitRequest(request_id="again", spec=good),
        "source_sha256": scheduler.SubmitRequest(
            request_id=str(uuid.uuid4()), spec=scheduler.JobSpec(source_sha256="ABC", machines=1)
        ),
        "time_limit_s": scheduler.SubmitRequest(
            request_id=str(uuid.uuid4()),
            spec=scheduler.JobSpec(source_sha256=source.sha256, machines=1, time_limit_s=float("nan")),
        ),
        "machines": scheduler.SubmitRequest(
            request_id=str(uuid.uuid4()), spec=scheduler.JobSpec(source_sha256=source.sha256, machines=0)
        ),
    }
    for field, request in cases.items():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await manager.scheduler.Submit(request, **manager.credentials)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in str(refused.value.details())


async def test_submitting_an_unknown_source_is_not_found(manager: Running) -> None:
    """NO_SUCH_SOURCE, but only where sending it would be worth it: what else is wrong is told first."""
    request = scheduler.SubmitRequest(
        request_id=str(uuid.uuid4()), spec=scheduler.JobSpec(source_sha256="0" * 64, machines=1)
    )
    async with manager.volunteer(answers=False).attached():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await manager.scheduler.Submit(request, **manager.credentials)
        request.spec.machines = 1000
        with pytest.raises(grpc.aio.AioRpcError) as too_large:
            await manager.scheduler.Submit(request, **manager.credentials)

    assert reason(refused) == "NO_SUCH_SOURCE"
    assert reason(too_large) == "TOO_LARGE"


async def test_a_watch_shows_changes_and_ends_with_the_job(manager: Running) -> None:
    """The first picture comes at once, the last is of the ended job, and then the stream ends."""
    async with manager.volunteer(answers=False).attached() as volunteer:
        job_id = await manager.submit()
        call = manager.scheduler.WatchJob(scheduler.WatchJobRequest(job_id=job_id), **manager.credentials)
        pictures = aiter(call)
        first = await anext(pictures)
        await manager.scheduler.CancelJob(
            scheduler.CancelJobRequest(request_id=str(uuid.uuid4()), job_id=job_id), **manager.credentials
        )
        await volunteer.until(lambda: bool(volunteer.commands("release")))
        volunteer.answer(volunteer.commands("release")[0])
        states = [picture.job.state async for picture in pictures]

    assert first.job.state < common.JOB_STATE_STOPPING
    assert first.now.monotonic_ns > 0
    assert states[-1] == common.JOB_STATE_CANCELLED


async def test_draining_takes_a_node_out_of_use(manager: Running) -> None:
    """A drained node is told so and shown so, and comes back when resumed."""
    async with manager.volunteer().attached() as volunteer:
        for draining, state in ((True, scheduler.NODE_STATE_DRAINED), (False, scheduler.NODE_STATE_READY)):
            answer = await manager.scheduler.DrainNode(
                scheduler.DrainNodeRequest(
                    request_id=str(uuid.uuid4()), volunteer_id="node-a", draining=draining
                ),
                **manager.credentials,
            )
            nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)
            assert (answer.state, nodes.nodes[0].state) == (state, state)
        await volunteer.until(lambda: sum(m.HasField("drain") for m in volunteer.told) == 2)


async def test_the_cluster_is_told_in_numbers(start: Start, tmp_path: object) -> None:
    """GetCluster tells slots, epoch, limits and the default client."""
    async with start(max_source_bytes=1 << 20) as manager, manager.volunteer(slots=3).attached() as volunteer:
        cluster = await manager.scheduler.GetCluster(scheduler.GetClusterRequest(), **manager.credentials)

    assert (cluster.slots, cluster.free_slots, cluster.queued_jobs) == (3, 3, 0)
    assert cluster.cluster_id == volunteer.welcome.cluster_id
    assert cluster.epoch == 1
    assert cluster.max_source_bytes == 1 << 20
    assert (cluster.default_limits.memory_bytes, cluster.max_limits.pids) == (512 << 20, 4096)
    assert cluster.version


async def test_a_job_shows_what_its_tasks_may_use(start: Start) -> None:
    """What it asked for, the defaults for the rest; its volunteers are told the same."""
    async with start() as manager, manager.volunteer().attached() as volunteer:
        job = await manager.submit(limits=common.Limits(memory_bytes=1 << 30, pids=40))
        await volunteer.until(lambda: len(volunteer.commands("start")) == 1)
        shown = (await manager.job(job)).spec.limits

    assert (shown.memory_bytes, shown.pids, shown.disk_bytes) == (1 << 30, 40, 256 << 20)
    assert [command.prepare.limits for command in volunteer.commands("prepare")] == [shown]


async def test_a_limit_above_the_operators_is_refused_before_the_upload(start: Start) -> None:
    """Field, most and remedy are told to programs and people, where the source is not even known."""
    async with start(max_limits={"pids": 600}) as manager:
        spec = scheduler.JobSpec(source_sha256="a" * 64, machines=1, limits=common.Limits(pids=601))
        request = scheduler.SubmitRequest(request_id=str(uuid.uuid4()), spec=spec)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await manager.scheduler.Submit(request, **manager.credentials)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "limits.pids must be at most 600, not 601"
    told = trailer(caught.value)
    assert (told["syndicate-reason"], told["syndicate-meta-field"]) == ("BAD_FIELD", "limits.pids")
    assert (told["syndicate-meta-asked"], told["syndicate-meta-most"]) == ("601", "600")
    assert "max_limits.pids" in told["syndicate-meta-hint"]


async def test_users_take_turns(manager: Running) -> None:
    """With one slot, a second user's first job goes before the first user's second."""
    async with manager.volunteer(slots=1).attached() as volunteer:
        running = await manager.submit(user="alice")
        await volunteer.until(lambda: len(volunteer.commands("start")) == 1)
        second = await manager.submit(user="alice")
        other = await manager.submit(user="bob")
        volunteer.exit(volunteer.task("master"))
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)

    order = [command.task.job_id for command in volunteer.commands("start")]
    assert order == [running, other]
    assert second not in order


async def test_a_strange_user_name_is_not_believed(manager: Running) -> None:
    """An owner that is no name falls back to the token's holder."""
    async with manager.volunteer().attached():
        source = await upload(manager.scheduler, tarball(), manager.token)
        answer = await manager.scheduler.Submit(
            scheduler.SubmitRequest(
                request_id=str(uuid.uuid4()), spec=scheduler.JobSpec(source_sha256=source.sha256, machines=1)
            ),
            metadata=(*bearer(manager.token), ("syndicate-user", "../Root")),
            timeout=WAIT_S,
        )
        job = await manager.job(answer.job_id)

    assert job.owner == "admin"


async def test_many_submissions_at_once_all_get_their_own_job(manager: Running) -> None:
    """64 callers at once share commits, and each gets an id of its own."""
    async with manager.volunteer().attached():
        await manager.submit()
        made = await asyncio.gather(*(manager.submit() for _ in range(64)))
        page = await manager.scheduler.ListJobs(
            scheduler.ListJobsRequest(page_size=1000), **manager.credentials
        )

    assert len(set(made)) == 64
    assert {job.job_id for job in page.jobs} >= set(made)


async def test_repeated_fields_are_bounded(manager: Running) -> None:
    """Millions of values are refused before each is looked at; the same value twice counts once."""
    stub, credentials = manager.scheduler, manager.credentials
    async with manager.volunteer().attached():
        job_id = await manager.submit()
        with pytest.raises(grpc.aio.AioRpcError) as states:
            await stub.ListJobs(scheduler.ListJobsRequest(states=[1] * 500_000), **credentials)
        request = scheduler.ReadLogsRequest(job_id=job_id, tasks=["master"] * 100_000)
        with pytest.raises(grpc.aio.AioRpcError) as tasks:
            await stub.ReadLogs(request, **credentials).read()
        every = [number for number in common.JobState.values() if number]
        listed = await stub.ListJobs(scheduler.ListJobsRequest(states=every * 50), **credentials)

    assert [reason(states), reason(tasks)] == ["BAD_FIELD", "BAD_FIELD"]
    assert [job.job_id for job in listed.jobs] == [job_id]


async def test_the_store_is_not_asked_for_whom_there_cannot_be(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prepared statements would keep a megabyte each of who calls with many filters."""

    async def never(*_: object) -> list[object]:
        raise AssertionError

    monkeypatch.setattr(SqliteStore, "list_jobs", never)
    request = scheduler.ListJobsRequest(owner="a" * 1_000_000)

    assert not (await manager.scheduler.ListJobs(request, **manager.credentials)).jobs


async def test_users_send_no_large_messages(manager: Running) -> None:
    """What is larger than 1 MiB is refused before it is read; an upload's chunks are smaller."""
    request = scheduler.ListJobsRequest(owner="a" * (1 << 20))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await manager.scheduler.ListJobs(request, **manager.credentials)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
