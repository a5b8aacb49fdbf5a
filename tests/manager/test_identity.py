"""Users and tokens of a running manager: who one is, and how rosters are kept."""

from __future__ import annotations

import stat
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.conftest import Running, Start
from tests.manager.people import (
    ADMIN,
    STAFF,
    STUDENT,
    Person,
    admin,
    code_and_reason,
    join,
    new_id,
    put,
    revoke,
    running_job,
    until,
    who,
)
from tests.manager.scripted import WAIT_S, bearer, reason, trailer

ERROR = grpc.aio.AioRpcError


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


async def test_lists_tell_the_bounds_that_hold(manager: Running) -> None:
    """Beside what was said of a user or a team: the defaults filled in, by role."""
    await join(manager, "alice", team="red", quota=pb.Quota(machines=7))
    await join(manager, "tutor", STAFF)
    users = await manager.scheduler.ListUsers(pb.ListUsersRequest(), **manager.credentials)
    teams = await manager.scheduler.ListTeams(pb.ListTeamsRequest(), **manager.credentials)
    held = {user.name: user.in_force for user in users.users}
    none = pb.Quota(running_jobs=-1, queued_jobs=-1, submissions_per_day=-1, machines=-1)
    assert held == {
        "admin": none,
        "alice": pb.Quota(running_jobs=-1, queued_jobs=20, submissions_per_day=500, machines=7),
        "tutor": none,
    }
    assert [(team.quota, team.in_force) for team in teams.teams] == [(pb.Quota(), none)]


async def test_two_who_change_different_things_undo_nothing(manager: Running) -> None:
    """One has read a user and changes its quota; meanwhile it was disabled, and stays so. A team likewise."""
    await join(manager, "alice", team="red", quota=pb.Quota(machines=7))
    listed = await manager.scheduler.ListUsers(pb.ListUsersRequest(name="alice"), **manager.credentials)
    [read] = listed.users
    disabled = pb.User(name="alice", disabled=True)  # who knows nothing else of it
    read.quota.queued_jobs = 5
    for user, path in ((disabled, "disabled"), (read, "quota.queued_jobs")):
        request = pb.PutUsersRequest(
            request_id=new_id(), users=[user], update_mask=field_mask_pb2.FieldMask(paths=[path])
        )
        answer = await manager.scheduler.PutUsers(request, **manager.credentials)
        assert (answer.added, answer.changed) == (0, 1)
    for quota, path in (
        (pb.Quota(machines=3), "quota.machines"),
        (pb.Quota(queued_jobs=4), "quota.queued_jobs"),
    ):
        wish = pb.PutTeamRequest(
            request_id=new_id(),
            team=pb.Team(name="red", quota=quota),
            update_mask=field_mask_pb2.FieldMask(paths=[path]),
        )
        await manager.scheduler.PutTeam(wish, **manager.credentials)

    [alice] = (
        await manager.scheduler.ListUsers(pb.ListUsersRequest(name="alice"), **manager.credentials)
    ).users
    assert (alice.role, alice.team, alice.disabled) == (STUDENT, "red", True)
    assert alice.quota == pb.Quota(machines=7, queued_jobs=5)
    [red] = (await manager.scheduler.ListTeams(pb.ListTeamsRequest(), **manager.credentials)).teams
    assert red.quota == pb.Quota(machines=3, queued_jobs=4)


async def test_an_empty_mask_is_not_none(manager: Running) -> None:
    """It changes nothing of those that are there; none at all, as older commands send, changes all."""
    await join(manager, "alice", team="red")
    wish = pb.PutUsersRequest(
        request_id=new_id(),
        users=[pb.User(name="alice", role=STAFF)],
        update_mask=field_mask_pb2.FieldMask(),
    )
    assert (await manager.scheduler.PutUsers(wish, **manager.credentials)).changed == 0
    wish.request_id = new_id()
    wish.ClearField("update_mask")
    assert (await manager.scheduler.PutUsers(wish, **manager.credentials)).changed == 1
    wish = pb.PutUsersRequest(
        request_id=new_id(),
        users=[pb.User(name="alice", role=STUDENT)],
        update_mask=field_mask_pb2.FieldMask(paths=["name"]),
    )
    with pytest.raises(ERROR) as refused:
        await manager.scheduler.PutUsers(wish, **manager.credentials)
    assert code_and_reason(refused.value) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")


async def test_a_users_own_quota_and_use(manager: Running) -> None:
    """As lists tell it: what was said, and beside that what holds, with the defaults; then the team's."""
    alice = await join(manager, "alice", team="red", quota=pb.Quota(machines=7))
    async with running_job(manager, alice):
        told = await who(alice)
    request = pb.ListUsersRequest(name="alice")
    (listed,) = (await manager.scheduler.ListUsers(request, **manager.credentials)).users

    assert told.user.quota == pb.Quota(machines=7)
    assert told.user.in_force == pb.Quota(
        running_jobs=-1, queued_jobs=20, submissions_per_day=500, machines=7
    )
    assert told.user == listed
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
        request = pb.ListTokensRequest(user="alice")
        [token] = (await manager.scheduler.ListTokens(request, **manager.credentials)).tokens
        return token.HasField("last_used_at")

    assert not await used()
    await who(alice)
    assert await until(used)


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
