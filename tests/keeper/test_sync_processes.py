"""The process that serves a job's barriers: its walls and bounds, its end, and what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from keeper.harness import KeeperProcess, Link, linked, makefile, network_instance
from keeper.network_helpers import until
from keeper.sync_jobs import SERVER, WITHIN_S, await_servers, begin, prepare, servers, source, told
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.counters import Shortage
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.keeper.sync_processes import LEAST_CPU_MILLIS, Ended, SyncProcess, SyncProcesses
from syndicate.volunteer.local import (
    BarriersTold,
    ErrorCode,
    Limits,
    Role,
)


async def test_a_server_that_dies_is_noticed_and_replaced(keeper: KeeperProcess, link: Link) -> None:
    """Its waiters are told by the end of their connection; who comes then finds another."""
    recipe = "syndicate-sync -t 60; echo got $$?; syndicate-sync -i 1 -t 60; echo got $$?"
    master = link.task(source(recipe))
    await begin(master)
    await told(link, lambda account: len(account.open) == 1)
    serving = await serving_pid(link)

    os.kill(serving, signal.SIGKILL)

    account = await told(link, lambda account: bool(account.trouble))
    assert (account.open, account.trouble) == (
        (),
        "the sync server ended by itself (status 137): all its barriers are gone",
    )
    await master.said("got 76")
    await told(link, lambda account: len(account.open) == 1 and account.open[0].remaining == 1)
    assert await serving_pid(link) != serving
    await await_servers(keeper, 2)


async def serving_pid(link: Link) -> int:
    """The process that serves, as the audit tells it."""
    (line,) = [line for line in (await link.audit()).in_use if line.endswith(" syncd")]
    return int(line.split()[1])


async def test_the_server_is_shut_in(keeper: KeeperProcess, link: Link) -> None:
    """The slot's uid, no capability, an empty root, a network that leads nowhere, bounds of its own."""
    master = link.task(source("syndicate-sync -t 60"))
    await begin(master)
    await told(link, lambda account: len(account.open) == 1)

    process = Path(f"/proc/{await serving_pid(link)}")

    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert int(status["Uid"].split()[1]) >= 200_000
    assert (status["CapEff"], status["NoNewPrivs"]) == ("0" * 16, "1")
    assert os.readlink(process / "root") == str(keeper.state / "sync-root")
    assert list((keeper.state / "sync-root").iterdir()) == []
    assert os.readlink(process / "ns/net") not in (os.readlink("/proc/self/ns/net"), "")
    groups = (process / "cgroup").read_text()
    assert f"/syndicate-{keeper.instance}/sync-" in groups
    assert f"/syndicate-{keeper.instance}/slot-" not in groups
    assert bounds_of(groups) == {"memory": 256 << 20, "pids": 4}


def bounds_of(groups: str) -> dict[str, int]:
    """What the process may take, in its own cgroups of either version."""
    found = {}
    for name, old, new in (
        ("memory", "memory.limit_in_bytes", "memory.max"),
        ("pids", "pids.max", "pids.max"),
    ):
        folder, is_version_1 = folder_of(groups, name)
        found[name] = int((folder / (old if is_version_1 else new)).read_text())
    return found


def folder_of(groups: str, controller: str) -> tuple[Path, bool]:
    """A process's cgroup in the hierarchy that has this controller, and whether that is of version 1."""
    paths = {names: path for _, names, path in (line.split(":", 2) for line in groups.splitlines())}
    hierarchy = find_version_1(controller)
    root = find_mount() if hierarchy is None else hierarchy
    assert root is not None
    return root / paths[controller if hierarchy is not None else ""].lstrip("/"), hierarchy is not None


def bound_memory(pid: int, more: int) -> None:
    """Let a process have so many bytes more than it has."""
    folder, is_version_1 = folder_of(Path(f"/proc/{pid}/cgroup").read_text(), "memory")
    usage = int((folder / ("memory.usage_in_bytes" if is_version_1 else "memory.current")).read_text())
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if is_version_1 else ("memory.max",)
    for name in names:
        if (folder / name).exists():  # what swaps is not counted everywhere
            (folder / name).write_text(str(usage + more))


WAITERS = """
import os, socket, struct
host, port = os.environ["SYNDICATE_SYNC_SERVER"].split(":")
for _ in range(3):
    os.fork()
held = []
for number in range(2000):
    try:
        held.append(socket.create_connection((host, int(port))))
        held[-1].sendall(struct.pack("=64shhii", b"crowd", 2, 0, 0, 0))
    except OSError:
        continue
"""


async def test_a_server_that_runs_out_of_memory_is_told_and_replaced(
    keeper: KeeperProcess, link: Link
) -> None:
    """Its bound is its own: nothing else ends, who waited gets 76, and who comes finds another."""
    recipe = "syndicate-sync -t 60; echo got $$?; exec syndicate-sync -n again -t 60"
    master = link.task(source(recipe))
    slave = link.task(
        {"Makefile": makefile("python3 -I waiters.py", "slave"), "waiters.py": WAITERS}, Role.SLAVE, 1
    )
    await begin(master)
    await prepare(slave)
    await told(link, lambda account: len(account.open) == 1)
    serving = await serving_pid(link)
    bound_memory(serving, 1 << 20)

    await slave.start()

    account = await told(link, lambda account: bool(account.trouble))
    assert account.trouble == (
        "the sync server ran out of memory, of which it may have 256 MiB: all its barriers are gone"
    )
    await master.said("got 76")
    await told(link, lambda account: any(one.barrier == "again" for one in account.open))
    assert await serving_pid(link) != serving
    assert not alive(serving)
    assert (await slave.exit()).status == 0
    await await_servers(keeper, 2)


def test_what_stands_by_is_at_no_moment_one_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit that comes as it begins tells of no process."""
    processes = SyncProcesses(*[cast(Any, None)] * 3, tmp_path)
    told: list[list[str]] = []

    class Watched(dict[str, SyncProcess]):
        def __setitem__(self, name: str, one: SyncProcess) -> None:
            super().__setitem__(name, one)
            told.append(processes.things())

    monkeypatch.setattr(processes, "_all", Watched())
    monkeypatch.setattr(processes, "_start", lambda name: SyncProcess(name, *[cast(Any, None)] * 3))

    asyncio.run(processes.stand_by())

    assert (told, processes.names()) == ([[]], {"sync-0"})
    processes._worker.close()


async def test_an_audit_meanwhile_tells_of_nothing_left(keeper: KeeperProcess, link: Link) -> None:
    """One server is taken and another begun, then both of a job end: all of them are explained throughout."""
    audits = []
    for _ in range(3):
        master = link.task(source("syndicate-sync -t 60"))
        await begin(master)
        async with asyncio.timeout(WITHIN_S):
            while len(servers(keeper)) < 2:
                audits.append(await link.audit())
        release = asyncio.create_task(master.release())
        while not release.done():
            audits.append(await link.audit())
        await release

    assert [audit.left for audit in audits] == [()] * len(audits)


def test_the_cgroup_of_one_that_is_being_started_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is made, and no longer where it could not be."""
    processes = SyncProcesses(*[cast(Any, None)] * 3, tmp_path)
    named: list[set[str]] = []

    def start(name: str) -> SyncProcess:
        named.append(processes.names())
        if len(named) == 1:
            raise KeeperError(ErrorCode.FAILED, "no process")
        return SyncProcess(name, *[cast(Any, None)] * 3)

    monkeypatch.setattr(processes, "_start", start)

    with pytest.raises(KeeperError):
        asyncio.run(processes.stand_by())
    after_failure = processes.names()
    asyncio.run(processes.stand_by())

    assert (named, after_failure, processes.names()) == ([{"sync-0"}] * 2, set(), {"sync-0"})
    processes._worker.close()


def test_whose_memory_had_run_out_is_told() -> None:
    """The server's own, the machine's, or nobody's."""
    said = [str(Ended(137, shortage)) for shortage in (Shortage.OWN, Shortage.HOST, Shortage.NONE)]

    assert said == [
        "ran out of memory, of which it may have 256 MiB",
        "was ended by the kernel, since the machine ran out of memory",
        "ended by itself (status 137)",
    ]


STORM = """
import itertools, os, socket, struct
host, port = os.environ["SYNDICATE_SYNC_SERVER"].split(":")
peer = socket.socket(type=socket.SOCK_DGRAM)
peer.connect((host, int(port)))
for number in itertools.count():
    peer.send(struct.pack("=64shhii", b"%d" % (number % 1000), 2, 0, 0, 0))
"""


async def test_a_flooded_server_takes_no_more_processor_than_its_job_was_given(link: Link) -> None:
    """Whoever floods it, where the task of its slot is bounded: other jobs lose nothing by it."""
    master = link.task(source("exec sleep 1000"))
    slave = link.task(
        {"Makefile": makefile("python3 -I storm.py", "slave"), "storm.py": STORM}, Role.SLAVE, 1
    )
    request = master.prepare_request(Limits(disk_bytes=32 << 20, cpu_millis=100))
    await link.do(replace(request, sync_server=SERVER, serve_sync=True))
    await prepare(slave)
    await master.start()
    await slave.start()
    await told(link, lambda account: True)
    serving = await serving_pid(link)

    most = 1.2 * LEAST_CPU_MILLIS / 1000
    shares: list[float] = []
    # What a processor that stands still takes from whoever is on it counts as that one's, here and there.
    while len(shares) < 6 and sum(share < most for share in shares) < 2:
        shares.append(await share_of_processor(link, serving))

    assert processor_bound(serving) == LEAST_CPU_MILLIS / 1000
    assert sorted(shares)[1] < most, shares


async def share_of_processor(link: Link, serving: int) -> float:
    """What a server that is flooded takes of one, over some seconds."""
    began, used = time.monotonic(), processor_s(serving)
    async with asyncio.timeout(WITHIN_S):
        while time.monotonic() - began < 3.0:
            link.listen()
            await link.next_event()  # it tells four times a second
    return (processor_s(serving) - used) / (time.monotonic() - began)


def processor_bound(pid: int) -> float:
    """How many processors a process may have, by its own cgroup of either version."""
    folder, is_version_1 = folder_of(Path(f"/proc/{pid}/cgroup").read_text(), "cpu")
    if is_version_1:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = (int((folder / name).read_text()) for name in names)
    else:
        quota, period = map(int, (folder / "cpu.max").read_text().split())
    return quota / period


def processor_s(pid: int) -> float:
    """How much processor a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_release_leaves_nothing_of_the_server(keeper: KeeperProcess, link: Link) -> None:
    """Its process and cgroup are gone before the answer, and the last account came before."""
    master = link.task(source("syndicate-sync -i 1 -n never -t 60"))
    await begin(master)
    await told(link, lambda account: len(account.open) == 1)
    serving = await serving_pid(link)

    await master.release()

    assert not alive(serving)
    assert [event.last for event in link.events if isinstance(event, BarriersTold)][-1] is True
    assert len(servers(keeper)) == 1
    audit = await link.audit()
    assert (audit.in_use, audit.left) == ((), ())


async def test_a_job_that_needs_no_barrier_starts_no_server(keeper: KeeperProcess, link: Link) -> None:
    """Two sockets stand by, and the process stays free for another."""
    before = servers(keeper)
    master = link.task(source("echo up; exec sleep 1000"))
    await begin(master)
    await master.said("up")

    assert servers(keeper) == before
    assert not any(line.endswith("syncd") for line in (await link.audit()).in_use)
    await master.release()
    assert not any(isinstance(event, BarriersTold) for event in link.events)


FLOOD = """
import os, socket, struct, threading
host, port = os.environ["SYNDICATE_SYNC_SERVER"].split(":")
held = []
for number in range(1000):
    held.append(socket.create_connection((host, int(port))))
print("held", flush=True)
for number in range(20000):
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(struct.pack("=64shhii", b"n%d" % number, 1, 1, 1, 0))
        peer.recv(4)
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(struct.pack("=64shhii", b"n%d" % number, 2, 0, 0, 0))
        peer.recv(4)
    if number == 1000:
        print("thousand", flush=True)
"""


async def test_a_flood_is_told_in_few_words(link: Link) -> None:
    """Thousands of rounds and silent connections: some accounts a second, and all rounds counted."""
    limits = Limits(disk_bytes=32 << 20)
    flood = {"Makefile": "master:\n\t@python3 -I flood.py\n.PHONY: master\n", "flood.py": FLOOD}
    master = link.task(flood)
    await link.do(replace(master.prepare_request(limits), sync_server=SERVER, serve_sync=True))
    began = time.monotonic()
    await master.start()

    await master.said("thousand")
    await told(link, lambda account: account.total >= 1000)
    await master.kill()
    await master.release()

    took = time.monotonic() - began
    accounts = [event for event in link.events if isinstance(event, BarriersTold)]
    assert len(accounts) <= took / 0.25 + 5
    assert all(len(account.rounds) <= 16 and len(account.open) <= 16 for account in accounts)
    assert accounts[-1].last and accounts[-1].total >= 1000


async def test_a_crash_of_the_keeper_leaves_no_server(folder: Path) -> None:
    """Neither the one that serves nor the one that stands by; the next keeper removes their cgroups."""
    keeper = KeeperProcess(folder, network_instance()[::-1])
    keeper.start()
    try:
        async with linked(keeper, release=False) as link:
            master = link.task(source("syndicate-sync -t 60"))
            await begin(master)
            await told(link, lambda account: len(account.open) == 1)
            groups = [Cgroup(group) for group in await await_servers(keeper, 2)]
            until("the one that stands by has begun", lambda: all(group.pids() for group in groups))
            pids = [pid for group in groups for pid in group.pids()]
            assert len(pids) == 2
            keeper.stop(signal.SIGKILL)
        keeper.start()
        assert not any(alive(pid) for pid in pids)
        async with linked(keeper) as link:
            assert (await link.audit()).left == ()
    finally:
        keeper.stop()


def alive(pid: int) -> bool:
    """Whether a process that is no zombie has this number."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    return False
