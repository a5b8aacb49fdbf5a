"""What the commands about users and teams do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.quotas import QuotaWish
from syndicate.cli.render.identity import (
    made_lines,
    quota_text,
    teams_table,
    user_lines,
    users_table,
    who_text,
)
from syndicate.cli.render.job_lines import labelled, labelled_text
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.roster import NAME, role_of
from syndicate.cli.terminal import Terminal
from syndicate.cli.tokens import TokenWish
from syndicate.client_api import SchedulerClient
from syndicate.v1.scheduler_pb2 import Team, User

PAGE = 1000


@dataclass(frozen=True, slots=True)
class UserWish:
    """What a command line says of a user; None for what it leaves as it is."""

    role: str | None = None
    team: str | None = None
    quota: QuotaWish = field(default_factory=QuotaWish)

    def fields(self) -> list[str]:
        """What is given, as paths of a field mask. Raises CliError."""
        given = [name for name in ("role", "team") if getattr(self, name) is not None]
        return [*given, *self.quota.fields()]

    def apply_to(self, user: User) -> None:
        """Changes what is given. Raises CliError."""
        if self.role is not None:
            try:
                user.role = role_of(self.role)
            except ValueError as error:
                raise CliError(f"--role: {error}", code=exit_codes.USAGE) from None
        if self.team is not None:
            user.team = self.team
        self.quota.apply_to(user.quota)


def add(
    client: SchedulerClient,
    terminal: Terminal,
    name: str,
    wish: UserWish,
    token: TokenWish | None,
    as_json: bool,
) -> int:
    """Adds one user, with a token if asked to."""
    _check_name(name)
    user = User(name=name, role=role_of(""))
    wish.apply_to(user)
    _check_team(client, user.team)
    client.put_users([user], only_new=True)
    made = token.make(client, name) if token is not None else None
    if as_json:
        answer = {"user": as_plain(client.user(name))}
        more = {"token": as_plain(made.token), "secret": made.secret} if made is not None else {}
        terminal.say(document({**answer, **more}))
        return exit_codes.OK
    terminal.say(labelled_text("user", f"{name} added: {who_text(user)}", terminal.room))
    if made is not None:
        terminal.say(made_lines(made.token, made.secret, client.cluster().now, terminal.room))
    else:
        terminal.say(labelled_text("", f"Its token:  syndicatectl token create --user {name}", terminal.room))
    return exit_codes.OK


def change(client: SchedulerClient, terminal: Terminal, name: str, wish: UserWish, as_json: bool) -> int:
    """Changes what is given of a user, and leaves the rest."""
    before = client.user(name)
    user = User()
    user.CopyFrom(before)
    wish.apply_to(user)
    changed = user != before
    if user.team != before.team:
        _check_team(client, user.team)
    if changed:
        client.put_users([user], fields=wish.fields())
        user = client.user(name)  # also with what others changed meanwhile
    if as_json:
        terminal.say(document({"user": as_plain(user), "changed": changed}))
    else:
        how = f"{who_text(user)}, quota: {quota_text(user.quota)}"
        verb = "changed" if changed else "is so already"
        terminal.say(labelled_text("user", f"{name} {verb}: {how}", terminal.room))
    return exit_codes.OK


def list_users(client: SchedulerClient, terminal: Terminal, as_json: bool) -> int:
    """All users."""
    users = list(client.users(page_size=PAGE))
    if as_json:
        terminal.say(document({"users": [as_plain(user) for user in users]}))
    else:
        terminal.say(users_table(users, terminal.room, terminal.glyphs.more))
    return exit_codes.OK


def show(client: SchedulerClient, terminal: Terminal, name: str, as_json: bool) -> int:
    """One user with its tokens and its team."""
    user = client.user(name)
    tokens = list(client.tokens(user=name))
    team = _team(client, user.team)
    if as_json:
        plain = [as_plain(token) for token in tokens]
        terminal.say(document({**as_plain(user), "tokens": plain}))
    else:
        terminal.say(user_lines(user, tokens, team, client.cluster().now, terminal.room))
    return exit_codes.OK


def set_disabled(
    client: SchedulerClient, terminal: Terminal, names: Sequence[str], disabled: bool, as_json: bool
) -> int:
    """Disables users, or enables them again: all or, if one is not known, none."""
    users = [client.user(name) for name in dict.fromkeys(names)]
    changed = [user.name for user in users if user.disabled != disabled]
    for user in users:
        user.disabled = disabled
    if changed:
        client.put_users([user for user in users if user.name in changed], fields=["disabled"])
    if as_json:
        terminal.say(document({"users": [{"name": user.name, "disabled": user.disabled} for user in users]}))
        return exit_codes.OK
    word = "disabled" if disabled else "enabled"
    rest = ": its tokens are refused, its jobs go on" if disabled else ""
    terminal.say(
        [
            labelled(
                "user",
                f"{user.name} {word}{rest}" if user.name in changed else f"{user.name} is {word} already",
            )
            for user in users
        ]
    )
    return exit_codes.OK


def add_team(client: SchedulerClient, terminal: Terminal, name: str, quota: QuotaWish, as_json: bool) -> int:
    """Adds a team, or changes what is given of its quota."""
    _check_name(name)
    there = _team(client, name)
    team = Team(name=name)
    if there is not None:
        team.CopyFrom(there)
    quota.apply_to(team.quota)
    same = there is not None and there == team
    added = client.put_team(team, fields=quota.fields()) if not same else False
    if not same:
        team = _team(client, name) or team  # also with what others changed meanwhile
    if as_json:
        terminal.say(document({"team": as_plain(team), "added": added}))
    else:
        verb = "added" if added else "is there already" if same else "changed"
        text = f"{name} {verb}, quota of all members together: {quota_text(team.quota)}"
        terminal.say(labelled_text("team", text, terminal.room))
    return exit_codes.OK


def list_teams(client: SchedulerClient, terminal: Terminal, as_json: bool) -> int:
    """All teams."""
    teams = list(client.teams(page_size=PAGE))
    if as_json:
        terminal.say(document({"teams": [as_plain(team) for team in teams]}))
    else:
        terminal.say(teams_table(teams, terminal.room, terminal.glyphs.more))
    return exit_codes.OK


def read_file(path: str) -> bytes:
    """A file that a command line names. Raises CliError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CliError(f"{path} cannot be read ({why})", code=exit_codes.REFUSED) from None


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        text = "It is written with a-z, 0-9 and -, at most 63 of them."
        raise CliError(f"{name!r} is no name", text, code=exit_codes.USAGE)


def _team(client: SchedulerClient, name: str) -> Team | None:
    return next((team for team in client.teams(page_size=PAGE) if name and team.name == name), None)


def _check_team(client: SchedulerClient, name: str) -> None:
    """A name that is mistyped would make a team of one."""
    if name and _team(client, name) is None:
        raise CliError(
            f"there is no team {name}",
            f"Nothing was changed. Make it first:  syndicatectl team add {name}",
            code=exit_codes.NOT_FOUND,
        )
