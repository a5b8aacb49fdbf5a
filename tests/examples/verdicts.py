"""Runs the examples many times on a cluster of their own: `python -m tests.examples.verdicts [NAME …]`.

Redis is to come out false in each run, by the stale read; raft-kv true as it is, and false with each of its
two bugs, whatever the seed. One line a run. Exit status 1 where one came out otherwise, after all of them.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from syndicate.v1 import common_pb2 as common
from syndicate.v1.scheduler_pb2 import Job

from tests.support.cluster import EXAMPLES, Cluster

SLOTS = 12
WAIT_S = 300.0
STALE = re.compile(
    r"""false: linearizable: get stale returned "old" \(process slave-0, [\d.]+ ms\) """
    r"""after put stale "new" had been acknowledged at [\d.]+ ms\n"""
)
LOST_WRITE = re.compile(
    r"""false: linearizable: get split\d* returned \["first"\] .*"""
    r"""after append split\d* "second" had been acknowledged"""
)
WINDOWS = {
    "leader cut off", "leader killed", "follower killed", "follower cut off", "leader in the smaller half",
    "majority ring", "leader paused", "first candidate cut off",
}  # fmt: skip
ROW = re.compile(r"^([a-z ]+), ([\d.]+) s: (\d+) get, (\d+) append, (\d+) put$", re.MULTILINE)


def stale_read(job: Job) -> bool:
    """Redis: the counterexample is the read at the replica that was cut off, and nothing else was lost."""
    told = job.result.metrics
    found = (told["stale_reads"], told["writes_lost_with_disk"], told["lost_writes"])
    return _failed(job) and bool(STALE.match(job.result.text)) and found == (1, 0, 1)


def holds(job: Job) -> bool:
    """Raft: three elections, a leader cut off, and each kind of operation succeeded in each window."""
    told, rows = job.result.metrics, ROW.findall(job.result.text)
    return (
        (job.state, job.result.outcome) == (common.JOB_STATE_SUCCEEDED, common.OUTCOME_PASS)
        and job.result.text.startswith("true: all hold: linearizable, completed, available, tested\n")
        and told["elections"] >= 3
        and told["leaders_isolated"] >= 1
        and told["terms_with_two_leaders"] == 0
        and {name for name, *_ in rows} == WINDOWS
        and all(min(map(int, counts)) >= 1 for _, _, *counts in rows)
    )


def reads_are_stale(job: Job) -> bool:
    """Raft with STALE_READS: a read is wrong, and no term had two leaders."""
    read = re.match(r"false: linearizable: get \w+ returned ", job.result.text)
    return _failed(job) and bool(read) and job.result.metrics["terms_with_two_leaders"] == 0


def vote_is_forgotten(job: Job) -> bool:
    """Raft with FORGET_VOTE: a term had two leaders, and a write that was acknowledged is gone."""
    text = job.result.text
    return _failed(job) and job.result.metrics["terms_with_two_leaders"] >= 1 and bool(LOST_WRITE.match(text))


def _failed(job: Job) -> bool:
    return (job.state, job.result.outcome) == (common.JOB_STATE_FAILED, common.OUTCOME_FAIL)


@dataclass(frozen=True, slots=True)
class Runs:
    """How often an example is run, with which settings, and what is to come of it."""

    example: str
    machines: int
    times: int
    right: Callable[[Job], bool]
    bug: str = ""

    def settings(self, number: int) -> dict[str, str]:
        """The number is the seed, where there is one."""
        if self.example == "redis":
            return {}
        return {"SEED": str(number)} | ({self.bug: "1"} if self.bug else {})


ALL = {
    "redis": Runs("redis", 2, 20, stale_read),
    "raft": Runs("raft-kv", 5, 10, holds),
    "stale-reads": Runs("raft-kv", 5, 10, reads_are_stale, "STALE_READS"),
    "forget-vote": Runs("raft-kv", 5, 10, vote_is_forgotten, "FORGET_VOTE"),
}


def prepared(example: str, folder: Path, settings: dict[str, str]) -> tuple[Path, Path]:
    """The job's source and its client's, with other defaults in their Makefiles."""
    ignore = shutil.ignore_patterns("__pycache__")
    job = Path(shutil.copytree(EXAMPLES / example, folder / example, ignore=ignore))
    client = Path(shutil.move(job / "client", folder / "client"))
    for makefile in (job / "Makefile", client / "Makefile"):
        text = makefile.read_text()
        for name, value in settings.items():
            text = re.sub(rf"^{name} \?=.*$", f"{name} ?= {value}", text, flags=re.MULTILINE)
        makefile.write_text(text)
    return job, client


def run(cluster: Cluster, name: str, number: int) -> tuple[str, int, bool, str]:
    """One run: (name, number, whether it came out as it should, the first line of what was said)."""
    runs = ALL[name]
    with tempfile.TemporaryDirectory(prefix="syndicate-verdicts-") as folder:
        source, client = prepared(runs.example, Path(folder), runs.settings(number))
        made = cluster.submit(source, machines=runs.machines, client=client)
    job = cluster.wait(made, WAIT_S)
    right = runs.right(job)
    said = job.result.text or f"{common.JobState.Name(job.state)}: {job.detail}"
    return name, number, right, said.partition("\n")[0] if right else said


def played(cluster: Cluster, wanted: list[str]) -> Iterator[tuple[str, int, bool, str]]:
    """All runs, as many at once as there are slots for."""
    for name in wanted:
        numbers = range(1, ALL[name].times + 1)
        with ThreadPoolExecutor(SLOTS // (ALL[name].machines + 1)) as pool:
            yield from pool.map(lambda number, name=name: run(cluster, name, number), numbers)


def main() -> int:
    """Exit status 0 where each run came out as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.examples.verdicts", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(ALL)}; else all")
    names = parser.parse_args().names or list(ALL)
    if unknown := set(names) - ALL.keys():
        parser.error(f"no such runs: {', '.join(sorted(unknown))}")
    right = dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory(prefix="syndicate-verdicts-") as folder:
        os.chmod(folder, 0o755)  # the unprivileged daemons have their state in it
        with Cluster(Path(folder), SLOTS) as cluster:
            for name, number, came_out, said in played(cluster, names):
                right[name] += came_out
                _say(f"{name} {number}: {'as expected' if came_out else 'OTHERWISE'}: {said}")
    for name, count in right.items():
        _say(f"{name}: {count} of {ALL[name].times} as expected")
    return int(any(count < ALL[name].times for name, count in right.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
