"""SchedulerClient: users, teams, tokens, the audit log, and what a busy manager does to calls."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from syndicate.client_api import (
    Exhausted,
    LastAdmin,
    NoSuchJob,
    NoSuchToken,
    NoSuchUser,
    NotAllowed,
    NotAuthenticated,
    NotPublished,
    OutOfScope,
    QueueFull,
    QuotaUsedUp,
    RoleTooLow,
    SchedulerClient,
    SchedulerError,
    TokenExpired,
    TooManyCalls,
    TooManyTokens,
    UserDisabled,
    UserExists,
)
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.fake_identity import ADMIN, READ, STAFF, STUDENT, stamp
from tests.cli.fake_scheduler import TOKEN, FakeManager, ended_job, log
from tests.client_api.pauses import Pauses


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    with FakeManager() as fake:
        yield fake


@pytest.fixture
def client(manager: FakeManager) -> Iterator[SchedulerClient]:
    with SchedulerClient(manager.address, TOKEN, connect_for=60.0, insecure=True) as connected:
        yield connected


def student(manager: FakeManager, name: str = "eve", **values: str) -> SchedulerClient:
    """A connection of a student's."""
    secret = manager.scheduler.add_user(name, STUDENT, **values)
    return SchedulerClient(manager.address, secret, insecure=True)


def test_users_are_put_listed_and_found(client: SchedulerClient) -> None:
    """Added and changed are counted; a list goes over all pages; a name that is nobody's is an error."""
    names = [f"user-{number}" for number in range(5)]
    users = [scheduler.User(name=name, role=STUDENT) for name in names]
    assert client.put_users(users).added == 5
    assert client.put_users([scheduler.User(name="user-3", role=STUDENT, team="red")]).changed == 1
    assert [user.name for user in client.users()] == ["root", *names]
    assert client.user("user-3").team == "red"
    with pytest.raises(NoSuchUser, match="no user nobody"):
        client.user("nobody")


def test_users_that_must_be_new(client: SchedulerClient) -> None:
    """One that is there is told by name, and none is added."""
    client.put_users([scheduler.User(name="eve", role=STUDENT)])
    with pytest.raises(UserExists) as caught:
        client.put_users([scheduler.User(name=name, role=STUDENT) for name in ("ann", "eve")], only_new=True)
    assert caught.value.metadata == {"name": "eve"}
    assert [user.name for user in client.users()] == ["eve", "root"]


def test_somebody_stays_admin(client: SchedulerClient) -> None:
    """The last admin can be neither disabled nor made a student."""
    with pytest.raises(LastAdmin):
        client.put_users([scheduler.User(name="root", role=STUDENT)])
    with pytest.raises(LastAdmin):
        client.put_users([scheduler.User(name="root", role=ADMIN, disabled=True)])


def test_teams_are_put_and_listed(client: SchedulerClient, manager: FakeManager) -> None:
    """A team is new once, and counts its members."""
    assert client.put_team(scheduler.Team(name="red"))
    assert not client.put_team(scheduler.Team(name="red", quota=scheduler.Quota(machines=4)))
    manager.scheduler.add_user("eve", team="red")
    [team] = client.teams()
    assert (team.members, team.quota.machines) == (1, 4)


def test_a_token_is_told_once(client: SchedulerClient, manager: FakeManager) -> None:
    """It works for its user; lists never hold it; once revoked it is a wrong one."""
    manager.scheduler.add_user("eve")
    made = client.create_token(user="eve", note="laptop", expires_in_s=60.0)
    with SchedulerClient(manager.address, made.secret, insecure=True) as eve:
        assert eve.whoami().user.name == "eve"
        assert made.secret not in str(list(client.tokens(everybody=True)))
        assert next(client.tokens(user="eve")).token_id == made.token.token_id
        assert client.revoke_token(made.token.token_id).HasField("revoked_at")
        with pytest.raises(NotAuthenticated):
            eve.whoami()
    with pytest.raises(NoSuchToken):
        client.revoke_token("t-99")


def test_a_token_whose_answer_was_lost_is_revoked(client: SchedulerClient, manager: FakeManager) -> None:
    """Nobody knows its secret: it is ended, and another one is made; three in a row are an error."""
    manager.scheduler.lost_secrets = 1
    made = client.create_token()
    lost, kept = list(manager.scheduler.tokens.values())[-2:]
    assert made.secret and made.token.token_id == kept.token_id
    assert lost.HasField("revoked_at") and not kept.HasField("revoked_at")
    manager.scheduler.lost_secrets = 3
    with pytest.raises(SchedulerError, match="answers were lost"):
        client.create_token()


def test_a_job_is_published(client: SchedulerClient, manager: FakeManager) -> None:
    """A stranger sees it, with its clients' output, from then on and until it is taken back."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [[log("client-0", 0, b"graded\n", 1.0)]]
    with student(manager) as eve:
        with pytest.raises(NoSuchJob):
            eve.job(12)
        assert client.publish(12)
        assert eve.job(12).published
        assert [answer.piece.data for answer in eve.logs(12)] == [b"graded\n"]
        assert not client.publish(12, published=False)
        assert list(eve.jobs()) == []


def test_the_audit_log_is_read_by_staff(client: SchedulerClient, manager: FakeManager) -> None:
    """Newest first, by user, by job, and what was denied; it is not for students."""
    for number, (who, subject, allowed) in enumerate(
        (("eve", "job 7", True), ("eve", "job 8", False), ("ann", "job 7", True)), 1
    ):
        manager.scheduler.lines.append(
            scheduler.AuditLine(line=number, at=stamp(number), who=who, subject=subject, allowed=allowed)
        )
    assert [line.line for line in client.audit()] == [3, 2, 1]
    assert [line.line for line in client.audit(user="eve")] == [2, 1]
    assert [line.line for line in client.audit(job_id=7)] == [3, 1]
    assert [line.line for line in client.audit(denied=True)] == [2]
    with student(manager) as eve, pytest.raises(RoleTooLow) as caught:
        next(eve.audit())
    assert caught.value.metadata == {"needs": "staff"}


def test_what_a_token_lacks_is_typed(client: SchedulerClient, manager: FakeManager) -> None:
    """Expired, disabled, too narrow and not published are told apart, under their common names."""
    fake = manager.scheduler
    fake.add_user("eve")
    fake.jobs[12] = ended_job()
    fake.jobs[12].owner = "eve"
    fake.add_token("eve", "old", expires_at=stamp(1))
    fake.add_token("eve", "narrow", scope=READ)
    with SchedulerClient(manager.address, "old", insecure=True) as eve, pytest.raises(TokenExpired):
        eve.whoami()
    with SchedulerClient(manager.address, "narrow", insecure=True) as eve:
        with pytest.raises(OutOfScope) as caught:
            eve.submit(scheduler.JobSpec(machines=1))
        with pytest.raises(NotPublished):
            list(eve.logs(12, tasks=["client-0"]))
    assert caught.value.metadata == {"needs": "submit"}
    fake.users["eve"].disabled = True
    with SchedulerClient(manager.address, "narrow", insecure=True) as eve, pytest.raises(UserDisabled):
        eve.whoami()
    assert issubclass(TokenExpired, NotAuthenticated) and issubclass(UserDisabled, NotAuthenticated)
    assert all(issubclass(kind, NotAllowed) for kind in (RoleTooLow, OutOfScope, NotPublished))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("QUOTA_QUEUED", QuotaUsedUp),
        ("QUOTA_SUBMISSIONS", QuotaUsedUp),
        ("QUOTA_MACHINES", QuotaUsedUp),
        ("QUEUE_FULL", QueueFull),
        ("TOO_MANY_STREAMS", TooManyCalls),
        ("TOO_MANY_TOKENS", TooManyTokens),
        ("SOMETHING_NEW", Exhausted),
    ],
)
def test_bounds_are_typed(
    client: SchedulerClient, manager: FakeManager, reason: str, kind: type[Exhausted]
) -> None:
    """Each tells the bound and how long to wait, where the manager says so; none of these is waited for."""
    values = {"most": "20", "retry_after_s": "3600.5"}
    manager.scheduler.submit_error = (grpc.StatusCode.RESOURCE_EXHAUSTED, reason, "no more", values)
    with pytest.raises(kind) as caught:
        client.submit(scheduler.JobSpec(machines=1))
    assert (caught.value.most, caught.value.retry_after_s) == (20.0, 3600.5)
    manager.scheduler.submit_error = (grpc.StatusCode.RESOURCE_EXHAUSTED, reason, "", {"most": "nan"})
    with pytest.raises(kind) as caught:
        client.submit(scheduler.JobSpec(machines=1))
    assert (caught.value.most, caught.value.retry_after_s) == (None, None)


def test_a_call_that_came_too_soon_waits_its_turn(client: SchedulerClient, manager: FakeManager) -> None:
    """As long as the manager asks for, also for a stream; then it is made again, once."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.busy = ["0.2", "0.1"]
    started = time.monotonic()
    assert client.submit(scheduler.JobSpec(machines=1)) == 12
    assert time.monotonic() - started >= 0.3
    assert len(manager.scheduler.submitted) == 1
    manager.scheduler.busy = ["0.2"]
    started = time.monotonic()
    assert [answer.job.job_id for answer in client.watch(12)] == [12]
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("after", ["60", "soon", "-1"])
def test_a_call_does_not_wait_beyond_its_time(manager: FakeManager, after: str) -> None:
    """Where the pause would outlast the call, or makes no sense, the error comes at once."""
    manager.scheduler.busy = [after]
    with SchedulerClient(manager.address, TOKEN, timeout=50.0, insecure=True) as client:
        started = time.monotonic()
        with pytest.raises(TooManyCalls):
            client.whoami()
        assert time.monotonic() - started < 20


def test_pauses_add_up(manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that puts a call off again and again is given up when the call's time is over."""
    manager.scheduler.busy = ["20.0"] * 100
    pauses = Pauses()
    with SchedulerClient(manager.address, TOKEN, timeout=60.0, insecure=True) as client:
        pauses.of(client._retrying, monkeypatch)
        with pytest.raises(TooManyCalls):
            client.whoami()
    assert 40.0 <= pauses.now <= 60.0
    assert len(manager.scheduler.busy) == 97


def test_staff_makes_no_staff(manager: FakeManager) -> None:
    """What only an admin may is refused as such."""
    secret = manager.scheduler.add_user("tutor", STAFF)
    with SchedulerClient(manager.address, secret, insecure=True) as tutor:
        with pytest.raises(RoleTooLow):
            tutor.put_users([scheduler.User(name="friend", role=STAFF)])
        assert tutor.put_users([scheduler.User(name="eve", role=STUDENT)]).added == 1
