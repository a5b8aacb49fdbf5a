"""Every method of the three services for each of eleven kinds of caller, over real channels with TLS.

Users come with tokens, volunteers with certificates, client tasks through the socket that their volunteer
relays. Each calls at the listener that serves the method; ChaosControl is at both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.volunteer import local
from syndicate.volunteer.core.model import TaskRef
from syndicate.volunteer.relay import Relay, RelayEdges, Upstream

from tests.manager import test_matrix as of_users
from tests.manager import test_matrix_certificates as of_volunteers
from tests.manager.authorities import Pair, signed
from tests.manager.conftest import Start
from tests.manager.people import ADMIN, STAFF, Person, code_and_reason, join
from tests.manager.scripted import bearer
from tests.manager.test_doors import knock_on, methods
from tests.manager.test_matrix import BAD, EXPIRED
from tests.manager.test_matrix_certificates import (
    BAD_HELLO,
    BAD_JOIN,
    CHAOS,
    LOCAL,
    NO_CLIENT,
    NO_MEMBER,
    OK,
    REGISTRY,
    SCHEDULER,
    SHUT,
    WRONG,
    Answer,
    Metadata,
)  # fmt: skip

NO_STREAM = (grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY")
ABSENT = (grpc.StatusCode.UNIMPLEMENTED, "")  # a client's socket has ChaosControl and nothing else

USERS = ("owner", "mate", "other", "staff", "admin")
VOLUNTEERS = ("holder", "other-volunteer")
CLIENTS = ("client", "other-client")
COLUMNS = ("nobody", "expired", *USERS, *VOLUNTEERS, *CLIENTS)
Row = tuple[Answer, ...]

# Of Registry and ChaosControl: the volunteer that holds the slot, another one, a client task of the job, one
# of another job. All others fail in the handshake: no token stands for a certificate.
_LOOKS: Row = (NO_CLIENT, NO_CLIENT, OK, OK)
_BREAKS: Row = (NO_CLIENT, NO_CLIENT, OK, NO_MEMBER)
AT_THE_VOLUNTEERS_DOOR: dict[str, Row] = {
    "Ping": _LOOKS,
    "ListMembers": _LOOKS,
    "ListFaults": _LOOKS,
    "Disconnect": _BREAKS,
    "Reconnect": _BREAKS,
    "Reset": _BREAKS,
    "Partition": _BREAKS,
    "Degrade": _BREAKS,
    "Pause": _BREAKS,
    "Signal": _BREAKS,
    "Resume": _BREAKS,
    "DiskFull": _BREAKS,
    "Heal": _LOOKS,  # of the caller's own job
    "Kill": _BREAKS,
    "Revive": _BREAKS,
    "PutHistory": _LOOKS,
    "GatherHistories": _LOOKS,
    "ReadHistory": _LOOKS,
    "Finish": _LOOKS,
    "FetchSource": (OK, OK, ABSENT, ABSENT),
    "PutDisk": (NO_STREAM, NO_STREAM, ABSENT, ABSENT),  # neither names its own
    "Renew": (OK, OK, ABSENT, ABSENT),
    "Attach": (BAD_HELLO, WRONG, ABSENT, ABSENT),
}
JOIN: Row = (BAD_JOIN,) * 9 + (ABSENT, ABSENT)  # its token is looked at, and nothing else of who calls

TABLE: dict[str, Row] = {
    **{name: (BAD, EXPIRED, *row, BAD, BAD, ABSENT, ABSENT) for name, row in of_users.TABLE.items()},
    **{name: (SHUT,) * 7 + row for name, row in AT_THE_VOLUNTEERS_DOOR.items()},
    "Join": JOIN,
}
# ChaosControl at the users' listener, about the owner's job, which has ended. A client task comes through its
# socket alone, and there the name of another job is not looked at: its row stands above.
BY_USERS: dict[str, Row] = {
    name: (BAD, EXPIRED, *row, BAD, BAD, *AT_THE_VOLUNTEERS_DOOR[name][2:])
    for name, row in of_users.CHAOS_TABLE.items()
}
PATHS = {path.rpartition("/")[2]: path for path in methods(SCHEDULER, REGISTRY, CHAOS)}


def test_every_method_has_a_row_and_every_row_all_callers() -> None:
    """A method that is added to the protos fails here until somebody says who may call it."""
    assert set(TABLE) == set(PATHS)
    assert set(BY_USERS) == {method.name for method in CHAOS.methods}
    assert {len(row) for row in (TABLE | BY_USERS).values()} == {len(COLUMNS)} == {11}


@dataclass
class Stage:
    """Jobs of two volunteers with a client each, a job of the owner's that has ended, and people around."""

    users: of_users.Stage
    volunteers: of_volunteers.Stage
    expired: tuple[str, Pair]
    sockets: dict[str, Path] = field(default_factory=dict)

    def caller(self, column: str, at_users_door: bool) -> tuple[grpc.aio.Channel, Metadata]:
        """How each of them comes to a listener."""
        place = self.volunteers.place
        if column in CLIENTS:
            return grpc.aio.insecure_channel(f"unix:{self.sockets[column]}", options=LOCAL), ()
        pair, said = self._shown(column)
        credentials = pair.channel(place.ca) if pair else grpc.ssl_channel_credentials(place.ca)
        address = place.manager.users if at_users_door else place.manager.volunteers
        return grpc.aio.secure_channel(address, credentials, options=LOCAL), said

    def _shown(self, column: str) -> tuple[Pair | None, Metadata]:
        """A certificate, a token, both or neither."""
        if column in USERS:
            return None, bearer(self.users.people[column].token)
        if column == "expired":
            token, pair = self.expired
            return pair, bearer(token)
        nodes = {"holder": "node-a", "other-volunteer": "node-b"}
        return (self.volunteers.pairs[nodes[column]] if column in nodes else None), ()

    async def answer_about_a_job(self, column: str, method: str) -> Answer:
        """What a method of ChaosControl says to the caller who names the owner's job, at the users' door."""
        message = self.volunteers.request(method).SerializeToString()
        channel, said = self.caller(column, at_users_door=True)
        named = (*said, ("syndicate-job", str(self.users.job_id)))
        async with channel:
            return code_and_reason(await knock_on(channel, PATHS[method], named, message))

    async def answer(self, column: str, method: str) -> Answer:
        """What the method says to the caller."""
        is_users = method in of_users.TABLE
        message = (self.users if is_users else self.volunteers).request(method).SerializeToString()
        channel, said = self.caller(column, is_users or method == "Join")
        async with channel:
            return code_and_reason(await knock_on(channel, PATHS[method], said, message))


@asynccontextmanager
async def staged(start: Start, tmp_path: Path) -> AsyncIterator[Stage]:
    """The stage, its volunteers attached and their clients' sockets open."""
    async with of_volunteers.staged(start, tmp_path) as volunteers, AsyncExitStack() as held:
        place, manager = volunteers.place, volunteers.place.manager
        cast = {
            "owner": await join(manager, "alice", team="red"),
            "mate": await join(manager, "bob", team="red"),
            "other": await join(manager, "carol"),
            "staff": await join(manager, "tutor", STAFF),
            "admin": await join(manager, "root", ADMIN),
        }
        late = await join(manager, "frank", expires_in_s=0.001)
        expired = signed(place.office.folder, uri="syndicate://c-test/volunteer/node-x", end=-60)
        third = place.volunteer("node-e")
        await place.reload()
        third.slots, third.first_address, third.exit_at_start = 1, 40, True
        await held.enter_async_context(third.attached())
        users = await _users(volunteers, cast)
        stage = Stage(users, volunteers, (late.token, expired))
        for column, node in (("client", "node-a"), ("other-client", "node-b")):
            stage.sockets[column] = await _socket(volunteers, node, tmp_path / f"{node}.sock", held)
        yield stage


async def _users(volunteers: of_volunteers.Stage, cast: dict[str, Person]) -> of_users.Stage:
    """A job of the owner's that has ended, and a token of the owner's to ask about."""
    manager = volunteers.place.manager
    job_id = await cast["owner"].submit(volunteers.sha256, no_client=True)
    await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
    spare = await join(manager, "alice", team="red")
    return of_users.Stage(manager, job_id, volunteers.sha256, spare.token_id, cast)


async def _socket(volunteers: of_volunteers.Stage, node: str, path: Path, held: AsyncExitStack) -> Path:
    """The socket of the client task on a volunteer, with the volunteer's own relay behind it."""
    channel = await held.enter_async_context(volunteers.place.volunteers(volunteers.pairs[node]))
    task, session = volunteers.volunteers[node].task("client-0"), volunteers.volunteers[node].welcome.session
    ref = TaskRef(task.cluster_id, task.job_id, task.attempt, task.task, task.generation)
    edges = RelayEdges(lambda _: Upstream(channel, (), session), lambda _: ref)
    relay = Relay(0, local.TaskId(ref.cluster_id, ref.job_id, ref.attempt, ref.task), path, edges)
    await relay.open()
    held.push_async_callback(relay.close)
    return path


@pytest.mark.parametrize("column", COLUMNS)
async def test_who_may_call_what(start: Start, tmp_path: Path, column: str) -> None:
    """Allowed, refused, or not there: each method as its row has it."""
    async with staged(start, tmp_path) as stage:
        answers = {method: await stage.answer(column, method) for method in TABLE}
    assert answers == {method: row[COLUMNS.index(column)] for method, row in TABLE.items()}


@pytest.mark.parametrize("column", COLUMNS)
async def test_who_may_break_the_job_that_it_names(start: Start, tmp_path: Path, column: str) -> None:
    """A user by token and role; a client task breaks its own job, whatever it names."""
    async with staged(start, tmp_path) as stage:
        answers = {method: await stage.answer_about_a_job(column, method) for method in BY_USERS}
    assert answers == {method: row[COLUMNS.index(column)] for method, row in BY_USERS.items()}
