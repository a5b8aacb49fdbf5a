"""`python without.py DEFENCE ARGUMENTS`: a daemon as its command would start it, without one defence.

The product has no switch for this. Which daemon it is, the defence says; ARGUMENTS are those of its command,
for the keeper those of its serving process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, arguments: list[str]) -> int:
    """Become the daemon; returns its exit status."""
    from tests.attacks.defence import find

    defences = find(name)
    daemon = defences[0].daemon
    for defence in defences:
        defence.off()
    if daemon == "keeper":
        from syndicate.volunteer.keeper.serve import main as keeper

        return keeper(arguments)
    sys.argv = [f"syndicate-{daemon}", *arguments]
    if daemon == "manager":
        from syndicate.manager.__main__ import main as manager

        manager()
    from syndicate.volunteer.__main__ import main as volunteer
    from syndicate.volunteer.serve import main as serve

    def serves_here(_: str, words: list[str]) -> NoReturn:
        sys.exit(serve(words[words.index("syndicate.volunteer.serve") + 1 :]))

    os.execv = serves_here  # the program that its command becomes would have the defence again
    volunteer()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(run(sys.argv[1], sys.argv[2:]))
