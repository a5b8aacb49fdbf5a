"""``syndicate-sync``: barriers as a command, with the options and exit codes of emulab-sync.

Only `getopt` and `sync` are imported: a barrier's waiter should have little to load.
"""

from __future__ import annotations

import getopt
import sys
from collections.abc import Sequence

from syndicate.client_api import sync

EXIT_NOT_HERE = 1
EXIT_USAGE = 64
EXIT_SERVER_UNKNOWN = 68
EXIT_NO_ANSWER = 76
EXIT_INTERRUPTED = 130

VERSION = "syndicate-sync: protocol 2 of emulab-sync, extension 1"
USAGE = f"""\
usage: syndicate-sync [-n NAME] [-i COUNT] [-a] [-e ERROR] [-s SERVER] [-p PORT] [-u]
                      [-m] [-t TIMEOUT] [-d] [-h] [-V] [--whoami] [--abandon]

Waits at a barrier until all have come.

options:
  -n NAME     the barrier, at most {sync.NAME_BYTES} bytes; default {sync.DEFAULT_NAME}
  -i COUNT    let the barrier wait for COUNT others (more), and wait with them
  -a          with -i: return at once
  -e ERROR    an error for all, 0 to {sync.ERROR_MAX}: the largest is everybody's exit status
  -s SERVER   HOST[:PORT]; default {sync.VARIABLE}, else what is in
              {sync.FILES[0]}, else {sync.FILES[1]}
  -p PORT     default the server's own, else {sync.DEFAULT_PORT}
  -u          over UDP instead of TCP; names have at most {sync.NAME_BYTES_WITH_EXTENSION} bytes then
  -m          do not wait; status 0 where the server is on this machine, else {EXIT_NOT_HERE}
  -t TIMEOUT  wait for so many seconds at most
  -d          tell on stderr what goes on
  -h, -V      show this, or the version, and exit
  --whoami    print SYNCSERVER SERVER='…' ISSERVER=0|1, and exit
  --abandon   do not wait for ever for one that is gone: end when whoever initialised the
              barrier ends; with -i, all others end when this process does

exit status:
  0 to {sync.ERROR_MAX}  all have come; the largest error that anyone gave
  {EXIT_USAGE}        wrong usage
  {EXIT_SERVER_UNKNOWN}        no server is named, or its name has no address
  {EXIT_NO_ANSWER}        no answer: the request was refused, or the connection failed
  {EXIT_INTERRUPTED}       interrupted
  {sync.DROPPED}       the server dropped the barrier, or all
  {sync.TIMED_OUT}       not all came in time
  {sync.ABANDONED}       who had initialised the barrier went away
"""

_STATUS: tuple[tuple[type[sync.SyncError], int], ...] = (
    (sync.ServerUnknown, EXIT_SERVER_UNKNOWN),
    (sync.NoAnswer, EXIT_NO_ANSWER),
    (sync.Dropped, sync.DROPPED),
    (sync.TimedOut, sync.TIMED_OUT),
    (sync.Abandoned, sync.ABANDONED),
)


class _BadUsage(Exception):
    """The command line makes no sense; the text is for the user."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command's entry point; ends the process with one of the exit codes above."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Does what is asked; returns the exit code."""
    try:
        options = _parsed(argv)
        return _done(options)
    except (_BadUsage, ValueError) as error:
        synopsis, _, _ = USAGE.partition("\n\n")
        sys.stderr.write(f"error: {error}\n{synopsis}\nall of it:  syndicate-sync -h\n")
        return EXIT_USAGE
    except sync.SyncError as error:
        sys.stderr.write(f"error: {error}\n")
        return next(status for kind, status in _STATUS if isinstance(error, kind))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _of_software() -> str:
    """The version of what it was installed with; nothing in a sandbox, where its files lie alone."""
    from importlib import metadata  # needed for this alone, and it takes longer to load than all else

    try:
        return f"; of Syndicate {metadata.version('syndicate-cluster')}"
    except metadata.PackageNotFoundError:
        return ""


def _parsed(argv: Sequence[str]) -> dict[str, str]:
    """Options and their values, the last of each."""
    try:
        given, rest = getopt.gnu_getopt(
            list(argv), "hVds:p:ui:n:ae:mt:", ["help", "version", "whoami", "abandon"]
        )
    except getopt.GetoptError as error:
        raise _BadUsage(str(error)) from error
    options = dict(given)
    if rest:
        raise _BadUsage(f"{rest[0]}: there are no arguments but options")
    if "-a" in options and "-i" not in options:
        raise _BadUsage("-a goes with -i only")
    return options


def _done(options: dict[str, str]) -> int:
    if "-h" in options or "--help" in options:
        sys.stdout.write(USAGE)
        return 0
    if "-V" in options or "--version" in options:
        sys.stdout.write(f"{VERSION}{_of_software()}\n")
        return 0
    port = _number("-p", options["-p"], 1, 65_535) if "-p" in options else None
    count = _number("-i", options["-i"], 1, sync.COUNT_MAX) if "-i" in options else 0
    error = _number("-e", options["-e"], 0, sync.ERROR_MAX) if "-e" in options else 0
    timeout = _seconds("-t", options["-t"]) if "-t" in options else None
    request = sync.checked(
        options.get("-n", sync.DEFAULT_NAME),
        count=count,
        error=error,
        no_wait="-a" in options,
        abandon="--abandon" in options,
        udp="-u" in options,
    )
    given = _given(options)
    if "--whoami" in options:
        who = sync.whoami(given)
        sys.stdout.write(f"SYNCSERVER SERVER='{who.server}' ISSERVER={int(who.is_server)}\n")
        return 0
    if "-m" in options:
        return 0 if sync.whoami(given).is_server else EXIT_NOT_HERE
    say = _say if "-d" in options else _silent
    return sync.take_part(
        request, sync.find_server(given, port), timeout=timeout, udp="-u" in options, say=say
    )


def _given(options: dict[str, str]) -> str | None:
    if options.get("-s") == "":
        raise _BadUsage("-s: a server is needed")
    return options.get("-s")


def _number(option: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise _BadUsage(f"{option} {text}: a number from {least} to {most} is needed")
    return int(text)


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= sync.TIMEOUT_MAX_S:
        raise _BadUsage(f"{option} {text}: a number of seconds above 0 is needed")
    return seconds


def _say(text: str) -> None:
    sys.stderr.write(f"syndicate-sync: {text}\n")


def _silent(_: str) -> None:
    return None


if __name__ == "__main__":
    main()
