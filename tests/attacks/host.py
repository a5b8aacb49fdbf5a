"""What of the host must be the same after an attack as before it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.support.cluster import Cluster, processes_in

_CGROUPS = Path("/sys/fs/cgroup")
# Another cluster may be started or ended on this machine meanwhile: what bears its name is not looked at.
_ANY_INSTANCE = re.compile(r"\bsyn[a-z]*-[a-z0-9]{1,6}\b")
_SYNC_SERVER = re.compile(r"/sync-\d+$")


@dataclass(frozen=True)
class Host:
    """One look at the host; each part is what a comparison shows."""

    mounts: frozenset[str]
    links: frozenset[str]
    tables: frozenset[str]
    cgroups: frozenset[str]
    cores: frozenset[str]
    keyrings: frozenset[str]
    listening: frozenset[str]

    def differs(self, before: Host) -> str:
        """In words; empty if nothing does."""
        said = []
        for part in fields(self):
            now, then = getattr(self, part.name), getattr(before, part.name)
            said += [f"{part.name}: new {one}" for one in sorted(now - then)]
            if part.name != "keyrings":  # the kernel takes its time to remove those of tasks that have ended
                said += [f"{part.name}: gone {one}" for one in sorted(then - now)]
        return "\n".join(said)


def look(cluster: Cluster, uids: Iterable[int], pids: Iterable[int]) -> Host:
    """At the host as it is; `uids` are the slots', `pids` the daemons'."""
    own = cluster.cgroup_name
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True, timeout=60)
    return Host(
        mounts=frozenset(_of_nobody_else(_mount_points(), own)),
        links=frozenset(_of_nobody_else(os.listdir("/sys/class/net"), own)),
        tables=frozenset(_of_nobody_else(tables.stdout.splitlines(), own)),
        cgroups=frozenset(_cgroups(own)),
        cores=frozenset(_cores(cluster)),
        keyrings=frozenset(_keyrings(set(uids))),
        listening=frozenset(place for pid in pids for place in _listening(pid)),
    )


def slot_uids(cluster: Cluster) -> set[int]:
    """Who the slots' tasks run as, by the processes that wait or run in them."""
    found = set()
    for pid in processes_in(cluster.cgroup_name, waiting=True):
        try:
            found.add(os.stat(f"/proc/{pid}").st_uid)
        except FileNotFoundError:
            continue
    return found - {0}


def _of_nobody_else(lines: Iterable[str], own: str) -> Iterator[str]:
    for line in lines:
        if not any(name != own for name in _ANY_INSTANCE.findall(line)) or own in line:
            yield line


def _mount_points() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields_, _, rest = line.partition(" - ")
        yield f"{fields_.split(' ')[4]} {rest.split(' ', 1)[0]}"


def _cgroups(own: str) -> Iterator[str]:
    for top in (_CGROUPS, *(each for each in _CGROUPS.iterdir() if each.is_dir())):
        yield from (str(each) for each in _folders(top) if not _ANY_INSTANCE.fullmatch(each.name))
        if (top / own).is_dir():
            yield from _numbered(folder for folder, _, _ in os.walk(top / own))


def _numbered(folders: Iterable[str]) -> Iterator[str]:
    """Sync servers by how many there are: each new one takes a number that is free."""
    number = 0
    for folder in folders:
        if _SYNC_SERVER.search(folder):
            folder, number = _SYNC_SERVER.sub(f"/sync-{number}", folder), number + 1
        yield folder


def _folders(top: Path) -> Iterator[Path]:
    return (each for each in top.iterdir() if each.is_dir())


def _cores(cluster: Cluster) -> Iterator[str]:
    """Core files where the kernel would put one: the crashing process's folder, or those of the daemons."""
    for folder in (Path("/"), Path.cwd(), cluster.run_dir, cluster.dir, *_folders(cluster.dir)):
        yield from (str(each) for each in folder.glob("core*") if each.is_file())


def _keyrings(uids: set[int]) -> Iterator[str]:
    """The keys that each slot's uid has, by their number: proc(5), /proc/key-users."""
    for line in Path("/proc/key-users").read_text().splitlines():
        uid, _, counts = line.partition(":")
        if int(uid) in uids:
            count = int(counts.split()[2].partition("/")[0])
            yield from (f"key {number} of uid {uid.strip()}" for number in range(1, count + 1))


def _listening(pid: int) -> Iterator[str]:
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    for kind in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                yield f"{kind} {words[1]}"
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        listens = int(words[3], 16) & 0x10000
        if listens and f"socket:[{words[6]}]" in inodes and not _comes_and_goes(words):
            yield f"unix {words[7] if len(words) > 7 else '-'}"


def _comes_and_goes(words: list[str]) -> bool:
    """A client's relay socket is there exactly while the client is."""
    return len(words) > 7 and words[7].endswith("chaos.sock")
