"""The commands that break and mend a running job: their options and their help."""

from __future__ import annotations

from typing import Annotated

import typer
from syndicate.cli import chaos_commands
from syndicate.cli.chaos_commands import Asked
from syndicate.cli.options import JobArgument, JsonOption, connected
from syndicate.cli.terminal import Terminal
from syndicate.client_api import Chaos, SchedulerClient, Shape

_HELP = """Breaks and mends a running job: its owner's and staff's.

Members are named as `show` does (master, slave-0, client-0) or by their addresses; several are struck at
once. What lasts (disconnect, reset, partition, degrade, pause, disk-full) ends by reconnect, resume or heal,
by its --lease, or with the job.
"""

chaos_app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

_SIGNALS = ("HUP", "INT", "QUIT", "ABRT", "USR1", "USR2", "ALRM", "TERM")


def _shapes(incomplete: str) -> list[str]:
    return [shape.value for shape in Shape if shape.startswith(incomplete)]


def _signals(incomplete: str) -> list[str]:
    return [name for name in _SIGNALS if name.startswith(incomplete.upper())]


MembersArgument = Annotated[
    list[str], typer.Argument(metavar="MEMBER", help="master, slave-0 … or an address.")
]
LeaseOption = Annotated[
    str | None, typer.Option("--lease", metavar="TIME", help="End it by itself after: 30, 500ms, 2m.")
]


def _percent(name: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        name, metavar="PERCENT", help=f"Packets that {what}: 10, 10%."
    )
    return option


@chaos_app.command()
@connected
def kill(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    json: JsonOption = False,
) -> int:  # fmt: skip
    """Ends every process of tasks. A dead one is left as it is."""
    return chaos_commands.do(
        client, terminal, Asked("kill", job, members, json), lambda chaos, ips: chaos.kill(ips)
    )


@chaos_app.command()
@connected
def revive(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    members: MembersArgument,
    without_disk: Annotated[
        bool, typer.Option("--without-disk", help="Each gets a fresh disk: its source only.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Starts tasks again. A live one is left alone."""
    with_disk = False if without_disk else None
    asked = Asked("revive", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.revive(ips, with_disk))


@chaos_app.command()
@connected
def disconnect(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    lease: LeaseOption = None, json: JsonOption = False,
) -> int:  # fmt: skip
    """Cuts members from all masters and slaves, in silence."""
    asked = Asked("disconnect", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.disconnect(ips, lease=lease))


@chaos_app.command()
@connected
def reconnect(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    json: JsonOption = False,
) -> int:  # fmt: skip
    """Takes every disconnect and reset of members back."""
    asked = Asked("reconnect", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.reconnect(ips))


@chaos_app.command()
@connected
def reset(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    lease: LeaseOption = None, json: JsonOption = False,
) -> int:  # fmt: skip
    """Cuts members from all masters and slaves, and tells TCP."""
    asked = Asked("reset", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.reset(ips, lease=lease))


@chaos_app.command()
@connected
def pause(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    lease: LeaseOption = None, json: JsonOption = False,
) -> int:  # fmt: skip
    """Freezes every process of tasks."""
    asked = Asked("pause", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.pause(ips, lease=lease))


@chaos_app.command()
@connected
def resume(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    json: JsonOption = False,
) -> int:  # fmt: skip
    """Takes every pause of tasks back."""
    return chaos_commands.do(
        client, terminal, Asked("resume", job, members, json), lambda chaos, ips: chaos.resume(ips)
    )


@chaos_app.command("disk-full")
@connected
def disk_full(
    client: SchedulerClient, terminal: Terminal, job: JobArgument, members: MembersArgument,
    lease: LeaseOption = None, json: JsonOption = False,
) -> int:  # fmt: skip
    """Leaves no room on the disks of tasks."""
    asked = Asked("disk-full", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.disk_full(ips, lease=lease))


@chaos_app.command()
@connected
def signal(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    name: Annotated[
        str, typer.Argument(metavar="SIGNAL", help="QUIT, USR1 … or a number.", autocompletion=_signals)
    ],
    members: MembersArgument,
    json: JsonOption = False,
) -> int:
    """Sends a signal to the processes of tasks. Their makes do not get it."""
    asked = Asked("signal", job, members, json)
    return chaos_commands.do(client, terminal, asked, lambda chaos, ips: chaos.signal(ips, name))


@chaos_app.command()
@connected
def degrade(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    members: MembersArgument,
    loss: Annotated[str, _percent("--loss", "are lost")] = "0",
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="The most that passes: 1Mbit, 500kbit.")
    ] = None,
    delay: Annotated[str, typer.Option("--delay", metavar="TIME", help="How much later: 50ms.")] = "0",
    jitter: Annotated[
        str, typer.Option("--jitter", metavar="TIME", help="How much the delay varies: 10ms.")
    ] = "0",
    duplicate: Annotated[str, _percent("--duplicate", "arrive twice")] = "0",
    corrupt: Annotated[str, _percent("--corrupt", "arrive with one bit another one")] = "0",
    reorder: Annotated[str, _percent("--reorder", "are not delayed, so that they pass others")] = "0",
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="MEMBER", help="Only to and from it; repeatable."),
    ] = None,
    one_way: Annotated[bool, typer.Option("--one-way", help="Only what the members send.")] = False,
    lease: LeaseOption = None,
    json: JsonOption = False,
) -> int:
    """Makes the network of members worse."""
    peers = peer or []

    def do(chaos: Chaos, ips: list[str]) -> object:
        return chaos.degrade(
            ips[: len(members)],
            peers=ips[len(members) :],
            loss=loss,
            rate=rate,
            delay=delay,
            jitter=jitter,
            duplicate=duplicate,
            corrupt=corrupt,
            reorder=reorder,
            one_way=one_way,
            lease=lease,
        )

    return chaos_commands.do(client, terminal, Asked("degrade", job, [*members, *peers], json), do)


@chaos_app.command()
@connected
def partition(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    groups: Annotated[
        list[str] | None,
        typer.Argument(metavar="GROUP", help="Members with commas: master,slave-0 slave-1,slave-2"),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape", metavar="SHAPE", help=f"Instead of groups: {', '.join(Shape)}.", autocompletion=_shapes
        ),
    ] = None,
    one: Annotated[
        str | None,
        typer.Option("--one", metavar="MEMBER", help="The one of bridge and isolate-one; else drawn."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="For what is drawn; else 0.")] = 0,
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Later groups do not reach earlier ones.")
    ] = False,
    lease: LeaseOption = None,
    json: JsonOption = False,
) -> int:
    """Cuts groups of members from each other."""
    parts = [[name for name in group.split(",") if name] for group in groups or []]
    names = [*(name for part in parts for name in part), *([one] if one else [])]

    def do(chaos: Chaos, ips: list[str]) -> object:
        address = dict(zip(names, ips, strict=True))
        return chaos.partition(
            [[address[name] for name in part] for part in parts] or None,
            shape=shape,
            ip=address[one] if one else None,
            one_way=one_way,
            seed=seed,
            lease=lease,
        )

    return chaos_commands.do(client, terminal, Asked("partition", job, names, json), do)


@chaos_app.command()
@connected
def heal(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    faults: Annotated[
        list[int] | None, typer.Argument(metavar="FAULT", help="Lines of the ledger; else everything.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Takes back what lasts: everything, or these faults. The dead stay dead."""
    return chaos_commands.heal(client, terminal, job, faults or [], json)


@chaos_app.command("faults")
@connected
def list_faults(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    in_force: Annotated[bool, typer.Option("--in-force", help="Only what is in force now.")] = False,
    json: JsonOption = False,
) -> int:
    """Lists the ledger of faults.

    What was done to whom, when (seconds since the job's start), by whom, and what became of it.
    """
    return chaos_commands.list_faults(client, terminal, job, in_force, json)
