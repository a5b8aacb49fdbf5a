"""``user import``: a roster is checked whole, compared with who is there, and put in one call.

Tokens come after that, one by one, each written down as soon as it is made. What stops it half-way says what
was done; the same command once more does the rest.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.private_files import create_private
from syndicate.cli.quotas import field_of
from syndicate.cli.render import words
from syndicate.cli.render.identity import quota_text
from syndicate.cli.render.job_lines import labelled_text
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import plural
from syndicate.cli.roster import Entry, read_roster
from syndicate.cli.terminal import Terminal
from syndicate.cli.tokens import TokenWish
from syndicate.cli.user_commands import PAGE, read_file
from syndicate.client_api import SchedulerClient, SyndicateError
from syndicate.v1 import scheduler_pb2
from syndicate.v1.scheduler_pb2 import Token, User

TO_STDOUT = "-"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ImportWish:
    """What the command line asks for."""

    path: str
    dry_run: bool = False
    only_new: bool = False
    tokens_to: str = ""
    """The file for the tokens, TO_STDOUT, or empty for no tokens."""
    token: TokenWish = field(default_factory=TokenWish)
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a roster changes."""

    entries: Sequence[Entry]
    fields: Sequence[str]
    """What the roster has columns for: nothing else of those that are there changes."""
    new: Sequence[User]
    changed: Sequence[tuple[User, User]]
    """Each as it is, and as it will be."""
    teams: Sequence[str]
    """Those that are not there yet; the manager makes them with their first members."""
    without_token: Sequence[str]
    """Users of the roster who have no token that works, in its order."""


def import_roster(client: SchedulerClient, terminal: Terminal, wish: ImportWish) -> int:
    """Adds and changes the users of a roster: all or none. Returns the exit code."""
    plan = _plan(client, read_roster(read_file(wish.path), wish.path), wish)
    _check_only_new(plan, wish)
    if wish.dry_run:
        _tell(terminal, plan, wish, [])
        return exit_codes.OK
    with _token_file(wish, terminal) as write:
        users = [*plan.new, *(after for _, after in plan.changed)]
        if users:
            client.put_users(users, only_new=wish.only_new, fields=plan.fields)
        made = _make_tokens(client, plan, wish, write) if write is not None else []
    _tell(terminal, plan, wish, made)
    return exit_codes.OK


def _plan(client: SchedulerClient, entries: Sequence[Entry], wish: ImportWish) -> _Plan:
    there = {user.name: user for user in client.users(page_size=PAGE)}
    teams = {team.name for team in client.teams(page_size=PAGE)}
    after = [entry.over(there.get(entry.name)) for entry in entries]
    new = [user for user in after if user.name not in there]
    changed = [(there[user.name], user) for user in after if user.name in there and user != there[user.name]]
    missing = dict.fromkeys(user.team for user in after if user.team and user.team not in teams)
    fields = [field_of(column) for column in entries[0].values]
    without_token = _without_token(client, after) if wish.tokens_to else []
    return _Plan(entries, fields, new, changed, list(missing), without_token)


def _without_token(client: SchedulerClient, users: Sequence[User]) -> list[str]:
    """Whom a first token is made for: those without one that works, as far as the caller may make it."""
    who = client.whoami().user
    now = client.cluster().now
    have = {
        token.user for token in client.tokens(everybody=True, page_size=PAGE) if _works(token, now.utc_ns)
    }
    may = (
        user
        for user in users
        if who.role == scheduler_pb2.USER_ROLE_ADMIN or user.role == scheduler_pb2.USER_ROLE_STUDENT
    )
    return [user.name for user in may if user.name not in have and not user.disabled]


def _works(token: Token, now_ns: int) -> bool:
    expired = token.HasField("expires_at") and token.expires_at.utc_ns <= now_ns
    return not (expired or token.HasField("revoked_at"))


def _check_only_new(plan: _Plan, wish: ImportWish) -> None:
    new = {user.name for user in plan.new}
    old = [entry for entry in plan.entries if entry.name not in new]
    if wish.only_new and old:
        rows = [f"line {entry.line}: {entry.name} is there already" for entry in old[:_SHOWN]]
        rest = [f"and {plural(len(old) - _SHOWN, 'line')} more"] if len(old) > _SHOWN else []
        raise CliError(
            f"{wish.path} names users that are there, nothing was changed",
            *rows,
            *rest,
            code=exit_codes.REFUSED,
        )


@contextlib.contextmanager
def _token_file(wish: ImportWish, terminal: Terminal) -> Iterator[Callable[[str, str], None] | None]:
    """What writes a name and its token down; None where no tokens are asked for.

    A file is made before anything is changed. Where nothing was written to it, it is removed again.
    """
    empty = True
    if not wish.tokens_to:
        yield None
        return
    if wish.tokens_to == TO_STDOUT:

        def tell(name: str, secret: str) -> None:
            nonlocal empty
            rows = [("name", "token"), (name, secret)] if empty else [(name, secret)]
            empty = False
            if not wish.as_json:
                terminal.say([_csv_line(*row).rstrip("\n") for row in rows])

        yield tell
        return
    path = Path(wish.tokens_to)
    descriptor = create_private(path)
    try:

        def write(name: str, secret: str) -> None:
            nonlocal empty
            _append(descriptor, (_csv_line("name", "token") if empty else "") + _csv_line(name, secret))
            empty = False

        yield write
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        if empty:
            path.unlink(missing_ok=True)


def _append(descriptor: int, text: str) -> None:
    """All of it, or nothing. Raises OSError."""
    there, data = os.fstat(descriptor).st_size, text.encode()
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BaseException:
        with contextlib.suppress(OSError):  # what failed first is told
            os.ftruncate(descriptor, there)
        raise


def _csv_line(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _make_tokens(
    client: SchedulerClient, plan: _Plan, wish: ImportWish, write: Callable[[str, str], None]
) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []
    try:
        for name in plan.without_token:
            answer = wish.token.make(client, name)
            try:
                write(name, answer.secret)
            except BaseException:
                # Nobody would ever know it, and the next run would take this user for one who has a token.
                client.revoke_token(answer.token.token_id)
                raise
            made.append((name, answer.secret))
    except (SyndicateError, OSError, KeyboardInterrupt) as error:
        where = ""
        if made and wish.tokens_to != TO_STDOUT:
            where = f"They are in {wish.tokens_to}."
        elif made and wish.as_json:
            where = "They were not told to anybody: revoke them."
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        raise CliError(
            f"{len(made)} of {plural(len(plan.without_token), 'token')} were made, then: {why}",
            f"All users of the roster are there. {where}".rstrip(),
            "For the others run it again, with another file for the tokens.",
            code=exit_codes.INTERRUPTED if isinstance(error, KeyboardInterrupt) else exit_codes.TRY_AGAIN,
        ) from None
    return made


def _tell(terminal: Terminal, plan: _Plan, wish: ImportWish, made: Sequence[tuple[str, str]]) -> None:
    if wish.as_json:
        terminal.say(document(_as_plain(plan, wish, made)))
        return
    to_stdout = wish.tokens_to == TO_STDOUT and not wish.dry_run
    lines, room = _lines(plan, wish, made, terminal)
    if to_stdout:
        terminal.note(lines)
    else:
        terminal.say(lines)
    if wish.dry_run:
        terminal.say(labelled_text("dry run", "nothing was changed", room))


def _lines(
    plan: _Plan, wish: ImportWish, made: Sequence[tuple[str, str]], terminal: Terminal
) -> tuple[list[str], int]:
    room = terminal.room
    same = len(plan.entries) - len(plan.new) - len(plan.changed)
    counts = f"{len(plan.new):,} new, {len(plan.changed):,} changed, {same:,} as they are"
    lines = labelled_text("roster", f"{plural(len(plan.entries), 'user')}: {counts}", room)
    for before, after in plan.changed[:_SHOWN]:
        lines += labelled_text("", f"{after.name}: {_difference(before, after)}", room)
    if len(plan.changed) > _SHOWN:
        lines += labelled_text("", f"and {len(plan.changed) - _SHOWN:,} more", room)
    if plan.teams:
        more = f" and {len(plan.teams) - _SHOWN:,} more" if len(plan.teams) > _SHOWN else ""
        named = ", ".join(plan.teams[:_SHOWN])
        lines += labelled_text("teams", f"{len(plan.teams):,} new: {named}{more}", room)
    if wish.tokens_to:
        lines += labelled_text("tokens", _tokens_text(plan, wish, made), room)
    return lines, room


def _tokens_text(plan: _Plan, wish: ImportWish, made: Sequence[tuple[str, str]]) -> str:
    if not plan.without_token:
        return "each user has one already: none is made, and no file"
    if wish.dry_run:
        return f"{len(plan.without_token):,} to be made"
    where = (
        "above, shown this once" if wish.tokens_to == TO_STDOUT else f"in {wish.tokens_to}, and nowhere else"
    )
    return f"{len(made):,} made, {where}"


def _difference(before: User, after: User) -> str:
    """``team blue (was red)``, for each field that changes."""
    parts = []
    if before.role != after.role:
        parts.append(f"role {words.user_role(after.role)} (was {words.user_role(before.role)})")
    if before.team != after.team:
        parts.append(f"team {after.team or 'none'} (was {before.team or 'none'})")
    if before.quota != after.quota:
        parts.append(f"quota {quota_text(after.quota)} (was {quota_text(before.quota)})")
    return ", ".join(parts)


def _as_plain(plan: _Plan, wish: ImportWish, made: Sequence[tuple[str, str]]) -> Mapping[str, object]:
    answer: dict[str, object] = {
        "added": [user.name for user in plan.new],
        "changed": [after.name for _, after in plan.changed],
        "unchanged": len(plan.entries) - len(plan.new) - len(plan.changed),
        "teams_added": list(plan.teams),
        "dry_run": wish.dry_run,
        "tokens_made": len(made),
    }
    if wish.tokens_to == TO_STDOUT:
        answer["tokens"] = [{"name": name, "token": secret} for name, secret in made]
    elif wish.tokens_to:
        answer["tokens_file"] = wish.tokens_to if made else ""
    return answer
