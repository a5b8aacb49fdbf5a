"""Every method of the volunteers' services for every kind of caller, over real channels with TLS."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from syndicate.manager.core.access import CLIENTS_ONLY
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.authorities import Pair, of_bundle, request
from tests.manager.certified import LOCAL, Place, running
from tests.manager.conftest import Start
from tests.manager.people import code_and_reason
from tests.manager.scripted import ScriptedVolunteer, bearer, stamp, tarball, upload
from tests.manager.test_doors import knock_on, methods

SCHEDULER = scheduler.DESCRIPTOR.services_by_name["Scheduler"]
REGISTRY = registry.DESCRIPTOR.services_by_name["Registry"]
CHAOS = chaos.DESCRIPTOR.services_by_name["ChaosControl"]

Answer = tuple[grpc.StatusCode, str]
Metadata = tuple[tuple[str, str], ...]
OK = (grpc.StatusCode.OK, "")
SHUT = (grpc.StatusCode.UNAVAILABLE, "")  # the handshake fails, and no method is reached
NOT_HERE = (grpc.StatusCode.UNIMPLEMENTED, "")
BAD_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")
BAD_JOIN = (grpc.StatusCode.PERMISSION_DENIED, "BAD_JOIN_TOKEN")
WRONG = (grpc.StatusCode.PERMISSION_DENIED, "WRONG_IDENTITY")
BAD_HELLO = (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")  # whose it is was looked at before
REVOKED = (grpc.StatusCode.PERMISSION_DENIED, "CERTIFICATE_REVOKED")
NOT_YET = (grpc.StatusCode.FAILED_PRECONDITION, "NO_SUCH_TASK")  # no slot is being given back
NO_CLIENT = (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_CLIENT")
NO_MEMBER = (grpc.StatusCode.NOT_FOUND, "NO_SUCH_MEMBER")

COLUMNS = ("holder", "holders-master", "other-volunteer", "with-its-stream", "other-job", "revoked", "nobody")
# Of whom: the volunteer that holds the job, for its client and for its master; another volunteer, over its
# own stream and naming the holder's; a client of another job; a revoked certificate; none, with a token.
# In the order in which they are asked: what ends something comes last.
_FAULT = (OK, NO_CLIENT, NO_CLIENT, WRONG, NO_MEMBER, REVOKED, SHUT)
TABLE: dict[str, tuple[Answer, ...]] = {
    "Ping": (OK, OK, OK, WRONG, OK, REVOKED, SHUT),
    "ListMembers": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "ListFaults": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "Disconnect": _FAULT,
    "Reconnect": _FAULT,
    "Reset": _FAULT,
    "Partition": _FAULT,
    "Degrade": _FAULT,
    "Pause": _FAULT,
    "Signal": _FAULT,
    "Resume": _FAULT,
    "DiskFull": _FAULT,
    "Heal": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "Kill": _FAULT,
    "Revive": _FAULT,
    "PutHistory": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "GatherHistories": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "ReadHistory": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "Finish": (OK, NO_CLIENT, NO_CLIENT, WRONG, OK, REVOKED, SHUT),
    "FetchSource": (OK, OK, OK, OK, OK, REVOKED, SHUT),
    "PutDisk": (NOT_YET, NOT_YET, NOT_YET, WRONG, NOT_YET, REVOKED, SHUT),
    "Join": (BAD_JOIN, BAD_JOIN, BAD_JOIN, BAD_JOIN, BAD_JOIN, REVOKED, SHUT),
    "Renew": (OK, OK, OK, OK, OK, REVOKED, SHUT),
    "Attach": (BAD_HELLO, BAD_HELLO, WRONG, WRONG, WRONG, REVOKED, SHUT),
}


def test_no_method_is_left_out() -> None:
    """One that is added to the protos needs a row here, too."""
    assert set(TABLE) == {method.name for service in (REGISTRY, CHAOS) for method in service.methods}


@dataclass
class Stage:
    """A job with a client on each of two volunteers, `node-a` and `node-b`."""

    place: Place
    sha256: str
    pairs: dict[str, Pair]
    volunteers: dict[str, ScriptedVolunteer]

    def request(self, method: str) -> Message:
        """A request about the job on `node-a`, right in itself; a Hello that is would end a stream."""
        prepare = self.volunteers["node-a"].commands("prepare")[-1].prepare
        addresses = {member.task: member.address for member in prepare.members}
        ip, fresh = addresses["slave-0"], str(uuid.uuid4())
        asked, worse = request().decode(), common.Degradation(loss_percent=10.0)
        groups = [chaos.PartitionGroup(ips=[addresses["master"]]), chaos.PartitionGroup(ips=[ip])]
        requests: dict[str, Callable[[], Message]] = {
            "Ping": lambda: chaos.PingRequest(),
            "ListMembers": lambda: chaos.ListMembersRequest(),
            "PutHistory": lambda: chaos.PutHistoryRequest(data=b"x"),
            "GatherHistories": lambda: chaos.GatherHistoriesRequest(),
            "ReadHistory": lambda: chaos.ReadHistoryRequest(task="client-0"),
            "Disconnect": lambda: chaos.DisconnectRequest(request_id=fresh, ip=ip),
            "Reconnect": lambda: chaos.ReconnectRequest(request_id=fresh, ip=ip),
            "ListFaults": lambda: chaos.ListFaultsRequest(),
            "Reset": lambda: chaos.ResetRequest(request_id=fresh, ip=ip),
            "Partition": lambda: chaos.PartitionRequest(request_id=fresh, groups=groups),
            "Degrade": lambda: chaos.DegradeRequest(request_id=fresh, ip=ip, degradation=worse),
            "Pause": lambda: chaos.PauseRequest(request_id=fresh, ip=ip),
            "Signal": lambda: chaos.SignalRequest(request_id=fresh, ip=ip, signal=3),
            "Resume": lambda: chaos.ResumeRequest(request_id=fresh, ip=ip),
            "DiskFull": lambda: chaos.DiskFullRequest(request_id=fresh, ip=ip),
            "Heal": lambda: chaos.HealRequest(request_id=fresh),
            "Kill": lambda: chaos.KillRequest(request_id=fresh, ip=ip),
            "Revive": lambda: chaos.ReviveRequest(request_id=fresh, ip=ip),
            "Finish": lambda: chaos.FinishRequest(
                request_id=fresh, result=common.Result(outcome=common.OUTCOME_PASS)
            ),
            "FetchSource": lambda: registry.FetchSourceRequest(sha256=self.sha256),
            "PutDisk": lambda: registry.PutDiskRequest(
                header=registry.PutDiskHeader(task=self.volunteers["node-a"].task("master"), missing="it is")
            ),
            "Join": lambda: registry.JoinRequest(
                request_id=fresh, token="abcd1234.wrong", volunteer_id="node-c", signing_request=asked,
                sent_at=stamp(),
            ),
            "Renew": lambda: registry.RenewRequest(request_id=fresh, signing_request=asked, sent_at=stamp()),
            "Attach": lambda: registry.AttachRequest(hello=registry.Hello(volunteer_id="node-a")),
        }  # fmt: skip
        return requests[method]()

    def attested(self, session_of: str, task_of: str, task: str = "client-0") -> Metadata:
        """What is said of a relayed call: the stream of one volunteer, a task of another perhaps."""
        ref = self.volunteers[task_of].task(task)
        name = f"{ref.cluster_id}/{ref.job_id}/{ref.attempt}/{ref.task}/{ref.generation}"
        session = self.volunteers[session_of].welcome.session
        return (("syndicate-session", session), ("syndicate-task", name))

    def caller(self, column: str) -> tuple[grpc.aio.Channel, Metadata]:
        """How each of them comes."""
        pair, said = {
            "holder": ("node-a", self.attested("node-a", "node-a")),
            "holders-master": ("node-a", self.attested("node-a", "node-a", "master")),
            "other-volunteer": ("node-b", self.attested("node-b", "node-a")),
            "with-its-stream": ("node-b", self.attested("node-a", "node-a")),
            "other-job": ("node-b", self.attested("node-b", "node-b")),
            "revoked": ("node-r", self.attested("node-a", "node-a")),
            "nobody": ("", (*bearer(self.place.manager.token), *self.attested("node-a", "node-a"))),
        }[column]
        credentials = (
            self.pairs[pair].channel(self.place.ca) if pair else grpc.ssl_channel_credentials(self.place.ca)
        )
        return grpc.aio.secure_channel(self.place.manager.volunteers, credentials, options=LOCAL), said


@asynccontextmanager
async def staged(start: Start, tmp_path: Path) -> AsyncIterator[Stage]:
    """The stage, with both jobs running."""
    async with running(start, tmp_path) as place, AsyncExitStack() as held:
        names = ("node-a", "node-b", "node-r")
        pairs = {name: of_bundle(place.office.add(name, ()).identity) for name in names}
        place.office.revoke("node-r")
        await place.reload()
        source = await upload(place.manager.scheduler, tarball(Makefile="client:\n"), place.manager.token)
        stage = Stage(place, source.sha256, pairs, {})
        for name in (
            "node-a",
            "node-b",
        ):  # each has room for one job, the second one comes when the first is full
            volunteer = place.volunteer(name, pairs[name])
            volunteer.slots, volunteer.first_address = 3, 10 * (len(stage.volunteers) + 1)
            stage.volunteers[name] = await held.enter_async_context(volunteer.attached())
            job_id = await place.manager.submit(machines=2, client_sha256=source.sha256)
            await place.manager.reaches(job_id, common.JOB_STATE_RUNNING)
        yield stage


@pytest.mark.parametrize("column", COLUMNS)
async def test_at_the_volunteers_door(start: Start, tmp_path: Path, column: str) -> None:
    """Certificate, stream and task have to be one volunteer's; a user's token means nothing."""
    paths = {path.rpartition("/")[2]: path for path in methods(REGISTRY, CHAOS)}
    async with staged(start, tmp_path) as stage:
        channel, said = stage.caller(column)
        async with channel:
            answers = {}
            for method in TABLE:
                message = stage.request(method).SerializeToString()
                answers[method] = code_and_reason(await knock_on(channel, paths[method], said, message))
    assert answers == {method: row[COLUMNS.index(column)] for method, row in TABLE.items()}


@pytest.mark.parametrize("who", ["nobody", "stranger", "admin"])
async def test_at_the_users_door(start: Start, tmp_path: Path, who: str) -> None:
    """Of Registry Join alone is there, for everybody; all else takes a token, and ChaosControl a job."""
    async with running(start, tmp_path) as place, place.users() as channel:
        token = {"nobody": (), "stranger": bearer("syn_x_y"), "admin": bearer(place.manager.token)}[who]
        answers = {}
        for path in methods(SCHEDULER, REGISTRY, CHAOS):
            error = await knock_on(channel, path, token, b"")
            answers[path.rpartition("/")[2]] = code_and_reason(error)
    of_users = {answers.pop(method.name) for method in SCHEDULER.methods}
    of_clients = {answers.pop(name) for name in CLIENTS_ONLY}
    of_chaos = {answers.pop(method.name) for method in CHAOS.methods if method.name not in CLIENTS_ONLY}
    # An empty request has no id to repeat it by; with one, its token is what is looked at.
    assert answers.pop("Join") == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
    if who == "admin":
        assert BAD_TOKEN not in of_users and set(answers.values()) == {NOT_HERE}
        assert (of_clients, of_chaos) == ({NO_CLIENT}, {(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")})
    else:
        assert of_users == of_chaos == of_clients == set(answers.values()) == {BAD_TOKEN}
