"""Raft members that really run: a thread, an address of 127.0.0.0/8 and a folder each."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

from made_job import RealTimeJob
from raftkv.node import Node, Settings
from raftkv.raft import Timing
from syndicate.client_api.testing import FakeChaos

TIMING = Timing()  # all members and clients share one interpreter: shorter ones would be lost to each other


class Cluster:
    """Members on `net`.1, `net`.2 …; a kill closes their sockets, a cut drops what their links carry.

    Args:
        net: the first three bytes of the addresses; each test takes its own.
        timing: that of each member.
        bugs: `stale_reads`, `forget_vote`.
    """

    def __init__(self, folder: Path, net: str, size: int = 5, timing: Timing = TIMING, **bugs: bool) -> None:
        self.members = tuple(f"{net}.{number}" for number in range(1, size + 1))
        self.cut: set[str] = set()
        self.apart: set[frozenset[str]] = set()  # pairs between which nothing passes
        self.said: dict[str, list[str]] = {member: [] for member in self.members}
        self._folder = folder
        self._bugs = bugs
        self._timing = timing
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._goes_on = {member: threading.Event() for member in self.members}

    def __enter__(self) -> Cluster:
        for member in self.members:
            self.start(member)
        return self

    def __exit__(self, *_: object) -> None:
        for member in list(self._running):
            self.kill(member)

    def start(self, member: str, with_disk: bool = True) -> None:
        """Starts a member that does not run."""
        folder = self._folder / member
        if not with_disk:
            shutil.rmtree(folder)
        settings = Settings(member, self.members, folder, timing=self._timing)._replace(**self._bugs)
        node = Node(settings, self.said[member].append, lambda peer: self._linked(member, peer))
        end, goes_on = threading.Event(), self._goes_on[member]
        goes_on.set()

        def ended() -> bool:
            goes_on.wait()
            return end.is_set()

        thread = threading.Thread(target=node.run, args=(ended,), name=member, daemon=True)
        self._running[member] = (thread, end)
        thread.start()

    def pause(self, member: str) -> None:
        """It begins no further turn, and keeps its sockets."""
        self._goes_on[member].clear()

    def resume(self, member: str) -> None:
        """It goes on where it was."""
        self._goes_on[member].set()

    def _linked(self, member: str, peer: str) -> bool:
        return not {member, peer} & self.cut and frozenset({member, peer}) not in self.apart

    def kill(self, member: str) -> None:
        """Ends a member; its folder stays."""
        thread, end = self._running.pop(member)
        end.set()
        self.resume(member)
        thread.join(timeout=60)
        assert not thread.is_alive()


class LocalChaos(FakeChaos):
    """The fake of client_api, whose faults also happen to a cluster in this process."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(job=RealTimeJob(members=list(cluster.members)))
        self._cluster = cluster

    def kill(self, ip: str, *args: Any, **kwargs: Any) -> Any:
        """Ends the member."""
        self._cluster.kill(ip)
        return super().kill(ip, *args, **kwargs)

    def revive(self, ip: str, with_disk: bool | None = None, **kwargs: Any) -> Any:
        """Starts the member again."""
        self._cluster.start(ip, with_disk is not False)
        return super().revive(ip, with_disk, **kwargs)

    def disconnect(self, ip: Any, *args: Any, **kwargs: Any) -> Any:
        """Cuts the links of a member, or of several, to all peers; clients still reach it."""
        self._cluster.cut.update([ip] if isinstance(ip, str) else ip)
        return super().disconnect(ip, *args, **kwargs)

    def reconnect(self, ip: Any, *args: Any, **kwargs: Any) -> Any:
        """Takes the cut back."""
        self._cluster.cut.difference_update([ip] if isinstance(ip, str) else ip)
        return super().reconnect(ip, *args, **kwargs)

    def partition(self, groups: Any = None, *, shape: Any = None, **kwargs: Any) -> Any:
        """Cuts the links between groups; in a ring those to whom a member does not reach."""
        held = super().partition(groups, shape=shape, **kwargs)
        sides = [set(group) for group in held.groups]
        everybody = set().union(*sides)
        if shape == "majority-ring":
            pairs = {(group[0], other) for group in held.groups for other in everybody - set(group)}
        else:
            pairs = {(one, other) for side in sides for one in side for other in everybody - side}
        self._cluster.apart |= {frozenset(pair) for pair in pairs}
        return held

    def heal(self, *fault_ids: int, **kwargs: Any) -> Any:
        """Takes partitions back, of which there is one at a time."""
        self._cluster.apart.clear()
        return super().heal(*fault_ids, **kwargs)

    def pause(self, ip: str, *args: Any, **kwargs: Any) -> Any:
        """The member stands still."""
        self._cluster.pause(ip)
        return super().pause(ip, *args, **kwargs)

    def resume(self, ip: str, *args: Any, **kwargs: Any) -> Any:
        """It goes on."""
        self._cluster.resume(ip)
        return super().resume(ip, *args, **kwargs)
