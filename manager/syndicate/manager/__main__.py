"""syndicate-manager: the command.

Exit status, after sysexits.h: 0 stopped as asked; 64 wrong usage; 65 the default client's source is bad; 69
an address cannot be listened on; 70 the manager found itself wrong (the story is in the log); 74 the state
directory cannot be read or written; 75 another manager runs on it; 78 settings that make no sense, no usable
certificates, or a database of a newer version.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import traceback
from pathlib import Path
from typing import Final, NoReturn

from . import usage

NO_TLS12: Final = "ECDHE-RSA-AES128-GCM-SHA256"
"""gRPC cannot be told a least version of TLS. All keys here are ECDSA keys, and this one suite of TLS 1.2 is
for RSA keys, so none is left to it; those of 1.3 are always on."""
EX_USAGE: Final = 64
EX_DATAERR: Final = 65
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"error: {message}\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = _Parser(
        prog="syndicate-manager",
        usage="syndicate-manager --state-dir DIR [OPTIONS]\n       syndicate-manager certs COMMAND --help",
        description=usage.DESCRIPTION,
        epilog=usage.EPILOG,
        formatter_class=usage.Formatter,
    )
    add = parser.add_argument
    add("--state-dir", type=Path, metavar="DIR", help="holds everything that survives a restart")
    add("--listen-users", metavar="HOST:PORT", help="default 127.0.0.1:7000; port 0 for any")
    add("--listen-volunteers", metavar="HOST:PORT", help="default 127.0.0.1:7001; port 0 for any")
    add("--metrics-listen", metavar="HOST:PORT", help="serves metrics there, at /metrics; default nowhere")
    add("--client", type=Path, metavar="CLIENT.tgz", help="the client of jobs that bring none")
    add("--clients", type=int, metavar="K", help="how many of it such a job has; default 1")
    add("--allow-unsafe", action="store_true", default=None, help="use volunteers that lack isolation too")
    add("--insecure", action="store_true", default=None, help="clear text, on loopback addresses only")
    add("--config", type=Path, metavar="FILE", help="settings in TOML, see below")
    add("--log-format", choices=["auto", "json", "console"], help="of the log; default auto")
    add("--version", action="store_true", help="print the version and exit")
    return parser.parse_args(arguments)


def main() -> NoReturn:
    """Run the command and exit."""
    # gRPC's own log says on several lines what is said here in one.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ["GRPC_SSL_CIPHER_SUITES"] = NO_TLS12
    if sys.argv[1:2] == ["certs"]:
        from .certs_command import main as certs

        sys.exit(certs(sys.argv[2:]))
    flags = vars(parse())
    if flags.pop("version"):
        from .app import software_version

        sys.stdout.write(f"syndicate-manager {software_version()}\n")
        sys.exit(0)
    sys.exit(_run(flags))


def _run(flags: dict[str, object]) -> int:
    import uvloop

    from .app import BadClient, serve
    from .log_setup import configure
    from .pki import PkiError
    from .rpc import PortInUse
    from .settings import BadSettings, load
    from .store import StateDirBusy, StoreError, StoreTooNew

    config = flags.pop("config")
    try:
        settings = load(flags, config if isinstance(config, Path) else None)
    except BadSettings as error:
        return _say(error, EX_CONFIG)
    ids = configure(settings.log_format)
    try:
        # gRPC's Python wakes the loop several times in a call, and this one costs a tenth of the call less.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, _announce, ids.bind))
    except BadClient as error:
        return _say(error, EX_DATAERR)
    except PortInUse as error:
        return _say(error, EX_UNAVAILABLE)
    except PkiError as error:
        return _say(error, EX_CONFIG, *error.lines)
    except StateDirBusy as error:
        return _say(error, EX_TEMPFAIL)
    except StoreTooNew as error:
        return _say(error, EX_CONFIG)
    except (StoreError, OSError) as error:
        return _say(error, EX_IOERR)
    except Exception as error:  # noqa: BLE001 - the outermost frame: told in full, and the status says that it is a bug
        traceback.print_exception(error)
        return _say(RuntimeError("the manager found itself wrong and stopped; this is a bug"), EX_SOFTWARE)
    return 0


def _announce(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(error: Exception, status: int, *more: str) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"error: {line}\n")
    for line in more:
        sys.stderr.write(f"  {line}\n")
    return status


if __name__ == "__main__":
    main()
