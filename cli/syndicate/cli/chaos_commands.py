"""What the commands that break and mend a job do. Each prints its answer and returns an exit code."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.render.fault_words import signal_word
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import plural
from syndicate.cli.render.tables import Fit, table
from syndicate.cli.render.timeline import in_order, job_start
from syndicate.cli.terminal import Terminal
from syndicate.client_api import (
    Chaos,
    Fault,
    FaultKind,
    Killed,
    Partitioned,
    Revived,
    SchedulerClient,
    Signalled,
)
from syndicate.v1.common_pb2 import Stamp

_TIMEOUT_S = 30.0
_WORD = 14
_WHO = 11
_DONE = {
    "kill": "killed",
    "revive": "revived",
    "disconnect": "disconnected",
    "reconnect": "reconnected",
    "reset": "reset",
    "partition": "partitioned",
    "degrade": "degraded",
    "pause": "paused",
    "resume": "resumed",
    "disk-full": "disk full",
    "signal": "signalled",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One fault as it was asked for on the command line."""

    action: str
    job_id: int
    members: Sequence[str]
    as_json: bool
    disk: str = "disk kept"
    """Of a revival what becomes of the disk."""


def do(
    client: SchedulerClient, terminal: Terminal, asked: Asked, call: Callable[[Chaos, list[str]], Any]
) -> int:
    """Does one fault at the members that are named, all at once."""
    names = _names(client, asked.job_id)
    addresses = [_address(names, member, asked.job_id) for member in asked.members]
    with client.chaos(asked.job_id, _TIMEOUT_S) as chaos:
        try:
            answer = call(chaos, addresses)
        except ValueError as error:
            raise CliError(str(error), code=exit_codes.USAGE) from None
    if asked.as_json:
        terminal.say(document({"action": asked.action, "job_id": asked.job_id, **dataclasses.asdict(answer)}))
        return exit_codes.OK
    by_address = {address: name for name, address in names.items()}
    terminal.say(_lines(asked, answer, by_address))
    return exit_codes.OK


def heal(
    client: SchedulerClient, terminal: Terminal, job_id: int, faults: Sequence[int], as_json: bool
) -> int:
    """Takes back what lasts."""
    names = {address: name for name, address in _names(client, job_id).items()}
    with client.chaos(job_id, _TIMEOUT_S) as chaos:
        answer = chaos.heal(*faults)
    if as_json:
        terminal.say(document({"action": "heal", "job_id": job_id, **dataclasses.asdict(answer)}))
    elif answer.already:
        terminal.say("healed        (nothing was in force)" if not faults else "healed        (already so)")
    else:
        where = ", ".join(names.get(member.ip, member.ip) for member in answer.members)
        terminal.say(f"{'healed':<{_WORD}}{where}  ({plural(len(answer.healed), 'fault')})")
    return exit_codes.OK


def list_faults(
    client: SchedulerClient, terminal: Terminal, job_id: int, in_force: bool, as_json: bool
) -> int:
    """The ledger of a job."""
    start = job_start(client.job(job_id))
    with client.chaos(job_id, _TIMEOUT_S) as chaos:
        faults = chaos.faults(in_force=in_force)
    if as_json:
        terminal.say(document({"job_id": job_id, "faults": [dataclasses.asdict(fault) for fault in faults]}))
        return exit_codes.OK
    if not faults:
        terminal.say("no faults are in force" if in_force else "no faults")
        return exit_codes.OK
    rows = [_row(fault, start) for fault in faults]
    header = ("ID", "AT", "FAULT", "MEMBER", "WHAT", "BY", "STATE")
    fit = Fit(terminal.room, terminal.glyphs.more, dispensable=("BY",), elastic=("WHAT", "STATE", "MEMBER"))
    terminal.say(table(header, rows, fit))
    return exit_codes.OK


def _names(client: SchedulerClient, job_id: int) -> dict[str, str]:
    """Addresses of a job's members, by their names.

    Asked before a fault is: of a manager that is away this tells after seconds, a fault's call tries longer.
    """
    return {task.ref.task: task.address for task in in_order(client.job(job_id).tasks)}


def _address(names: dict[str, str], member: str, job_id: int) -> str:
    """A member's address. Raises CliError for a name that is nobody's; addresses the manager judges."""
    if member in names:
        return names[member]
    try:
        return str(ipaddress.IPv4Address(member))
    except ValueError:
        pass
    known = f"Its members: {', '.join(names)}." if names else "It has no members yet."
    raise CliError(f"job {job_id} has no member `{member}`", known, code=exit_codes.NOT_FOUND)


def _lines(asked: Asked, answer: Any, names: dict[str, str]) -> list[str]:
    if isinstance(answer, Partitioned):
        groups = [", ".join(names.get(ip, ip) for ip in group) for group in answer.groups]
        fault = f"  (fault {answer.fault_ids[0]})" if answer.fault_ids else ""
        return [f"{'group' if number else 'partitioned':<{_WORD}}{group}{'' if number else fault}"
                for number, group in enumerate(groups)]  # fmt: skip
    lines = []
    for member in answer.members:
        more = f"fault {member.fault_id}" if member.fault_id else "already so"
        if isinstance(answer, (Killed, Signalled)) and not member.already:
            more = plural(member.processes, "process", "processes")
        elif isinstance(answer, Revived) and not member.already:
            more = f"generation {member.generation}, {asked.disk}"
        lines.append(f"{_DONE[asked.action]:<{_WORD}}{names.get(member.ip, member.ip):<{_WHO}}({more})")
    return lines


def _at(fault: Fault, start: Stamp | None) -> str:
    """``3.02 s``; ``-`` where the job's start was told by another boot of the manager's machine."""
    at = fault.applied_at_manager or fault.requested_at
    if start is None or at.boot_id != start.boot_id:
        return "-"
    return f"{(at.monotonic_ns - start.monotonic_ns) / 1e9:.2f} s"


def _row(fault: Fault, start: Stamp | None) -> tuple[str, ...]:
    what = f"signal {signal_word(fault.signal)}" if fault.signal else neutralise_text(fault.text)
    if fault.kind is FaultKind.REVIVE and not fault.error:
        what = "disk kept" if fault.with_disk else "fresh disk"
    if fault.peers:
        what += f" {'to' if fault.one_way else 'with'} {', '.join(fault.peers)}"
    if fault.lease_s:
        what += f", lease {fault.lease_s:g} s"
    state = "applied" if fault.applied_at else "under way"
    if fault.error:
        state = f"failed: {neutralise_text(fault.error)}"
    elif fault.healed_by:
        state = f"healed by {neutralise_text(fault.healed_by)}"
    elif fault.in_force:
        state = "in force"
    kind = fault.kind.replace("_", "-")
    return (
        str(fault.fault_id),
        _at(fault, start),
        kind,
        fault.task,
        what.lstrip(", "),
        neutralise_text(fault.requested_by),
        state,
    )
