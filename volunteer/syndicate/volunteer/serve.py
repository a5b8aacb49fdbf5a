"""The serving process: `python -m syndicate.volunteer.serve SETTLED …`, which the command becomes."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from .exit_statuses import EX_CONFIG, EX_IOERR, EX_TEMPFAIL, say
from .settled import BadSettings, Settled

if TYPE_CHECKING:
    from .app import Ready


def main(words: list[str]) -> int:
    """Serves as the first word says, until it is told to end; returns the exit status."""
    # structlog has rich draw its tracebacks where it is installed, with 4 MB of imports.
    sys.modules["rich"] = None  # type: ignore[assignment]  # as the import system has it for what is not there
    # gRPC's own thread hands messages over in microseconds; beside a busy loop it waits for this long.
    sys.setswitchinterval(0.0005)
    return _serve(Settled.decode(words[0]))


def _serve(settings: Settled) -> int:
    from .app import StateDirBusy
    from .log_setup import configure
    from .memory_file import MemoryDamaged

    configure(settings.log_format, settings.id)
    try:
        asyncio.run(_until_told(settings))
    except BadSettings as error:  # of what DNS told, or did not
        return say(error, EX_CONFIG)
    except StateDirBusy as error:
        return say(error, EX_TEMPFAIL)
    except MemoryDamaged as error:
        return say(error, EX_IOERR)
    except OSError as error:
        return say(_plain(error), EX_IOERR)
    except ExceptionGroup as group:
        # As when a full disk takes no new epoch: without it nothing is fenced, so it cannot go on.
        of_machine, other = group.split(OSError)
        if of_machine is None or other is not None:
            raise
        return say(_plain(_first(of_machine)), EX_IOERR)
    return 0


def _first(group: ExceptionGroup[OSError]) -> OSError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one


async def _until_told(settings: Settled) -> None:
    from . import finding, notify
    from .app import App

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watchdog = asyncio.create_task(notify.keep_watchdog())
    try:
        if settings.manager:
            await App(settings, _announce, _opened).run(stop)
        else:
            await finding.serve(settings, stop, lambda found: App(found, _announce, _opened), _waits_for_dns)
    finally:
        watchdog.cancel()
        notify.stopping()


def _opened() -> None:
    from . import notify

    # A manager that is away is waited for; that is no failure of this service.
    notify.status("waits for a manager")
    notify.ready()


def _waits_for_dns() -> None:
    from . import notify

    notify.status("waits for DNS to tell its manager")
    notify.ready()


def _announce(ready: Ready) -> None:
    from . import notify

    network = f", slots in {ready.prefix}" if ready.prefix else ""
    sys.stdout.write(f"ready  {ready.volunteer_id}  cluster {ready.cluster_id} at {ready.manager}{network}\n")
    sys.stdout.flush()
    notify.status(f"{ready.volunteer_id} of cluster {ready.cluster_id} at {ready.manager}")


def _plain(error: OSError) -> Exception:
    """Which file it is about, and what is wrong with it; without Python's number."""
    if error.filename is None or error.strerror is None:
        return error
    text = f"{error.filename} cannot be used ({error.strerror.lower()})"
    if isinstance(error, PermissionError):
        text += ": it is to be there, and the volunteer's own"
    return OSError(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
