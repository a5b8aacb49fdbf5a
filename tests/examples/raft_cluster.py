"""Raft members that really run: a thread, an address of 127.0.0.0/8 and a folder each."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

from raftkv.node import Node, Settings
from raftkv.raft import Timing
from syndicate.client_api.testing import FakeChaos

TIMING = Timing(heartbeat=0.04, election=0.25)


class Cluster:
    """Members on `net`.1, `net`.2 …; a kill closes their sockets, a cut drops what their links carry.

    Args:
        net: the first three bytes of the addresses; each test takes its own.
        bugs: `stale_reads`, `forget_vote`.
    """

    def __init__(self, folder: Path, net: str, size: int = 5, **bugs: bool) -> None:
        self.members = tuple(f"{net}.{number}" for number in range(1, size + 1))
        self.cut: set[str] = set()
        self.said: dict[str, list[str]] = {member: [] for member in self.members}
        self._folder = folder
        self._bugs = bugs
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}

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
        settings = Settings(member, self.members, folder, timing=TIMING)._replace(**self._bugs)
        node = Node(settings, self.said[member].append, lambda peer: not {member, peer} & self.cut)
        end = threading.Event()
        thread = threading.Thread(target=node.run, args=(end.is_set,), name=member, daemon=True)
        self._running[member] = (thread, end)
        thread.start()

    def kill(self, member: str) -> None:
        """Ends a member; its folder stays."""
        thread, end = self._running.pop(member)
        end.set()
        thread.join(timeout=5)
        assert not thread.is_alive()


class LocalChaos(FakeChaos):
    """The fake of client_api, whose faults also happen to a cluster in this process."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(members=cluster.members)
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
