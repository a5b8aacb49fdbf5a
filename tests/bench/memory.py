"""Resident memory of the daemons of ten idle slots, with TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure
from tests.bench.place import cluster

NAMES = ("manager_rss", "volunteer_rss")


def rss_mb(pid: int) -> float:
    """Megabytes (10^6 bytes) of resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no resident memory")


def launchers(keeper: int) -> list[int]:
    """The keeper's children that are programs of its own."""
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return [int(pid) for pid in children if "launcher" in command_of(pid)]


def command_of(pid: str) -> str:
    """Nothing of a process that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def measure() -> Iterator[Figure]:
    """The manager, and volunteer and keeper together."""
    with cluster(10, tls=True) as place:
        pids = {name: daemon.pid for name, daemon in place.daemons.items()}
        yield Figure("manager_rss", rss_mb(pids["manager"]), "MB", None, "", None, 1)
        # The keeper's launcher is part of it; the sandboxes that stand by are the slots'.
        keeper = rss_mb(pids["keeper"]) + sum(rss_mb(pid) for pid in launchers(pids["keeper"]))
        volunteer = rss_mb(pids["volunteer"])
        yield Figure("volunteer_rss", volunteer + keeper, "MB", None, "the keeper alone", keeper, 1)
