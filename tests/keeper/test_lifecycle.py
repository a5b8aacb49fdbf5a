"""A task's life on a slot: started, killed, revived, cut, released; each request repeated, late or wrong."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

from keeper.harness import KeeperProcess, Link, linked, makefile, tarball
from keeper.ordeals import SLOW, begin, pids_of
from syndicate.volunteer.local import (
    WHOLE,
    ErrorCode,
    Kill,
    Limits,
    LogGrew,
    NetworkState,
    ReadLog,
    Release,
    Revive,
    Role,
    SetNetwork,
    SlotState,
    Start,
)

_ECHO = """
import socket

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 4000))
print("up", flush=True)
while True:
    s.sendto(*s.recvfrom(9))
"""
_ASK = """
import os, socket

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
while True:
    s.sendto(b"x", (os.environ["SYNDICATE_MASTER"], 4000))
    try:
        print(s.recv(9))
        break
    except TimeoutError:
        print("timed out", flush=True)
"""
_UNTIL_TOLD = """
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print(0, flush=True)
signal.sigwait({signal.SIGUSR1})
"""
_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def test_own_exit_status_is_kept(link: Link) -> None:
    """A recipe's exit 7 comes out as make's status 2, with make's own words in the output."""
    ended, output = await link.task({"Makefile": makefile("@echo before; exit 7")}).run()

    assert (ended.status, ended.killed, ended.cause) == (2, False, "")
    assert "Error 7" in output
    assert ended.head == ended.tail == output.encode()


async def test_nothing_run_shows_in_head(link: Link) -> None:
    """A file named like the target makes make run nothing: the raw output says so, the status is 0."""
    task = link.task({"Makefile": "master:\n\techo ran\n", "master": ""})

    ended, _ = await task.run()

    assert ended.status == 0
    assert ended.head == b"make: 'master' is up to date.\n"


async def test_own_bin_survives_three_revivals(link: Link) -> None:
    """A source with its own bin/ is killed and revived with disk three times, and finds what it wrote."""
    recipe = "@bin/count; exec sleep 1000"
    count = "#!/bin/sh\necho x >> bin/log\necho up $(wc -l < bin/log)\n"
    task = link.task({"Makefile": makefile(recipe), "bin/": "", "bin/count": count})
    await task.begin()
    await task.said("up 1")

    for generation in (2, 3, 4):
        killed = await task.kill(generation - 1)
        assert killed.processes >= 2  # make and sleep
        await task.revive(generation)
        await task.said(f"up {generation}", generation)

    assert (await task.exit(3)).killed
    generations = (await link.sync()).slots[0].generations
    assert [each.generation for each in generations] == [1, 2, 3, 4]


async def test_revive_without_disk_starts_from_the_source(link: Link) -> None:
    """A fresh disk holds the source only, also when the cache has forgotten it meanwhile."""
    task = link.task({"Makefile": makefile("@ls; touch extra; echo up; exec sleep 1000")})
    await task.begin()
    await task.said("up")
    await task.kill()
    (link.keeper.cache / task.digest).unlink()

    await task.revive(2, with_disk=True)
    await task.said("up", 2)
    await task.kill(2)
    await task.revive(3, with_disk=False)
    await task.said("up", 3)
    await task.kill(3)

    assert "extra" in (await task.output(2)).split()
    assert "extra" not in (await task.output(3)).split()


async def test_tmp_and_shm_are_fresh_in_each_generation(link: Link) -> None:
    """/tmp and /dev/shm are as after a reboot, while the disk is kept."""
    task = link.task({"Makefile": makefile("@ls /tmp /dev/shm; touch /tmp/t /dev/shm/s; exec sleep 1000")})
    await task.begin()
    await task.said("/tmp:")
    await task.kill()

    await task.revive(2)
    await task.said("/tmp:", 2)
    await task.kill(2)

    assert (await task.output(2)).split() == ["/dev/shm:", "/tmp:"]


async def test_kill_ends_two_hundred_daemons(link: Link) -> None:
    """Two hundred daemonised processes are counted and ended by one Kill."""
    recipe = "@for i in $$(seq 200); do setsid sleep 1000 & done; echo up; exec sleep 1000"
    task = link.task({"Makefile": makefile(recipe)})
    await task.begin()
    await task.said("up")

    done = await task.kill()

    assert done.processes == 202  # make and the recipe's shell besides
    assert not [line for line in (await link.audit()).in_use if line.startswith("process")]
    ended = await task.exit()
    assert (ended.status, ended.killed, ended.cause) == (137, True, "kill")


async def test_daemons_end_with_make(link: Link) -> None:
    """When make ends by itself, what it left running is ended before its end is told."""
    task = link.task({"Makefile": makefile("@setsid sleep 1000 & echo up")})

    ended, _ = await task.run()

    assert (ended.status, ended.killed) == (0, False)
    assert not [line for line in (await link.audit()).in_use if line.startswith("process")]


async def test_requests_repeated_find_it_so(link: Link) -> None:
    """Each request sent again answers as the first did, and says that it held already."""
    task = link.task(_WAITS)
    prepared, again = await task.prepare(), await task.prepare()
    assert replace(again, already=False) == prepared
    started, again = await task.start(), await task.start()
    assert replace(again, already=False) == started
    await task.said("up")
    await task.kill()
    assert (await task.kill()).already
    revived, again = await task.revive(2), await task.revive(2)
    assert replace(again, already=False) == revived
    cut = SetNetwork(0, task.id, NetworkState(cut=("10.88.0.2",)))
    assert not (await link.do(cut)).already
    assert (await link.do(cut)).already
    assert not (await task.release()).already
    assert (await task.release()).already


async def test_wrong_task_is_refused(link: Link) -> None:
    """A request about another task, or on an empty slot, touches nothing."""
    task = link.task(_WAITS)
    other = replace(task.id, attempt=2)
    assert (await link.refused(Kill(0, task.id, 1))).code is ErrorCode.WRONG_TASK
    await task.begin()

    for request in (
        replace(task.prepare_request(), task=other),
        Start(0, other, 1),
        Kill(0, other, 1),
        Revive(0, other, 2, True),
        SetNetwork(0, other, WHOLE),
        Release(0, other),
        ReadLog(0, other, 1, 0, 1),
    ):
        assert (await link.refused(request)).code is ErrorCode.WRONG_TASK

    assert (await link.sync()).slots[0].state is SlotState.RUNNING


async def test_wrong_state_is_refused(link: Link) -> None:
    """What the state does not allow is refused with the reason, and changes nothing."""
    task = link.task(_WAITS)
    await task.prepare()
    assert (await link.refused(Revive(0, task.id, 2, True))).code is ErrorCode.WRONG_STATE
    await task.start()

    for request in (Revive(0, task.id, 2, True), Start(0, task.id, 2), Kill(0, task.id, 2)):
        assert (await link.refused(request)).code is ErrorCode.WRONG_STATE
    await task.kill()
    await task.revive(5)

    for request in (Kill(0, task.id, 1), Revive(0, task.id, 2, True), ReadLog(0, task.id, 3, 0, 1)):
        assert (await link.refused(request)).code is ErrorCode.WRONG_STATE
    assert (await link.refused(Kill(7, task.id, 1))).code is ErrorCode.NO_SUCH_SLOT


async def test_older_epoch_is_refused(link: Link) -> None:
    """Once a cluster's higher epoch was seen, a lower one prepares nothing."""
    await link.renew(cluster="c5")
    task = link.task(_WAITS)
    task.id = replace(task.id, cluster_id="c5")
    await link.do(task.prepare_request(epoch=5))
    await task.release()

    refused = await link.refused(task.prepare_request(epoch=4))

    assert refused.code is ErrorCode.WRONG_STATE
    assert (await link.sync()).epochs["c5"] == 5


async def test_kill_before_start_ends_the_sandbox(link: Link) -> None:
    """A prepared task that is killed has ended, and cannot start."""
    task = link.task(_WAITS)
    await task.prepare()

    await task.kill()

    slot = (await link.sync()).slots[0]
    assert slot.state is SlotState.ENDED
    assert slot.generations[0].started_at is None
    assert (await link.refused(Start(0, task.id, 1))).code is ErrorCode.WRONG_STATE


async def test_release_stops_a_prepare(link: Link) -> None:
    """A release ends the unpacking of a source that would take long, and leaves nothing."""
    big = link.task_of(tarball({f"f{number}": "x" * 1000 for number in range(20_000)}))
    slow = Limits(disk_bytes=1 << 30, cpu_millis=SLOW)
    preparing = asyncio.create_task(link.ask(big.prepare_request(slow)))
    while not [line for line in (await link.audit()).in_use if line.endswith(" tar")]:
        assert not preparing.done()

    await big.release()

    refused = await preparing
    assert "ended while it was being made" in getattr(refused, "detail", "")
    audit = await link.audit()
    assert (audit.in_use, audit.left) == ((), ())


async def test_lease_ends_tasks(link: Link) -> None:
    """When a cluster's lease runs out its tasks are ended, others' are not, and nothing of it starts."""
    task = link.task(_WAITS)
    await task.begin()
    await link.renew(0.2)

    ended = await task.exit()

    assert (ended.killed, ended.cause) == (True, "lease")
    assert (await link.refused(Revive(0, task.id, 2, True))).code is ErrorCode.WRONG_STATE
    await task.release()
    assert (await link.refused(task.prepare_request())).code is ErrorCode.WRONG_STATE
    await link.renew()
    await task.prepare()


async def test_lease_of_another_cluster_does_not_matter(link: Link) -> None:
    """A lapsed lease ends its own cluster's tasks only."""
    task = link.task(_WAITS)
    await task.begin()
    await link.renew(0.001, "other")
    await link.renew(0.05, "another")

    await asyncio.wait({asyncio.create_task(task.exit())}, timeout=0.3)

    assert (await link.sync()).slots[0].state is SlotState.RUNNING


async def test_exit_is_whole_after_the_volunteer_went(keeper: KeeperProcess) -> None:
    """A volunteer that comes back finds the exit status and all output of what ended without it."""
    async with linked(keeper, release=False) as first:
        recipe = "@python3 it.py; seq 20000; exit 7"
        task = first.task({"Makefile": makefile(recipe), "it.py": _UNTIL_TOLD})
        await begin(task, "0")

    (waits,) = (pid for pid in pids_of(keeper) if _name(pid) == "python3")
    os.kill(waits, signal.SIGUSR1)
    async with linked(keeper) as link:
        task.link = link
        if (await link.sync()).slots[0].state is not SlotState.ENDED:
            await task.exit()

        record = (await link.sync()).slots[0].generations[0].exit
        output = await task.output()

    assert record is not None
    assert record.status == 2
    assert record.log_bytes == len(output)
    assert output.splitlines()[:20001] == [str(number) for number in range(20001)]


async def test_log_is_bounded_and_drops_are_told(link: Link) -> None:
    """A flood keeps its head and its tail; the gap between them is counted exactly."""
    task = link.task({"Makefile": makefile("@seq 400000")})
    limits = Limits(disk_bytes=32 << 20, log_head_bytes=100_000, log_tail_bytes=80_000)
    await task.begin(limits)
    record = await task.exit()

    pieces, offset, end = [], 0, False
    while not end:
        read = await task.read(1, offset, 10_000)
        pieces += read.pieces
        offset, end = read.next_offset, read.end

    everything = "".join(f"{number}\n" for number in range(1, 400_001)).encode()
    assert record.log_bytes == offset == len(everything)
    assert (record.head, record.tail) == (everything[:4096], everything[-4096:])
    gaps = [piece.dropped_before for piece in pieces if piece.dropped_before]
    kept = sum(len(piece.data) for piece in pieces)
    assert len(gaps) == 1
    assert kept + gaps[0] == len(everything)
    assert 80_000 < kept < 180_000
    for piece in pieces:
        assert everything[piece.offset : piece.offset + len(piece.data)] == piece.data


async def test_growth_of_the_log_is_told(link: Link) -> None:
    """While a task writes, the volunteer hears how far its log has come, and can read so far."""
    task = link.task({"Makefile": makefile("@echo hello; exec sleep 1000")})
    await task.begin()

    event = await link.event_where(LogGrew, 1, 0)

    assert isinstance(event, LogGrew)
    read = await task.read(1, 0)
    assert b"".join(piece.data for piece in read.pieces) == b"hello\n"
    assert (read.next_offset, read.end) == (6, False)
    assert event.log_bytes == 6


async def test_cut_reaches_the_network(link: Link) -> None:
    """Two slots talk; a cut stops them in silence, and lifting it lets them talk again."""
    master = link.task({"Makefile": makefile("@python3 echo.py"), "echo.py": _ECHO})
    slave = link.task({"Makefile": makefile("@python3 ask.py", "slave"), "ask.py": _ASK}, Role.SLAVE, slot=1)
    await master.begin()
    await master.said("up")
    _, before = await slave.run()

    await link.do(SetNetwork(1, slave.id, NetworkState(cut=(master.address,))))
    await slave.revive(2)
    await slave.said("timed out", 2)
    await slave.kill(2)
    await link.do(SetNetwork(1, slave.id, WHOLE))
    await slave.revive(3)
    await slave.exit(3)

    assert before.splitlines()[-1] == "b'x'"
    assert "b'x'" not in await slave.output(2)
    assert (await slave.output(3)).splitlines()[-1] == "b'x'"


async def test_audit_tells_a_task_and_then_nothing(link: Link) -> None:
    """While a task is held its things are in use; after its release there is nothing."""
    task = link.task(_WAITS)
    await task.begin()
    held = await link.audit()
    assert held.left == ()
    kinds = {line.split()[0] for line in held.in_use}
    assert kinds == {"process", "cgroup", "mount", "file"}

    await task.release()

    audit = await link.audit()
    assert (audit.in_use, audit.left) == ((), ())


async def test_gang_prepares_at_once(link: Link) -> None:
    """Both slots prepare and start at the same time, each with its own address."""
    recipe = "@cat /proc/net/fib_trie | grep -o '10.88.0.[123]$$' | sort -u"
    tasks = [
        link.task({"Makefile": makefile(recipe)}, Role.MASTER, 0),
        link.task({"Makefile": makefile(recipe, "slave")}, Role.SLAVE, 1),
    ]

    results = await asyncio.gather(*(task.run() for task in tasks))

    assert [output.strip() for _, output in results] == ["10.88.0.1", "10.88.0.2"]


async def test_prepare_that_fails_leaves_nothing(link: Link) -> None:
    """Bounds that the machine cannot give are refused; the slot stays free, and takes the next task."""
    task = link.task(_WAITS)

    refused = await link.refused(task.prepare_request(Limits(disk_bytes=32 << 20, disk_inodes=1)))

    assert refused.code is ErrorCode.FAILED
    assert (await link.sync()).slots[0].task is None
    assert (await link.audit()).left == ()
    await task.begin()
