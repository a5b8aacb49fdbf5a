"""The commands about users, teams, tokens and the audit log: their options and their help."""

from __future__ import annotations

from typing import Annotated

import typer
from syndicate.cli import token_commands, user_commands
from syndicate.cli.context import Target
from syndicate.cli.groups import Group
from syndicate.cli.options import JobArgument, JsonOption, connected
from syndicate.cli.quotas import QuotaWish
from syndicate.cli.roster import ROLES
from syndicate.cli.roster_import import ImportWish, import_roster
from syndicate.cli.terminal import Terminal
from syndicate.cli.tokens import SCOPES, only_with_a_token, token_wish
from syndicate.cli.user_commands import UserWish
from syndicate.client_api import SchedulerClient


def _group(text: str) -> typer.Typer:
    return Group(help=text)


user_app = _group("Adds and changes users. For staff.")
team_app = _group("Adds and lists teams. Members share a quota and see each other's jobs. For staff.")
token_app = _group("Makes, lists and revokes tokens.")


def _roles(incomplete: str) -> list[str]:
    return [role for role in ROLES if role.startswith(incomplete)]


def _scopes(incomplete: str) -> list[str]:
    return [scope for scope in SCOPES if scope.startswith(incomplete)]


def _bound_option(name: str, what: str) -> typer.models.OptionInfo:
    text = f"{what}: a number, `none` for no bound, or `default`."
    option: typer.models.OptionInfo = typer.Option(name, metavar="N", help=text)
    return option


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="[a-z0-9-], at most 63 of them.")]
NamesArgument = Annotated[list[str], typer.Argument(metavar="NAME...", help="Users' names.")]
RoleOption = Annotated[
    str | None,
    typer.Option(
        "--role", metavar="ROLE", help="student, staff or admin; else student.", autocompletion=_roles
    ),
]
TeamOption = Annotated[
    str | None, typer.Option("--team", metavar="TEAM", help="Its team; '' for none. See `team add`.")
]
RunningOption = Annotated[str | None, _bound_option("--running-jobs", "Jobs that have slots")]
QueuedOption = Annotated[str | None, _bound_option("--queued-jobs", "Jobs that wait")]
SubmissionsOption = Annotated[str | None, _bound_option("--submissions-per-day", "Submissions a day")]
MachinesOption = Annotated[str | None, _bound_option("--machines", "Slots of all its running jobs")]
NoteOption = Annotated[
    str, typer.Option("--note", metavar="TEXT", help="What the token is for; at most 200 characters.")
]
ScopeOption = Annotated[
    str,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="What the token allows: read, submit or all; else as much as yours.",
        autocompletion=_scopes,
    ),
]
ExpiresOption = Annotated[
    str, typer.Option("--expires", metavar="TIME", help="The token's time: 12h, 90d; else the manager's.")
]


@user_app.command("add")
@connected
def user_add(
    client: SchedulerClient,
    terminal: Terminal,
    name: NameArgument,
    role: RoleOption = None,
    team: TeamOption = None,
    running_jobs: RunningOption = None,
    queued_jobs: QueuedOption = None,
    submissions_per_day: SubmissionsOption = None,
    machines: MachinesOption = None,
    with_token: Annotated[
        bool, typer.Option("--with-token", help="Make a token and print it, once.")
    ] = False,
    note: NoteOption = "",
    scope: ScopeOption = "",
    expires: ExpiresOption = "",
    json: JsonOption = False,
) -> int:
    """Adds a user.

    Example:  syndicatectl user add alice --team red --with-token
    """
    quota = QuotaWish(running_jobs, queued_jobs, submissions_per_day, machines)
    token = token_wish(note, scope, expires)
    if not with_token:
        only_with_a_token(token, "Make one:  --with-token")
    return user_commands.add(
        client, terminal, name, UserWish(role, team, quota), token if with_token else None, json
    )


@user_app.command("change")
@connected
def user_change(
    client: SchedulerClient,
    terminal: Terminal,
    name: NameArgument,
    role: RoleOption = None,
    team: TeamOption = None,
    running_jobs: RunningOption = None,
    queued_jobs: QueuedOption = None,
    submissions_per_day: SubmissionsOption = None,
    machines: MachinesOption = None,
    json: JsonOption = False,
) -> int:
    """Changes what is given of a user; the rest stays.

    Example:  syndicatectl user change alice --queued-jobs 5
    """
    quota = QuotaWish(running_jobs, queued_jobs, submissions_per_day, machines)
    return user_commands.change(client, terminal, name, UserWish(role, team, quota), json)


@user_app.command("import")
@connected
def user_import(
    client: SchedulerClient,
    terminal: Terminal,
    roster: Annotated[
        str, typer.Argument(metavar="ROSTER.csv", help="Its first line names columns; `name` is one.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
    only_new: Annotated[
        bool, typer.Option("--only-new", help="Refuse a roster with users that are there already.")
    ] = False,
    tokens: Annotated[
        str,
        typer.Option(
            "--tokens",
            metavar="FILE",
            help="Make a token for each who has none, and write name,token to this new file; - prints them.",
        ),
    ] = "",
    note: NoteOption = "",
    scope: ScopeOption = "",
    expires: ExpiresOption = "",
    json: JsonOption = False,
) -> int:
    """Adds the users of a roster. Those that are there are changed; all or none.

    Columns: name, role, team, running_jobs, queued_jobs, submissions_per_day, machines. What the roster has
    no column for stays as it is. Teams that are not there are made.

    Example:  syndicatectl user import roster.csv --tokens tokens.csv
    """
    if not tokens:
        only_with_a_token(token_wish(note, scope, expires), "Make some:  --tokens FILE")
    wish = ImportWish(roster, dry_run, only_new, tokens, token_wish(note, scope, expires), json)
    return import_roster(client, terminal, wish)


@user_app.command("list")
@connected
def user_list(client: SchedulerClient, terminal: Terminal, json: JsonOption = False) -> int:
    """Lists all users.

    Example:  syndicatectl user list --json
    """
    return user_commands.list_users(client, terminal, json)


@user_app.command("show")
@connected
def user_show(
    client: SchedulerClient, terminal: Terminal, name: NameArgument, json: JsonOption = False
) -> int:
    """Shows a user with its quota, its team and its tokens.

    Example:  syndicatectl user show alice
    """
    return user_commands.show(client, terminal, name, json)


@user_app.command("disable")
@connected
def user_disable(
    client: SchedulerClient, terminal: Terminal, names: NamesArgument, json: JsonOption = False
) -> int:
    """Refuses the users' tokens from now on; their jobs go on.

    Example:  syndicatectl user disable alice
    """
    return user_commands.set_disabled(client, terminal, names, disabled=True, as_json=json)


@user_app.command("enable")
@connected
def user_enable(
    client: SchedulerClient, terminal: Terminal, names: NamesArgument, json: JsonOption = False
) -> int:
    """Takes the users' tokens again.

    Example:  syndicatectl user enable alice
    """
    return user_commands.set_disabled(client, terminal, names, disabled=False, as_json=json)


@team_app.command("add")
@connected
def team_add(
    client: SchedulerClient,
    terminal: Terminal,
    name: NameArgument,
    running_jobs: RunningOption = None,
    queued_jobs: QueuedOption = None,
    submissions_per_day: SubmissionsOption = None,
    machines: MachinesOption = None,
    json: JsonOption = False,
) -> int:
    """Adds a team, or changes its quota, which all members share. What is not given stays.

    Example:  syndicatectl team add red --running-jobs 2
    """
    quota = QuotaWish(running_jobs, queued_jobs, submissions_per_day, machines)
    return user_commands.add_team(client, terminal, name, quota, json)


@team_app.command("list")
@connected
def team_list(client: SchedulerClient, terminal: Terminal, json: JsonOption = False) -> int:
    """Lists all teams.

    Example:  syndicatectl team list
    """
    return user_commands.list_teams(client, terminal, json)


@token_app.command("create")
@connected
def token_create(
    client: SchedulerClient,
    terminal: Terminal,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Whose; else your own.")] = "",
    note: NoteOption = "",
    scope: ScopeOption = "",
    expires: ExpiresOption = "",
    to: Annotated[
        str, typer.Option("--to", metavar="FILE", help="Write it to this new file, which only you can read.")
    ] = "",
    json: JsonOption = False,
) -> int:
    """Makes a token and tells it, this once. A pipe gets the token alone.

    Example:  syndicatectl token create --note laptop --expires 30d --to FILE
    """
    return token_commands.create(client, terminal, user, token_wish(note, scope, expires), to, json)


@token_app.command("list")
@connected
def token_list(
    client: SchedulerClient,
    terminal: Terminal,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Whose; else your own.")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's. For staff.")] = False,
    json: JsonOption = False,
) -> int:
    """Lists tokens, newest first, without what is secret of them.

    Example:  syndicatectl token list --user alice
    """
    return token_commands.list_tokens(client, terminal, user, everybody, json)


@token_app.command("revoke")
@connected
def token_revoke(
    client: SchedulerClient,
    terminal: Terminal,
    target: Target,
    token_ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="As `token list` shows them; not the token itself.")
    ],
    json: JsonOption = False,
) -> int:
    """Ends tokens for good.

    Example:  syndicatectl token revoke "$ID"
    """
    return token_commands.revoke(client, terminal, target, token_ids, json)


@connected
def audit(
    client: SchedulerClient,
    terminal: Terminal,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Only what this user did.")] = "",
    job: Annotated[int, typer.Option("--job", metavar="JOB", help="Only about this job.", min=0)] = 0,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was denied.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Not only the newest 50 lines.")] = False,
    json: JsonOption = False,
) -> int:
    """Lists what was changed or denied, newest first.

    One line for each call. For staff.

    Example:  syndicatectl audit --denied
    """
    return token_commands.audit(
        client, terminal, user=user, job_id=job, denied=denied, everything=everything, as_json=json
    )


@connected
def publish(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    json: JsonOption = False,
) -> int:
    """Lets every user see a job.

    With its result and all its output, also its clients'. For staff.

    Example:  syndicatectl publish 12
    """
    return token_commands.publish(client, terminal, job, undo, json)


def add_to(app: typer.Typer) -> None:
    """Puts all of these under the main command."""
    for command in (publish, audit):
        app.command()(command)
    app.add_typer(user_app, name="user")
    app.add_typer(team_app, name="team")
    app.add_typer(token_app, name="token")
