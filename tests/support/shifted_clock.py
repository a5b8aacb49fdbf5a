"""`python3 shifted_clock.py NANOSECONDS COMMAND …`: runs a command whose machine has been up for longer.

CLOCK_BOOTTIME and CLOCK_MONOTONIC go on by so many nanoseconds, in a time namespace of its own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWTIME = 0x80


def main(ahead_ns: int, command: list[str]) -> None:
    """Becomes the command, in the same process."""
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.unshare(CLONE_NEWTIME):
        raise OSError(ctypes.get_errno(), "no time namespace")
    seconds, nanoseconds = divmod(ahead_ns, 10**9)
    lines = [f"{clock} {seconds} {nanoseconds}\n" for clock in ("monotonic", "boottime")]
    Path("/proc/self/timens_offsets").write_text("".join(lines))
    # Children alone would be in it: this process follows, so that whoever started it has its pid.
    namespace = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
    if kernel.setns(namespace, CLONE_NEWTIME):
        raise OSError(ctypes.get_errno(), "the time namespace cannot be entered")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
