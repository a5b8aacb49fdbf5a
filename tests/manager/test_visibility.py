"""Whose jobs, output and sources a user of a running manager is shown."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import grpc
import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.conftest import Running, Start
from tests.manager.people import (
    STAFF,
    Person,
    admin,
    code_and_reason,
    join,
    new_id,
    publish,
    running_job,
    to_the_end,
    until,
)
from tests.manager.scripted import WAIT_S, bearer, tarball, upload

ERROR = grpc.aio.AioRpcError


async def test_each_is_shown_their_own_jobs(manager: Running) -> None:
    """Own, the team's and what is published; staff all; in pages and by state and owner as well."""
    alice, bob = await join(manager, "alice", team="red"), await join(manager, "bob", team="red")
    carol, tutor = await join(manager, "carol"), await join(manager, "tutor", STAFF)
    async with manager.volunteer(slots=9).attached():
        sha256 = (await upload(manager.scheduler, tarball(), manager.token)).sha256
        made = {name: [] for name in ("alice", "bob", "carol", "tutor")}
        for _ in range(3):
            for person in (alice, bob, carol, tutor):
                made[person.name].append(await person.submit(sha256, machines=9, no_client=True))
        await publish(manager, made["tutor"][0])

        assert await alice.jobs() == sorted(made["alice"] + made["bob"] + made["tutor"][:1], reverse=True)
        assert await carol.jobs() == sorted(made["carol"] + made["tutor"][:1], reverse=True)
        assert await tutor.jobs() == sorted(itertools.chain(*made.values()), reverse=True)
        assert await alice.jobs(owner="bob") == made["bob"][::-1]
        assert await carol.jobs(owner="bob") == []
        assert await carol.jobs(owner="tutor") == made["tutor"][:1]
        queued = [common.JOB_STATE_QUEUED]
        first = await alice.stub.ListJobs(pb.ListJobsRequest(page_size=4, states=queued), **alice.says)
        rest = await alice.stub.ListJobs(
            pb.ListJobsRequest(page_size=4, states=queued, page_token=first.next_page_token), **alice.says
        )
        shown = [job.job_id for job in [*first.jobs, *rest.jobs]]
        assert shown == sorted(shown, reverse=True) and set(shown) <= set(await alice.jobs())
        assert len(shown) == len(set(shown)) == len(await alice.jobs(states=queued))


async def test_a_published_job_is_everybodys_to_see(manager: Running) -> None:
    """And nobody's any more when that is taken back: who watches it is told that it is not there."""
    alice, carol = await join(manager, "alice"), await join(manager, "carol")
    async with running_job(manager, alice, clients=1) as (job_id, _):
        await publish(manager, job_id)
        answer = await carol.stub.GetJob(pb.GetJobRequest(job_id=job_id), **carol.says)
        listed = (await carol.stub.ListJobs(pb.ListJobsRequest(), **carol.says)).jobs[0]
        watch = carol.stub.WatchJob(pb.WatchJobRequest(job_id=job_id), **carol.says)
        await watch.read()
        await publish(manager, job_id, False)
        with pytest.raises(ERROR) as gone:
            await to_the_end(watch)

    assert answer.job.published and answer.job.owner == "alice"
    assert not answer.job.spec.client_sha256 and not listed.spec.client_sha256
    assert code_and_reason(gone.value) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB")


async def test_a_waiting_job_names_no_job_that_one_may_not_see(manager: Running) -> None:
    """Neither the one whose end it waits for nor the one whose turn it is, until they are published."""
    alice, bob, carol = [await join(manager, name) for name in ("alice", "bob", "carol")]
    async with manager.volunteer(slots=3).attached():
        sha256 = (await upload(manager.scheduler, tarball(), manager.token)).sha256
        running = await alice.submit(sha256, machines=2, time_limit_s=600)
        await manager.reaches(running, common.JOB_STATE_RUNNING)
        first = await bob.submit(sha256, machines=3)
        behind = await carol.submit(sha256, machines=1, time_limit_s=3600)

        async def told(person: Person, job_id: int) -> str:
            answer = await person.stub.GetJob(pb.GetJobRequest(job_id=job_id), **person.says)
            return answer.job.waits_for

        hidden = [await told(bob, first), await told(carol, behind)]
        staffs = [await told(admin(manager), job_id) for job_id in (first, behind)]
        for job_id in (running, first):
            await publish(manager, job_id)
        shown = [await told(bob, first), await told(carol, behind)]

    assert hidden[0].startswith("2 of 3 slots (another user's job ends in at most ")
    assert hidden[1] == "its turn: another user's job goes first"
    for texts in (staffs, shown):
        assert texts[0].startswith(f"2 of 3 slots (job {running} ends in at most ")
        assert texts[1] == f"its turn: job {first} goes first"


async def test_slots_are_busy_with_jobs_that_one_may_not_see(manager: Running) -> None:
    """Which job it is, and which task, is told to those who see the job; all do once it is published."""
    alice, carol = await join(manager, "alice"), await join(manager, "carol")
    async with running_job(manager, alice) as (job_id, _):

        async def taken(person: Person) -> list[tuple[int, str, bool]]:
            (node,) = (await person.stub.ListNodes(pb.ListNodesRequest(), **person.says)).nodes
            return [(slot.job_id, slot.task, slot.busy) for slot in node.slots][:2]

        before = {person.name: await taken(person) for person in (alice, carol, admin(manager))}
        await publish(manager, job_id)
        published = await taken(carol)

    whole, free = (job_id, "master", True), (0, "", False)
    assert before == {"alice": [whole, free], "carol": [(0, "", True), free], "admin": [whole, free]}
    assert published == [whole, free]


async def test_what_clients_print_is_for_staff(manager: Running) -> None:
    """Left out for students, refused where it is named, shown once the job is published."""
    alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
    async with running_job(manager, alice, clients=1) as (job_id, volunteer):
        volunteer.log(volunteer.task("master"), 0, b"mine ")
        volunteer.log(volunteer.task("client-0"), 0, b"secret ")

        async def all_there() -> bool:
            return len(await tutor.log(job_id)) == len(b"mine secret ")

        await until(all_there)
        assert await alice.log(job_id) == b"mine "
        with pytest.raises(ERROR) as refused:
            await alice.log(job_id, "master", "client-0")
        await publish(manager, job_id)
        published = await alice.log(job_id, "client-0")

    assert code_and_reason(refused.value) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PUBLISHED")
    assert published == b"secret "


async def test_a_published_jobs_source_is_not_everybodys_to_run(manager: Running) -> None:
    """Its digest, by which it could be submitted as one's own, is for the owner, the team and staff."""
    alice, bob = await join(manager, "alice", team="red"), await join(manager, "bob", team="red")
    carol, tutor = await join(manager, "carol"), await join(manager, "tutor", STAFF)
    shown = {}
    async with running_job(manager, alice) as (job_id, _):
        await publish(manager, job_id)
        for person in (alice, bob, carol, tutor):
            whole = await person.stub.GetJob(pb.GetJobRequest(job_id=job_id), **person.says)
            listed = (await person.stub.ListJobs(pb.ListJobsRequest(), **person.says)).jobs[0]
            watch = person.stub.WatchJob(pb.WatchJobRequest(job_id=job_id), **person.says)
            first = await watch.read()
            watch.cancel()
            shown[person.name] = {bool(one.spec.source_sha256) for one in (whole.job, listed, first.job)}
    assert shown == {"alice": {True}, "bob": {True}, "carol": {False}, "tutor": {True}}


async def test_an_operator_may_publish_all_output(start: Start) -> None:
    """With `publish_client_logs` students see what clients print of the jobs that they see."""
    async with start(publish_client_logs=True) as manager:
        alice = await join(manager, "alice")
        async with running_job(manager, alice, clients=1) as (job_id, volunteer):
            volunteer.log(volunteer.task("client-0"), 0, b"open")

            async def there() -> bytes:
                return await alice.log(job_id, "client-0")

            assert await until(there) == b"open"


async def test_no_picture_quotes_a_client(manager: Running) -> None:
    """Its last words, as make gives them, and its source's digest are staff's; how it ended is told."""
    alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
    async with running_job(manager, alice, clients=1) as (job_id, volunteer):
        words = "make: *** [Makefile:2: client] the answer is 42. Stop."
        end = common.TaskExit(reason=common.REASON_EXITED_NONZERO, exit_status=2, detail=words)
        volunteer.exit(volunteer.task("client-0"), end=end)
        seen = await manager.reaches(job_id, common.JOB_STATE_UNKNOWN)
        pictures = {
            person.name: (await person.stub.GetJob(pb.GetJobRequest(job_id=job_id), **person.says)).job
            for person in (alice, tutor)
        }
        listed = (await alice.stub.ListJobs(pb.ListJobsRequest(), **alice.says)).jobs[0]
        watch = alice.stub.WatchJob(pb.WatchJobRequest(job_id=job_id), **alice.says)
        watched = (await watch.read()).job

    assert words in str(pictures["tutor"]) and words in str(seen)
    for picture in (pictures["alice"], listed, watched):
        assert "the answer" not in str(picture)
        assert not picture.spec.client_sha256 and picture.spec.clients == 1
    [client] = [task for task in pictures["alice"].tasks if task.ref.task == "client-0"]
    assert (client.exit.reason, client.exit.exit_status) == (common.REASON_EXITED_NONZERO, 2)
    assert pictures["alice"].result.text.startswith("client-0 ended without calling Finish")


async def test_a_student_cannot_run_the_default_client_as_a_job(start: Start, tmp_path: Path) -> None:
    """Its output would be shown as a master's. For students it is no source; as the client it goes along."""
    path = tmp_path / "client.tgz"
    path.write_bytes(tarball(Makefile="client:\n\ttrue\n"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    async with start(client=path) as manager, manager.volunteer().attached():
        alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        with pytest.raises(ERROR) as refused:
            await alice.submit(sha256, no_client=True)
        own = (await upload(manager.scheduler, tarball(), alice.token)).sha256
        assert await alice.submit(own, client_sha256=sha256)
        assert await tutor.submit(sha256, no_client=True)

    assert code_and_reason(refused.value) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_SOURCE")


async def test_a_former_default_client_stays_hidden(start: Start, tmp_path: Path) -> None:
    """What a student is told of a default client names no source, also when it is the default no more."""
    path = tmp_path / "client.tgz"
    path.write_bytes(tarball(Makefile="client:\n\ttrue\n"))
    question = pb.GetClusterRequest()
    async with start(client=path) as manager:
        alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        told = (await alice.stub.GetCluster(question, **alice.says)).default_client_sha256
        tutors = (await tutor.stub.GetCluster(question, **tutor.says)).default_client_sha256
    async with start() as manager, manager.volunteer().attached():
        alice = await join(manager, "alice")
        with pytest.raises(ERROR) as refused:
            await alice.submit(told, no_client=True)

    assert len(told) == 64 and tutors == hashlib.sha256(path.read_bytes()).hexdigest()
    assert code_and_reason(refused.value) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_SOURCE")


async def test_an_admin_submits_in_somebodys_name(manager: Running) -> None:
    """`syndicate-user` is an admin's word; from others it means nothing."""
    tutor = await join(manager, "tutor", STAFF)
    async with manager.volunteer().attached():
        theirs = await manager.submit(user="zoe")
        sha256 = (await upload(manager.scheduler, tarball(), manager.token)).sha256
        request = pb.SubmitRequest(request_id=new_id(), spec=pb.JobSpec(source_sha256=sha256, machines=1))
        metadata = (*bearer(tutor.token), ("syndicate-user", "zoe"))
        own = (await tutor.stub.Submit(request, metadata=metadata, timeout=WAIT_S)).job_id

        assert (await manager.job(theirs)).owner == "zoe"
        assert (await manager.job(own)).owner == "tutor"
