"""The command lines that start a local cluster again with its jobs, for advice when a part of it is gone."""

from __future__ import annotations

import shlex
from pathlib import Path

from syndicate.cli.failure import CliError
from syndicate.cli.local_cluster import DEFAULT_DIRECTORY, DEFAULT_SLOTS, Running, read_running

DEFAULT_PORT = 7000


def lines_to_start_again(directory: Path) -> str:
    """What starts the cluster in a folder again with its jobs and logs; by DIR/up.json where it is there."""
    where = "" if directory == Path(DEFAULT_DIRECTORY) else f" --dir {shlex.quote(str(directory))}"
    down = f"syndicatectl down --keep-state{where}"
    try:
        running = read_running(directory)
    except CliError:
        running = None
    if running is None:
        return f"{down} && syndicatectl up{where}"
    return f"{down} && syndicatectl up{where}{_options_again(running)}"


def _options_again(running: Running) -> str:
    """The options of `up` that made this cluster, where they are not what `up` does without them."""
    port, volunteer_port = (
        int(address.rpartition(":")[2] or 0) for address in (running.manager, running.volunteers)
    )
    options = f" --slots {running.slots}" if running.slots != DEFAULT_SLOTS else ""
    if port not in (0, DEFAULT_PORT):
        options += f" --port {port}"
    if volunteer_port not in (0, (port or DEFAULT_PORT) + 1):
        options += f" --volunteer-port {volunteer_port}"
    return options + (" --unsafe" if running.unsafe else "") + (" --insecure" if running.insecure else "")
