"""``syndicatectl``'s entry point: so small that Ctrl-C finds it ready, also while the rest is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_INTERRUPTED = 130  # exit_codes.INTERRUPTED, which is not loaded yet


def main(argv: Sequence[str] | None = None) -> None:
    """Ends the process with one of the documented exit codes."""
    try:
        code = run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        code = _INTERRUPTED
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    from syndicate.cli.command import run as run_command

    return run_command(argv)


if __name__ == "__main__":
    main()
