"""Field masks: who changes one field of a user or a team undoes nothing that somebody else has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manager_core.people import TUTOR, People, student
from syndicate.manager.core.effects import PutTeamReply, PutUsersReply
from syndicate.manager.core.errors import BadRequest, NotAllowed, Refused
from syndicate.manager.core.model import Quota, UserRole
from syndicate.manager.core.records import AuditRecord, UserRecord
from syndicate.manager.core.user_events import UserWish

STAFF = UserRole.STAFF
# What each field of a user is changed to in these tests.
OTHER = {
    "role": STAFF,
    "team": "red",
    "disabled": True,
    "quota.running_jobs": 1,
    "quota.queued_jobs": 2,
    "quota.submissions_per_day": 3,
    "quota.machines": 4,
}


@pytest.fixture
def people() -> People:
    """A cluster with `admin`, `tutor` and `alice`."""
    people = People()
    people.put(student("tutor", role=STAFF), student("alice"))
    return people


def wish_of(user: UserRecord, *fields: str) -> UserWish:
    """What a user is to be by somebody who read it so, and changes these fields."""
    changes = {field: OTHER[field] for field in fields if "." not in field}
    bounds = {field.partition(".")[2]: OTHER[field] for field in fields if "." in field}
    wish = UserWish(user.name, user.role, user.team, user.disabled, replace(user.quota, **bounds))
    return replace(wish, **changes)


def user(people: People, name: str = "alice") -> UserRecord:
    """A user as it is."""
    found = people.cluster.machine.user(name)
    assert found is not None
    return found


def lines(people: People) -> list[AuditRecord]:
    """The audit log."""
    return [row for row in people.cluster.store.values() if isinstance(row, AuditRecord)]


@pytest.mark.parametrize("field", OTHER)
def test_a_change_of_one_field_undoes_no_other(people: People, field: str) -> None:
    """Two read a user; one disables it, lowers its role and so on, the other changes something else then."""
    read = user(people)
    others = [other for other in OTHER if other != field]
    assert people.put(wish_of(read, *others), fields=others) == PutUsersReply(0, 1)
    assert people.put(wish_of(read, field), fields=[field]) == PutUsersReply(0, 1)
    assert people.put(wish_of(read, *OTHER)) == PutUsersReply(0, 0), "all of it is changed by now"


@given(
    split=st.lists(st.booleans(), min_size=len(OTHER), max_size=len(OTHER)),
    first_comes_last=st.booleans(),
)
@settings(max_examples=30)
def test_changes_of_different_fields_come_to_the_same_in_any_order(
    split: list[bool], first_comes_last: bool
) -> None:
    """Neither needs to have read what the other did."""
    people = People(slots=0)
    people.put(student("alice"))
    read = user(people)
    two = [[f for f, own in zip(OTHER, split, strict=True) if own is which] for which in (True, False)]
    for fields in reversed(two) if first_comes_last else two:
        people.put(wish_of(read, *fields), fields=fields)
    assert people.put(wish_of(read, *OTHER)) == PutUsersReply(0, 0)


def test_without_a_mask_all_of_a_user_changes(people: People) -> None:
    """As a command of before sends it: the user is what it says."""
    read = user(people)
    people.put(wish_of(read, "disabled"), fields=["disabled"])
    people.put(wish_of(read, "quota.machines"))
    assert (user(people).disabled, user(people).quota) == (False, Quota(machines=4))


def test_a_mask_is_of_users_that_are_there(people: People) -> None:
    """Others are added with all that is said of them; an empty mask adds alone."""
    bob = UserWish("bob", STAFF, "red", False, Quota(machines=7))
    assert people.put(bob, student("alice", "blue"), fields=[]) == PutUsersReply(1, 0)
    assert user(people, "bob") == UserRecord(
        "bob", STAFF, "red", False, Quota(machines=7), people.cluster.now
    )
    assert user(people).team == ""
    assert [team.name for team, _ in people.cluster.machine.teams()] == ["red"], (
        "none for what is not changed"
    )


def test_quota_stands_for_all_its_parts(people: People) -> None:
    """What the wish leaves at zero is the manager's default then."""
    people.put(student("alice", quota=Quota(1, 2, 3, 4)))
    people.put(student("alice", "red", quota=Quota(machines=9)), fields=["quota"])
    assert (user(people).quota, user(people).team) == (Quota(machines=9), "")


def test_a_role_is_said_where_it_is_needed(people: People) -> None:
    """Whoever changes something else of a user that is there need not know it."""
    nobody = UserWish("alice", None, "", True, Quota())
    assert people.put(nobody, fields=["disabled"]) == PutUsersReply(0, 1)
    assert (user(people).role, user(people).disabled) == (UserRole.STUDENT, True)
    error = people.put(nobody, replace(nobody, name="bob"), fields=["disabled"])
    assert isinstance(error, BadRequest) and error.metadata["field"] == "users[1].role"


@pytest.mark.parametrize("path", ["name", "created_at", "quota.", "quota.machine", "Role", ""])
def test_what_cannot_be_changed_is_in_no_mask(people: People, path: str) -> None:
    """It is refused by its name, nothing changes, and nothing is in the audit log."""
    before, log = user(people), lines(people)
    for error in (
        people.put(wish_of(before, *OTHER), fields=["team", path]),
        people.team("red", Quota(), fields=[path]),
    ):
        assert isinstance(error, BadRequest) and repr(path) in error.detail
        assert (error.reason, error.metadata) == ("BAD_FIELD", {"field": "update_mask"})
    assert (user(people), lines(people)) == (before, log)


def test_rights_go_by_what_comes_of_it(people: People) -> None:
    """What the mask leaves out makes nobody staff; who became it meanwhile is no longer staff's to change."""
    read = user(people)
    assert people.put(wish_of(read, "role", "team"), by=TUTOR, fields=["team"]) == PutUsersReply(0, 1)
    assert user(people).role is UserRole.STUDENT
    people.put(wish_of(read, "role"), fields=["role"])
    error = people.put(wish_of(read, "quota.machines"), by=TUTOR, fields=["quota.machines"])
    assert isinstance(error, NotAllowed) and error.reason == "ROLE_TOO_LOW"
    gone = student("admin", "red", disabled=True)
    assert people.put(gone, fields=["team"]) == PutUsersReply(0, 1), "it stays an admin"
    assert isinstance(people.put(gone, fields=["role"]), Refused)


def test_a_mask_is_part_of_the_request(people: People) -> None:
    """A repeat gets the first answer; another mask under its id is another call."""
    wish = student("alice", "red", disabled=True)
    first = people.put(wish, request_id="same", fields=["team", "disabled"])
    people.put(student("alice"), fields=["disabled"])
    assert people.put(wish, request_id="same", fields=["disabled", "team"]) == first
    assert not user(people).disabled, "what was taken back meanwhile stays so"
    assert isinstance(people.put(wish, request_id="same", fields=["team"]), BadRequest)


def test_a_teams_quota_is_changed_in_parts(people: People) -> None:
    """As a user's is; without a mask it is what is said, and one that is not there is added whole."""
    assert people.team("red", Quota(1, 2), fields=["quota.machines"]) == PutTeamReply(added=True)
    people.team("red", Quota(machines=8), fields=["quota.machines"])
    people.team("red", Quota(running_jobs=5), fields=["quota.running_jobs"])
    assert [team.quota for team, _ in people.cluster.machine.teams()] == [Quota(5, 2, 0, 8)]
    people.team("red", Quota(running_jobs=6))
    assert [team.quota for team, _ in people.cluster.machine.teams()] == [Quota(6)]
