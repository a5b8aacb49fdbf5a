"""syndicate-volunteer: the command.

Exit status, after sysexits.h: 0 stopped as asked (`audit`: nothing is left; `doctor`: nothing is missing); 1
`audit`: something is left, `doctor`: something is missing; 64 wrong usage; 69 `audit`: the keeper is away; 70
the volunteer found itself wrong; 74 the state directory cannot be read or written; 75 another volunteer runs
on it; 77 run as root; 78 settings that make no sense.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from .exit_statuses import EX_CONFIG, EX_NOPERM, EX_USAGE, say
from .settled import DEFAULT_KEEPER


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
    from .settings import load
    from .settled import BadSettings

    config = flags.pop("config")
    try:
        settings = load(flags, config if isinstance(config, Path) else None)
    except BadSettings as error:
        return say(error, EX_CONFIG)
    if os.geteuid() == 0 and not settings.allow_root:
        sys.stderr.write(
            "error: the volunteer needs no root and should not have it\n"
            "  Run it as the user that the keeper's --volunteer-uid names: runuser -u syndicate -- …, "
            "or its systemd unit.  All the same:  --allow-root\n"
        )
        return EX_NOPERM
    # The settings library would take 14 MB for as long as it serves: what serves is another program, which
    # this process becomes. It is given the words of this one too, for who reads the table of processes.
    serve = [sys.executable, "-P", "-m", "syndicate.volunteer.serve", settings.encode(), *sys.argv[1:]]
    os.execv(sys.executable, serve)  # noqa: S606 - a list made here, no shell is meant


if __name__ == "__main__":
    main()
