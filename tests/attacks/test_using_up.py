"""Tasks that take all there is: processes, memory, disks, output, descriptors, processors."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import threading
from pathlib import Path

import pytest
from syndicate.client_api import SchedulerError
from syndicate.volunteer.keeper.sync_processes import BOUNDS

from tests.attacks.arena import Arena, limits
from tests.attacks.attack import Attack, Ran, claimed, each, each_shown
from tests.attacks.outside import MUCH, memory_of, watching_peak
from tests.attacks.weak import WeakArena
from tests.support.cluster import eventually

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("using_up")
_MIB = 1 << 20
_SMALL = limits(memory_bytes=192 * _MIB, disk_bytes=64 * _MIB)
_HELD_S = 25.0  # more than packing takes where it is bounded by what is there; less than it is given
_BARRIER_LINES = 230  # of one attempt: rounds, how many more there were, and servers that failed
_SERVERS = 3  # one serves, one stands by, one ends
_FLOODED_BYTES = 96 * _MIB  # of logs on the disk, or of a daemon's memory: more than all bounds together


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def bitten(ran: Ran) -> str:
    """The host's folder that stands for all others was written to."""
    return ran.arena.bitten()


def outlived(ran: Ran) -> str:
    """What the client heard after the Kill, or who lived after the job's end, by the host's own count."""
    left = ran.facts["left"]
    return claimed(ran) or (f"{len(left)} processes after the job's end" if left else "")


def _who_is_left(arena: Arena, attack: Attack) -> Ran:
    facts = arena.facts()
    ran = arena.submit(attack, facts)
    beside = {pid for pids in facts["bystander_pids"].values() for pid in pids}
    left = arena.cluster.task_processes() - beside
    with contextlib.suppress(TimeoutError):  # what a new sandbox is made of is there for a moment
        eventually("none is left", lambda: not (left & arena.cluster.task_processes()), 20.0)
    left &= arena.cluster.task_processes()
    return dataclasses.replace(ran, facts={**facts, "left": sorted(left)})


def _bytes_in(folder: Path) -> int:
    """Of all files in it."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    return total


def _watching_logs(arena: Arena, attack: Attack) -> Ran:
    """Runs it, and tells how much its output took of the disk and of the daemons' memory at most.

    Where that is too much it is cancelled: the machine is not filled to show that it could be.
    """
    facts = arena.facts()
    folders = (arena.cluster.dir, arena.cluster.run_dir)
    pids = {name: daemon.pid for name, daemon in arena.cluster.daemons.items()}
    disk = sum(map(_bytes_in, folders))
    memory = {name: memory_of(pid) for name, pid in pids.items()}
    job_id = arena.start(attack, facts)
    assert isinstance(job_id, int), job_id
    over, ended = threading.Event(), threading.Event()
    grown: dict[str, int] = {}

    def look() -> None:
        while not ended.wait(0.2):
            taken = {name: memory_of(pid) - memory[name] for name, pid in pids.items()}
            taken["disk"] = sum(map(_bytes_in, folders)) - disk
            for name, size in taken.items():
                grown[name] = max(grown.get(name, 0), size)
            if max(grown.values()) > _FLOODED_BYTES and not over.is_set():
                over.set()
                with contextlib.suppress(SchedulerError):
                    arena.cluster.users.cancel(job_id)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        ran = arena.finished(job_id, facts)
    finally:
        ended.set()
        watch.join()
    return dataclasses.replace(ran, facts={**facts, "grown": grown})


def flooded(ran: Ran) -> str:
    """What grew by more than the bounds of a log allow."""
    grown = ran.facts["grown"]
    return "; ".join(f"{name}: {size:,} bytes" for name, size in grown.items() if size > _FLOODED_BYTES)


def _servers(arena: Arena) -> list[Path]:
    """Where the kernel counts the memory of sync servers, by the version of cgroups."""
    mounts = (("memory", "memory.usage_in_bytes"), ("", "memory.current"))
    return [
        path
        for mount, name in mounts
        for path in Path("/sys/fs/cgroup", mount).glob(f"{arena.cluster.cgroup_name}/sync-*/{name}")
    ]


def _watching_server(arena: Arena, attack: Attack) -> Ran:
    """Runs it, and tells how much memory the daemons took for it at most, and how much the servers have."""
    facts = arena.facts()
    pids = {name: daemon.pid for name, daemon in arena.cluster.daemons.items()}
    before = {name: memory_of(pid) for name, pid in pids.items()}
    most = {"servers": 0, "bytes": 0, **dict.fromkeys(pids, 0)}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            found = _servers(arena)
            most["servers"] = max(most["servers"], len(found))
            for path in found:
                with contextlib.suppress(OSError):  # it ended meanwhile
                    most["bytes"] = max(most["bytes"], int(path.read_text()))
            for name, pid in pids.items():
                most[name] = max(most[name], memory_of(pid) - before[name])

    watch = threading.Thread(target=look)
    watch.start()
    try:
        ran = arena.submit(attack, facts)
    finally:
        ended.set()
        watch.join()
    assert ran.job is not None, ran.end
    told = sum(line.event.startswith("barrier.") for line in ran.job.story)
    return dataclasses.replace(ran, facts={**facts, "most": most, "told": told})


def flooded_barriers(ran: Ran) -> str:
    """What of a server, of the daemons or of the story grew beyond its bound."""
    most, told = dict(ran.facts["most"]), ran.facts["told"]
    assert most["servers"] > 0, "no server's memory was seen"
    found = [f"{told} lines of the story"] if told > _BARRIER_LINES else []
    if most.pop("servers") > _SERVERS:
        found.append(f"{ran.facts['most']['servers']} servers")
    if most.pop("bytes") > BOUNDS.memory_bytes:
        found.append(f"a server of {ran.facts['most']['bytes']:,} bytes")
    return "; ".join([*found, *(f"{name}: {size:,} bytes" for name, size in most.items() if size > MUCH)])


def _synced_before(arena: Arena, attack: Attack) -> Ran:
    """Runs it once the machine has written what it had to: it syncs all of that, over and over."""
    os.sync()
    return arena.submit(attack)


def _left_behind(arena: Arena, attack: Attack) -> Ran:
    """Runs it, tells how long its slot was held after its end, and fetches what it left."""
    ran = arena.submit(attack)
    assert ran.job is not None, ran.end
    end = ran.job.tasks[0].runs[0].ended_at
    held_s = (ran.job.ended_at.monotonic_ns - end.monotonic_ns) / 1e9
    with tempfile.TemporaryDirectory(prefix="syn-") as folder:
        fetched = arena.cluster.ctl("fetch", str(ran.job.job_id), f"{folder}/store", "--disk")
        assert fetched.returncode == 0, fetched.stderr
        laid = sorted(path.name for path in Path(folder, "store", "latest", "disks").rglob("*"))
        beside = sorted(path.name for path in Path(folder).iterdir())
    facts = {**ran.facts, "held_s": held_s, "laid": laid, "beside": beside, "told": fetched.stderr}
    return dataclasses.replace(ran, facts=facts)


def held_up(ran: Ran) -> str:
    """The slot was held for longer than packing takes, or something was laid down that is no archive."""
    if ran.facts["held_s"] > _HELD_S:
        return f"its slot was held for {ran.facts['held_s']:.1f} s"
    odd = [name for name in ran.facts["laid"] if name not in ("master.tar.gz", "missing.json")]
    odd += [name for name in ran.facts["beside"] if name != "store"]
    return f"fetch laid down {odd}" if odd or "\x1b" in ran.facts["told"] else ""


ATTACKS = (
    Attack(
        id="fork-bomb",
        tries="processes that fork for ever, and threads without end",
        held_by="the task's bound of processes",
        master=script("fork_bomb"),
        limits=limits(pids=60, memory_bytes=2048 * _MIB),
        got=claimed,
        annotations=frozenset({"pids_limit"}),
        without="using_up/pids",
    ),
    Attack(
        id="daemon-outlives",
        tries="daemons of sessions of their own, deaf to signals, stopped, fleeing from pid to pid, to "
        "outlive a Kill and the job",
        held_by="cgroup.kill, which no process leaves, and the end of the pid namespace",
        master="import time\ntime.sleep(600)\n",
        slave=script("outlive"),
        client=script("outlive_client"),
        machines=2,
        got=outlived,
        run=_who_is_left,
        ends=("succeeded",),
        without="using_up/cgroup-kill",
    ),
    Attack(
        id="memory-heap",
        tries="processes that take memory without end, and ask to be spared",
        held_by="the task's bound of memory",
        master=script("heap"),
        limits=_SMALL,
        got=claimed,
        ends=("failed out_of_memory",),
        without="unpacking/memory",
    ),
    Attack(
        id="memory-kernel",
        tries="memory without an owner: files without a name, segments, pipes, letters that nobody reads",
        held_by="the task's bound of memory, which counts these too",
        master=script("shared"),
        limits=_SMALL,
        got=claimed,
        ends=("failed out_of_memory", "succeeded"),
        without="unpacking/memory",
    ),
    Attack(
        id="memory-tmpfs",
        tries="a disk, which is memory, as large as the task's bound of memory",
        held_by="the manager takes a job only where its disk and 64 MiB beside it fit in its memory",
        master=script("fill"),
        limits=limits(memory_bytes=96 * _MIB, disk_bytes=96 * _MIB),
        got=lambda ran: "" if ran.end.startswith("refused") else f"it was taken: {ran.end}",
        ends=("refused BAD_FIELD",),
        without="using_up/disk-in-memory",
    ),
    Attack(
        id="memory-page-cache",
        tries="files read and mapped over and over, to fill the machine's memory with them",
        held_by="pages of files count to the task that reads them first, and are taken back within its bound",
        master=script("page_cache"),
        limits=limits(memory_bytes=128 * _MIB, disk_bytes=32 * _MIB),
        run=watching_peak,
        got=lambda ran: f"{ran.facts['peak']:,} bytes" if ran.facts["peak"] > 136 * _MIB else "",
        because="which pages are in memory already, and count to nobody, is chance; beyond that it is the "
        "bound of memory that holds, as in `memory-heap`",
    ),
    Attack(
        id="oom-survivors",
        tries="processes that live on after the kernel has ended the one that took all memory",
        held_by="out of memory ends all of a task, on version 1 of cgroups too, where the keeper does it",
        master=script("survivors"),
        limits=_SMALL,
        got=claimed,
        ends=("failed out_of_memory",),
        without="using_up/oom",
    ),
    Attack(
        id="disk-filler",
        tries="bytes in /, /tmp, /dev/shm and wherever else one may write, in files with names and without",
        held_by="all of it is one disk of the task's with a bound of bytes",
        master=script("fill"),
        limits=limits(disk_bytes=32 * _MIB),
        got=claimed,
        annotations=frozenset({"disk_full"}),
        without="unpacking/disk-bytes",
    ),
    Attack(
        id="inode-filler",
        tries="files, folders, pipes, links and sockets without end, in all places",
        held_by="the disk's bound of inodes",
        master=script("inodes"),
        limits=limits(disk_inodes=2_000),
        got=claimed,
        annotations=frozenset({"disk_full"}),
        without="unpacking/inodes",
    ),
    Attack(
        id="cleanup-heavy",
        tries="20,000 files, folders 10,000 deep, of mode 0, immutable, with strange names, held open, which "
        "a Revive has to remove from /tmp and /dev/shm",
        held_by="clean-up that neither recurses nor builds paths; whatever else there is goes with its disk",
        master=script("mess"),
        client=script("mess_client"),
        got=claimed,
        ends=("succeeded",),
        without="using_up/rmtree",
    ),
    Attack(
        id="cleanup-links",
        tries="links to the host's folders in /tmp and /dev/shm, which root empties when the task is revived",
        held_by="clean-up that follows no link",
        master=script("links"),
        client=script("mess_client"),
        got=bitten,
        ends=("succeeded",),
        without="using_up/links",
    ),
    Attack(
        id="cleanup-race",
        tries="daemons that swap folders for links to the host's while root removes them",
        held_by="no process of the task is left when its clean-up begins, which works by descriptors",
        master=script("race"),
        client=script("mess_client"),
        got=bitten,
        ends=("succeeded",),
        without="using_up/cgroup-kill+using_up/by-path",
    ),
    Attack(
        id="disk-left",
        tries="a disk that is kept, full of holes, pipes, links to the host's files, setuid programs, names "
        "that are options or orders to a terminal, so that packing it holds the slot, or fetching it bites",
        held_by="it is packed in a sandbox, as its task, by a program that opens files alone and reads no "
        "hole, with bounds of bytes and time; it is fetched as one archive and never unpacked",
        master=script("left"),
        limits=limits(disk_bytes=64 * _MIB),
        keep_disks=True,
        run=_left_behind,
        got=held_up,
        without="using_up/packing",
    ),
    Attack(
        id="disk-synced",
        tries="a disk of `--lose-unsynced`: the device and the host's folders below it, shutting it down, "
        "freezing it, more files and bytes than it may hold, and eight processes that sync without end",
        held_by="neither its device nor its mount is in the sandbox; its orders take capabilities; it is a "
        "file of a bounded size in a tmpfs that is bounded, too",
        master=script("synced"),
        time_limit_s=200,
        limits=limits(disk_bytes=32 * _MIB),
        lose_unsynced=True,
        run=_synced_before,
        got=claimed,
        annotations=frozenset({"disk_full"}),
        because="its bounds are those of the file that it is made in",
    ),
    Attack(
        id="log-flood",
        tries="a gigabyte of output",
        held_by="a log keeps its head and its tail; a flood is read slowly, by a thread of its own",
        master=script("flood"),
        time_limit_s=200,
        run=_watching_logs,
        got=flooded,
        annotations=frozenset({"log_limit"}),
        without="using_up/log",
    ),
    Attack(
        id="sync-flood",
        tries="its own sync server, flooded by three members: connections that say nothing or half a "
        "request, a million names and rounds, counts that no number holds, garbage, a storm over UDP",
        held_by="the server is a process of its own with bounds of memory, barriers, waiters and silence; it "
        "tells some lines a quarter of a second, and a job's story has room for 200 of them",
        master=script("sync_flood"),
        slave=script("sync_flood"),
        machines=3,
        run=_watching_server,
        got=flooded_barriers,
        without="using_up/barrier-lines",
    ),
    Attack(
        id="descriptors",
        tries="files, sockets, pipes, timers without end, and descriptors in letters that nobody reads",
        held_by="the bound of open files",
        master=script("descriptors"),
        limits=limits(open_files=256),
        got=claimed,
        without="using_up/open-files",
    ),
    Attack(
        id="file-size",
        tries="one file of a terabyte that is almost empty, on the disk and in memory",
        held_by="the bound of a file's size",
        master=script("sizes"),
        limits=limits(file_bytes=_MIB),
        got=claimed,
        without="unpacking/file-size",
    ),
    Attack(
        id="processor-hog",
        tries="24 busy processes that ask for priority",
        held_by="the task's bound of processors",
        master=script("processor"),
        limits=limits(cpu_millis=300),
        got=claimed,
        without="using_up/cpu",
    ),
    Attack(
        id="core-dump",
        tries="crashes, with every bound on cores that can be asked for",
        held_by="a bound of one byte, below which no core is written and no helper is started; the filter, "
        "which keeps it so",
        master=script("core"),
        got=claimed,
        without="using_up/core+walls/filter",
    ),
)


@each(ATTACKS)
def test_attack_is_repelled(arena: Arena, attack: Attack) -> None:
    """It gets nothing, and all beside it is unharmed."""
    arena.assert_repelled(attack)


@each_shown(ATTACKS)
def test_attack_succeeds_without_its_defence(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets what it is after where its defence is gone, so that it is a real attack."""
    weak_arena.assert_succeeds(attack)
