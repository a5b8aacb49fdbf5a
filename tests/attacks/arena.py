"""A cluster with a bystander in it, in which attacks are run and what they did is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syndicate.client_api import SchedulerError, job_has_ended
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.volunteer import audit

from tests.attacks import host
from tests.attacks.attack import Attack, Ran, as_source, client_source, job_source
from tests.attacks.bystander import Bystander, HeldUpError, pids_of
from tests.support.cluster import Cluster, ended, eventually

UNTOUCHED = b"untouched\n"
_ANSWERS_WITHIN_S = 25.0  # less than whoever asks waits for
_ENDS_WITHIN_S = 240.0  # more than any attack has, less than a test
_HARM_SHOWS_WITHIN_S = 10.0  # where it only saves a fresh bystander
_SETTLES_WITHIN_S = 60.0
TIMES_HELD_UP = 4  # a machine that stands still does so by chance, an attack whenever it is run
_CLEARED_WITHIN_S = 45.0  # a keeper that lives has ended its tasks by then, or says that it cannot


@dataclass(frozen=True)
class Before:
    """How everything was before an attack."""

    host: host.Host
    pids: dict[str, int]
    in_use: frozenset[str]
    marks: dict[str, int]


class Arena:
    """One cluster and its bystander; `close` ends the bystander only."""

    def __init__(self, cluster: Cluster, bait: Path) -> None:
        self.cluster = cluster
        self.bait = bait
        """A folder of the host's that stands for all others: whoever gets out can write here."""
        self.lay_bait()
        self.uids = eventually(
            "a sandbox waits in each slot",
            lambda: uids if len(uids := host.slot_uids(cluster)) == cluster.slots else None,
        )
        self._bystander: Bystander | None = None
        self._spoilt = False

    @property
    def bystander(self) -> Bystander:
        """The one that runs, or a new one if it ended."""
        if self._bystander is not None and (self._spoilt or not self._bystander.is_well):
            self._bystander.close()
            self._bystander = None
        if self._bystander is None:
            self._bystander = Bystander(self.cluster)
            self._spoilt = False
        return self._bystander

    def is_free(self) -> bool:
        """Whether all slots are, but for the bystander's."""
        taken = 0 if self._bystander is None else len(self._bystander.addresses)
        return self.cluster.users.cluster().free_slots == self.cluster.slots - taken

    def lay_bait(self) -> None:
        """The bait as it was: open to everybody, so that it is not its mode that guards it."""
        self.bait.mkdir(exist_ok=True)
        self.bait.chmod(0o777)
        for path in self.bait.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (self.bait / "bait").write_bytes(UNTOUCHED)
        (self.bait / "bait").chmod(0o666)

    def bitten(self) -> str:
        """What was done to the bait, in words; empty for nothing."""
        names = sorted(path.name for path in self.bait.iterdir())
        if names != ["bait"]:
            return f"{self.bait} holds {names}"
        whole = (self.bait / "bait").read_bytes() == UNTOUCHED
        mode = (self.bait / "bait").stat().st_mode & 0o7777
        return "" if whole and mode == 0o666 else f"{self.bait}/bait was changed"

    def facts(self) -> dict[str, Any]:
        """What an attacker is told: all that one could ever guess of the cluster and its bystander."""
        beside = self.bystander
        slots = {task.ref.task: task.slot for task in beside.job.tasks}
        return {
            "bystander": beside.addresses,
            "bystander_job": beside.job_id,
            "bystander_pids": pids_of(self.cluster, beside.job),
            "bystander_slots": slots,
            "bait": str(self.bait),
            "run_dir": str(self.cluster.run_dir),
            "state_dir": str(self.cluster.dir),
            "cgroup": self.cluster.cgroup_name,
            "manager": self.cluster.address,
            "volunteers": self.cluster.volunteers_address,
            "uids": sorted(self.uids),
            "daemons": {name: daemon.pid for name, daemon in self.cluster.daemons.items()},
        }

    # ---- running an attack

    def run(self, attack: Attack) -> Ran:
        """Runs it to its end; nothing is asserted."""
        self.lay_bait()
        if attack.run is not None:
            return attack.run(self, attack)
        return self.submit(attack)

    def submit(self, attack: Attack, facts: Mapping[str, Any] | None = None) -> Ran:
        """Submits it as a job and waits for the end of it; one that is refused has ended so."""
        facts = self.facts() if facts is None else facts
        started = self.start(attack, facts)
        if isinstance(started, Ran):
            return started
        return self.finished(started, facts)

    def start(self, attack: Attack, facts: Mapping[str, Any]) -> int | Ran:
        """Submits it and gives the job's id, or how it was refused."""
        try:
            spec = scheduler.JobSpec(
                source_sha256=self.upload(job_source(attack, facts)),
                machines=attack.machines,
                time_limit_s=attack.time_limit_s,
                limits=attack.limits,
                no_client=True,
                keep_disks=attack.keep_disks,
                lose_unsynced=attack.lose_unsynced,
            )
            if (client := client_source(attack, facts)) is not None:
                spec.no_client = False
                spec.client_sha256 = self.upload(client)
            return self.cluster.users.submit(spec)
        except SchedulerError as error:
            return Ran(self, f"refused {error.reason}", facts=facts, text=str(error))

    def finished(self, job_id: int, facts: Mapping[str, Any]) -> Ran:
        """Waits for the end of a job."""
        job = self.cluster.wait(job_id, _ENDS_WITHIN_S)
        return Ran(self, f"{ended(job)} {self.cluster.reason(job)}", job, facts)

    def upload(self, data: bytes) -> str:
        """Sends a source as it is; its digest."""
        with as_source(data) as packed:
            return self.cluster.users.upload(packed).sha256

    def output(self, job_id: int, task: str = "") -> str:
        """All output of a job, or of one of its tasks."""
        return self.cluster.output(job_id, task)

    # ---- what it did to others

    def before(self) -> Before:
        """How everything is; the bystander runs."""
        beside = self.bystander
        pids = {name: daemon.pid for name, daemon in self.cluster.daemons.items()}
        in_use = frozenset(self.audited().in_use)
        return Before(self._look(), pids, in_use, beside.mark())

    def assert_unharmed(self, before: Before, gap_s: float) -> None:
        """Bystander, daemons and host are as they were, and nothing is left of the job.

        Raises AssertionError; HeldUpError where nothing else is amiss but a longer gap of the bystander's.
        """
        bitten = self.bitten()
        assert not bitten, bitten
        assert self._bystander is not None, "there was no bystander"
        assert self._bystander.is_well, f"the bystander has ended:\n{self._bystander.story()}"
        harm = self._bystander.harm(before.marks)
        assert not harm, f"the bystander was harmed: {harm}"
        for name, pid in before.pids.items():
            assert os.path.exists(f"/proc/{pid}/exe"), f"the {name} has ended"
        self._assert_all_answer()
        self._assert_nothing_is_left(before)
        if (longest := self._bystander.longest_gap(before.marks)) > gap_s:
            raise HeldUpError(f"the bystander was harmed: it was held up for {longest:g} s")

    def _assert_all_answer(self) -> None:
        """Manager and keeper at once; the volunteer has passed on what the bystander said."""
        began = time.monotonic()
        self.cluster.users.cluster()
        manager = time.monotonic()
        self.audited()
        keeper = time.monotonic()
        assert manager - began < _ANSWERS_WITHIN_S, f"the manager took {manager - began:.1f} s"
        assert keeper - manager < _ANSWERS_WITHIN_S, f"the keeper took {keeper - manager:.1f} s"

    def _assert_nothing_is_left(self, before: Before) -> None:
        """A slot is made ready for the next task after its job has ended, so this may take a moment."""
        differs = ""

        def same() -> bool:
            nonlocal differs
            found = self.audited()
            differs = "\n".join(found.left) or self._look().differs(before.host)
            if not differs and frozenset(found.in_use) != before.in_use:
                differs = f"in use: {sorted(frozenset(found.in_use) ^ before.in_use)}"
            if not differs and not self.is_free():
                differs = "slots are still taken"
            return not differs

        with contextlib.suppress(TimeoutError):
            eventually("all is as before", same, _SETTLES_WITHIN_S, 0.05)
        assert not differs, differs

    def audited(self) -> Any:
        """What the keeper has on the host."""
        return asyncio.run(audit.ask(self.cluster.run_dir / "keeper.sock"))

    def _look(self) -> host.Host:
        return host.look(self.cluster, self.uids, [daemon.pid for daemon in self.cluster.daemons.values()])

    def assert_repelled(self, attack: Attack) -> None:
        """It gets nothing, ends as it should, and harms nobody; what only holds up does so each time."""
        for is_last in (False,) * (TIMES_HELD_UP - 1) + (True,):
            try:
                self._assert_repelled(attack)
                return
            except HeldUpError:
                if is_last:
                    raise
                self._spoilt = False  # it goes on, and nothing else is amiss

    def _assert_repelled(self, attack: Attack) -> None:
        before = self.before()
        ran = self.run(attack)
        evidence = attack.got(ran)
        self._spoilt = True  # until it is known not to be: one attack's harm is no other's
        story = f"{ran.end} {ran.text}\n{ran.output[-4000:]}"
        assert not evidence, f"{attack.id} got it: {evidence}\n{story}"
        assert any(ran.end.startswith(end) for end in attack.ends), f"ended otherwise: {story}"
        assert attack.annotations <= ran.annotations, f"{ran.annotations}: {story}"
        self.assert_unharmed(before, attack.gap_s)
        self._spoilt = False

    def assert_succeeds(self, attack: Attack) -> None:
        """It gets what it is after; whatever else becomes of the cluster."""
        mark = self.bystander.mark()
        ran = self.run(attack)
        evidence = attack.got(ran)
        self._spoilt = True
        story = f"{ran.end} {ran.text}\n{ran.output[-4000:]}"
        assert evidence, f"{attack.id} fails without its defence:\n{story}"
        self._spoilt = self._is_harmed(mark, attack.gap_s)

    def _is_harmed(self, mark: dict[str, int], gap_s: float) -> bool:
        """Whether the bystander can serve no other attack."""
        if self._bystander is None or not self._bystander.is_well:
            return True
        try:
            return bool(self._bystander.harm(mark, gap_s, _HARM_SHOWS_WITHIN_S))
        except AssertionError:  # silent
            return True

    def clear(self) -> None:
        """Ends every job, the bystander too. Raises AssertionError where one does not end."""
        until = time.monotonic() + _CLEARED_WITHIN_S
        bystander, self._bystander = self._bystander, None
        try:
            left = [job.job_id for job in self.cluster.users.jobs() if not job_has_ended(job.state)]
            for job_id in left:
                self.cluster.users.cancel(job_id)
            for job_id in left:
                self.cluster.wait(job_id, max(1.0, until - time.monotonic()))
        finally:
            if bystander is not None:
                bystander.leave()


@contextlib.contextmanager
def opened(folder: Path, slots: int) -> Iterator[Arena]:
    """A fresh cluster with so many slots."""
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # the unprivileged daemons have their state in it
    # In clear text, where tokens and streams are all there is; certificates have attacks of their own.
    with Cluster(folder, slots, "--insecure") as cluster:
        arena = Arena(cluster, folder / "bait")
        try:
            yield arena
        finally:
            arena.clear()


def limits(**values: int) -> common.Limits:
    """Bounds of each task of an attack: `memory_bytes`, `pids`, `disk_bytes`, …"""
    return common.Limits(**values)
