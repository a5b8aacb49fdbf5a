"""Users, teams, tokens: what may be changed by whom, all or none, and what survives a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manager_core.people import ADMIN, TUTOR, People, called, student
from syndicate.manager.core.access import Origin
from syndicate.manager.core.effects import PublishReply, PutTeamReply, PutUsersReply, TokenReply
from syndicate.manager.core.errors import (
    BadRequest,
    Conflict,
    CoreError,
    Exhausted,
    NotAllowed,
    NotFound,
    Refused,
)
from syndicate.manager.core.events import Tick
from syndicate.manager.core.model import Quota, TokenScope, UserRole
from syndicate.manager.core.records import AuditRecord, TokenRecord
from syndicate.manager.core.user_events import FirstToken, PublishJob, TokensUsed, UserWish
from syndicate.manager.core.users import (
    FIRST_TOKEN,
    MOST_ENDED_TOKENS,
    MOST_TOKENS,
    USED_WITHIN_NS,
    digest_of,
    opens,
    parts_of,
    token_text,
)

STAFF, ADMINS = UserRole.STAFF, UserRole.ADMIN


@pytest.fixture
def people() -> People:
    """A cluster with `admin`, `tutor` and `alice`."""
    people = People()
    assert people.put(student("tutor", role=STAFF), student("alice")) == PutUsersReply(2, 0)
    return people


def names(people: People) -> list[str]:
    """The users there are."""
    return [user.name for user in people.cluster.machine.users()]


def lines(people: People) -> list[AuditRecord]:
    """The audit log."""
    return [row for row in people.cluster.store.values() if isinstance(row, AuditRecord)]


def test_users_are_added_and_changed(people: People) -> None:
    """The answer counts both; what stays as it is counts as neither, and when one was added is kept."""
    before = people.cluster.machine.user("alice")
    assert people.put(student("alice", "red"), student("bob"), student("tutor", role=STAFF)) == PutUsersReply(
        1, 1
    )
    after = people.cluster.machine.user("alice")
    assert before is not None and after is not None
    assert (after.team, after.created_at) == ("red", before.created_at)
    assert [team.name for team, _ in people.cluster.machine.teams()] == ["red"]


@pytest.mark.parametrize(
    ("wishes", "field"),
    [
        ((), "users"),
        ((student("x"), student("Bob")), "users[1].name"),
        ((student(""),), "users[0].name"),
        ((student("x", "Red Team"),), "users[0].team"),
        ((student("x"), student("y"), student("x")), "users[2].name"),
        ((student("x", quota=Quota(running_jobs=-2)),), "users[0].quota.running_jobs"),
        ((student("x", quota=Quota(machines=1 << 30)),), "users[0].quota.machines"),
    ],
)
def test_one_bad_user_and_none_is_added(people: People, wishes: tuple[UserWish, ...], field: str) -> None:
    """BAD_FIELD names the field and the index, and nothing changed."""
    before, log = names(people), lines(people)
    error = people.put(*wishes)
    assert isinstance(error, BadRequest)
    assert (error.reason, error.metadata["field"]) == ("BAD_FIELD", field)
    assert (names(people), lines(people)) == (before, log)


def test_only_new_ones(people: People) -> None:
    """An import that is run twice changes nobody by accident."""
    error = people.put(student("bob"), student("alice"), only_new=True)
    assert isinstance(error, Conflict)
    assert (error.reason, error.metadata) == ("USER_EXISTS", {"name": "alice"})
    assert "bob" not in names(people)


@pytest.mark.parametrize(
    ("wish", "allowed"),
    [
        (student("bob"), True),
        (student("alice", disabled=True), True),
        (student("bob", role=STAFF), False),
        (student("bob", role=ADMINS), False),
        (student("alice", role=STAFF), False),
        (student("tutor", role=STAFF, disabled=True), False),
        (student("admin"), False),
        (student("tutor"), False),
    ],
)
def test_staff_look_after_students_alone(people: People, wish: UserWish, allowed: bool) -> None:
    """Nobody lifts a user above students, or touches staff, who is no admin: himself neither."""
    reply = people.put(student("someone"), wish, by=TUTOR)
    if allowed:
        assert isinstance(reply, PutUsersReply)
    else:
        assert isinstance(reply, NotAllowed)
        assert (reply.reason, reply.metadata) == ("ROLE_TOO_LOW", {"needs": "admin"})
        assert "someone" not in names(people)


@pytest.mark.parametrize("last", [student("admin"), student("admin", role=ADMINS, disabled=True)])
def test_the_last_admin_stays(people: People, last: UserWish) -> None:
    """Unless another one is made in the same call."""
    error = people.put(last)
    assert isinstance(error, Refused)
    assert error.reason == "LAST_ADMIN"
    assert isinstance(people.put(last, student("eve", role=ADMINS)), PutUsersReply)


def test_a_repeated_request_is_done_once(people: People) -> None:
    """It gets the first answer, though the users are there by now; another one under its id is refused."""
    first = people.put(student("bob"), request_id="same", only_new=True)
    assert people.put(student("bob"), request_id="same", only_new=True) == first == PutUsersReply(1, 0)
    assert isinstance(people.put(student("carol"), request_id="same"), BadRequest)


def test_teams_are_added_and_changed(people: People) -> None:
    """The answer says which."""
    assert people.team("red", Quota(machines=8)) == PutTeamReply(True)
    assert people.team("red", Quota(machines=9)) == PutTeamReply(False)
    assert isinstance(people.team("Red", Quota()), BadRequest)
    assert isinstance(people.team("red", Quota(queued_jobs=-7)), BadRequest)
    people.put(student("alice", "red"))
    assert [(team.quota.machines, size) for team, size in people.cluster.machine.teams()] == [(9, 1)]


# ---- tokens -----------------------------------------------------------------------------------------------


def test_a_token_is_known_by_its_digest_alone(people: People) -> None:
    """The record has no secret; the secret opens it and nothing else does."""
    reply = people.token(user="alice", request_id="r")
    assert isinstance(reply, TokenReply)
    token = reply.token
    assert token.digest == digest_of("r")
    assert opens(token, "r") and not opens(token, "R") and not opens(token, token.digest)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_token_or_none(text: str) -> None:
    """Garbage has neither id nor secret; what is made is read back."""
    token_id, secret = parts_of(text)
    assert (token_id and secret) or (token_id, secret) == ("", "")
    assert parts_of(token_text("abc", f"x{text}")) == ("abc", f"x{text}")


def test_a_token_allows_no_more_than_the_one_that_asks(people: People) -> None:
    """A token for submitting makes none for everything; unset means as much."""
    weak = replace(called("alice"), scope=TokenScope.SUBMIT)
    error = people.token(weak, scope=TokenScope.ALL)
    assert isinstance(error, NotAllowed)
    assert (error.reason, error.metadata) == ("OUT_OF_SCOPE", {"needs": "all"})
    assert people.token(weak).token.scope is TokenScope.SUBMIT
    assert people.token(weak, scope=TokenScope.READ).token.scope is TokenScope.READ


def test_a_token_of_ones_own_ends_with_the_one_that_asked(people: People) -> None:
    """Else whoever finds one that expires could make it last."""
    short = people.token(user="alice", expires_in_s=60.0).token
    child = people.token(called("alice", token_id=short.token_id), expires_in_s=1e6).token
    assert 0 < child.expires_utc_ns == short.expires_utc_ns


@pytest.mark.parametrize("seconds", [-1.0, 1e12, float("inf"), float("nan")])
def test_a_time_that_makes_no_sense_is_refused(people: People, seconds: float) -> None:
    """BAD_FIELD; 0 is the manager's default."""
    assert isinstance(people.token(expires_in_s=seconds), BadRequest)
    ttl_ns = people.token().token.expires_utc_ns - people.cluster.now.utc_ns
    assert ttl_ns == people.cluster.config.token_ttl_s * 1e9


@pytest.mark.parametrize(
    ("by", "user", "expected"),
    [
        (called("alice"), "", None),
        (called("alice"), "alice", None),
        (called("alice"), "tutor", NotAllowed),
        (called("alice"), "nobody", NotAllowed),
        (TUTOR, "alice", None),
        (TUTOR, "admin", NotAllowed),
        (TUTOR, "nobody", NotFound),
        (ADMIN, "tutor", None),
    ],
)
def test_whose_tokens_one_may_make(
    people: People, by: object, user: str, expected: type[CoreError] | None
) -> None:
    """One's own; students' for staff; all for admins. What one may not know of is not told."""
    reply = people.token(by, user=user)
    assert isinstance(reply, expected or TokenReply)


def test_a_repeat_is_told_of_the_same_token_also_after_a_restart(people: People) -> None:
    """Without the secret, which the first answer had; one request makes one token."""
    first = people.token(user="alice", request_id="once")
    again = people.token(user="alice", request_id="once")
    people.cluster.restart()
    later = people.token(user="alice", request_id="once")
    assert not first.again and again.again and later.again
    assert first.token == again.token == later.token
    assert isinstance(people.token(user="tutor", request_id="once"), BadRequest)


def test_a_user_has_so_many_tokens(people: People) -> None:
    """Those that ended make room; of these the newest are kept."""
    made = [people.token(user="alice").token.token_id for _ in range(MOST_TOKENS)]
    error = people.token(user="alice")
    assert isinstance(error, Exhausted)
    assert error.reason == "TOO_MANY_TOKENS"
    for _ in range(MOST_ENDED_TOKENS + 5):
        people.revoke(made.pop())
        made.append(people.token(user="alice").token.token_id)
    assert len(people.cluster.machine.tokens()) <= MOST_TOKENS + MOST_ENDED_TOKENS + 1


def test_the_first_token_stays_revoked_however_many_came_after_it(people: People) -> None:
    """Its file is still there: a token that was forgotten would be taken for a new one at the next start."""
    first = people.cluster.machine.token(FIRST_TOKEN)
    assert first is not None
    other = called("admin", ADMINS, people.token().token.token_id)
    people.revoke(FIRST_TOKEN, by=other)
    for _ in range(MOST_ENDED_TOKENS + 5):
        people.revoke(people.token(by=other).token.token_id, by=other)
    people.cluster.restart()
    people.cluster.do(FirstToken(first))
    kept = people.cluster.machine.token(FIRST_TOKEN)
    assert kept is not None and kept.revoked_at is not None


def test_revoking_lasts(people: People) -> None:
    """A second time changes nothing; a restart neither."""
    token_id = people.token(user="alice").token.token_id
    first = people.revoke(token_id, by=called("alice")).token
    assert people.revoke(token_id).token == first
    people.cluster.restart()
    kept = people.cluster.machine.token(token_id)
    assert kept is not None
    assert kept.revoked_at == first.revoked_at is not None


def test_a_strangers_token_does_not_exist(people: People) -> None:
    """A student is told the same of one that is another's and of one that is none."""
    token_id = people.token(user="tutor").token.token_id
    theirs, none = people.revoke(token_id, by=called("alice")), people.revoke("f" * 16, by=called("alice"))
    assert isinstance(theirs, NotFound) and isinstance(none, NotFound)
    assert theirs.reason == none.reason == "NO_SUCH_TOKEN"
    assert isinstance(people.revoke(FIRST_TOKEN, by=TUTOR), NotAllowed)


def test_the_first_tokens_file_is_right(people: People) -> None:
    """A new one replaces the old; the same one changes nothing, not even that it was revoked."""
    people.revoke(FIRST_TOKEN)
    known = people.cluster.machine.token(FIRST_TOKEN)
    assert known is not None
    people.cluster.do(FirstToken(replace(known, revoked_at=None)))
    assert people.cluster.machine.token(FIRST_TOKEN) == known
    people.cluster.do(FirstToken(replace(known, revoked_at=None, digest=digest_of("new"))))
    fresh = people.cluster.machine.token(FIRST_TOKEN)
    assert fresh is not None
    assert opens(fresh, "new") and fresh.revoked_at is None


def test_when_a_token_was_used_is_written_now_and_then(people: People) -> None:
    """Not at each call: to within some minutes."""
    token_id, now = people.token(user="alice").token.token_id, people.cluster.now
    soon = replace(now, utc_ns=now.utc_ns + 1)
    late = replace(now, utc_ns=now.utc_ns + USED_WITHIN_NS)
    saves = [
        len(people.cluster.do(TokensUsed(((token_id, at), ("none", at)))).saves) for at in (now, soon, late)
    ]
    assert saves == [1, 0, 1]


# ---- the audit log and publishing -------------------------------------------------------------------------


def test_each_change_has_one_line(people: People) -> None:
    """Who, by which token, from where, about what; a repeat and a refusal have none."""
    before = len(lines(people))
    people.put(student("bob"), by=TUTOR, request_id="x")
    people.put(student("bob"), by=TUTOR, request_id="x")
    people.put(student("bob", role=ADMINS), by=TUTOR)
    people.team("red", Quota())
    token = people.token(user="bob").token
    people.revoke(token.token_id)
    people.revoke(token.token_id)
    found = lines(people)[before:]
    assert [(line.who, line.method, line.subject) for line in found] == [
        ("tutor", "PutUsers", "user bob (new)"),
        ("admin", "PutTeam", "team red"),
        ("admin", "CreateToken", f"token {token.token_id} of bob"),
        ("admin", "RevokeToken", f"token {token.token_id} of bob"),
    ]
    assert all(line.allowed and line.peer == "::1" for line in found)
    assert [line.line for line in lines(people)] == list(range(1, len(lines(people)) + 1))


def test_a_line_about_users_says_what_became_of_them(people: People) -> None:
    """A role in the midst of a roster is not one of so many more."""
    people.put(*(student(f"s{n}") for n in range(30)))
    roster = [student(f"s{n}") for n in range(30)]
    roster[29], roster[28] = student("s29", role=ADMINS), replace(roster[28], disabled=True)
    people.put(*roster, student("zoe", role=STAFF))
    people.put(student("s28", team="red"))
    people.put(student("s28", quota=Quota(machines=3)))
    many, moved, bounded = (line.subject for line in lines(people)[-3:])
    assert many.startswith("users s29 (admin), zoe (new, staff), s28 (disabled), s0, s1, ")
    assert many.endswith(", s16 and 11 more")
    assert moved == "user s28 (let in again, team red)"
    assert bounded == "user s28 (no team, quota)"


def test_who_was_given_the_highest_role_is_named_first_and_none_is_left_out_unsaid(people: People) -> None:
    """However many others are given one in the same call."""
    people.put(*(student(f"s{n}", role=STAFF) for n in range(30)), student("zoe", role=ADMINS))
    told = lines(people)[-1].subject
    assert told.startswith("users zoe (new, admin), s0 (new, staff), ")
    assert told.endswith(", s18 (new, staff) and 11 more, 11 of them in another role")


def submitted(people: People, number: int) -> list[int]:
    """Jobs that `alice` submits by a call of hers."""
    origin = Origin(called("alice"), "::1")
    return [people.cluster.submit(1, owner="alice", origin=origin) for _ in range(number)]


def test_submissions_are_written_together_and_in_order(people: People) -> None:
    """Within a tenth of a second, or before any other line; each once, with the time of the submission."""
    before = len(lines(people))
    first = submitted(people, 3)
    assert len(lines(people)) == before
    at = people.cluster.now
    people.cluster.advance(0.2)
    second = submitted(people, 2)
    people.team("red", Quota())
    found = lines(people)[before:]
    assert [line.job_id for line in found] == [*first, *second, 0]
    assert [line.at for line in found[:3]] == [at] * 3
    assert {(line.who, line.method) for line in found[:5]} == {("alice", "Submit")}


def test_no_line_of_a_submission_is_lost_in_a_crash(people: People) -> None:
    """Those that were not written are found in the rows of the jobs; none is written twice."""
    before = len(lines(people))
    written = submitted(people, 2)
    people.publish(written[0])
    lost = submitted(people, 3)
    for _ in range(2):
        people.cluster.restart()
        people.cluster.do(Tick())
    jobs = [line.job_id for line in lines(people)[before:] if line.method == "Submit"]
    assert jobs == [*written, *lost]


def test_lines_are_counted_on_after_a_restart(people: People) -> None:
    """No line is ever written over."""
    before = len(lines(people))
    people.cluster.restart()
    people.team("red", Quota())
    assert [line.line for line in lines(people)][-1] == before + 1 == len(lines(people))


def test_a_job_is_published_and_taken_back(people: People) -> None:
    """While it runs and when it has ended; its row keeps all the rest."""
    job_id = people.cluster.submit(1)
    people.cluster.deliver()
    assert people.publish(job_id) == PublishReply(True)
    people.cluster.exit("master")
    before = people.cluster.job(job_id).job
    assert before.published and before.ended_at is not None
    assert people.publish(job_id, False) == PublishReply(False)
    assert people.cluster.job(job_id).job == replace(before, published=False)


def test_an_unknown_job_is_not_published(people: People) -> None:
    """NO_SUCH_JOB."""
    job_id = people.cluster.submit(1)
    record = people.cluster.job(job_id).job
    assert record.published is False
    error = people.cluster.ask(lambda call: PublishJob(call, "r", Origin(TUTOR, ""), 99, True))
    assert isinstance(error, NotFound)


def test_everything_survives_a_restart(people: People) -> None:
    """Users, teams and tokens as they were."""
    people.put(student("alice", "red", Quota(1, 2, 3, 4)))
    people.token(user="alice")
    machine = people.cluster.machine
    before = machine.users(), machine.teams(), machine.tokens()
    people.cluster.restart()
    machine = people.cluster.machine
    assert (machine.users(), machine.teams(), machine.tokens()) == before
    assert any(isinstance(row, TokenRecord) for row in people.cluster.store.values())
