"""Every method of the users' door for every kind of caller, over real channels."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from syndicate.manager.core.access import CLIENTS_ONLY, RULES
from syndicate.v1 import chaos_pb2, common_pb2, registry_pb2, scheduler_pb2
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager import people
from tests.manager.conftest import Running
from tests.manager.people import ADMIN, STAFF, STUDENT, Person, code_and_reason, join, new_id, put
from tests.manager.scripted import bearer, tarball, upload
from tests.manager.test_doors import knock, methods

USERS = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
CHAOS = chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"]
VOLUNTEERS = [
    registry_pb2.DESCRIPTOR.services_by_name["Registry"],
    chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"],
]

Answer = tuple[grpc.StatusCode, str]
OK = (grpc.StatusCode.OK, "")
LOW = (grpc.StatusCode.PERMISSION_DENIED, "ROLE_TOO_LOW")
SCOPE = (grpc.StatusCode.PERMISSION_DENIED, "OUT_OF_SCOPE")
NO_JOB = (grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB")
NO_DISKS = (grpc.StatusCode.NOT_FOUND, "NO_DISKS")
NO_TOKEN = (grpc.StatusCode.NOT_FOUND, "NO_SUCH_TOKEN")
BAD = (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")
EXPIRED = (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
DISABLED = (grpc.StatusCode.UNAUTHENTICATED, "USER_DISABLED")

HIDDEN = (grpc.StatusCode.PERMISSION_DENIED, "NOT_PUBLISHED")
OVER = (grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_RUNNING")
NO_CLIENT = (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_CLIENT")

COLUMNS = ("owner", "mate", "other", "staff", "admin")
# What each is answered who asks about a job, or a token, of the owner's.
TABLE: dict[str, tuple[Answer, Answer, Answer, Answer, Answer]] = {
    "UploadSource": (OK, OK, OK, OK, OK),
    "Submit": (OK, OK, OK, OK, OK),
    "CancelJob": (OK, LOW, NO_JOB, OK, OK),
    "GetJob": (OK, OK, NO_JOB, OK, OK),
    "ListJobs": (OK, OK, OK, OK, OK),
    "WatchJob": (OK, OK, NO_JOB, OK, OK),
    "ReadLogs": (OK, OK, NO_JOB, OK, OK),
    "ReadDisks": (NO_DISKS, NO_DISKS, NO_JOB, NO_DISKS, NO_DISKS),  # the job kept none
    "ReadHistories": (HIDDEN, HIDDEN, NO_JOB, OK, OK),  # what clients print is hidden, too
    "ListBarriers": (OVER, OVER, NO_JOB, OVER, OVER),
    "DropBarriers": (OVER, LOW, NO_JOB, OVER, OVER),
    "ListNodes": (OK, OK, OK, OK, OK),
    "DrainNode": (LOW, LOW, LOW, OK, OK),
    "GetCluster": (OK, OK, OK, OK, OK),
    "PublishJob": (LOW, LOW, LOW, OK, OK),
    "WhoAmI": (OK, OK, OK, OK, OK),
    "PutUsers": (LOW, LOW, LOW, OK, OK),
    "ListUsers": (LOW, LOW, LOW, OK, OK),
    "PutTeam": (LOW, LOW, LOW, OK, OK),
    "ListTeams": (LOW, LOW, LOW, OK, OK),
    "CreateToken": (OK, OK, OK, OK, OK),
    "ListTokens": (OK, OK, OK, OK, OK),
    "RevokeToken": (OK, NO_TOKEN, NO_TOKEN, OK, OK),
    "ListAudit": (LOW, LOW, LOW, OK, OK),
}
# The same of ChaosControl. The job has ended, and nobody can break it any more.
_BREAKS = (OVER, LOW, NO_JOB, OVER, OVER)
_LOOKS = (OK, OK, NO_JOB, OK, OK)
CHAOS_TABLE: dict[str, tuple[Answer, Answer, Answer, Answer, Answer]] = {
    "Kill": _BREAKS,
    "Revive": _BREAKS,
    "Disconnect": _BREAKS,
    "Reconnect": _BREAKS,
    "Reset": _BREAKS,
    "Partition": _BREAKS,
    "Degrade": _BREAKS,
    "Pause": _BREAKS,
    "Resume": _BREAKS,
    "DiskFull": _BREAKS,
    "Signal": _BREAKS,
    "Heal": _BREAKS,
    "ListFaults": _LOOKS,
    "PutHistory": (NO_CLIENT,) * 5,
    "GatherHistories": (NO_CLIENT,) * 5,
    "ReadHistory": (NO_CLIENT,) * 5,
    "Finish": (NO_CLIENT,) * 5,
    "ListMembers": _LOOKS,
    "Ping": _LOOKS,
}
# What a token for looking opens; one for submitting opens these too.
READS = {
    *("GetJob", "ListJobs", "WatchJob", "ReadLogs", "ReadHistories", "ListNodes", "GetCluster", "WhoAmI"),
    *("ReadDisks", "ListBarriers", "ListUsers", "ListTeams", "ListTokens", "ListAudit"),
}
SUBMITS = READS | {"UploadSource", "Submit", "CancelJob"}


def test_no_method_is_left_out() -> None:
    """One that is added to the protos needs a row here, too."""
    assert set(TABLE) == {method.name for method in USERS.methods}
    assert set(CHAOS_TABLE) == {method.name for method in CHAOS.methods}


@dataclass
class Stage:
    """A manager with a job of `owner`'s that has ended, and people around it."""

    manager: Running
    job_id: int
    sha256: str
    token_id: str
    people: dict[str, Person]

    def request(self, method: str) -> Message:
        """A request that is right in itself, about the owner's job or token."""
        fresh = new_id()
        spec = pb.JobSpec(source_sha256=self.sha256, machines=1)
        requests: dict[str, Callable[[], Message]] = {
            "UploadSource": lambda: pb.UploadSourceRequest(
                header=pb.UploadHeader(request_id=fresh, sha256=self.sha256, size=1)
            ),
            "Submit": lambda: pb.SubmitRequest(request_id=fresh, spec=spec),
            "CancelJob": lambda: pb.CancelJobRequest(request_id=fresh, job_id=self.job_id),
            "GetJob": lambda: pb.GetJobRequest(job_id=self.job_id),
            "ListJobs": lambda: pb.ListJobsRequest(),
            "WatchJob": lambda: pb.WatchJobRequest(job_id=self.job_id),
            "ReadLogs": lambda: pb.ReadLogsRequest(job_id=self.job_id),
            "ReadDisks": lambda: pb.ReadDisksRequest(job_id=self.job_id),
            "ReadHistories": lambda: pb.ReadHistoriesRequest(job_id=self.job_id),
            "ListBarriers": lambda: pb.ListBarriersRequest(job_id=self.job_id),
            "DropBarriers": lambda: pb.DropBarriersRequest(request_id=fresh, job_id=self.job_id),
            "ListNodes": lambda: pb.ListNodesRequest(),
            "DrainNode": lambda: pb.DrainNodeRequest(request_id=fresh, volunteer_id="node-a"),
            "GetCluster": lambda: pb.GetClusterRequest(),
            "PublishJob": lambda: pb.PublishJobRequest(request_id=fresh, job_id=self.job_id),
            "WhoAmI": lambda: pb.WhoAmIRequest(),
            "PutUsers": lambda: pb.PutUsersRequest(
                request_id=fresh, users=[pb.User(name="new", role=STUDENT)]
            ),
            "ListUsers": lambda: pb.ListUsersRequest(),
            "PutTeam": lambda: pb.PutTeamRequest(request_id=fresh, team=pb.Team(name="blue")),
            "ListTeams": lambda: pb.ListTeamsRequest(),
            "CreateToken": lambda: pb.CreateTokenRequest(request_id=fresh),
            "ListTokens": lambda: pb.ListTokensRequest(),
            "RevokeToken": lambda: pb.RevokeTokenRequest(request_id=fresh, token_id=self.token_id),
            "ListAudit": lambda: pb.ListAuditRequest(),
        }
        return requests[method]()

    async def answers(self, token: str | None) -> dict[str, Answer]:
        """What each method answers to whoever shows this token."""
        found = {}
        for path in methods(USERS):
            method = path.rpartition("/")[2]
            message = self.request(method).SerializeToString()
            metadata = bearer(token) if token is not None else ()
            found[method] = code_and_reason(await knock(self.manager.users, path, metadata, message))
        return found

    async def chaos_answers(self, token: str, job: str | None = None) -> dict[str, Answer]:
        """The same of ChaosControl, about the owner's job unless another is named."""
        found = {}
        metadata = (*bearer(token), ("syndicate-job", str(self.job_id) if job is None else job))
        for path in methods(CHAOS):
            name = path.rpartition("/")[2]
            request = getattr(chaos_pb2, f"{name}Request")()
            if "request_id" in request.DESCRIPTOR.fields_by_name:
                request.request_id = new_id()
            error = await knock(self.manager.users, path, metadata, request.SerializeToString())
            found[name] = code_and_reason(error)
        return found


async def joined(manager: Running) -> dict[str, Person]:
    """The people, by what they are to a job of `owner`'s."""
    return {
        "owner": await join(manager, "alice", team="red"),
        "mate": await join(manager, "bob", team="red"),
        "other": await join(manager, "carol"),
        "staff": await join(manager, "tutor", STAFF),
        "admin": await join(manager, "root", ADMIN),
    }


@asynccontextmanager
async def staged(manager: Running) -> AsyncIterator[Stage]:
    """The stage, its volunteer attached."""
    async with manager.volunteer(exit_at_start=True).attached():
        cast = await joined(manager)
        source = await upload(manager.scheduler, tarball(), manager.token)
        job_id = await cast["owner"].submit(source.sha256)
        await manager.reaches(job_id, common_pb2.JOB_STATE_SUCCEEDED)
        spare = await join(manager, "alice", team="red")
        yield Stage(manager, job_id, source.sha256, spare.token_id, cast)


@pytest.mark.parametrize("column", COLUMNS)
async def test_who_is_known(manager: Running, column: str) -> None:
    """Allowed, refused, or not there: as the table has it for each role and each nearness to the job."""
    async with staged(manager) as stage:
        answers = await stage.answers(stage.people[column].token)
    assert answers == {method: row[COLUMNS.index(column)] for method, row in TABLE.items()}


@pytest.mark.parametrize("column", COLUMNS)
async def test_who_is_told_of_a_job_beside_it(manager: Running, column: str) -> None:
    """That slots are taken, and until when, everybody; which job has them who sees that job."""
    cast = await joined(manager)
    person = cast[column]
    sha256 = (await upload(manager.scheduler, tarball(), manager.token)).sha256
    async with manager.volunteer(slots=1).attached():
        running = await cast["owner"].submit(sha256)
        await manager.reaches(running, common_pb2.JOB_STATE_RUNNING)
        waiting = await person.submit(sha256)
        got = (await person.stub.GetJob(pb.GetJobRequest(job_id=waiting), **person.says)).job
        watch = person.stub.WatchJob(pb.WatchJobRequest(job_id=waiting), **person.says)
        watched = (await watch.read()).job
        watch.cancel()
        (node,) = (await person.stub.ListNodes(pb.ListNodesRequest(), **person.says)).nodes

    sees = column != "other"
    which = f"job {running}" if sees else "another user's job"
    for picture in (got, watched):
        assert re.fullmatch(rf"1 of 1 slot \({which} ends in at most [0-9 a-z]+\)", picture.waits_for)
    assert list(node.slots) == [
        pb.NodeSlot(slot=0, busy=True, job_id=running, task="master")
        if sees
        else pb.NodeSlot(slot=0, busy=True)
    ]


@pytest.mark.parametrize("column", COLUMNS)
async def test_who_breaks_a_job(manager: Running, column: str) -> None:
    """ChaosControl for users: the owner's and staff's, its ledger everybody's who sees the job."""
    async with staged(manager) as stage:
        answers = await stage.chaos_answers(stage.people[column].token)
    assert answers == {method: row[COLUMNS.index(column)] for method, row in CHAOS_TABLE.items()}


@pytest.mark.parametrize("scope", [pb.TOKEN_SCOPE_READ, pb.TOKEN_SCOPE_SUBMIT])
async def test_a_narrow_token_looks_at_faults(manager: Running, scope: pb.TokenScope.ValueType) -> None:
    """To break takes all of what its user may do."""
    narrow = await join(manager, "careful", ADMIN, scope=scope)
    async with staged(manager) as stage:
        answers = await stage.chaos_answers(narrow.token)
    opens = {method for method, row in CHAOS_TABLE.items() if row is _LOOKS}
    assert answers == {method: OK if method in opens else SCOPE for method in CHAOS_TABLE}


@pytest.mark.parametrize("job", ["", "x", "-1", "1" * 30])
async def test_a_job_that_is_named_wrongly(manager: Running, job: str) -> None:
    """BAD_FIELD; one that never was is not there."""
    bad = (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
    async with staged(manager) as stage:
        answers = await stage.chaos_answers(stage.people["admin"].token, job)
        none = await stage.chaos_answers(stage.people["admin"].token, "404")
    assert {word for method, word in answers.items() if method not in CLIENTS_ONLY} == {bad}
    assert {word for method, word in none.items() if method not in CLIENTS_ONLY} == {NO_JOB}


async def test_what_is_denied_of_faults_names_the_job(manager: Running) -> None:
    """In the audit log, as of other calls."""
    async with staged(manager) as stage:
        await stage.chaos_answers(stage.people["other"].token)
        lines = await people.audit(manager, user="carol", denied=True)
        job_id = stage.job_id
    assert {line.subject for line in lines if line.method == "Kill"} == {f"job {job_id}"}


@pytest.mark.parametrize(("scope", "opens"), [(pb.TOKEN_SCOPE_READ, READS), (pb.TOKEN_SCOPE_SUBMIT, SUBMITS)])
async def test_a_narrow_token(manager: Running, scope: pb.TokenScope.ValueType, opens: set[str]) -> None:
    """Even an admin's opens only what its scope has."""
    narrow = await join(manager, "careful", ADMIN, scope=scope)
    async with staged(manager) as stage:
        answers = await stage.answers(narrow.token)
    opened = {method: TABLE[method][COLUMNS.index("admin")] for method in opens}
    assert answers == dict.fromkeys(TABLE, SCOPE) | opened


async def test_who_is_not_known(manager: Running) -> None:
    """Nothing opens without a token, or with one of another door, revoked, garbled, expired or disabled."""
    revoked = await join(manager, "dave")
    request = pb.RevokeTokenRequest(request_id=new_id(), token_id=revoked.token_id)
    await manager.scheduler.RevokeToken(request, **manager.credentials)
    disabled = await join(manager, "erin")
    await put(manager, pb.User(name="erin", role=STUDENT, disabled=True))
    expired = await join(manager, "frank", expires_in_s=0.001)
    await asyncio.sleep(0.01)
    shown: dict[str | None, Answer] = {
        None: BAD,
        "": BAD,
        "x": BAD,
        "syn__": BAD,
        "syn_admin_": BAD,
        f"syn_admin_{'0' * 64}": BAD,
        manager.token[:-1]: BAD,
        f"{manager.token}0": BAD,
        manager.token.swapcase(): BAD,
        manager.token.replace("syn_admin", f"syn_{revoked.token_id}"): BAD,
        revoked.token: BAD,
        manager.volunteer_token: BAD,
        disabled.token: DISABLED,
        expired.token: EXPIRED,
    }
    async with staged(manager) as stage:
        for token, expected in shown.items():
            answers = await stage.answers(token)
            assert set(answers.values()) == {expected}, token


@pytest.mark.parametrize("column", COLUMNS)
async def test_no_users_token_opens_the_volunteers_door(manager: Running, column: str) -> None:
    """Neither Registry's nor ChaosControl's there: not for an admin either."""
    roles = {"staff": STAFF, "admin": ADMIN}
    who = await join(manager, "eve", roles.get(column, STUDENT), team="red")
    for token in (who.token, manager.token):
        for path in methods(*VOLUNTEERS):
            error = await knock(manager.volunteers, path, bearer(token))
            assert code_and_reason(error) == BAD, path


async def test_what_is_denied_is_in_the_audit_log(manager: Running) -> None:
    """Each denied call of the table, with who, by which token, from where, what about, and why."""
    async with staged(manager) as stage:
        other = stage.people["other"]
        answers = await stage.answers(other.token)
        lines = await people.audit(manager, user="carol", denied=True)
    denied = {method: word for method, (code, word) in answers.items() if code is not grpc.StatusCode.OK}
    assert {line.method: line.reason for line in lines} == denied
    assert {line.token_id for line in lines} == {other.token_id}
    assert {line.peer for line in lines} == {"127.0.0.1"}
    assert {line.subject for line in lines if line.method == "GetJob"} == {f"job {stage.job_id}"}


async def test_what_is_changed_is_in_the_audit_log(manager: Running) -> None:
    """Each changing method of the table has its line, with who, by which token and from where."""
    async with staged(manager) as stage:
        admin = stage.people["admin"]
        await stage.answers(admin.token)
        lines = await people.audit(manager, user="root")
    changing = {method for method, rule in RULES.items() if rule.changes}
    # Its source was known already, and there were no barriers any more.
    assert {line.method for line in lines} == changing - {"UploadSource", "DropBarriers"}
    assert {(line.token_id, line.peer) for line in lines} == {(admin.token_id, "127.0.0.1")}
    assert all(line.allowed and line.at.utc_ns for line in lines)
