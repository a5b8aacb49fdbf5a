"""``syndicate-chaos``: the calls of ChaosControl as a command, for clients in any language."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from syndicate.client_api import (
    Chaos,
    ChaosError,
    DeadlineExceeded,
    Fault,
    Finished,
    HandedOver,
    Healed,
    Killed,
    MemberState,
    NotConfigured,
    Outcome,
    Partitioned,
    Pong,
    Revived,
    SchedulerError,
    Shape,
    Signalled,
    Unavailable,
)

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_AWAY = 3
EXIT_NOT_CONFIGURED = 4

_EPILOG = """\
exit codes:
  0  it holds (also when it was so already)
  1  the manager refused it, or the volunteer could not apply it
  2  wrong usage
  3  manager or volunteer away, or no answer in time: not known whether it holds
  4  SYNDICATE_CHAOS is not set: this is no client task of a job
"""

Answer = Any  # one of the frozen results of client_api, or a tuple of members


def main(argv: Sequence[str] | None = None) -> None:
    """The command's entry point; ends the process with one of the exit codes above."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Does one call and prints its answer. Returns the exit code."""
    arguments = _parser().parse_args(argv, argparse.Namespace(json=False, timeout=30.0))
    try:
        with Chaos.from_env(timeout=arguments.timeout) as chaos:
            answer = arguments.do(chaos, arguments)
    except NotConfigured as error:
        return _fail(str(error), EXIT_NOT_CONFIGURED)
    except (Unavailable, DeadlineExceeded) as error:
        return _fail(f"{error} (tried for {arguments.timeout:g} s)", EXIT_AWAY)
    except ValueError as error:
        return _fail(str(error), EXIT_USAGE)
    except OSError as error:  # of a file that is to be handed over
        return _fail(f"{error.filename}: {error.strerror or error}", EXIT_USAGE)
    except (ChaosError, SchedulerError) as error:
        return _fail(f"{error} ({error.reason})" if error.reason else str(error), EXIT_REFUSED)
    sys.stdout.write(
        (_as_json(answer, arguments.command) if arguments.json else _as_text(arguments, answer)) + "\n"
    )
    return EXIT_OK


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"error: {text.splitlines()[0] if text else 'no reason given'}\n")
    return code


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        try:
            number = metadata.version("syndicate-cluster")
        except metadata.PackageNotFoundError:  # in a sandbox its files lie without it
            number = "unknown"
        sys.stdout.write(f"{parser.prog} {number}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    # SUPPRESS keeps the sub-command's default from undoing an option that stood before it.
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document"
    )
    shared.add_argument(
        "--timeout", type=_seconds, default=argparse.SUPPRESS, metavar="S", help="seconds to try; default 30"
    )
    parser = argparse.ArgumentParser(
        prog="syndicate-chaos",
        description="Breaks and mends the members of the job that this client task belongs to.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, text: str, do: Callable[[Chaos, argparse.Namespace], Answer]) -> Any:
        sub = commands.add_parser(name, help=text, description=text, parents=[shared])
        sub.set_defaults(do=do, command=name)
        return sub

    for name, (text, do) in _OF_MEMBERS.items():
        sub = command(name, text, do)
        if name == "signal":
            sub.add_argument("signal", metavar="SIGNAL", help="QUIT, USR1 … or a number")
        sub.add_argument("ips", metavar="IP", nargs="+", help="a member's IPv4 address; several at once")
        if name in _LEASED:
            _add_lease(sub)
    _add_disk(commands.choices["revive"])
    _add_degradation(commands.choices["degrade"])
    _add_partition(command("partition", "cut groups of members from each other", _partition))
    heal = command("heal", "take back what lasts: everything, or these lines", _heal)
    heal.add_argument("fault_ids", metavar="FAULT", nargs="*", type=int, help="lines of the ledger")
    listed = command("faults", "list the ledger of faults", _faults)
    listed.add_argument("--in-force", action="store_true", help="only what is in force now")
    handed = command("hand-over", "give a history to the manager, for the client that judges", _hand_over)
    handed.add_argument("file", metavar="FILE", help="history.jsonl, closed")
    handed.add_argument("--name", metavar="NAME", help="what it is called; default: as its file")
    handed.add_argument("--more", action="store_true", help="this client hands another one over later")
    finish = command("finish", "say that this client is done, and what it found", _finish)
    finish.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], help="default: pass")
    finish.add_argument("--score", type=_number, metavar="X", help="a grade in the client's own scale")
    finish.add_argument(
        "--metric",
        type=_metric,
        action="append",
        default=[],
        metavar="K=V",
        help="a named number; repeatable",
    )
    finish.add_argument("--text", default="", metavar="T", help="text for people")
    command("members", "list the members of the job", lambda chaos, _: chaos.members())
    command("ping", "go to the manager and back", lambda chaos, _: chaos.ping())
    return parser


def _add_lease(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--lease", metavar="TIME", help="end by itself after: 30, 500ms, 2m")


def _add_disk(sub: argparse.ArgumentParser) -> None:
    disk = sub.add_mutually_exclusive_group()
    disk.add_argument("--with-disk", dest="disk", action="store_const", const=True, help="keep its disk")
    disk.add_argument(
        "--without-disk", dest="disk", action="store_const", const=False, help="give it a fresh one"
    )


def _add_degradation(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--peer", action="append", default=[], metavar="IP", help="only to and from it; repeatable"
    )
    sub.add_argument("--one-way", action="store_true", help="only what it sends")
    sub.add_argument(
        "--rate", metavar="RATE", help="the most that passes: 1Mbit, 500kbit, 8000 (bits a second)"
    )
    for name, text in _TIMES.items():
        sub.add_argument(f"--{name}", default="0", metavar="TIME", help=text)
    for name, text in _PERCENTAGES.items():
        sub.add_argument(f"--{name}", default="0", metavar="PERCENT", help=f"{text}: 10 or 10%%")


def _add_partition(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("groups", metavar="GROUP", nargs="*", help="addresses with commas: two groups or more")
    sub.add_argument("--shape", choices=[shape.value for shape in Shape], help="instead of groups")
    sub.add_argument("--ip", metavar="IP", help="the one of bridge and isolate-one; else drawn")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="for what is drawn; default 0")
    sub.add_argument("--one-way", action="store_true", help="later groups do not reach earlier ones")
    _add_lease(sub)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a number of seconds above 0 is needed")
    return value


def _metric(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER")
    return name, _number(value)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number


def _whom(given: argparse.Namespace) -> str | list[str]:
    ips: list[str] = given.ips
    return ips[0] if len(ips) == 1 else ips


def _revive(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.revive(_whom(given), given.disk)


def _degrade(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.degrade(
        _whom(given),
        peers=given.peer,
        rate=given.rate,
        one_way=given.one_way,
        lease=given.lease,
        **{name: getattr(given, name) for name in (*_TIMES, *_PERCENTAGES)},
    )


def _partition(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.partition(
        [group.split(",") for group in given.groups] or None,
        shape=given.shape,
        ip=given.ip,
        one_way=given.one_way,
        seed=given.seed,
        lease=given.lease,
    )


def _heal(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.heal(*given.fault_ids)


def _faults(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.faults(in_force=given.in_force)


def _hand_over(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.hand_over(given.file, not given.more, name=given.name)


def _finish(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.finish(given.outcome, given.score, dict(given.metric), given.text)


def _as_json(answer: Answer, command: str) -> str:
    if isinstance(answer, tuple):
        return json.dumps({command: [dataclasses.asdict(line) for line in answer]})
    return json.dumps(dataclasses.asdict(answer))


def _as_text(arguments: argparse.Namespace, answer: Answer) -> str:
    if isinstance(answer, tuple):
        lines = (_ledger_line(line) if isinstance(line, Fault) else _member_line(line) for line in answer)
        return "\n".join(lines) or "no faults"
    if isinstance(answer, Pong):
        return f"pong          {answer.round_trip_ns / 1e6:.2f} ms"
    if isinstance(answer, Finished):
        outcome = arguments.outcome or Outcome.PASS.value
        return f"finished      {outcome}, clients left: {answer.clients_left}"
    if isinstance(answer, HandedOver):
        return f"handed over   {answer.name}  {answer.size} bytes"
    if isinstance(answer, Healed):
        return f"healed        {', '.join(map(str, answer.healed)) or '(already so)'}"
    word = _WORDS[arguments.command]
    if isinstance(answer, Partitioned):
        return "\n".join(f"{word:<13} {' '.join(group)}" for group in answer.groups)
    if len(arguments.ips) == 1:
        return _fault_line(word, arguments.ips[0], answer, answer)
    return "\n".join(_fault_line(word, member.ip, answer, member) for member in answer.members)


def _fault_line(word: str, ip: str, answer: Answer, member: Answer) -> str:
    """One member of a fault; alone it is the answer."""
    if member.already:
        return f"{word:<13} {ip}  (already so)"
    if isinstance(answer, (Killed, Signalled)):
        plural = "process" if member.processes == 1 else "processes"
        return f"{word:<13} {ip}  {member.processes} {plural}"
    if isinstance(answer, Revived):
        return f"{word:<13} {ip}  generation {member.generation}"
    return f"{word:<13} {ip}"


def _ledger_line(fault: Fault) -> str:
    what = f"{fault.kind.replace('_', '-')} {fault.text}".strip()
    end = "failed" if fault.error else "in force" if fault.in_force else ""
    if fault.healed_by:
        end = f"healed by {fault.healed_by}"
    return f"{fault.fault_id:>5}  {fault.task:<10} {what:<30} by {fault.requested_by:<10} {end}".rstrip()


def _member_line(member: MemberState) -> str:
    more = "  disconnected" if member.disconnected else ""
    more += "  paused" if member.paused else ""
    more += f"  faults {', '.join(map(str, member.faults))}" if member.faults else ""
    return f"{member.task:<10} {member.address:<15} {member.state:<9} generation {member.generation}{more}"


_OF_MEMBERS: dict[str, tuple[str, Callable[[Chaos, argparse.Namespace], Answer]]] = {
    "kill": ("end every process of the task at IP", lambda chaos, given: chaos.kill(_whom(given))),
    "revive": ("start the task at IP again", _revive),
    "disconnect": (
        "cut IP from all masters and slaves, in silence",
        lambda chaos, given: chaos.disconnect(_whom(given), lease=given.lease),
    ),
    "reconnect": (
        "take every disconnect and reset of IP back",
        lambda chaos, given: chaos.reconnect(_whom(given)),
    ),
    "reset": (
        "cut IP from all masters and slaves, and tell TCP",
        lambda chaos, given: chaos.reset(_whom(given), lease=given.lease),
    ),
    "degrade": ("make the network of IP worse", _degrade),
    "pause": (
        "freeze every process of the task at IP",
        lambda chaos, given: chaos.pause(_whom(given), lease=given.lease),
    ),
    "resume": ("take every pause of IP back", lambda chaos, given: chaos.resume(_whom(given))),
    "disk-full": (
        "leave no room on the disk of the task at IP",
        lambda chaos, given: chaos.disk_full(_whom(given), lease=given.lease),
    ),
    "signal": (
        "send a signal to the processes of the task at IP",
        lambda chaos, given: chaos.signal(_whom(given), given.signal),
    ),
}
_LEASED = ("disconnect", "reset", "degrade", "pause", "disk-full")
_TIMES = {"delay": "how much later packets arrive: 50ms", "jitter": "how much the delay varies: 10ms"}
_PERCENTAGES = {
    "loss": "packets that are lost",
    "duplicate": "packets that arrive twice",
    "corrupt": "packets with one bit another one",
    "reorder": "packets that pass others",
}
_WORDS = {
    "kill": "killed",
    "revive": "revived",
    "disconnect": "disconnected",
    "reconnect": "reconnected",
    "reset": "reset",
    "partition": "group",
    "degrade": "degraded",
    "pause": "paused",
    "resume": "resumed",
    "disk-full": "disk full",
    "signal": "signalled",
}


if __name__ == "__main__":
    main()
