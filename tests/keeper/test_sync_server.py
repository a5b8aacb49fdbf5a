"""The sync server that a slot serves: from Prepare to Release, whatever becomes of its task."""

from __future__ import annotations

import time

import pytest
from keeper.harness import MEMBERS, Link
from keeper.sync_jobs import SERVER, begin, prepare, remaining, source, told
from syndicate.volunteer.local import (
    BarrierEnd,
    BarrierTask,
    DropBarriers,
    ErrorCode,
    NetworkState,
    Role,
    SetNetwork,
)


async def test_a_gang_meets_at_a_barrier(link: Link) -> None:
    """The tool is in each task's PATH and needs nothing: the largest error of all is everybody's."""
    master = link.task(source("syndicate-sync -i 1 -n start -e 3 -t 60; echo got $$?"))
    slave = link.task(source("syndicate-sync -n start -t 60; echo got $$?", Role.SLAVE), Role.SLAVE, 1)

    await begin(master, slave)

    assert [(await task.exit()).status for task in (master, slave)] == [0, 0]
    assert "got 3\n" in await master.output()
    assert "got 3\n" in await slave.output()
    account = await told(link, lambda account: bool(account.rounds))
    (line,) = account.rounds
    assert (line.barrier, line.end, line.error, line.rounds) == ("start", BarrierEnd.OPENED, 3, 1)
    assert line.inits == (BarrierTask("master", 1),)
    assert {one.task for one in line.tasks} == {"master", "slave-0"}
    assert account.total == 1


async def test_the_server_is_where_emulab_looks_for_it(link: Link) -> None:
    """In the file, in the environment, and behind its link; `--whoami` says who has it.

    There its host is the member's host name, which is what emulab-sync's own `-m` compares it with.
    """
    recipe = (
        "cat /run/syndicate/syncserver; echo $$SYNDICATE_SYNC_SERVER; syndicate-sync --whoami; "
        "syndicate-sync -m; echo $$?; cat /var/emulab/boot/syncserver; uname -n"
    )
    master = link.task(source(recipe))
    slave = link.task(source(recipe, Role.SLAVE), Role.SLAVE, 1)

    await begin(master, slave)
    await master.exit()
    await slave.exit()

    lines = [
        [line for line in (await task.output(1)).splitlines() if not line.startswith("cat")]
        for task in (master, slave)
    ]
    whoami = f"SYNCSERVER SERVER='{SERVER}' ISSERVER="
    assert lines[0] == [SERVER, SERVER, f"{whoami}1", "0", "master:16534", "master"]
    assert lines[1] == [SERVER, SERVER, f"{whoami}0", "1", "master:16534", "slave-0"]


async def test_emulabs_file_alone_is_enough(link: Link) -> None:
    """By the name in it, as emulab-sync looks it up; here its own client is written in a few lines."""
    files = {"Makefile": "master slave:\n\t@python3 -I raw.py\n.PHONY: master slave\n"}
    raw = RAW.replace('os.environ["SYNDICATE_SYNC_SERVER"]', 'open("/var/emulab/boot/syncserver").readline()')
    master = link.task({**files, "raw.py": raw.replace("{kind}", "1, 1")})
    slave = link.task({**files, "raw.py": raw.replace("{kind}", "2, 0")}, Role.SLAVE, 1)

    await begin(master, slave)

    assert [(await task.exit()).status for task in (master, slave)] == [0, 0]


async def test_a_job_without_a_server_names_none(link: Link) -> None:
    """The tool says so, with 68, and no file of an earlier job is there."""
    first = link.task(source("true"))
    await begin(first)
    await first.exit()
    await first.release()

    task = link.task(
        source("cat /run/syndicate/syncserver; echo [$$SYNDICATE_SYNC_SERVER]; syndicate-sync; echo got $$?")
    )
    _, output = await task.run()

    assert "No such file" in output
    assert "[]\n" in output
    assert "got 68\n" in output


RAW = """
import os, socket, struct
host, port = os.environ["SYNDICATE_SYNC_SERVER"].split(":")
peer = socket.create_connection((host, int(port)))
kind, count = {kind}
peer.sendall(struct.pack("=64shhii", b"raw", kind, 0, count, 7))
print("answer", struct.unpack("=i", peer.recv(4))[0], peer.recv(4), flush=True)
"""


async def test_the_wire_is_emulabs_inside_a_task(link: Link) -> None:
    """76 bytes there, 4 back and the end of the connection; without a line of ours in the client."""
    files = {"Makefile": "master slave:\n\t@python3 -I raw.py\n.PHONY: master slave\n"}
    master = link.task({**files, "raw.py": RAW.replace("{kind}", "1, 1")})
    slave = link.task({**files, "raw.py": RAW.replace("{kind}", "2, 0")}, Role.SLAVE, 1)

    await begin(master, slave)

    for task in (master, slave):
        assert (await task.exit()).status == 0
        assert await task.output() == "answer 7 b''\n"


async def test_barriers_work_over_udp(link: Link) -> None:
    """From within tasks, through the fabric."""
    master = link.task(source("syndicate-sync -u -i 1 -t 60; echo got $$?"))
    slave = link.task(source("syndicate-sync -u -t 60; echo got $$?", Role.SLAVE), Role.SLAVE, 1)

    await begin(master, slave)

    for task in (master, slave):
        await task.exit()
        assert "got 0\n" in await task.output()


async def test_the_helper_needs_no_configuration(link: Link) -> None:
    """`from syndicate.client_api import sync` in a task's Python."""
    files = {"Makefile": "master slave:\n\t@python3 meet.py\n.PHONY: master slave\n"}
    script = "from syndicate.client_api import sync\nprint('got', sync.{call}, flush=True)\n"
    master = link.task({**files, "meet.py": script.replace("{call}", "init(1, 'a', timeout=60)")})
    slave = link.task({**files, "meet.py": script.replace("{call}", "wait('a', timeout=60)")}, Role.SLAVE, 1)

    await begin(master, slave)

    for task in (master, slave):
        await task.exit()
        assert await task.output() == "got 0\n"


async def test_the_server_is_there_before_its_member_is_started(link: Link) -> None:
    """From Prepare on: who is started first waits for the others, and not for the server."""
    master = link.task(source("syndicate-sync -i 1 -t 60"))
    slave = link.task(source("syndicate-sync -t 60; echo got $$?", Role.SLAVE), Role.SLAVE, 1)
    await prepare(master)
    await prepare(slave)

    await slave.start()
    await told(link, lambda account: any(one.tasks == (BarrierTask("slave-0", 1),) for one in account.open))
    await master.start()

    assert (await master.exit()).status == 0
    await slave.exit()
    assert "got 0\n" in await slave.output()


async def test_the_server_outlives_the_kill_of_its_member(link: Link) -> None:
    """Who waits goes on waiting, and meets the member once it is revived."""
    master = link.task(
        source("echo up; test -f been || { touch been; exec sleep 1000; }; syndicate-sync -i 1 -t 60")
    )
    slave = link.task(source("syndicate-sync -t 60; echo got $$?", Role.SLAVE), Role.SLAVE, 1)
    await begin(master, slave)
    await told(link, lambda account: any(one.tasks == (BarrierTask("slave-0", 1),) for one in account.open))
    await master.said("up")

    await master.kill()
    await master.revive(2)

    assert (await master.exit(2)).status == 0
    await slave.exit()
    assert "got 0\n" in await slave.output()


async def test_a_killed_waiter_is_un_counted(link: Link) -> None:
    """What is open then says so; nobody is released for it."""
    master = link.task(source("syndicate-sync -i 2 -t 60; echo got $$?"))
    slave = link.task(source("syndicate-sync -t 60", Role.SLAVE), Role.SLAVE, 1)
    await begin(master, slave)
    with_both = await told(link, lambda account: [one.remaining for one in account.open] == [1])
    assert with_both.open[0].missing == ("client-0",)
    link.events.clear()

    await slave.kill()

    account = await told(link, lambda account: [one.remaining for one in account.open] == [2])
    assert account.open[0].missing == ("slave-0", "client-0")


async def test_an_owner_that_is_killed_ends_the_waiting_of_those_who_asked(link: Link) -> None:
    """With `--abandon`, and 242."""
    master = link.task(source("syndicate-sync -i 2 -t 60"))
    slave = link.task(source("syndicate-sync --abandon -t 60; echo got $$?", Role.SLAVE), Role.SLAVE, 1)
    await begin(master, slave)
    await told(link, lambda account: [one.remaining for one in account.open] == [1])

    await master.kill()

    await slave.exit()
    assert "got 242\n" in await slave.output()
    account = await told(link, lambda account: bool(account.rounds))
    assert [one.end for one in account.rounds] == [BarrierEnd.ABANDONED]


async def test_who_initialised_without_waiting_is_told(link: Link) -> None:
    """Beside the count, for as long as the barrier is open; it is not missing."""
    master = link.task(source("syndicate-sync -n later -i 2 -a; echo got $$?; exec sleep 1000"))

    await begin(master)

    account = await told(link, lambda account: remaining(account) == {"later": 2})
    (one,) = account.open
    assert (one.inits, one.held) == ((), (BarrierTask("master", 2),))
    assert one.missing == ("slave-0", "client-0")


async def test_a_cut_member_does_not_reach_the_server(link: Link) -> None:
    """It waits until it is whole again; the server is on another slot."""
    master = link.task(source("syndicate-sync -i 1 -t 60; echo got $$?"))
    slave = link.task(
        source("syndicate-sync -t 1; echo got $$?; syndicate-sync -t 60; echo got $$?", Role.SLAVE),
        Role.SLAVE,
        1,
    )
    await prepare(master)
    await prepare(slave)
    await link.do(SetNetwork(slave.slot, slave.id, NetworkState(cut=(MEMBERS[0].address,))))
    await master.start()
    await slave.start()

    await slave.said("got 241")
    await link.do(SetNetwork(slave.slot, slave.id, NetworkState()))

    await slave.exit()
    assert "got 0\n" in await slave.output()


@pytest.mark.timeout(600)
async def test_a_waiter_that_is_cut_off_is_un_counted_within_twenty_seconds(link: Link) -> None:
    """Over TCP and UDP, though neither is told of the end of anything; and not before ten."""
    for _ in range(3):
        over_udp, over_tcp = await un_counted_s(link)
        # Ten from the last word that came through, and TCP probes nine times. Where something stood still
        # meanwhile it is longer, or, where that was before the last word, shorter: then it is done anew.
        if in_time := 5 < over_udp < 20 and 5 < over_tcp < 27:
            break

    assert in_time, (over_udp, over_tcp)


async def un_counted_s(link: Link) -> tuple[float, float]:
    """How long after it was cut off a waiter over UDP is un-counted, and one over TCP. Both are told."""
    await link.renew()
    link.events.clear()
    master = link.task(source("syndicate-sync -i 9 -t 100 & exec syndicate-sync -n other -i 9 -t 100"))
    slave = link.task(
        source("syndicate-sync -t 100 & exec syndicate-sync -u -n other -t 100", Role.SLAVE), Role.SLAVE, 1
    )
    await begin(master, slave)
    await told(link, lambda account: remaining(account) == {"barrier": 8, "other": 8})

    link.events.clear()
    began = time.monotonic()
    await link.do(SetNetwork(slave.slot, slave.id, NetworkState(cut=(MEMBERS[0].address,))))

    await told(link, lambda account: remaining(account).get("other") == 9)
    over_udp = time.monotonic() - began
    last = await told(link, lambda account: remaining(account) == {"barrier": 9, "other": 9})
    over_tcp = time.monotonic() - began
    assert [one.missing for one in last.open] == [("slave-0", "client-0")] * 2
    await link.release_all()
    return over_udp, over_tcp


async def test_a_barrier_is_dropped_alone(link: Link) -> None:
    """Who waits there gets 240, who waits elsewhere waits on, and it is told as every round is."""
    recipe = "syndicate-sync -t 60; echo got $$?; syndicate-sync -n other -t 60; echo then $$?"
    master = link.task(source(recipe))
    slave = link.task(source("exec syndicate-sync -n other -i 2 -t 60", Role.SLAVE), Role.SLAVE, 1)
    await begin(master, slave)
    await told(link, lambda account: {one.barrier for one in account.open} == {"barrier", "other"})

    done = await link.do(DropBarriers(master.slot, master.id, "barrier", "one"))
    again = await link.do(DropBarriers(master.slot, master.id, "barrier", "one"))
    gone = await link.do(DropBarriers(master.slot, master.id, "barrier", "two"))

    assert [one.dropped for one in (done, again, gone)] == [1, 1, 0]
    await master.said("got 240")
    account = await told(link, lambda account: bool(account.rounds))
    assert [(one.barrier, one.end) for one in account.rounds] == [("barrier", BarrierEnd.DROPPED)]
    await told(link, lambda account: [(one.barrier, one.remaining) for one in account.open] == [("other", 1)])
    await link.do(DropBarriers(master.slot, master.id, "", "three"))
    await master.said("then 240")
    assert (await slave.exit()).status == 2  # make's, of a recipe that ended with 240


async def test_where_nothing_is_served_nothing_is_dropped(link: Link) -> None:
    """A slot without a server says so; one at whose server nobody has been has nothing to drop."""
    master = link.task(source("exec sleep 1000"))
    slave = link.task(source("exec sleep 1000", Role.SLAVE), Role.SLAVE, 1)
    await begin(master, slave)

    done = await link.do(DropBarriers(master.slot, master.id, "", "one"))

    refused = await link.refused(DropBarriers(slave.slot, slave.id, "", "two"))
    assert done.dropped == 0
    assert (refused.code, refused.detail) == (ErrorCode.WRONG_STATE, "slot 1 has no sync server")
