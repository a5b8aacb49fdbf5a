"""The command lines of ``certs`` and ``join-token``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from syndicate.cli import exit_codes
from syndicate.cli.certs_commands import REMOTE_FOLDER, HostWish, hand_over, run_certs, state_dir
from syndicate.cli.failure import CliError
from syndicate.cli.groups import Group
from syndicate.cli.terminal import this_terminal

certs_app = Group(help="The cluster's own certificates. On the manager's machine.")
join_app = Group(help="Tokens by which machines join. On the manager's machine.")

StateOption = Annotated[
    str | None,
    typer.Option(
        "--state-dir", metavar="DIR", help="The manager's; else that of `up`, or /var/lib/syndicate."
    ),
]
AddressOption = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="HOST|IP", help="What it is called, or calls from; repeatable."),
]
DaysOption = Annotated[int, typer.Option("--days", metavar="N", help="How long it is good.", min=1)]
OutOption = Annotated[str, typer.Option("--out", metavar="DIR", help="Else ./syndicate-HOST.")]
SshOption = Annotated[str, typer.Option("--ssh", metavar="[USER@]HOST", help="Copy it there, by ssh.")]
SshFolderOption = Annotated[
    str, typer.Option("--ssh-folder", metavar="DIR", help="The folder there; its owner is that of DIR/..")
]
HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The volunteer's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _run(words: list[str], state: str | None, as_json: bool, *about: str) -> None:
    raise typer.Exit(run_certs(words, state_dir(state), as_json, this_terminal(), about))


@certs_app.command()
def init(
    addresses: AddressOption = None,
    cluster: Annotated[str, typer.Option("--cluster", metavar="NAME", help="Else drawn.")] = "",
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Makes the cluster's authority and the manager's certificate.

    --address says by which names and addresses the manager is called, beside localhost.
    """
    words = ["init", *_addresses(addresses), *([f"--cluster={cluster}"] if cluster else [])]
    _run(words, state, json)


@certs_app.command()
def add(
    host: HostArgument,
    addresses: AddressOption = None,
    days: DaysOption = 90,
    out: OutOption = "",
    ssh: SshOption = "",
    ssh_folder: SshFolderOption = REMOTE_FOLDER,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Makes the certificate of a volunteer.

    With --address it is good from these addresses only.
    """
    wish = HostWish(host, addresses or (), days, out, ssh, ssh_folder, json)
    raise typer.Exit(hand_over("add", wish, state_dir(state), this_terminal()))


@certs_app.command()
def renew(
    host: Annotated[str, typer.Argument(metavar="[HOST]", help="A volunteer's id; else the manager's.")] = "",
    addresses: AddressOption = None,
    days: DaysOption = 90,
    out: OutOption = "",
    ssh: SshOption = "",
    ssh_folder: SshFolderOption = REMOTE_FOLDER,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Makes another certificate of a volunteer, or of the manager.

    Both renew themselves while they run; this is for one that was away for too long, or got another name.
    """
    if not host:
        _only_with_host(
            {"--out": out, "--ssh": ssh, "--days": days != 90, "--ssh-folder": ssh_folder != REMOTE_FOLDER}
        )
        _run(["renew", *_addresses(addresses)], state, json)
    wish = HostWish(host, addresses or (), days, out, ssh, ssh_folder, json)
    raise typer.Exit(hand_over("renew", wish, state_dir(state), this_terminal()))


@certs_app.command("list")
def list_certs(state: StateOption = None, json: JsonOption = False) -> None:
    """Lists what was issued or revoked, and until when it is good."""
    _run(["list"], state, json)


@certs_app.command()
def revoke(host: HostArgument, state: StateOption = None, json: JsonOption = False) -> None:
    """Refuses a volunteer from now on, and cuts it off."""
    _run(["revoke"], state, json, host)


@join_app.command()
def create(
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How many machines may join by it.")] = 1,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="90s, 1h30m, 24h, 7d.")] = "24h",
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Makes a join token. It is shown once."""
    _run(["token-create", f"--uses={uses}", f"--ttl={ttl}"], state, json)


@join_app.command("list")
def list_tokens(state: StateOption = None, json: JsonOption = False) -> None:
    """Lists join tokens, without their secrets, and who joined by them."""
    _run(["token-list"], state, json)


@join_app.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="What stands before the dot.")],
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Lets nobody join by it any more; who has joined stays."""
    # Of a whole token the secret goes onto no further command line.
    _run(["token-revoke"], state, json, token_id.partition(".")[0])


def _addresses(addresses: list[str] | None) -> list[str]:
    return [f"--address={address}" for address in addresses or ()]


def _only_with_host(given: Mapping[str, object]) -> None:
    """Raises CliError for an option that means nothing for the manager's own certificate."""
    for option in (name for name, value in given.items() if value):
        raise CliError(
            f"{option} is for a volunteer's certificate, and no HOST is named",
            f"A volunteer's:  syndicatectl certs renew HOST {option} …     The manager's:  without it",
            code=exit_codes.USAGE,
        )
