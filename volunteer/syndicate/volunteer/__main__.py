"""syndicate-volunteer: the command.

Exit status, after sysexits.h: 0 stopped as asked (`audit`: nothing is left; `doctor`: nothing is missing); 1
`audit`: something is left, `doctor`: something is missing; 64 wrong usage; 69 `audit`: the keeper is away; 70
the volunteer found itself wrong; 74 the state directory cannot be read or written; 75 another volunteer runs
on it; 77 run as root; 78 settings that make no sense.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from .settings import DEFAULT_KEEPER

if TYPE_CHECKING:
    from .app import Ready
    from .settings import Settings

EX_USAGE: Final = 64
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"error: {message}\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = _Parser(prog="syndicate-volunteer", description="Offers this machine's slots to managers.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="run | audit | doctor")
    run = commands.add_parser("run", help="serve")
    run.add_argument("--manager", action="append", metavar="HOST:PORT", help="may be given several times")
    run.add_argument("--tls-dir", type=Path, metavar="DIR", help="key and certificate; default STATE_DIR/tls")
    run.add_argument("--join", metavar="HOST:PORT", help="asks here, where users call, for a certificate")
    run.add_argument("--join-token-file", type=Path, metavar="FILE", help="holds the join token")
    run.add_argument("--ca-fingerprint", metavar="SHA256", help="of the cluster's authority, for --join")
    run.add_argument("--insecure", action="store_true", default=None, help="clear text, on this machine only")
    run.add_argument("--token-file", type=Path, metavar="FILE", help="holds the token, for --insecure")
    run.add_argument("--keeper", type=Path, metavar="SOCKET", help=f"default {DEFAULT_KEEPER}")
    run.add_argument("--state-dir", type=Path, metavar="DIR", help="sources, and what survives a restart")
    run.add_argument("--run-dir", type=Path, metavar="DIR", help="the keeper's folder for sockets")
    run.add_argument("--id", metavar="NAME", help="lasting name; default the host's")
    run.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    run.add_argument("--metrics-listen", metavar="HOST:PORT", help="serves metrics there; default nowhere")
    run.add_argument("--log-format", choices=["auto", "json", "console"], help="default auto")
    run.add_argument("--allow-root", action="store_true", default=None, help="run as root all the same")
    audit = commands.add_parser("audit", help="list what is left of tasks; status 0 when nothing is")
    audit.add_argument("--keeper", type=Path, metavar="SOCKET", default=DEFAULT_KEEPER)
    audit.add_argument("--json", action="store_true", help="as one JSON object")
    doctor = commands.add_parser("doctor", help="tell what this machine lacks")
    doctor.add_argument("--json", action="store_true", help="as one JSON list")
    doctor.add_argument("--network", choices=["fabric", "host"], help="default what is installed")
    doctor.add_argument("--config", type=Path, metavar="FILE", help="default what is installed")
    doctor.add_argument("--manager", action="append", metavar="HOST:PORT", help="whether it can be reached")
    doctor.add_argument("--keeper-config", type=Path, metavar="FILE", help="default what is installed")
    doctor.add_argument("--uid-base", type=int, metavar="UID", help="as the keeper is given it")
    return parser.parse_args(arguments)


def main() -> NoReturn:
    """Run the command and exit."""
    # gRPC's own log says on several lines what is said here in one.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # gRPC cannot be told a least version of TLS. The manager's key is an ECDSA key, and this one suite of
    # TLS 1.2 is for RSA keys, so none is left to it; those of 1.3 are always on.
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"
    wanted = parse()
    if wanted.version:
        from .app import software_version

        sys.stdout.write(f"syndicate-volunteer {software_version()}\n")
        sys.exit(0)
    match wanted.command:
        case "run":
            flags = {k: v for k, v in vars(wanted).items() if k not in ("command", "version")}
            sys.exit(_run(flags))
        case "audit":
            from . import audit

            sys.exit(audit.run(wanted.keeper, wanted.json))
        case "doctor":
            from . import doctor

            how = wanted.network, wanted.uid_base, wanted.config, wanted.manager, wanted.keeper_config
            sys.exit(doctor.run(wanted.json, *how))
    sys.stderr.write("error: say what to do: run, audit or doctor (--help tells more)\n")
    sys.exit(EX_USAGE)


def _run(flags: dict[str, object]) -> int:
    from .settings import BadSettings, load

    config = flags.pop("config")
    try:
        settings = load(flags, config if isinstance(config, Path) else None)
    except BadSettings as error:
        return _say(error, EX_CONFIG)
    if os.geteuid() == 0 and not settings.allow_root:
        sys.stderr.write(
            "error: the volunteer needs no root and should not have it\n"
            "  Run it as the user that the keeper's --volunteer-uid names: runuser -u syndicate -- …, "
            "or its systemd unit.  All the same:  --allow-root\n"
        )
        return EX_NOPERM
    # gRPC's own thread hands messages over in microseconds; beside a busy loop it waits for this long.
    sys.setswitchinterval(0.0005)
    return _serve(settings)


def _serve(settings: Settings) -> int:
    from .app import StateDirBusy
    from .log_setup import configure
    from .memory_file import MemoryDamaged
    from .settings import BadSettings

    configure(settings.log_format, settings.id)
    try:
        asyncio.run(_until_told(settings))
    except BadSettings as error:  # of what DNS told, or did not
        return _say(error, EX_CONFIG)
    except StateDirBusy as error:
        return _say(error, EX_TEMPFAIL)
    except MemoryDamaged as error:
        return _say(error, EX_IOERR)
    except OSError as error:
        return _say(_plain(error), EX_IOERR)
    except ExceptionGroup as group:
        # As when a full disk takes no new epoch: without it nothing is fenced, so it cannot go on.
        of_machine, other = group.split(OSError)
        if of_machine is None or other is not None:
            raise
        return _say(_plain(_first(of_machine)), EX_IOERR)
    return 0


def _first(group: ExceptionGroup[OSError]) -> OSError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one


async def _until_told(settings: Settings) -> None:
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


def _say(error: Exception, status: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"error: {line}\n")
    return status


if __name__ == "__main__":
    main()
