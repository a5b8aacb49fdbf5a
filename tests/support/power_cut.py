"""`python power_cut.py JOB`: lets a member of the job `power` write, fails its power, tells what is left.

A file system writes all of itself every five seconds, whatever was synced: a kill that came too late says
nothing, and is done again on a fresh disk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from syndicate.client_api import SchedulerClient

SOON_S = 4.0
TRIES = 10


def lines(users: SchedulerClient, job_id: int, task: str) -> Iterator[str]:
    """What a task says, as it comes."""
    rest = b""
    for answer in users.logs(job_id, tasks=[task], follow=True):
        *whole, rest = (rest + answer.piece.data).split(b"\n")
        yield from (line.decode() for line in whole)


def left_after_a_cut(users: SchedulerClient, job_id: int, task: str = "slave-0") -> list[str]:
    """The names of the files that the revived task found."""
    said = lines(users, job_id, task)
    left = found(said)
    (address,) = (one.address for one in users.job(job_id).tasks if one.ref.task == task)
    with users.chaos(job_id, 60.0) as chaos:
        for _ in range(TRIES):
            assert left == []
            began = time.monotonic()
            chaos.signal([address], "USR1")
            assert "written" in said
            chaos.kill([address])
            took = time.monotonic() - began
            chaos.revive([address])
            left = found(said)
            if took < SOON_S:
                return left
            chaos.kill([address])
            chaos.revive([address], with_disk=False)
            left = found(said)
    raise AssertionError(f"never killed within {SOON_S:g} s")


def found(said: Iterator[str]) -> list[str]:
    """What the next life of the task begins with."""
    return next(line for line in said if line.startswith("found")).split()[1:]


if __name__ == "__main__":
    token = Path(os.environ["SYNDICATE_TOKEN_FILE"]).read_text().strip()
    ca = Path(os.environ["SYNDICATE_CA"])
    with SchedulerClient(os.environ["SYNDICATE_MANAGER"], token, ca=ca, connect_for=60.0) as client:
        print(*left_after_a_cut(client, int(sys.argv[1])))
