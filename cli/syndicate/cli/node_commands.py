"""What the commands about volunteers and the cluster do."""

from __future__ import annotations

from collections.abc import Sequence

from syndicate.cli import exit_codes
from syndicate.cli.render import words
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.render.tables import cluster_lines, nodes_table
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient


def list_nodes(client: SchedulerClient, terminal: Terminal, as_json: bool) -> int:
    """All volunteers with their slots."""
    nodes = list(client.nodes())
    if as_json:
        terminal.say(document({"nodes": [as_plain(node) for node in nodes]}))
    else:
        terminal.say(nodes_table(nodes, client.cluster().now))
    return exit_codes.OK


def drain(client: SchedulerClient, terminal: Terminal, names: Sequence[str], draining: bool) -> int:
    """Takes volunteers out of use for new jobs, or back; one line each."""
    for name in names:
        state = client.drain(name, draining)
        rest = "  (jobs that it has go on)" if draining else ""
        terminal.say(f"{name}   {words.node_state(state)}{rest}")
    return exit_codes.OK


def cluster(client: SchedulerClient, terminal: Terminal, as_json: bool) -> int:
    """The cluster in numbers."""
    numbers = client.cluster()
    terminal.say(document(as_plain(numbers)) if as_json else cluster_lines(numbers))
    return exit_codes.OK
