"""A fake job whose members really run: each is `make` in a folder and on an address of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from syndicate.client_api.testing import FakeJob

EXAMPLES = Path(__file__).parents[2] / "examples"
STOP_S = 60.0


class RealTimeJob(FakeJob):
    """The fake job of client_api, whose ledger is on this machine's clock: its members really run."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._ledger.step_ns = 1  # it must not run ahead: what is done under a fault would be before it

    def answer(self, caller: str, rpc: str, request: Any) -> Any:
        """What the fake answers, now."""
        behind_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._ledger.now_ns
        self.advance(max(0, behind_ns) / 1e9)
        return super().answer(caller, rpc, request)


class MadeJob(RealTimeJob):
    """The fake job of client_api, whose kills and revivals also happen.

    Args:
        members: what make is told for each address, the master's first.
    """

    def __init__(self, folder: Path, source: Path, members: Mapping[str, Sequence[str]]) -> None:
        self.master, *self.slaves = members
        super().__init__(members=list(members))
        self._folder = folder
        self._source = source
        self._targets = members
        self._made: dict[str, subprocess.Popen[str]] = {}
        self._lives = threading.Lock()

    def __enter__(self) -> MadeJob:
        for ip in self._targets:
            self.start(ip, with_disk=False)
        return self

    def __exit__(self, *_: object) -> None:
        for ip in list(self._made):
            self.stop(ip)

    def answer(self, caller: str, rpc: str, request: Any) -> Any:
        """What the fake answers, after the effect."""
        if rpc not in ("Kill", "Revive"):
            return super().answer(caller, rpc, request)
        # A caller may have given up waiting for a kill, and revive meanwhile: one after the other.
        with self._lives:
            for ip in request.ips or [request.ip]:
                if rpc == "Kill":
                    self.stop(ip)
                else:
                    self.start(ip, with_disk=request.with_disk or not request.HasField("with_disk"))
            return super().answer(caller, rpc, request)

    def start(self, ip: str, with_disk: bool) -> None:
        """Starts a member, unless it runs; what is left of one that ended by itself is ended before."""
        if ip in self._made:
            # Without taking its status: until then its group is nobody else's.
            if os.waitid(os.P_PID, self._made[ip].pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
            self.stop(ip)
        folder = self._folder / ip
        if not with_disk:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self._source, folder, ignore=shutil.ignore_patterns("client", "__pycache__"))
        environment = {
            **os.environ,
            "SYNDICATE_ADDRESS": ip,
            "SYNDICATE_MASTER": self.master,
            "SYNDICATE_SLAVES": ",".join(self.slaves),
            "SYNDICATE_TASK": "master" if ip == self.master else f"slave-{self.slaves.index(ip)}",
        }
        # A group of its own, so that a kill gets make and what it started.
        self._made[ip] = subprocess.Popen(
            ["make", "-s", *self._targets[ip]],
            cwd=folder,
            env=environment,
            process_group=0,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def stop(self, ip: str) -> None:
        """Ends every process of a member, where there are any; its folder stays."""
        member = self._made.pop(ip, None)
        if member is not None:
            os.killpg(member.pid, 9)
            member.communicate(timeout=STOP_S)

    def ended(self, ip: str) -> tuple[int, str]:
        """Waits until a member ends by itself; its status and what it printed."""
        member = self._made.pop(ip)
        printed, _ = member.communicate(timeout=STOP_S)
        return member.returncode, printed
