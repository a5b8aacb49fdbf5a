"""What ``doctor`` does: what this machine lacks as a volunteer, and whether the manager is there."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from syndicate.cli import debug_items, exit_codes
from syndicate.cli.context import Given, Target, resolve
from syndicate.cli.debug_items import Left
from syndicate.cli.failure import CliError
from syndicate.cli.options import JsonOption, unconnected
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.plain import document
from syndicate.cli.terminal import Terminal
from syndicate.client_api import NotAuthenticated, SchedulerClient, SyndicateError, Unreachable
from syndicate.v1 import scheduler_pb2

OK: Final = "ok"
DEGRADED: Final = "degraded"
MISSING: Final = "missing"
_NOTICED_S: Final = 1.0
_EXCHANGES: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, as `syndicate-volunteer doctor` tells it."""

    name: str
    level: str
    detail: str
    remedy: str = ""
    isolation: bool = False


@unconnected
def doctor(given: Given, terminal: Terminal, json: JsonOption = False) -> int:
    """Tells what this machine lacks as a volunteer. Tells also whether the manager is there for its users.

    Each thing is ok, degraded or missing, with what mends it. Run it as root on machines of the cluster.
    """
    return _told(resolve(given, os.environ), terminal, json)


def _told(target: Target, terminal: Terminal, as_json: bool) -> int:
    found = [*_of_machine(), *_of_manager(target, terminal)]
    if as_json:
        terminal.say(document([asdict(one) for one in found]))
    else:
        width = max(len(one.name) for one in found)
        for one in found:
            terminal.say(f"{one.level:<9} {one.name:<{width}}  {neutralise_text(one.detail)}")
            if one.remedy:
                terminal.say(f"{'':<9} {'':<{width}}  mend it:  {neutralise_text(one.remedy)}")
    return exit_codes.BAD_MACHINE if any(one.level == MISSING for one in found) else exit_codes.OK


def _of_machine() -> list[Finding]:
    try:
        told: list[dict[str, Any]] = json.loads(debug_items.doctor())
    except Left as why:
        return [Finding("volunteer", OK, f"not looked at: {why}")]
    return [Finding(**one) for one in told]


def _of_manager(target: Target, terminal: Terminal) -> list[Finding]:
    name = "users"
    try:
        with target.connect(terminal) as client:
            nodes = list(client.nodes())
            clock = _clock(client)
    except (NotAuthenticated, Unreachable) as error:
        said: CliError = target.explain(error)
        return [Finding(name, MISSING, str(said), "; ".join(line for line in said.lines if line))]
    except SyndicateError as error:
        return [Finding(name, MISSING, str(error))]
    detail = f"the manager at {target.manager} answers"
    return [Finding(name, OK, detail), clock, _volunteers(nodes)]


def _clock(client: SchedulerClient) -> Finding:
    """By the shortest of a few exchanges."""
    exchanges = []
    for _ in range(_EXCHANGES):
        sent = time.time_ns()
        now = client.cluster().now.utc_ns
        received = time.time_ns()
        exchanges.append(((received - sent) / 2e9, ((sent + received) / 2 - now) / 1e9))
    error, offset = min(exchanges)
    if abs(offset) - error < _NOTICED_S:
        return Finding("users-clock", OK, f"{offset * 1e3:+.1f} ms from the manager's, ± {error * 1e3:.1f}")
    where = "ahead of" if offset > 0 else "behind"
    return Finding(
        *("users-clock", DEGRADED, f"{abs(offset):,.1f} s {where} the manager's", "timedatectl set-ntp true")
    )


def _volunteers(nodes: list[scheduler_pb2.Node]) -> Finding:
    name, remedy = "volunteers", "on each:  systemctl status syndicate-volunteer; syndicate-volunteer doctor"
    away = [node.volunteer_id for node in nodes if node.state == scheduler_pb2.NODE_STATE_AWAY]
    if not nodes:
        return Finding(name, DEGRADED, "the cluster has none yet", "syndicatectl install volunteer …")
    if away:
        detail = f"{len(away)} of {len(nodes)} are away: {', '.join(sorted(away)[:5])}"
        return Finding(name, DEGRADED, detail, remedy)
    return Finding(name, OK, f"all {len(nodes)} are there")
