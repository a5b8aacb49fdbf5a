"""The job beside which every attack runs, as the harness sees it: by its output, through all the cluster."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from syndicate.client_api import SchedulerError, job_has_ended
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.attacks.attack import INSIDE, as_source, tar
from tests.support.cluster import Cluster, ended

TASKS = ("master", "slave-0")
_MAKEFILE = ".PHONY: master slave\nmaster slave:\n\t@exec python3 bystander.py\n"
_TIME_LIMIT_S = 4 * 3600.0
_SPEAKS_AGAIN_S = 60.0  # it says something ten times a second; what that passes through may stand still


class HeldUpError(AssertionError):
    """The bystander was silent for longer than it may be: by an attack, or as the machine stood still."""


class Bystander:
    """A running pair; its lines are read by a thread of its own, by a connection of its own."""

    def __init__(self, cluster: Cluster) -> None:
        source = tar({"Makefile": _MAKEFILE, "bystander.py": (INSIDE / "bystander.py").read_text()})
        with as_source(source) as packed:
            digest = cluster.users.upload(packed).sha256
        spec = scheduler.JobSpec(
            name="bystander", source_sha256=digest, machines=2, no_client=True, time_limit_s=_TIME_LIMIT_S
        )
        self._cluster = cluster
        self.job_id = cluster.users.submit(spec)
        self.job = cluster.until_running(self.job_id)
        self.addresses = {task.ref.task: task.address for task in self.job.tasks}
        self._lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._news = threading.Condition()
        self._users = cluster.client(cluster.token)
        self._threads = [threading.Thread(target=self._read, args=(task,), daemon=True) for task in TASKS]
        for thread in self._threads:
            thread.start()
        try:
            self.since({}, deadline_s=60.0)
        except AssertionError:
            self.leave()
            raise

    def _read(self, task: str) -> None:
        rest = b""
        try:
            for answer in self._users.logs(self.job_id, tasks=[task], follow=True):
                *whole, rest = (rest + answer.piece.data).split(b"\n")
                with self._news:
                    self._lines[task] += [json.loads(line) for line in whole if line.startswith(b"{")]
                    self._news.notify_all()
        except SchedulerError:  # the connection was closed, or the manager is away for good: no line comes
            return

    @property
    def is_well(self) -> bool:
        """Whether it runs, and has never been queued again."""
        job = self._cluster.users.job(self.job_id)
        return job.attempt == self.job.attempt and not job_has_ended(job.state)

    def mark(self) -> dict[str, int]:
        """How many lines each of the two has said by now."""
        with self._news:
            return {task: len(self._lines[task]) for task in TASKS}

    def since(self, mark: dict[str, int], deadline_s: float = _SPEAKS_AGAIN_S) -> list[dict[str, Any]]:
        """Waits until both said two lines more, and gives all since the mark. Raises AssertionError."""
        now = self.mark()
        deadline = time.monotonic() + deadline_s
        with self._news:
            while any(len(self._lines[task]) < now[task] + 2 for task in TASKS):
                left = deadline - time.monotonic()
                silent = not self._news.wait(left) if left > 0 else True
                assert not silent, f"the bystander is silent for {deadline_s:g} s: {self._how_it_is()}"
            return [line for task in TASKS for line in self._lines[task][mark.get(task, 0) :]]

    def longest_gap(self, mark: dict[str, int]) -> float:
        """The longest of its silences since the mark, in seconds by its own clock, as far as it was heard."""
        with self._news:
            said = [line for task in TASKS for line in self._lines[task][mark[task] :]]
        return max((line["gap_s"] for line in said), default=0.0)

    def harm(self, mark: dict[str, int], gap_s: float = math.inf, deadline_s: float = _SPEAKS_AGAIN_S) -> str:
        """What was done to it since the mark, in words; empty if it talked, counted and was left alone.

        Raises AssertionError as `since`.
        """
        lines = self.since(mark, deadline_s)
        said = {f"changed: {line['changed']}" for line in lines if line["changed"]}
        longest = max(line["gap_s"] for line in lines)
        if longest > gap_s:
            said.add(f"it was held up for {longest:g} s")
        for kind in ("strangers", "signals"):
            if any(line[kind] for line in lines):
                said.add(f"{kind}: {max(line[kind] for line in lines)}")
        return "; ".join(sorted(said))

    def _how_it_is(self) -> str:
        job = self._cluster.users.job(self.job_id)
        return f"{ended(job)}, attempt {job.attempt} {job.detail}"

    def story(self) -> str:
        """What became of it, for a failing test."""
        return self._cluster.ctl("show", str(self.job_id)).stdout

    def close(self) -> None:
        """Ends it, and waits until its slots are free."""
        try:
            self._cluster.users.cancel(self.job_id)
            self._cluster.wait(self.job_id)
        finally:
            self.leave()

    def leave(self) -> None:
        """Listens to it no more, whatever becomes of its job."""
        self._users.close()
        for thread in self._threads:
            thread.join(60.0)


def pids_of(cluster: Cluster, job: scheduler.Job) -> dict[str, list[int]]:
    """The host's pids of a job's tasks, by task."""
    found: dict[str, list[int]] = {}
    for task in job.tasks:
        slot = Path("/sys/fs/cgroup")
        mounts = [slot, slot / "unified"]
        for mount in mounts:
            folder = mount / cluster.cgroup_name / f"slot-{task.slot}"
            if folder.is_dir():
                found[task.ref.task] = [
                    int(pid) for procs in folder.glob("*/cgroup.procs") for pid in procs.read_text().split()
                ]
    return found
