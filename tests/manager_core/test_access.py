"""Who may call what and sees which job: the table, and the few rules beside it."""

from __future__ import annotations

from itertools import product

import pytest
from syndicate.manager.core.access import (
    CHAOS_RULES,
    CLIENTS_ONLY,
    RULES,
    Caller,
    Whose,
    check_job,
    may,
    no_such_job,
    sees,
)
from syndicate.manager.core.errors import NotAllowed
from syndicate.manager.core.model import TokenScope, UserRole
from syndicate.v1 import chaos_pb2, scheduler_pb2

METHODS = {method.name: method for method in scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"].methods}
CHAOS = {method.name: method for method in chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"].methods}
# What the protos' comments say is for staff.
FOR_STAFF = {"DrainNode", "PublishJob", "PutUsers", "ListUsers", "PutTeam", "ListTeams", "ListAudit"}


def caller(
    role: UserRole = UserRole.STUDENT, scope: TokenScope = TokenScope.ALL, name: str = "alice", team: str = ""
) -> Caller:
    """A user at the door."""
    return Caller(name, role, scope, team, "t1")


def test_each_method_has_a_row_and_each_row_a_method() -> None:
    """A method that is added to the protos cannot be forgotten here."""
    assert set(RULES) == set(METHODS)


def test_each_method_of_chaos_control_has_a_row() -> None:
    """Those that change something are their jobs' owners', the others for whoever sees the job."""
    assert set(CHAOS_RULES) == set(CHAOS)
    changes = {name for name, method in CHAOS.items() if "request_id" in method.input_type.fields_by_name}
    # What only clients may call is denied to users as a change would be, and stands in the audit log.
    assert {name for name, rule in CHAOS_RULES.items() if rule.changes} == changes | CLIENTS_ONLY
    for name, rule in CHAOS_RULES.items():
        assert rule.scope is (TokenScope.ALL if rule.changes else TokenScope.READ)
        assert name in CLIENTS_ONLY or rule.whose is (Whose.OWN if rule.changes else Whose.SEEN)


def test_what_asks_for_a_job_says_whose() -> None:
    """Each method whose request names a job has a rule for whose it must be; no other has."""
    about_jobs = {name for name, m in METHODS.items() if "job_id" in m.input_type.fields_by_name}
    assert about_jobs - {"ListAudit"} == {
        name for name, rule in RULES.items() if rule.whose is not Whose.NONE
    }


def test_what_carries_a_request_id_is_a_change() -> None:
    """Mutations are told by their request ids, and the audit log has each; an upload's is in its header."""
    mutations = {name for name, m in METHODS.items() if "request_id" in m.input_type.fields_by_name}
    assert mutations | {"UploadSource"} == {name for name, rule in RULES.items() if rule.changes}


def test_reading_scopes_change_nothing() -> None:
    """A token for looking opens exactly what changes nothing."""
    assert {n for n, r in RULES.items() if r.scope is TokenScope.READ} == {
        n for n, r in RULES.items() if not r.changes
    }


@pytest.mark.parametrize("name", sorted(METHODS))
def test_roles(name: str) -> None:
    """Students may call what is not for staff, staff and admins everything."""
    refused = {role for role in UserRole if may(caller(role), RULES[name]) is not None}
    assert refused == ({UserRole.STUDENT} if name in FOR_STAFF else set())


@pytest.mark.parametrize(("name", "role", "scope"), [*product(sorted(METHODS), UserRole, TokenScope)])
def test_a_wider_scope_never_takes_away(name: str, role: UserRole, scope: TokenScope) -> None:
    """What a token may do one with more may do; and no scope lifts a role."""
    rule = RULES[name]
    refusal = may(caller(role, scope), rule)
    if refusal is None:
        assert all(may(caller(role, wider), rule) is None for wider in TokenScope if wider >= scope)
    elif role < rule.role:
        assert (refusal.reason, refusal.metadata) == ("ROLE_TOO_LOW", {"needs": rule.role.name.lower()})
    else:
        assert (refusal.reason, refusal.metadata) == ("OUT_OF_SCOPE", {"needs": rule.scope.name.lower()})


@pytest.mark.parametrize(
    ("who", "published", "expected"),
    [
        (caller(name="alice"), False, True),
        (caller(name="bob", team="red"), False, True),
        (caller(name="bob", team="blue"), False, False),
        (caller(name="bob"), False, False),
        (caller(name="bob"), True, True),
        (caller(UserRole.STAFF, name="tutor"), False, True),
        (caller(UserRole.ADMIN, TokenScope.READ, "root"), False, True),
    ],
)
def test_who_sees_a_job_of_alice_in_team_red(who: Caller, published: bool, expected: bool) -> None:
    """She, her team, staff, and everybody once it is published."""
    assert sees(who, "alice", "red", published) is expected


def test_no_team_is_no_common_team() -> None:
    """Two users without a team share nothing."""
    assert not sees(caller(name="bob", team=""), "alice", "", False)


def test_a_team_mate_looks_and_touches_not() -> None:
    """What is another's is seen and not changed; staff change it."""
    mate, staff = caller(name="bob", team="red"), caller(UserRole.STAFF, name="tutor")
    with pytest.raises(NotAllowed, match="alice") as refused:
        check_job(mate, 7, "alice", Whose.OWN)
    assert (refused.value.reason, refused.value.metadata) == ("ROLE_TOO_LOW", {"needs": "staff"})
    check_job(mate, 7, "alice", Whose.SEEN)
    check_job(staff, 7, "alice", Whose.OWN)
    check_job(caller(name="alice"), 7, "alice", Whose.OWN)


def test_a_hidden_job_and_none_are_told_in_the_same_words() -> None:
    """Nobody learns from the answer which of the two it is; the audit log does."""
    hidden, none = no_such_job(7, hidden=True), no_such_job(7)
    assert (hidden.reason, hidden.detail, hidden.metadata) == (none.reason, none.detail, none.metadata)
    assert (hidden.denied, none.denied) == (True, False)
