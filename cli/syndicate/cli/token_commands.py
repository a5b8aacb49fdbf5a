"""What the commands about tokens, the audit log and published jobs do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.context import Target
from syndicate.cli.contexts import LOCAL
from syndicate.cli.failure import CliError
from syndicate.cli.private_files import create_private
from syndicate.cli.render.identity import audit_table, made_lines, token_text, tokens_table
from syndicate.cli.render.job_lines import labelled, labelled_text
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.terminal import Terminal
from syndicate.cli.tokens import TokenWish, token_id_of
from syndicate.cli.user_commands import PAGE
from syndicate.client_api import SchedulerClient
from syndicate.v1.scheduler_pb2 import USER_ROLE_STUDENT

RECENT_LINES = 50


def create(
    client: SchedulerClient, terminal: Terminal, user: str, wish: TokenWish, to: str, as_json: bool
) -> int:
    """Makes a token and tells it once: to a file of its owner's alone, or on standard output."""
    if to:
        return _create_in(client, terminal, user, wish, Path(to), as_json)
    made = wish.make(client, user)
    if as_json:
        terminal.say(document({"token": as_plain(made.token), "secret": made.secret}))
    elif terminal.out_is_terminal:
        terminal.say(made_lines(made.token, made.secret, client.cluster().now, terminal.room))
    else:
        terminal.say(made.secret)  # for `syndicatectl token create | …`
    return exit_codes.OK


def _create_in(
    client: SchedulerClient, terminal: Terminal, user: str, wish: TokenWish, path: Path, as_json: bool
) -> int:
    descriptor = create_private(path)  # before the token: one that nobody can read is of no use
    try:
        with os.fdopen(descriptor, "w") as file:
            made = wish.make(client, user)
            file.write(made.secret + "\n")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    if as_json:
        terminal.say(document({"token": as_plain(made.token), "file": str(path)}))
    else:
        text = f"{token_text(made.token, client.cluster().now)}, of {made.token.user}"
        terminal.say(labelled_text("token", text, terminal.room))
        terminal.say(labelled_text("", f"It is in {path}, and nowhere else.", terminal.room))
    return exit_codes.OK


def list_tokens(
    client: SchedulerClient, terminal: Terminal, user: str, everybody: bool, as_json: bool
) -> int:
    """One's own tokens, another user's, or everybody's."""
    if user and everybody:
        raise CliError("--all and --user at once", "One of them says whose.", code=exit_codes.USAGE)
    tokens = list(client.tokens(user=user, everybody=everybody))
    if user and not tokens and client.whoami().user.name != user:
        client.user(user)  # raises NoSuchUser: a name that is mistyped has no tokens either
    if as_json:
        terminal.say(document({"tokens": [as_plain(token) for token in tokens]}))
    else:
        terminal.say(tokens_table(tokens, client.cluster().now, terminal.room, terminal.glyphs.more))
    return exit_codes.OK


def revoke(
    client: SchedulerClient, terminal: Terminal, target: Target, token_ids: Sequence[str], as_json: bool
) -> int:
    """Ends tokens: all or, if one is not known, none. The one that the command itself uses comes last."""
    who = client.whoami()
    own = who.token.token_id
    named = dict.fromkeys(map(token_id_of, token_ids))
    if len(named) > 1:
        _check_known(client, list(named), everybody=who.user.role != USER_ROLE_STUDENT)
    in_order = sorted(named, key=lambda token_id: token_id == own)
    revoked = []
    for token_id in in_order:
        revoked.append(client.revoke_token(token_id))
        if not as_json:
            terminal.say(labelled("token", f"{token_id} of {revoked[-1].user} is revoked"))
    if as_json:
        terminal.say(document({"tokens": [as_plain(token) for token in revoked]}))
    if own in named:
        kept = target.token_context not in ("", LOCAL)
        again = f":  syndicatectl login --context {target.token_context}" if kept else ""
        terminal.note(f"(that was the token of these commands; log in with another one{again})")
    return exit_codes.OK


def _check_known(client: SchedulerClient, token_ids: Sequence[str], everybody: bool) -> None:
    known = {token.token_id for token in client.tokens(everybody=everybody, page_size=PAGE)}
    unknown = [token_id for token_id in token_ids if token_id not in known]
    if unknown:
        raise CliError(
            f"there is no token {unknown[0]}",
            "Nothing was revoked. Which are there?  syndicatectl token list",
            code=exit_codes.NOT_FOUND,
        )


def audit(
    client: SchedulerClient,
    terminal: Terminal,
    *,
    user: str,
    job_id: int,
    denied: bool,
    everything: bool,
    as_json: bool,
) -> int:
    """The newest lines of the audit log, or all of them."""
    size = PAGE if everything else RECENT_LINES
    found = client.audit(user=user, job_id=job_id, denied=denied, page_size=size)
    lines = list(found if everything else islice(found, RECENT_LINES + 1))
    more = not everything and len(lines) > RECENT_LINES
    lines = lines[:RECENT_LINES] if more else lines
    if as_json:
        terminal.say(document({"lines": [as_plain(line) for line in lines], "more": more}))
        return exit_codes.OK
    terminal.say(audit_table(lines, terminal.room, terminal.glyphs.more))
    if more:
        terminal.note(f"(the newest {RECENT_LINES}; all of them:  syndicatectl audit --all)")
    return exit_codes.OK


def publish(client: SchedulerClient, terminal: Terminal, job_id: int, undo: bool, as_json: bool) -> int:
    """Lets every user see a job, or takes that back."""
    published = client.publish(job_id, not undo)
    if as_json:
        terminal.say(document({"job_id": job_id, "published": published}))
        return exit_codes.OK
    text = "published: every user sees it, its result and all its output"
    if not published:
        text = "not published: its owner, the owner's team and staff see it"
    terminal.say(labelled_text(f"job {job_id}", text, terminal.room))
    return exit_codes.OK
