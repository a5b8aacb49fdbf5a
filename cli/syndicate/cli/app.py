"""The commands of ``syndicatectl``, their options and their help. What they do is in the modules beside."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

import typer
from syndicate.cli import (
    barrier_commands,
    exit_codes,
    identity_app,
    job_commands,
    local_commands,
    login_app,
    node_commands,
)
from syndicate.cli.certs_app import certs_app, join_app
from syndicate.cli.chaos_app import chaos_app
from syndicate.cli.context import Given
from syndicate.cli.debug_app import debug_app
from syndicate.cli.doctor_command import doctor
from syndicate.cli.durations import parse_duration
from syndicate.cli.fetch_commands import fetch
from syndicate.cli.follow import follow
from syndicate.cli.groups import Group
from syndicate.cli.install_app import install_app, uninstall_part
from syndicate.cli.options import (
    CaOption,
    ContextOption,
    InsecureOption,
    JobArgument,
    JsonOption,
    ManagerOption,
    TokenFileOption,
    TokenOption,
    UserOption,
    connected,
)
from syndicate.cli.render.plain import document
from syndicate.cli.replay_command import replay
from syndicate.cli.report_commands import report
from syndicate.cli.sizes import parse_count, parse_cpus, parse_size
from syndicate.cli.submission import Wish
from syndicate.cli.submission import submit as submit_job
from syndicate.cli.terminal import Terminal, this_terminal
from syndicate.client_api import SchedulerClient
from syndicate.v1.common_pb2 import Limits

_HELP = f"""Submits jobs to a Syndicate cluster, watches them, and reads their results.

On one Linux machine:  syndicatectl up && syndicatectl submit PATH --follow

On a cluster that is there:  syndicatectl login HOST:PORT

\b
Exit codes:
{exit_codes.table()}
"""

app = Group(
    name="syndicatectl",
    help=_HELP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
node_app = Group(help="Takes a volunteer out of use, or back.")
app.add_typer(chaos_app, name="chaos")
app.add_typer(node_app, name="node")
app.add_typer(certs_app, name="certs")
app.add_typer(join_app, name="join-token")
app.add_typer(install_app, name="install")
app.add_typer(debug_app, name="debug")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit(exit_codes.OK)


@app.callback()
def options(
    ctx: typer.Context,
    manager: ManagerOption = None,
    context: ContextOption = None,
    token_file: TokenFileOption = None,
    token: TokenOption = None,
    user: UserOption = None,
    ca: CaOption = None,
    insecure: InsecureOption = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    ctx.obj = Given(manager, token, token_file, user, context, ca, insecure)


@app.command()
@connected
def submit(
    client: SchedulerClient,
    terminal: Terminal,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A folder, or a .tar, .tar.gz, .tgz, .tar.zst.")
    ],
    machines: Annotated[
        int, typer.Option("-n", "--machines", metavar="MACHINES", help="1 master, the others slaves.")
    ] = 1,
    client_path: Annotated[
        str | None, typer.Option("--client", metavar="PATH", help="The client's source.")
    ] = None,
    clients: Annotated[int | None, typer.Option("--clients", metavar="K", help="How many clients.")] = None,
    no_client: Annotated[bool, typer.Option("--no-client", help="No client, also no default one.")] = False,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="For people: [a-z0-9-], made from PATH otherwise.")
    ] = "",
    time_limit: Annotated[
        str,
        typer.Option(
            "--time-limit", metavar="TIME", help="Longest run: 90, 5m, 1h30m; else the manager's (10 min)."
        ),
    ] = "",
    memory: Annotated[
        str,
        typer.Option("--memory", metavar="SIZE", help="Memory of each task: 512M, 2G. It holds the disk."),
    ] = "",
    cpus: Annotated[
        float | None, typer.Option("--cpus", metavar="X", help="Processors of each task: 2, 0.5.")
    ] = None,
    pids: Annotated[
        int | None, typer.Option("--pids", metavar="N", help="Processes and threads of each task.")
    ] = None,
    disk: Annotated[
        str,
        typer.Option("--disk", metavar="SIZE", help="Disk of each task; 64M less than its memory at most."),
    ] = "",
    inodes: Annotated[
        int | None, typer.Option("--inodes", metavar="N", help="Files and folders on the disk.")
    ] = None,
    files: Annotated[
        int | None, typer.Option("--files", metavar="N", help="Files that a process may have open.")
    ] = None,
    file_size: Annotated[
        str, typer.Option("--file-size", metavar="SIZE", help="The largest file that a process may write.")
    ] = "",
    log: Annotated[
        str, typer.Option("--log", metavar="SIZE", help="Kept of each task's output, from its beginning.")
    ] = "",
    keep_disks: Annotated[
        bool, typer.Option("--keep-disks", help="Keep each task's disk at the end, for fetch --disk.")
    ] = False,
    lose_unsynced: Annotated[
        bool,
        typer.Option("--lose-unsynced", help="A kill is a loss of power: what is not synced is gone."),
    ] = False,
    sync_server: Annotated[
        str,
        typer.Option(
            "--sync-server",
            metavar="MEMBER",
            help="Who has the barriers: master, slave-0, client-0, none; else client-0 or master.",
        ),
    ] = "",
    everything: Annotated[
        bool,
        typer.Option("--all", help="Send also .git, __pycache__, .venv, node_modules and the like."),
    ] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print what happens until it ends.")] = False,
    json: JsonOption = False,
) -> int:
    """Submits a job. Prints its id; with --follow, what happens, and ends as the job does."""
    seconds = parse_duration(time_limit, "--time-limit") if time_limit else 0.0
    limits = Limits(
        memory_bytes=parse_size(memory, "--memory") if memory else 0,
        cpu_millis=parse_cpus(cpus, "--cpus") if cpus is not None else 0,
        pids=parse_count(pids, "--pids") if pids is not None else 0,
        disk_bytes=parse_size(disk, "--disk") if disk else 0,
        disk_inodes=parse_count(inodes, "--inodes") if inodes is not None else 0,
        open_files=parse_count(files, "--files") if files is not None else 0,
        file_bytes=parse_size(file_size, "--file-size") if file_size else 0,
        log_head_bytes=parse_size(log, "--log") if log else 0,
    )
    wish = Wish(
        *(path, machines, client_path, clients, no_client, name, seconds, everything, follow, json, limits),
        keep_disks=keep_disks,
        lose_unsynced=lose_unsynced,
        sync_server=sync_server,
    )
    return submit_job(client, wish, terminal)


@app.command()
@connected
def jobs(
    client: SchedulerClient,
    terminal: Terminal,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only in this state: queued,running; repeatable."),
    ] = None,
    owner: Annotated[str, typer.Option("--owner", metavar="NAME", help="Only of this owner.")] = "",
    everybody: Annotated[
        bool, typer.Option("--everybody", help="For students: also the team's and published ones.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Not only the newest 20.")] = False,
    json: JsonOption = False,
) -> int:
    """Lists jobs, newest first.

    Students see their own ones, staff everybody's.
    """
    return job_commands.list_jobs(
        client,
        terminal,
        states=state or (),
        owner=owner,
        everybody=everybody,
        everything=everything,
        as_json=json,
    )


@app.command()
@connected
def show(client: SchedulerClient, terminal: Terminal, job: JobArgument, json: JsonOption = False) -> int:
    """Shows a job on one page.

    Tasks, addresses and faults on one time line, its story, or what it waits for.
    """
    return job_commands.show(client, terminal, job, json)


@app.command()
@connected
def logs(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job has ended.")] = False,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help="Only master, slave-0, client-0 …; repeatable."),
    ] = None,
    attempt: Annotated[
        int,
        typer.Option(
            "--attempt",
            metavar="N",
            help="Of an earlier attempt; else of the last.",
            min=0,
            show_default=False,
        ),
    ] = 0,
    json: JsonOption = False,
) -> int:
    """Prints the output of a job's tasks.

    That of clients is the staff's until the job is published.
    """
    return job_commands.logs(
        client, terminal, job, tasks=task or (), follow=follow, attempt=attempt, as_json=json
    )


@app.command()
@connected
def barriers(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    drop: Annotated[
        str | None, typer.Option(metavar="NAME", help="Drop this barrier: who waits there gets 240.")
    ] = None,
    drop_all: Annotated[bool, typer.Option("--drop-all", help="Drop all barriers of the job.")] = False,
    json: JsonOption = False,
) -> int:
    """Lists the barriers of a job at which somebody waits. Tells who is missing; or drops them."""
    if drop_all or drop is not None:
        return barrier_commands.drop(client, terminal, job, drop, drop_all, json)
    return barrier_commands.barriers(client, terminal, job, json)


@app.command("follow")
@connected
def follow_job(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, json: JsonOption = False
) -> int:
    """Prints what happens in a job until it ends.

    As `submit --follow` does: faults and output on one time line; and ends as the job does.
    """
    return follow(client, job, terminal, json)


@app.command()
@connected
def wait(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="Wait no longer: 90, 5m.")] = "",
    json: JsonOption = False,
) -> int:
    """Waits until a job has ended, and ends as it did."""
    seconds = parse_duration(timeout, "--timeout") if timeout else None
    return job_commands.wait(client, terminal, job, seconds, json)


@app.command()
@connected
def cancel(client: SchedulerClient, terminal: Terminal, job: JobArgument, json: JsonOption = False) -> int:
    """Ends a job."""
    return job_commands.cancel(client, terminal, job, json)


@app.command()
@connected
def result(client: SchedulerClient, terminal: Terminal, job: JobArgument, json: JsonOption = False) -> int:
    """Prints what the clients of a job found.

    Ends with 0 for a pass, 1 for a fail, 2 for unknown.
    """
    return job_commands.result(client, terminal, job, json)


@app.command()
@connected
def nodes(
    client: SchedulerClient,
    terminal: Terminal,
    wide: Annotated[bool, typer.Option("--wide", help="Also why some cannot do what others can.")] = False,
    json: JsonOption = False,
) -> int:
    """Lists the volunteers and their slots."""
    return node_commands.list_nodes(client, terminal, json, wide)


@app.command()
@connected
def cluster(client: SchedulerClient, terminal: Terminal, json: JsonOption = False) -> int:
    """Shows the cluster in numbers."""
    return node_commands.cluster(client, terminal, json)


app.command()(replay)
app.command()(report)
app.command()(fetch)
login_app.add_to(app)
identity_app.add_to(app)

NodesArgument = Annotated[list[str], typer.Argument(metavar="ID...", help="The volunteers' ids.")]


@node_app.command()
@connected
def drain(client: SchedulerClient, terminal: Terminal, names: NodesArgument, json: JsonOption = False) -> int:
    """Gives the volunteers no new job; jobs that they have go on."""
    return node_commands.drain(client, terminal, names, draining=True, as_json=json)


@node_app.command()
@connected
def resume(
    client: SchedulerClient, terminal: Terminal, names: NodesArgument, json: JsonOption = False
) -> int:
    """Takes the volunteers back into use."""
    return node_commands.drain(client, terminal, names, draining=False, as_json=json)


@app.command()
def up(
    slots: Annotated[
        int | None,
        typer.Option(
            "--slots",
            metavar="N",
            help="Slots of this machine; else 4.",
            min=1,
            max=local_commands.MOST_SLOTS,
        ),
    ] = None,
    directory: Annotated[
        str, typer.Option("--dir", metavar="DIR", help="Holds state and logs.")
    ] = local_commands.DEFAULT_DIRECTORY,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="P", help="For users on 127.0.0.1; 0 for any free one.", min=0, max=65535
        ),
    ] = 7000,
    volunteer_port: Annotated[
        int | None,
        typer.Option(
            "--volunteer-port",
            metavar="P",
            help="For the volunteer; else one more than --port.",
            min=0,
            max=65535,
        ),
    ] = None,
    client_path: Annotated[
        str | None, typer.Option("--client", metavar="PATH", help="The default client's source.")
    ] = None,
    clients: Annotated[int, typer.Option("--clients", metavar="K", help="How many of it a job has.")] = 1,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Also where this machine cannot isolate jobs.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Clear text instead of TLS between its parts and to users.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Starts a whole cluster on this machine.

    Linux only, as root. Later commands find it by themselves.
    """
    if volunteer_port is None:
        volunteer_port = port + 1 if port else 0
    wish = local_commands.UpWish(
        slots, directory, port, volunteer_port, client_path, clients, unsafe, insecure, json
    )
    raise typer.Exit(local_commands.up(wish, this_terminal()))


@app.command()
def down(
    directory: Annotated[
        str | None,
        typer.Option("--dir", metavar="DIR", help="As given to `up`; else what `up` left word of."),
    ] = None,
    keep_state: Annotated[bool, typer.Option("--keep-state", help="Keep jobs and logs in DIR.")] = False,
    json: JsonOption = False,
) -> None:
    """Ends the cluster that `up` started.

    Leaves nothing of it but, if asked to, its jobs and logs.
    """
    raise typer.Exit(local_commands.down(directory, keep_state, json, this_terminal()))


app.command("doctor")(doctor)
app.command("uninstall")(uninstall_part)


@app.command()
def version(json: JsonOption = False) -> None:
    """Prints the version of this software."""
    number = installed_version("syndicate-cluster")
    this_terminal().say(document({"version": number}) if json else f"syndicatectl {number}")
