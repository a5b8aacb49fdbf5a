"""What the commands about volunteers and the cluster do."""

from __future__ import annotations

from collections.abc import Sequence

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.render import words
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.render.tables import cannot_lines, cluster_lines, nodes_table
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient


def list_nodes(client: SchedulerClient, terminal: Terminal, as_json: bool, wide: bool = False) -> int:
    """All volunteers with their slots; ``wide`` tells why some cannot do what others can."""
    nodes = list(client.nodes())
    if as_json:
        terminal.say(document({"nodes": [as_plain(node) for node in nodes]}))
    else:
        terminal.say(nodes_table(nodes, client.cluster().now, terminal.room, terminal.glyphs.more))
        if wide:
            terminal.say(cannot_lines(nodes, terminal.room))
        elif any(node.cannot for node in nodes):
            terminal.note("(why some cannot do what others can:  syndicatectl nodes --wide)")
    return exit_codes.OK


def drain(
    client: SchedulerClient, terminal: Terminal, names: Sequence[str], draining: bool, as_json: bool
) -> int:
    """Takes volunteers out of use for new jobs, or back; one line each. All or, if one is not known, none."""
    known = {node.volunteer_id for node in client.nodes()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CliError(
            f"there is no volunteer {unknown[0]}",
            f"Nothing was changed. There {'is' if len(known) == 1 else 'are'}: {', '.join(sorted(known))}."
            if known
            else "The cluster has none yet.",
            code=exit_codes.NOT_FOUND,
        )
    states = {name: words.node_state(client.drain(name, draining)) for name in names}
    if as_json:
        nodes = [{"volunteer_id": name, "state": state.lower()} for name, state in states.items()]
        terminal.say(document({"nodes": nodes}))
        return exit_codes.OK
    rest = "  (jobs that it has go on)" if draining else ""
    terminal.say([f"{name}   {state}{rest}" for name, state in states.items()])
    return exit_codes.OK


def cluster(client: SchedulerClient, terminal: Terminal, as_json: bool) -> int:
    """The cluster in numbers."""
    numbers = client.cluster()
    terminal.say(document(as_plain(numbers)) if as_json else cluster_lines(numbers, terminal.room))
    return exit_codes.OK
