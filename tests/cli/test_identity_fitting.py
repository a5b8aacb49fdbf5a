"""Users, teams, tokens, contexts and the audit log in a terminal's columns, and help that helps."""

from __future__ import annotations

from typing import Any

import pytest
from syndicate.cli.render.identity import (
    audit_table,
    bounds_text,
    made_lines,
    teams_table,
    tokens_table,
    user_lines,
    users_table,
    who_lines,
)
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.fake_identity import STUDENT, SUBMIT, stamp
from tests.cli.test_fitting import widest
from tests.cli.test_usage import leaves

QUOTA = scheduler.Quota(running_jobs=1000, queued_jobs=100_000, submissions_per_day=-1, machines=100)
NOW = stamp(20)


def token(**values: Any) -> scheduler.Token:
    """One with the manager's long id."""
    return scheduler.Token(
        token_id="0123456789abcdef", user="a-long-name-" * 4, scope=SUBMIT, created_at=stamp(-9e6),
        last_used_at=stamp(-1e6), expires_at=stamp(9e6), note="what it is for " * 9, **values,
    )  # fmt: skip


def user() -> scheduler.User:
    return scheduler.User(
        name="a-long-name-" * 4, role=STUDENT, team="a-long-team-" * 4, quota=QUOTA, created_at=stamp(0)
    )


def test_tables_fit() -> None:
    """At 80 columns names and notes are shortened; what one copies, an id, stays whole."""
    line = scheduler.AuditLine(
        line=1, at=stamp(0), who="a-long-name-" * 4, method="CreateToken", subject="user " + "x" * 60,
        peer="ipv6:[2001:db8::1]:40000", token_id="0123456789abcdef", reason="ROLE_TOO_LOW",
    )  # fmt: skip
    team = scheduler.Team(name="a-long-team-" * 4, members=10_000, quota=QUOTA)
    for lines in (
        users_table([user()], 80),
        teams_table([team], 80),
        tokens_table([token()], NOW, 80),
        audit_table([line], 80),
    ):
        assert widest(lines) <= 80
    assert tokens_table([token()], NOW, 80)[1].startswith("0123456789abcdef  ")
    assert "denied ROLE_TOO_LOW" in audit_table([line], 80)[1]
    assert "TOKEN" in audit_table([line])[0]


def test_usual_rows_lose_nothing() -> None:
    """A plain line of the audit log fits 80 columns with all that counts."""
    line = scheduler.AuditLine(
        line=1, at=stamp(0), who="alice", method="Submit", subject="job 12", peer="10.0.0.9:40000",
        token_id="0123456789abcdef", allowed=True,
    )  # fmt: skip
    header, row = audit_table([line], 80)
    assert header.split() == ["WHEN", "WHO", "WHAT", "ABOUT", "RESULT", "FROM"]
    assert row.endswith("10.0.0.9:40000")


def test_pages_fit() -> None:
    """What is long hangs below its beginning; a secret is never broken: it is to be copied."""
    who = scheduler.WhoAmIResponse(
        user=user(), token=token(), usage=scheduler.Usage(submissions_left=float("inf")), team_quota=QUOTA
    )
    team = scheduler.Team(name="a-long-team-" * 4, quota=QUOTA)
    assert widest(user_lines(user(), [token(), token()], team, NOW, 80)) <= 80
    assert widest(who_lines(who, "cluster.example.org:7000, of the context uni", NOW, 80)) <= 80
    secret = f"syn_0123456789abcdef_{'f' * 64}"
    assert made_lines(token(), secret, NOW, 80)[-1].strip() == secret


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    """Notes and subjects are shown with their control characters as escapes."""
    bad = token()
    bad.note = "\x1b]0;x\x07"
    line = scheduler.AuditLine(at=stamp(0), subject="\x1b[2J", who="\x9b", peer="\x1b", method="X")
    shown = [*tokens_table([bad], NOW), *audit_table([line]), *user_lines(user(), [bad], None, NOW, 200)]
    assert not any("\x1b" in row or "\x9b" in row for row in shown)


IDENTITY = [
    name for name in leaves() if name.partition(" ")[0] in (
        "user", "team", "token", "context", "login", "logout", "whoami", "audit", "publish",
    )
]  # fmt: skip


@pytest.mark.parametrize("name", IDENTITY)
def test_help_has_one_example_that_parses(name: str) -> None:
    """Each command shows one line that could be typed, with options that it has."""
    command = leaves()[name]
    [example] = [line for line in command.help.splitlines() if "Example:" in line]
    words = example.partition("syndicatectl ")[2].split()
    assert " ".join(words).startswith(name)
    own = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= own
    assert len(example) <= 80


def test_roles_and_scopes_are_completed() -> None:
    """The shell offers the words that an option takes."""
    from syndicate.cli.identity_app import _roles, _scopes

    assert (_roles("st"), _scopes("")) == (["student", "staff"], ["read", "submit", "all"])


@pytest.mark.parametrize(
    ("own", "held", "says"),
    [
        ({}, {"queued_jobs": 50, "submissions_per_day": 200}, "queued 50, a day 200 (default)"),
        ({"machines": 4}, {"queued_jobs": 50, "machines": 4}, "queued 50, machines 4"),
        ({"queued_jobs": -1}, {"queued_jobs": -1, "machines": -1}, "no bound"),
        ({}, {"queued_jobs": -1}, "no bound (default)"),
        ({"machines": 4}, None, "machines 4"),
    ],
)
def test_a_list_shows_the_bounds_that_hold(
    own: dict[str, int], held: dict[str, int] | None, says: str
) -> None:
    """Numbers, also where the manager fills them in; an older manager does not tell them."""
    in_force = None if held is None else scheduler.Quota(**held)
    assert bounds_text(scheduler.User(name="eve", quota=scheduler.Quota(**own), in_force=in_force)) == says
    assert (
        says
        in teams_table([scheduler.Team(name="red", quota=scheduler.Quota(**own), in_force=in_force)], 80)[1]
    )
