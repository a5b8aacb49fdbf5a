"""Users and tokens of a running manager: what each is shown, what ends with a token, what is written down."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.conftest import Running, Start
from tests.manager.people import (
    ADMIN,
    STAFF,
    STUDENT,
    Person,
    admin,
    audit,
    code_and_reason,
    join,
    new_id,
    put,
    running_job,
    until,
)
from tests.manager.scripted import WAIT_S, bearer, reason, tarball, trailer, upload

ERROR = grpc.aio.AioRpcError


async def who(person: Person) -> pb.WhoAmIResponse:
    """WhoAmI."""
    return await person.stub.WhoAmI(pb.WhoAmIRequest(), **person.says)


async def to_the_end(stream: Any) -> None:
    """Reads what comes until the stream ends."""
    while await stream.read() is not grpc.aio.EOF:
        pass


async def publish(manager: Running, job_id: int, published: bool = True) -> None:
    """Have the admin publish a job, or take that back."""
    request = pb.PublishJobRequest(request_id=new_id(), job_id=job_id, published=published)
    await manager.scheduler.PublishJob(request, **manager.credentials)


async def revoke(manager: Running, person: Person) -> None:
    """Have the admin revoke a user's token."""
    request = pb.RevokeTokenRequest(request_id=new_id(), token_id=person.token_id)
    await manager.scheduler.RevokeToken(request, **manager.credentials)


# ---- who one is -------------------------------------------------------------------------------------------


async def test_the_first_admin(manager: Running) -> None:
    """The token of the first start is the user `admin`'s, for all and for ever; its file is private."""
    told = await who(admin(manager))
    mode = stat.S_IMODE((manager.state_dir / "admin.token").stat().st_mode)

    assert (told.user.name, told.user.role) == ("admin", ADMIN)
    assert (told.token.token_id, told.token.scope) == ("admin", pb.TOKEN_SCOPE_ALL)
    assert not told.token.HasField("expires_at")
    assert mode == 0o600
    assert manager.token.startswith("syn_admin_") and len(manager.token) == len("syn_admin_") + 64


async def test_no_secret_is_stored(manager: Running) -> None:
    """Neither in the database nor in its log."""
    alice = await join(manager, "alice")
    await asyncio.to_thread(os.sync)
    stored = b"".join(path.read_bytes() for path in manager.state_dir.glob("manager.db*"))

    assert alice.token_id.encode() in stored
    for token in (alice.token, manager.token):
        assert token.rpartition("_")[2].encode() not in stored


async def test_a_secret_is_told_once(manager: Running) -> None:
    """A repeat of the request is told that the token was made."""
    await put(manager, pb.User(name="alice", role=STUDENT))
    request = pb.CreateTokenRequest(request_id=new_id(), user="alice", note="laptop", expires_in_s=3600)
    first = await manager.scheduler.CreateToken(request, **manager.credentials)
    again = await manager.scheduler.CreateToken(request, **manager.credentials)

    assert first.secret.startswith(f"syn_{first.token.token_id}_") and not again.secret
    assert again.token == first.token
    assert (first.token.user, first.token.note) == ("alice", "laptop")
    assert 0 < first.token.expires_at.utc_ns - first.token.created_at.utc_ns <= 3600 * 10**9


async def test_a_users_own_quota_and_use(manager: Running) -> None:
    """With the defaults filled in; a team's beside it."""
    alice = await join(manager, "alice", team="red", quota=pb.Quota(machines=7))
    async with running_job(manager, alice):
        told = await who(alice)

    assert told.user.quota == pb.Quota(running_jobs=-1, queued_jobs=20, submissions_per_day=500, machines=7)
    assert (told.usage.running_jobs, told.usage.machines) == (1, 1)
    assert told.usage.submissions_left == pytest.approx(499, abs=0.5)
    assert told.team_quota.machines == -1 and told.team_usage.running_jobs == 1
    assert told.team_usage.submissions_left == -1


async def test_identities_survive_a_restart(start: Start) -> None:
    """Users, tokens, what was revoked, and the same first token."""
    async with start() as manager:
        alice, gone = await join(manager, "alice"), await join(manager, "gone")
        await revoke(manager, gone)
        before = manager.token, manager.volunteer_token
    async with start() as manager:
        kept = Person("alice", alice.token, alice.token_id, manager.scheduler)
        assert (await who(kept)).user.name == "alice"
        with pytest.raises(ERROR) as refused:
            await manager.scheduler.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(gone.token), timeout=WAIT_S)
        assert reason(refused) == "BAD_TOKEN"
        assert (manager.token, manager.volunteer_token) == before


@pytest.mark.parametrize("was", ["", "k3-an-older-form_of-token"])
async def test_a_token_file_that_is_gone_is_made_again(start: Start, was: str) -> None:
    """What it had opens nothing any more; so one that got into wrong hands is replaced."""
    async with start() as manager:
        old = manager.token
        path = manager.state_dir / "admin.token"
    path.unlink()
    if was:
        path.write_text(was)
    async with start() as manager:
        assert manager.token not in (old, was)
        with pytest.raises(ERROR) as refused:
            await manager.scheduler.WhoAmI(pb.WhoAmIRequest(), metadata=bearer(old), timeout=WAIT_S)
        assert (await who(admin(manager))).user.name == "admin"
    assert reason(refused) == "BAD_TOKEN"


async def test_when_a_token_was_used_is_told(manager: Running) -> None:
    """Within minutes; here at the next round of housekeeping."""
    alice = await join(manager, "alice")

    async def used() -> bool:
        return (await who(alice)).token.HasField("last_used_at")

    assert not await used()
    assert await until(used)


# ---- whose jobs one is shown ------------------------------------------------------------------------------


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


# ---- what ends with a token -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired", "moved"])
async def test_a_stream_ends_with_what_opened_it(manager: Running, how: str) -> None:
    """Within seconds, though nothing happens in it; who only changed teams opens another."""
    alice = await join(manager, "alice", expires_in_s=1.5 if how == "expired" else 0)
    async with running_job(manager, alice) as (job_id, _):
        request = pb.ReadLogsRequest(job_id=job_id, follow=True)
        stream = alice.stub.ReadLogs(request, metadata=bearer(alice.token), timeout=WAIT_S)
        await stream.initial_metadata()
        if how == "revoked":
            await revoke(manager, alice)
        elif how != "expired":
            team = "red" if how == "moved" else ""
            await put(manager, pb.User(name="alice", role=STUDENT, team=team, disabled=how == "disabled"))
        with pytest.raises(ERROR) as ended:
            await stream.read()

    unknown, away = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE
    assert (
        code_and_reason(ended.value)
        == {
            "revoked": (unknown, "BAD_TOKEN"),
            "disabled": (unknown, "USER_DISABLED"),
            "expired": (unknown, "TOKEN_EXPIRED"),
            "moved": (away, "MANAGER_AWAY"),
        }[how]
    )


# ---- bounds of users --------------------------------------------------------------------------------------


async def test_calls_a_second_are_bounded(start: Start) -> None:
    """Who calls too often is told when to come again; others are not hindered, and staff may more often."""
    async with start(user_calls_per_s=1, user_calls_burst=5) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        tutor = await join(manager, "tutor", STAFF)
        for _ in range(5):
            await who(alice)
        with pytest.raises(ERROR) as refused:
            await who(alice)
        await who(bob)
        for _ in range(20):
            await who(tutor)
        for _ in range(100):
            await who(admin(manager))

    assert code_and_reason(refused.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
    assert 0 < float(trailer(refused.value)["syndicate-meta-retry_after_s"]) <= 1


async def test_streams_are_bounded(start: Start) -> None:
    """So many at a time, of all connections; one that ends makes room, and nobody else waits for it."""
    async with start(user_streams=3) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        async with running_job(manager, alice) as (job_id, _):
            request = pb.WatchJobRequest(job_id=job_id)
            open_ = [alice.stub.WatchJob(request, **alice.says) for _ in range(3)]
            for stream in open_:
                await stream.read()
            with pytest.raises(ERROR) as refused:
                await alice.stub.WatchJob(request, **alice.says).read()
            await bob.jobs()
            open_.pop().cancel()

            async def room() -> bool:
                try:
                    await alice.stub.WatchJob(request, **alice.says).read()
                except ERROR as error:
                    return error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
                return True

            assert await until(room)

    assert code_and_reason(refused.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")


async def test_a_quota_is_told_with_its_size(manager: Running) -> None:
    """RESOURCE_EXHAUSTED, the word, the most, and when to come again where waiting helps."""
    alice = await join(manager, "alice", quota=pb.Quota(submissions_per_day=1, machines=2))
    async with manager.volunteer(slots=4).attached():
        sha256 = (await upload(manager.scheduler, tarball(), manager.token)).sha256
        with pytest.raises(ERROR) as large:
            await alice.submit(sha256, machines=3, no_client=True)
        await alice.submit(sha256)
        with pytest.raises(ERROR) as many:
            await alice.submit(sha256)

    assert code_and_reason(large.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_MACHINES")
    assert trailer(large.value)["syndicate-meta-most"] == "2"
    assert code_and_reason(many.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_SUBMISSIONS")
    assert float(trailer(many.value)["syndicate-meta-retry_after_s"]) > 80_000


# ---- the audit log ----------------------------------------------------------------------------------------


async def test_changes_are_in_the_audit_log(manager: Running) -> None:
    """Who, what, about what, from where; what only looks is not."""
    alice = await join(manager, "alice")
    async with running_job(manager, alice) as (job_id, _):
        await alice.jobs()
        await publish(manager, job_id)
        request = pb.CancelJobRequest(request_id=new_id(), job_id=job_id)
        await alice.stub.CancelJob(request, **alice.says)
        await alice.stub.CancelJob(request, **alice.says)
        lines = await audit(manager, job_id=job_id)
        everything = await audit(manager)

    assert [(line.who, line.method) for line in lines] == [
        ("alice", "CancelJob"),
        ("admin", "PublishJob"),
        ("alice", "Submit"),
    ]
    assert all(line.allowed and line.peer == "127.0.0.1" and line.token_id for line in lines)
    assert {"PutUsers", "CreateToken", "UploadSource"} <= {line.method for line in everything}
    assert not {"ListJobs", "WatchJob"} & {line.method for line in everything}


async def test_the_audit_log_comes_in_pages(manager: Running) -> None:
    """Newest first, each line once."""
    for number in range(7):
        await put(manager, pb.User(name=f"user-{number}", role=STUDENT))
    lines: list[pb.AuditLine] = []
    token = ""
    while token or not lines:
        request = pb.ListAuditRequest(page_size=3, page_token=token)
        answer = await manager.scheduler.ListAudit(request, **manager.credentials)
        lines += answer.lines
        token = answer.next_page_token

    assert [line.subject for line in lines] == [f"user user-{number}" for number in range(6, -1, -1)]
    assert [line.line for line in lines] == list(range(7, 0, -1))


async def test_a_flood_of_denied_calls_makes_few_lines(manager: Running) -> None:
    """The first at once; the rest are counted, and told when the manager stops at the latest."""
    alice = await join(manager, "alice")
    for _ in range(50):
        with pytest.raises(ERROR):
            await alice.stub.ListAudit(pb.ListAuditRequest(), **alice.says)
        with pytest.raises(ERROR):
            await alice.stub.WhoAmI(pb.WhoAmIRequest(), metadata=bearer("no-token"), timeout=WAIT_S)

    lines = await audit(manager, denied=True)
    assert sorted((line.who, line.method, line.reason) for line in lines) == [
        ("", "WhoAmI", "BAD_TOKEN"),
        ("alice", "ListAudit", "ROLE_TOO_LOW"),
    ]


# ---- lists ------------------------------------------------------------------------------------------------


async def test_lists_of_users_teams_and_tokens_come_in_pages(manager: Running) -> None:
    """Each once, in order; a user by name; others' tokens for staff alone."""
    names = [f"user-{number}" for number in range(5)]
    await put(manager, *(pb.User(name=name, role=STUDENT, team=f"t-{name}") for name in names))
    alice = await join(manager, "alice")

    async def pages(call: Any, request: Any, field: str) -> list[Any]:
        rows: list[Any] = []
        while True:
            answer = await call(request, **manager.credentials)
            rows += getattr(answer, field)
            if not answer.next_page_token:
                return rows
            request.page_token = answer.next_page_token

    stub = manager.scheduler
    users = await pages(stub.ListUsers, pb.ListUsersRequest(page_size=2), "users")
    teams = await pages(stub.ListTeams, pb.ListTeamsRequest(page_size=2), "teams")
    tokens = await pages(stub.ListTokens, pb.ListTokensRequest(page_size=1, all=True), "tokens")
    one = (await stub.ListUsers(pb.ListUsersRequest(name="user-3"), **manager.credentials)).users
    with pytest.raises(ERROR) as refused:
        await stub.ListTokens(pb.ListTokensRequest(user="admin"), **alice.says)

    assert [user.name for user in users] == ["admin", "alice", *names]
    assert [(team.name, team.members) for team in teams] == [(f"t-{name}", 1) for name in names]
    assert [token.user for token in tokens] == ["alice", "admin"]
    assert [user.name for user in one] == ["user-3"]
    assert reason(refused) == "ROLE_TOO_LOW"


async def test_a_roster_is_imported_whole_or_not_at_all(manager: Running) -> None:
    """One bad name among many: its index is told, and nobody was added."""
    users = [pb.User(name=f"s-{number}", role=STUDENT) for number in range(300)]
    users[17].name = "Mr X"
    with pytest.raises(ERROR) as refused:
        await put(manager, *users)
    answer = await manager.scheduler.ListUsers(pb.ListUsersRequest(), **manager.credentials)
    users[17].name = "x"
    users[18].role = pb.USER_ROLE_UNSPECIFIED
    with pytest.raises(ERROR) as roleless:
        await put(manager, *users)

    assert code_and_reason(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
    assert trailer(refused.value)["syndicate-meta-index"] == "17"
    assert trailer(roleless.value)["syndicate-meta-field"] == "users[18].role"
    assert [user.name for user in answer.users] == ["admin"]
