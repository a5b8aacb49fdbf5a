"""`syndicate-syncd`: the command."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from . import descriptors, log
from .background import to_background
from .doors import Doors, Keepalive, opened
from .notices import Document
from .options import USAGE, BadUsage, Options, parse
from .owner import Owner
from .server import Bounds, Server
from .shut_in import become, shut_in
from .standby import BadHandover, Handover, handed_over

EX_USAGE: Final = 64
EX_OSERR: Final = 71
EX_CANTCREAT: Final = 73
EX_NOPERM: Final = 77
EX_PROTOCOL: Final = 76
_LONGEST_WHY: Final = 200
VERSION: Final = "syndicate-syncd: protocol 2 of emulab-sync, extension 1"


def _of_software() -> str:
    """The version of what it was installed with; nothing where its files lie alone."""
    from importlib import metadata  # needed for this alone: the server is small

    try:
        return f"; of Syndicate {metadata.version('syndicate-cluster')}"
    except metadata.PackageNotFoundError:
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to end; returns the exit status."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
    except BadUsage as error:
        sys.stderr.write(f"error: {error}\n{USAGE}")
        return EX_USAGE
    if options.help or options.version:
        sys.stdout.write(USAGE if options.help else f"{VERSION}{_of_software()}\n")
        return 0
    try:
        write = _log(options)
    except OSError as error:
        return _fail(f"{options.log_file} cannot be written: {error.strerror}", EX_CANTCREAT)
    most = _most_files(options.open_files)
    owner = None if options.owner is None else socket.socket(fileno=options.owner)
    try:
        if options.shut_in:
            shut_in(options.shut_in)
    except OSError as error:
        return _fail(f"it cannot shut itself in: {error.strerror}", EX_NOPERM)
    try:
        found = handed_over(owner) if owner is not None and options.standby else _opened(options)
    except OSError as error:
        return _fail(f"{options.address}:{options.port} cannot be listened on: {error.strerror}", EX_OSERR)
    except BadHandover as error:
        return _fail(str(error), EX_PROTOCOL)
    if found is None:
        return 0
    try:
        if options.shut_in and (why := _become(found)):
            return _fail(why, EX_NOPERM)
        bounds = Bounds(most, found.members)
        if options.foreground or to_background(_announcement(found.doors, bounds)):
            lines = log.Log(write, verbose=options.verbose)
            asyncio.run(serve(found.doors, bounds, lines, owner, found.fold_s))
    finally:
        found.doors.close()
    return 0


def _most_files(wanted: int | None) -> int:
    """How many it may open; no more than were asked for, where it could have more."""
    if wanted is None:
        return descriptors.raise_limit()
    return min(wanted, descriptors.raise_limit(wanted))


def _become(found: Handover) -> str:
    """Be the user that was named; what is wrong, or nothing."""
    try:
        become(found.uid or 0)
    except (OSError, ValueError) as error:
        return f"it cannot become user {found.uid}: {error}"
    return ""


def _opened(options: Options) -> Handover:
    keepalive = Keepalive.after(options.keepalive_s)
    return Handover(opened(options.address, options.port, keepalive), options.names)


async def serve(
    doors: Doors, bounds: Bounds, lines: log.Log, owner: socket.socket | None, fold_s: float = 0.0
) -> None:
    """Serve at these doors until SIGTERM or SIGINT, or the owner's end. Raises what breaks it.

    `fold_s` is how often the owner is told at most; 0 for each notice apart.
    """
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    told: Owner | None = None

    def stop() -> None:
        if not end.done():
            end.set_result(None)

    def broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A server that miscounts must not go on: its owner sees that it is gone.
        error = context.get("exception") or RuntimeError(context["message"])
        lines.info("failed", why=repr(error))
        if not end.done():
            end.set_exception(error)
            if told is not None:
                told.tell({"event": "failed", "why": ascii(error)[:_LONGEST_WHY]})

    loop.set_exception_handler(broken)
    server = Server(doors, bounds, lines)
    _obey_signals(loop, server, lines, stop)
    told = None if owner is None else Owner(owner, server.answer, stop)
    if told is not None:
        server.tell(told, fold_s)
        told.tell(_ready(doors, bounds))
    lines.info("listening", port=doors.port, waiters=bounds.waiters, descriptors=bounds.descriptors)
    try:
        await end
    finally:
        server.stop()
        if told is not None:
            told.stop()
        lines.settle()
        lines.info("ended")


def _obey_signals(
    loop: asyncio.AbstractEventLoop, server: Server, lines: log.Log, stop: Callable[[], None]
) -> None:
    def verbose(on: bool) -> None:
        lines.verbose = on
        lines.info("verbose", on=on)

    def drop() -> None:
        lines.info("dropping", waiters=server.waiting)
        server.drop_all()

    loop.add_signal_handler(signal.SIGHUP, drop)
    loop.add_signal_handler(signal.SIGUSR1, verbose, True)
    loop.add_signal_handler(signal.SIGUSR2, verbose, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _ready(doors: Doors, bounds: Bounds) -> Document:
    return {
        "event": "ready",
        "port": doors.port,
        "waiters": bounds.waiters,
        "descriptors": bounds.descriptors,
        "pid": os.getpid(),
    }


def _announcement(doors: Doors, bounds: Bounds) -> str:
    return f"syndicate-syncd: port {doors.port}, up to {bounds.waiters:,} waiters over TCP, process "


def _log(options: Options) -> log.Write:
    if options.log_file:
        return log.to_file(options.log_file)
    return log.to_stderr() if options.foreground else log.to_syslog()


def _fail(what: str, status: int) -> int:
    sys.stderr.write(f"error: {what}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
