"""Users, teams, tokens and the audit log as tables and lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from syndicate.cli.render import words
from syndicate.cli.render.fit import UNLIMITED
from syndicate.cli.render.job_lines import labelled, labelled_text
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.quantities import age_text, plural, seconds_between
from syndicate.cli.render.tables import Fit, table
from syndicate.v1.common_pb2 import Stamp
from syndicate.v1.scheduler_pb2 import AuditLine, Quota, Team, Token, Usage, User, WhoAmIResponse

_SOON_S = 7 * 86400.0
"""An end that is so near is told when it is told who one is."""

_A_MOMENT = 1.005


def users_table(users: Sequence[User], room: int = UNLIMITED, more: str = "…") -> list[str]:
    """NAME, ROLE, TEAM, STATE, QUOTA of each user."""
    if not users:
        return ["no users"]
    rows = [
        (
            neutralise_text(user.name),
            words.user_role(user.role),
            neutralise_text(user.team) or "-",
            "disabled" if user.disabled else "enabled",
            bounds_text(user),
        )
        for user in users
    ]
    header = ("NAME", "ROLE", "TEAM", "STATE", "QUOTA")
    return table(header, rows, Fit(room, more, elastic=("NAME", "TEAM", "QUOTA")))


def teams_table(teams: Sequence[Team], room: int = UNLIMITED, more: str = "…") -> list[str]:
    """NAME, MEMBERS, QUOTA of each team."""
    if not teams:
        return ["no teams"]
    rows = [(neutralise_text(team.name), f"{team.members:,}", bounds_text(team)) for team in teams]
    return table(("NAME", "MEMBERS", "QUOTA"), rows, Fit(room, more, elastic=("NAME", "QUOTA")))


def tokens_table(tokens: Sequence[Token], now: Stamp, room: int = UNLIMITED, more: str = "…") -> list[str]:
    """ID, USER, SCOPE, MADE, USED, EXPIRES, NOTE of each token; MADE and NOTE go first where it is tight."""
    if not tokens:
        return ["no tokens"]
    rows = [
        (
            neutralise_text(token.token_id),
            neutralise_text(token.user),
            words.token_scope(token.scope),
            f"{age_text(seconds_between(token.created_at, now))} ago",
            _ago(token.last_used_at, now) if token.HasField("last_used_at") else "never",
            expiry_text(token, now),
            neutralise_text(token.note),
        )
        for token in tokens
    ]
    header = ("ID", "USER", "SCOPE", "MADE", "USED", "EXPIRES", "NOTE")
    return table(header, rows, Fit(room, more, ("MADE",), elastic=("NOTE", "USER")))


def audit_table(
    lines: Sequence[AuditLine], room: int = UNLIMITED, more: str = "…", zone: tzinfo | None = None
) -> list[str]:
    """WHEN, WHO, WHAT, ABOUT, RESULT, FROM, TOKEN of each line; TOKEN and FROM go first where it is tight."""
    if not lines:
        return ["no such calls"]
    rows = [
        (
            _time(line.at, zone),
            neutralise_text(line.who) or "-",
            neutralise_text(line.method),
            neutralise_text(line.subject) or "-",
            _result(line),
            neutralise_text(line.peer) or "-",
            neutralise_text(line.token_id) or "-",
        )
        for line in lines
    ]
    header = ("WHEN", "WHO", "WHAT", "ABOUT", "RESULT", "FROM", "TOKEN")
    return table(header, rows, Fit(room, more, ("TOKEN", "FROM"), elastic=("ABOUT", "WHO")))


def user_lines(user: User, tokens: Sequence[Token], team: Team | None, now: Stamp, room: int) -> list[str]:
    """One user, with its team's quota and its tokens."""
    state = ", disabled: its tokens are refused" if user.disabled else ""
    lines = labelled_text("user", f"{neutralise_text(user.name)}, {who_text(user)}{state}", room)
    if user.HasField("created_at"):
        lines.append(labelled("added", f"{_ago(user.created_at, now)}"))
    lines += labelled_text("quota", bounds_text(user), room)
    if team is not None:
        name = neutralise_text(team.name)
        lines += labelled_text("team", f"{name}, together: {bounds_text(team)}", room)
    for index, token in enumerate(tokens):
        lines += labelled_text("" if index else "tokens", token_text(token, now), room)
    return lines if tokens else [*lines, labelled("tokens", "none")]


def who_lines(who: WhoAmIResponse, where: str, now: Stamp, room: int) -> list[str]:
    """Who the caller is, through what, and what is left of its quota."""
    lines = labelled_text("user", f"{neutralise_text(who.user.name)}, {who_text(who.user)}", room)
    lines += labelled_text("manager", where, room)
    lines += labelled_text("token", token_text(who.token, now), room)
    # An older manager fills the defaults in into the quota itself.
    held = who.user.in_force if who.user.HasField("in_force") else who.user.quota
    lines += labelled_text("quota", usage_text(who.usage, held), room)
    if who.HasField("team_quota"):
        lines += labelled_text("team", usage_text(who.team_usage, who.team_quota), room)
    return lines


def who_text(user: User) -> str:
    """``student, team red``."""
    return words.user_role(user.role) + (f", team {neutralise_text(user.team)}" if user.team else "")


def token_text(token: Token, now: Stamp) -> str:
    """``t-1, scope submit, expires in 29d, note: laptop``."""
    ends = expiry_text(token, now)
    end = {"never": "never expires", "expired": "expired", "revoked": "revoked"}.get(ends, f"expires {ends}")
    note = f", note: {neutralise_text(token.note)}" if token.note else ""
    return f"{neutralise_text(token.token_id)}, scope {words.token_scope(token.scope)}, {end}{note}"


def expiry_text(token: Token, now: Stamp) -> str:
    """``in 29d``, ``never``, ``expired``, ``revoked``."""
    if token.HasField("revoked_at"):
        return "revoked"
    if not token.HasField("expires_at"):
        return "never"
    left = (token.expires_at.utc_ns - now.utc_ns) / 1e9
    # What was 90 days a moment ago is still called so.
    return f"in {age_text(left * _A_MOMENT)}" if left > 0 else "expired"


def expires_soon(token: Token, now: Stamp) -> bool:
    """Whether its user should think of the next one."""
    ends = token.HasField("expires_at") and not token.HasField("revoked_at")
    return ends and 0 < (token.expires_at.utc_ns - now.utc_ns) / 1e9 < _SOON_S


def bounds_text(party: User | Team) -> str:
    """``running 2, queued 50, a day 200``: the bounds that hold, with the manager's defaults filled in.

    ``queued 50, a day 200 (default)`` where all are the manager's, ``no bound`` where there is none. Of a
    manager that does not tell what holds, what is not its default.
    """
    if not party.HasField("in_force"):
        return quota_text(party.quota)
    held = ", ".join(f"{name} {number:,}" for name, number in _parts(party.in_force) if number > 0)
    ours = any(number for _, number in _parts(party.quota))
    return (held or "no bound") + ("" if ours else " (default)")


def quota_text(quota: Quota) -> str:
    """``running 2, a day 20``: what is not the manager's default; ``default`` where all of it is."""
    return ", ".join(f"{name} {_bound(number)}" for name, number in _parts(quota) if number) or "default"


def _parts(quota: Quota) -> tuple[tuple[str, int], ...]:
    return (
        ("running", quota.running_jobs),
        ("queued", quota.queued_jobs),
        ("a day", quota.submissions_per_day),
        ("machines", quota.machines),
    )


def usage_text(usage: Usage, quota: Quota) -> str:
    """``running 1 of 2, queued 0 of 10, machines 3 of 8, submissions 14 of 20 left``."""
    left = usage.submissions_left
    submissions = "any number of submissions"
    if quota.submissions_per_day > 0 and math.isfinite(left):
        submissions = f"{int(left):,} of {quota.submissions_per_day:,} submissions a day left"
    return ", ".join(
        (
            f"{usage.running_jobs:,} running{_of(quota.running_jobs)}",
            f"{usage.queued_jobs:,} queued{_of(quota.queued_jobs)}",
            f"{plural(usage.machines, 'machine')} in use{_of(quota.machines)}",
            submissions,
        )
    )


def made_lines(token: Token, secret: str, now: Stamp, room: int) -> list[str]:
    """A token that was made, with its secret on a line of its own, from the left: to be copied whole."""
    return [
        *labelled_text("token", f"{token_text(token, now)}, of {neutralise_text(token.user)}", room),
        *labelled_text("", "shown this once:", room),
        neutralise_text(secret),
    ]


def _bound(number: int) -> str:
    return f"{number:,}" if number >= 0 else "unbounded"


def _of(number: int) -> str:
    return f" of {number:,}" if number > 0 else ""


def _ago(stamp: Stamp, now: Stamp) -> str:
    return f"{age_text(seconds_between(stamp, now))} ago"


def _result(line: AuditLine) -> str:
    if line.allowed and not line.reason:
        return "ok"
    word = "failed" if line.allowed else "denied"
    return f"{word} {neutralise_text(line.reason)}".rstrip()


def _time(stamp: Stamp, zone: tzinfo | None) -> str:
    moment = datetime.fromtimestamp(stamp.utc_ns / 1e9, UTC).astimezone(zone)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
