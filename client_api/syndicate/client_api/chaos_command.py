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
    Finished,
    Killed,
    MemberState,
    NotConfigured,
    Outcome,
    Pong,
    Revived,
    Unavailable,
)

EXIT_OK = 0
EXIT_REFUSED = 1
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
    except ChaosError as error:
        return _fail(f"{error} ({error.reason})" if error.reason else str(error), EXIT_REFUSED)
    sys.stdout.write((_as_json(answer) if arguments.json else _as_text(arguments, answer)) + "\n")
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

    of_members = {
        "kill": ("end every process of the task at IP", lambda chaos, given: chaos.kill(_whom(given))),
        "revive": ("start the task at IP again", _revive),
        "disconnect": (
            "cut IP from all masters and slaves",
            lambda chaos, given: chaos.disconnect(_whom(given)),
        ),
        "reconnect": ("take a disconnect back", lambda chaos, given: chaos.reconnect(_whom(given))),
    }
    for name, (text, do) in of_members.items():
        sub = command(name, text, do)
        sub.add_argument("ips", metavar="IP", nargs="+", help="a member's IPv4 address; several at once")
        if name == "revive":
            disk = sub.add_mutually_exclusive_group()
            disk.add_argument(
                "--with-disk", dest="disk", action="store_const", const=True, help="keep its disk"
            )
            disk.add_argument(
                "--without-disk", dest="disk", action="store_const", const=False, help="give it a fresh one"
            )
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


def _finish(chaos: Chaos, given: argparse.Namespace) -> Answer:
    return chaos.finish(given.outcome, given.score, dict(given.metric), given.text)


def _as_json(answer: Answer) -> str:
    if isinstance(answer, tuple):
        return json.dumps({"members": [dataclasses.asdict(member) for member in answer]})
    return json.dumps(dataclasses.asdict(answer))


def _as_text(arguments: argparse.Namespace, answer: Answer) -> str:
    if isinstance(answer, tuple):
        return "\n".join(_member_line(member) for member in answer)
    if isinstance(answer, Pong):
        return f"pong          {answer.round_trip_ns / 1e6:.2f} ms"
    if isinstance(answer, Finished):
        outcome = arguments.outcome or Outcome.PASS.value
        return f"finished      {outcome}, clients left: {answer.clients_left}"
    word = {
        "kill": "killed", "revive": "revived", "disconnect": "disconnected", "reconnect": "reconnected"
    }[arguments.command]  # fmt: skip
    if len(arguments.ips) == 1:
        return _fault_line(word, arguments.ips[0], answer, answer)
    return "\n".join(_fault_line(word, member.ip, answer, member) for member in answer.members)


def _fault_line(word: str, ip: str, answer: Answer, member: Answer) -> str:
    """One member of a fault; alone it is the answer."""
    if member.already:
        return f"{word:<13} {ip}  (already so)"
    if isinstance(answer, Killed):
        plural = "process" if member.processes == 1 else "processes"
        return f"{word:<13} {ip}  {member.processes} {plural}"
    if isinstance(answer, Revived):
        return f"{word:<13} {ip}  generation {member.generation}"
    return f"{word:<13} {ip}"


def _member_line(member: MemberState) -> str:
    cut = "  disconnected" if member.disconnected else ""
    return f"{member.task:<10} {member.address:<15} {member.state:<9} generation {member.generation}{cut}"


if __name__ == "__main__":
    main()
