"""A whole volunteer between a real gRPC manager and a keeper on a real socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import structlog
from syndicate.v1 import common_pb2
from syndicate.v1 import registry_pb2 as pb
from syndicate.volunteer import local, memory_file
from syndicate.volunteer.app import App, StateDirBusy
from volunteer.fakes import CLUSTER, Bench, FakeManager, bench, eventually

DONE = pb.ANSWER_CODE_DONE


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bench]:
    """Keeper and manager stand; the volunteer does not run yet."""
    async with bench(tmp_path) as made:
        yield made


async def test_a_volunteer_says_who_it_is(world: Bench) -> None:
    """Hello has slots, network, capabilities, version and a stamp; the credential is the token file's."""
    await world.start()
    stream = await world.manager.attached()

    hello = stream.hello
    assert (hello.volunteer_id, [slot.slot for slot in hello.slots]) == ("node-a", [0, 1])
    assert hello.network == pb.NETWORK_KIND_FABRIC
    assert list(hello.capabilities) == ["cut", "kill"]
    assert hello.resources.cpus > 0
    assert hello.sent_at.boot_id == hello.boot_id
    assert hello.reach_domain == "node-a"
    assert stream.metadata["authorization"] == "Bearer the-token"


async def test_ready_is_told_once_after_the_first_welcome(world: Bench) -> None:
    """With the cluster and the prefix; not again after a reconnect."""
    await world.start()
    (await world.manager.attached()).end()
    await world.manager.attached(2)

    assert [(one.cluster_id, one.prefix) for one in world.ready] == [(CLUSTER, "10.77.0.0/24")]


async def test_a_task_goes_from_reserve_to_release(world: Bench) -> None:
    """Over the real stream, the real cache and the real frames."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()

    released = await world.manager.ask(release=pb.Release())

    kinds = [type(r).__name__ for r in world.keeper.model.requests if not isinstance(r, local.Renew)]
    assert released.code == DONE
    assert kinds == ["Sync", "Prepare", "Start", "Kill", "ReadLog", "Release"]
    stream = world.manager.streams[0]
    assert [event.exited.reason for event in stream.of("event")] == [common_pb2.REASON_STOPPED]


async def test_the_source_lies_in_the_cache_under_its_digest(world: Bench) -> None:
    """Where the keeper looks for it, readable to root and group only."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()

    (digest,) = world.manager.sources
    path = world.folder / "state" / "cache" / digest
    assert path.read_bytes() == b"a tarball"
    assert path.stat().st_mode & 0o007 == 0


async def test_faults_go_through_and_say_when_they_held(world: Bench) -> None:
    """Kill, revive, cut: each answer has the keeper's stamp and duration."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()

    killed = await world.manager.ask(kill=pb.Kill())
    revived = await world.manager.ask(generation=2, revive=pb.Revive(with_disk=True))
    cut = await world.manager.ask(generation=2, set_network=pb.SetNetwork(cut=["10.77.0.3"]))

    assert (killed.code, killed.processes, killed.duration_ns) == (DONE, 3, 1_000_000)
    assert revived.code == cut.code == DONE
    assert revived.applied_at.monotonic_ns > 0
    assert world.keeper.model.slots[0].network == local.NetworkState(cut=("10.77.0.3",))


async def test_a_volunteer_waits_for_its_manager(world: Bench) -> None:
    """It tries again by itself until somebody answers, and says so once."""
    port = world.manager.port
    await world.manager.close()
    with structlog.testing.capture_logs() as told:
        await world.start()
        await eventually(lambda: any(line["event"] == "link.down" for line in told))
        assert world.app is not None
        (link,) = world.app._links.values()
        tried = link.attempts
        await eventually(lambda: link.attempts >= tried + 3)
        world.manager.port = port
        await world.manager.open()
        await world.manager.attached()

    assert len([line for line in told if line["event"] == "link.down"]) == 1
    assert len([line for line in told if line["event"] == "link.up"]) == 1


async def test_a_volunteer_waits_for_its_keeper(world: Bench) -> None:
    """Hello goes out only when it is known what is held."""
    await world.keeper.close()
    await world.start()
    await eventually(lambda: world.manager.attempts)
    before = len(world.manager.streams)

    await world.keeper.open()
    await world.manager.attached()

    assert before == 0


async def test_a_refusal_is_told_once_and_tried_again_slowly(world: Bench) -> None:
    """An operator has to mend it, and need not restart anything then."""
    world.manager.refuse = (grpc.StatusCode.UNAUTHENTICATED, "wrong token")
    with structlog.testing.capture_logs() as told:
        await world.start()
        await eventually(lambda: any(line["event"] == "link.refused" for line in told))
        # A write that meets the refusal may have hidden it before.
        began, before = asyncio.get_running_loop().time(), world.manager.attempts
        await asyncio.sleep(0.3)
        took_s = asyncio.get_running_loop().time() - began

    refused = [line for line in told if line["event"] == "link.refused"]
    assert [(line["status"], line["detail"]) for line in refused] == [("UNAUTHENTICATED", "wrong token")]
    # There are two seconds between two tries.
    assert world.manager.attempts - before <= 1 + took_s / 2


async def test_a_stream_without_acks_is_given_up(world: Bench) -> None:
    """Two and a half intervals, then another stream."""
    world.manager.ack_heartbeats = False
    world.manager.heartbeat_interval_s = 0.05
    await world.start()

    # Not that it says there that it lives: it gives this one up as soon.
    await eventually(lambda: len(world.manager.streams) >= 2)
    await eventually(world.manager.streams[0].ended.is_set)


async def test_heartbeats_close_the_exchange_of_stamps(world: Bench) -> None:
    """The second one names the first's ack."""
    world.manager.heartbeat_interval_s = 60.0  # so that it goes out for the ack and not for the time
    await world.start()
    stream = await world.manager.attached()
    await eventually(lambda: len(stream.of("heartbeat")) >= 2)

    second = stream.of("heartbeat")[1]
    assert second.last_ack_sequence == 1
    assert second.last_ack_received_at.monotonic_ns > stream.of("heartbeat")[0].sent_at.monotonic_ns
    assert second.free.memory_bytes > 0


async def test_the_keeper_hears_of_the_lease(world: Bench) -> None:
    """Renewed by Welcome and by each ack."""
    await world.start()
    stream = await world.manager.attached()
    await eventually(lambda: len(stream.of("heartbeat")) >= 2)

    hello_at = stream.hello.sent_at.monotonic_ns
    await eventually(lambda: world.keeper.model.leases.get(CLUSTER, 0) > hello_at + 30 * 10**9)


async def test_a_restart_leaves_tasks_running_and_adopts_them(world: Bench) -> None:
    """Stopped as by SIGTERM, started again: held as before, killed as ever."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()

    await world.stop()
    still = world.keeper.model.slots[0].state
    await world.start()
    stream = await world.manager.attached(2)

    assert still is local.SlotState.RUNNING
    (held,) = stream.hello.held
    assert (held.task.task, held.task.generation, held.state) == ("master", 1, common_pb2.TASK_STATE_RUNNING)
    assert stream.hello.cluster_id == CLUSTER
    assert stream.hello.highest_epoch == 1
    assert (await world.manager.ask(kill=pb.Kill())).processes == 3
    assert len(world.keeper.model.starts) == 1


async def test_a_state_directory_keeps_the_name_that_it_drew(world: Bench) -> None:
    """By it a manager tells a volunteer that comes back from another one of its id."""
    await world.start()
    first = await world.manager.attached()
    await world.stop()
    await world.start()
    again = await world.manager.attached(2)
    await world.stop()
    (world.folder / "state" / "instance").unlink()
    await world.start()
    other = await world.manager.attached(3)

    assert re.fullmatch("[0-9a-f]{32}", first.hello.instance)
    assert again.hello.instance == first.hello.instance
    assert other.hello.instance != first.hello.instance


async def test_a_damaged_name_of_a_state_directory_is_told(tmp_path: Path) -> None:
    """With the file and what to do."""
    (tmp_path / "instance").write_text("x\n")

    with pytest.raises(memory_file.MemoryDamaged, match="instance is damaged; remove it"):
        memory_file.instance(tmp_path / "instance")


async def test_a_crash_loses_no_exit(world: Bench) -> None:
    """What ended meanwhile is told by the next one."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()
    await world.crash()
    world.keeper.model.end(0, 2, output=b"make: *** [Makefile:2: master] Error 5\n")
    world.keeper.model.events.clear()

    await world.start()
    stream = await world.manager.attached(2)
    event = (await eventually(lambda: stream.of("event")))[0]

    assert event.exited.recipe_status == 5


async def test_an_exit_is_told_at_once(world: Bench) -> None:
    """The keeper's event becomes a TaskEvent, and is not said again once acknowledged."""
    await world.start()
    stream = await world.manager.attached()
    await world.manager.bring_up()

    world.keeper.model.end(0, 0)
    world.keeper.tell()
    (event,) = await eventually(lambda: stream.of("event"))

    assert event.exited.reason == common_pb2.REASON_EXITED_ZERO


async def test_the_last_output_of_a_task_that_ended_is_sent_at_once(world: Bench) -> None:
    """The keeper tells of no growth once a generation has ended: its exit says how much there is."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()

    world.keeper.model.end(0, 0, output=b"last words")
    world.keeper.tell()

    await eventually(lambda: world.manager.logs.get(("master", 1)) == b"last words")


async def test_a_keeper_that_reconnects_changes_nothing(world: Bench) -> None:
    """The connection ends and is made again; tasks and stream go on."""
    await world.start()
    stream = await world.manager.attached()
    await world.manager.bring_up()

    world.keeper.drop()
    await eventually(lambda: [type(one) for one in world.keeper.model.requests].count(local.Sync) == 2)

    assert (await world.manager.ask(kill=pb.Kill())).processes == 3
    assert not stream.ended.is_set()


async def test_output_arrives_whole_over_a_lost_stream(world: Bench) -> None:
    """Resumed at the last ack; nothing twice, nothing missing, all of it before Release is answered."""
    await world.start()
    await world.manager.attached()
    await world.manager.bring_up()
    text = bytes(range(256)) * 12_000  # 3 MB: more than one window
    world.keeper.model.write(0, text[:1_000_000])
    world.keeper.tell()
    await eventually(lambda: len(world.manager.logs.get(("master", 1), b"")) > 100_000)
    world.manager.streams[0].end()
    await world.manager.attached(2)
    world.keeper.model.write(0, text[1_000_000:])
    world.keeper.tell()

    released = await world.manager.ask(release=pb.Release())

    assert released.code == DONE
    assert bytes(world.manager.logs["master", 1]) == text


async def test_sources_are_warmed(world: Bench) -> None:
    """Those that Welcome names."""
    world.manager.warm = [world.manager.add_source(b"first"), world.manager.add_source(b"second")]
    await world.start()
    await world.manager.attached()

    cache = world.folder / "state" / "cache"
    await eventually(lambda: all((cache / digest).exists() for digest in world.manager.sources))


async def test_a_command_that_is_not_understood_is_answered(world: Bench) -> None:
    """A newer manager learns that it cannot be done here."""
    await world.start()
    await world.manager.attached()

    answer = await world.manager.ask()

    assert answer.code == pb.ANSWER_CODE_FAILED
    assert "newer" in answer.detail


async def test_a_source_whose_name_is_a_path_is_refused(world: Bench) -> None:
    """A digest becomes a file's name, so it must be one."""
    await world.start()
    await world.manager.attached()
    await world.manager.ask(reserve=pb.Reserve(ttl_ms=10_000))

    answer = await world.manager.ask(
        prepare=pb.Prepare(source=pb.SourceRef(sha256="../../etc/passwd"), role=1)
    )

    assert answer.code == pb.ANSWER_CODE_FAILED
    assert world.manager.fetches == []


async def test_two_managers_share_the_pool(world: Bench) -> None:
    """A slot locks on the first that reserves it; the other is told BUSY."""
    second = FakeManager()
    second.cluster = "c2"
    await second.open()
    try:
        await world.start(manager=(world.manager.target, second.target))
        await world.manager.attached()
        await second.attached()
        await world.manager.bring_up()

        busy = await second.ask("slave-0", reserve=pb.Reserve(ttl_ms=1000))
        ready = await second.ask("slave-0", slot=1, reserve=pb.Reserve(ttl_ms=1000))
    finally:
        await world.stop()
        await second.close()

    assert busy.code == pb.ANSWER_CODE_BUSY
    assert ready.code == pb.ANSWER_CODE_READY


async def test_a_stop_says_goodbye(world: Bench) -> None:
    """The manager sees the stream end in good order, at once."""
    await world.start()
    stream = await world.manager.attached()

    await world.stop()

    await eventually(stream.ended.is_set)
    assert not world.running


async def test_a_second_volunteer_on_one_state_directory_is_refused(world: Bench) -> None:
    """Two would undo each other's work."""
    await world.start()
    await world.manager.attached()

    with pytest.raises(StateDirBusy, match="another volunteer"):
        await App(world.settings(), world.ready.append).run(asyncio.Event())


async def test_a_token_that_cannot_be_read_is_told_and_tried_again(world: Bench) -> None:
    """The operator puts it there, and the volunteer goes on."""
    (world.folder / "token").unlink()
    with structlog.testing.capture_logs() as told:
        await world.start()
        await eventually(lambda: any(line["event"] == "link.refused" for line in told))

    refused = [line for line in told if line["event"] == "link.refused"]
    assert [line["status"] for line in refused] == ["NO_CREDENTIAL"]


async def test_a_manager_that_reads_nothing_is_given_up(world: Bench) -> None:
    """Each push has a deadline: a stuck peer does not hold the stream for ever."""
    world.manager.ack_logs = False
    world.manager.heartbeat_interval_s = 60.0  # else it would be given up for its silence
    with structlog.testing.capture_logs() as told:
        await world.start(push_deadline_s=6.0)  # more than a machine may stand still before it is stuck
        await world.manager.attached()
        await world.manager.bring_up()
        world.manager.send(kill=pb.Kill())
        world.manager.deaf = True
        held = world.keeper.model.slots[0]
        await eventually(lambda: held.generations[1].exit)
        for generation in range(2, 9):
            task = local.TaskId(CLUSTER, 7, 1, "master")
            world.keeper.model.ask(local.Revive(0, task, generation, True))
            world.keeper.model.write(0, bytes(2 << 20))
            world.keeper.model.end(0, 0)
        world.keeper.tell()
        await eventually(lambda: any(line["event"] == "link.down" for line in told))

    down = next(line for line in told if line["event"] == "link.down")
    assert "could not be pushed within 6 s" in down["detail"]
