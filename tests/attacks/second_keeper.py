"""One more keeper on this host, with a slot: who its tasks would be."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keeper.harness import KeeperProcess, network_instance

from tests.support.cluster import eventually, processes_in


@contextlib.contextmanager
def second_keeper(uid_base: int) -> Iterator[set[int]]:
    """The uids of its slots while it runs; it is told to take those from `uid_base` on, and may refuse."""
    with tempfile.TemporaryDirectory(prefix="syn-") as folder:
        told = ("--uid-base", str(uid_base))
        keeper = KeeperProcess(Path(folder), network_instance()[::-1], slots=1, extra=told)
        try:
            keeper.start()
        except AssertionError:
            assert "has uids" in keeper.errors.read_text()
            yield set()
            return
        try:
            yield eventually("its sandbox waits", lambda: _uids(keeper.cgroup.name))
        finally:
            assert keeper.stop() == 0, keeper.errors.read_text()


def _uids(cgroup_name: str) -> set[int]:
    return {os.stat(f"/proc/{pid}").st_uid for pid in processes_in(cgroup_name, waiting=True)} - {0}
