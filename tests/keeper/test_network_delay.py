"""The delay line: when packets arrive, in which order and how often, and that it leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from keeper.network_helpers import PATIENCE, Slot, exchange, pending, settled, slots_of_a_job, until
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError, _delay, _delay_process
from syndicate.volunteer.keeper.network._delay import DelayLine
from syndicate.volunteer.keeper.network._delay_process import MOST_BYTES, READ, Line
from syndicate.volunteer.local import WHOLE, Degradation, LinkState, NetworkState

A, B, C = "10.77.0.1", "10.77.0.2", "10.77.0.3"
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
BETWEEN = 0.002  # seconds between packets whose delay is measured
STEP = 500_000  # nanoseconds by which the clock of the kernel's stamps may be set while that is done
LATE = 3.0  # seconds


@pytest.fixture
def job() -> Iterator[tuple[FabricNetwork, list[Slot]]]:
    """Three slots of one job."""
    with slots_of_a_job(A, B, C) as made:
        yield made


@pytest.fixture
def slots(job: tuple[FabricNetwork, list[Slot]]) -> list[Slot]:
    """The slots alone."""
    return job[1]


def degraded(peer: str = "", **directions: Degradation) -> NetworkState:
    """One link of a slot, degraded."""
    return NetworkState(links=(LinkState(peer, **directions),))


def receiving(slot: Slot) -> socket.socket:
    """A UDP socket with room for many packets, that tells when each came."""
    receiver = slot.udp()
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return receiver


def delays(slot: Slot, peer: Slot, number: int = 200) -> list[float]:
    """Milliseconds that each of so many packets took, by the kernel's stamps.

    These are of the time of day: where that was set meanwhile it is measured again.
    """
    for _ in range(10):
        before = time.time_ns() - time.monotonic_ns()
        took = delays_once(slot, peer, number)
        if abs(time.time_ns() - time.monotonic_ns() - before) < STEP:
            return took
    raise AssertionError("the time of day is set all the time")


def delays_once(slot: Slot, peer: Slot, number: int) -> list[float]:
    sender, receiver = slot.udp(), receiving(peer)
    start = time.monotonic()
    for sent in range(number):
        while time.monotonic() < start + sent * BETWEEN:  # a steady stream is the subject, not a wait
            pass
        sender.sendto(struct.pack("=q", time.time_ns()), receiver.getsockname())
    return [received(receiver) for _ in range(number)]


def typical(slot: Slot, peer: Slot, wanted: float, within: float, number: int = 20) -> float:
    """The median of such delays, which is to be `wanted`; measured again where it is not: see `settled`."""
    return settled(
        lambda: statistics.median(delays(slot, peer, number)), lambda found: abs(found - wanted) <= within
    )


def received(receiver: socket.socket) -> float:
    """Milliseconds that the next packet took."""
    data, ancillary, _, _ = receiver.recvmsg(2048, 64)
    seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
    (sent,) = struct.unpack("=q", data)
    return (seconds * 10**9 + nanoseconds - sent) / 1e6


@pytest.mark.parametrize("direction", ["sent", "heard"])
@pytest.mark.parametrize("peer", ["", B])
def test_delay_is_what_was_set(slots: list[Slot], direction: str, peer: str) -> None:
    """50 ms set: no packet is early, and the median is within 1 ms."""
    one, two, _ = slots
    one.network.set_state(degraded(peer, **{direction: Degradation(delay_ms=50)}))
    ends = (one, two) if direction == "sent" else (two, one)

    took = settled(lambda: delays(*ends), lambda took: statistics.median(took) <= 51)

    assert min(took) >= 50
    assert statistics.median(took) == pytest.approx(50, abs=1)


def test_delay_is_of_one_direction_and_one_peer(slots: list[Slot]) -> None:
    """What comes back, and what goes to others, is not held back."""
    one, two, three = slots
    one.network.set_state(degraded(B, sent=Degradation(delay_ms=50)))

    assert typical(two, one, 0, 1, 200) < 1
    assert typical(one, three, 0, 1, 200) < 1


def test_delays_of_a_peer_and_of_the_slot_add_up(slots: list[Slot]) -> None:
    """A packet goes through both entries, and through those of the slot that hears it."""
    one, two, _ = slots
    links = (LinkState("", Degradation(delay_ms=10)), LinkState(B, Degradation(delay_ms=20)))
    one.network.set_state(NetworkState(links=links))
    two.network.set_state(degraded(heard=Degradation(delay_ms=30)))

    assert typical(one, two, 60, 2, 200) == pytest.approx(60, abs=2)


def test_jitter_is_to_both_sides_of_the_delay(slots: list[Slot]) -> None:
    """Delays spread over the whole range and are not outside it."""
    one, two, _ = slots
    one.network.set_state(degraded(sent=Degradation(delay_ms=30, jitter_ms=20)))

    took = settled(
        lambda: sorted(delays(one, two, 500)), lambda took: took[50] < 20 and statistics.median(took) < 35
    )

    assert took[0] >= 10
    assert took[50] < 20
    assert took[-50] > 40
    assert statistics.median(took) == pytest.approx(30, abs=5)  # 5 standard deviations of the median


def test_reordered_packets_overtake_delayed_ones(slots: list[Slot]) -> None:
    """About a half of the packets is not delayed."""
    one, two, _ = slots
    one.network.set_state(degraded(sent=Degradation(delay_ms=50, reorder_percent=50)))

    def counted() -> tuple[int, int]:
        took = delays(one, two, 400)
        return sum(delay < 25 for delay in took), sum(delay >= 50 for delay in took)

    overtook, late = settled(counted, lambda found: 130 < found[0] < 270 and sum(found) == 400, times=20)

    assert 130 < overtook < 270  # 7 standard deviations
    assert overtook + late == 400


def test_duplicated_packets_arrive_twice(slots: list[Slot]) -> None:
    """Each of them, where all are."""
    one, two, _ = slots
    one.network.set_state(degraded(sent=Degradation(duplicate_percent=100)))
    sender, receiver = one.udp(), receiving(two)

    for number in range(100):
        sender.sendto(bytes([number]), receiver.getsockname())

    assert sorted(receiver.recv(10)[0] for _ in range(200)) == sorted([*range(100), *range(100)])


def test_corrupted_packets_are_dropped_by_their_checksum(slots: list[Slot]) -> None:
    """What is corrupted on its way reaches the target's kernel, and no program."""
    one, two, _ = slots
    one.network.set_state(degraded(B, sent=Degradation(corrupt_percent=100)))
    # With ports that give a checksum of several bits: of one bit it could become 0, which is none.
    sender, receiver, watcher = one.udp(4001), two.udp(4000), two.frames()

    for _ in range(100):
        sender.sendto(b"x" * 100, receiver.getsockname())
    frames = [watcher.recv(2048) for _ in range(100)]

    assert len(frames) == 100
    assert list(pending(receiver)) == []


def test_ten_thousand_packets_a_second_pass_whole_and_in_order(slots: list[Slot]) -> None:
    """Half a second of them, 50 ms late: no more than wait in the device should the line stand still."""
    one, two, _ = slots
    one.network.set_state(degraded(sent=Degradation(delay_ms=50)))
    sender, receiver = one.udp(), receiving(two)
    start = time.monotonic()

    for number in range(5000):
        while time.monotonic() < start + number / 10_000:
            pass
        sender.sendto(struct.pack("=I", number), receiver.getsockname())

    assert [struct.unpack("=I", receiver.recv(10))[0] for _ in range(5000)] == list(range(5000))


def test_connection_works_over_a_delay(slots: list[Slot]) -> None:
    """What goes over a slow, late, lossy connection is what was sent."""
    one, two, _ = slots
    worse = Degradation(delay_ms=5, jitter_ms=2, loss_percent=0.5, rate_bps=50_000_000, duplicate_percent=1)
    one.network.set_state(degraded(sent=worse, heard=worse))
    here, there = one.connection(two)
    data = os.urandom(1 << 18)

    def write() -> None:
        with contextlib.suppress(OSError):  # the reader, who has less then, tells
            here.sendall(data)
            here.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)  # what both buffers hold hangs on what is lost
    writer.start()
    try:
        with there.makefile("rb") as stream:
            found = stream.read()
    finally:
        there.close()
        writer.join()

    assert found == data


def test_rate_holds_with_a_delay(slots: list[Slot]) -> None:
    """What was held back by its rate is delayed after that: a burst of a megabit takes a second and 50 ms."""
    one, two, _ = slots
    one.network.set_state(degraded(sent=Degradation(delay_ms=50, rate_bps=1_000_000)))
    sender, receiver = one.udp(), receiving(two)
    wanted = pytest.approx(61 * 8000 / 1e6, rel=0.1)  # less a burst of 20 ms

    def spread() -> float:
        for _ in range(62):
            sender.sendto(bytes(1000 - 28), receiver.getsockname())
        stamps = [stamp(receiver) for _ in range(62)]
        return (stamps[-1] - stamps[0]) / 1e9

    assert settled(spread, lambda found: found == wanted) == wanted


def stamp(receiver: socket.socket) -> int:
    """When the next packet came, in nanoseconds."""
    _, ancillary, _, _ = receiver.recvmsg(2048, 64)
    seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
    return seconds * 10**9 + nanoseconds


def test_what_is_on_its_way_meets_a_cut(slots: list[Slot]) -> None:
    """A packet that waits when its target is cut from its sender does not arrive."""
    one, two, _ = slots
    sender, receiver = one.udp(), two.udp()
    exchange(sender, receiver)  # so that the neighbour is known
    one.network.set_state(degraded(sent=Degradation(delay_ms=LATE * 1000)))

    def sent_and_cut() -> tuple[bool, int]:
        """Whether the cut held before the packet was due, and how many were dropped before it."""
        two.network.set_state(WHOLE)
        before, began = two.cut_in(), time.monotonic()
        sender.sendto(b"late", receiver.getsockname())
        two.network.set_state(NetworkState(cut_in=(A,)))
        in_time = time.monotonic() < began + LATE
        if not in_time:  # this stood still, and it may have come
            until("it is on its way no more", lambda: two.cut_in() > before or bool(list(pending(receiver))))
        return in_time, before

    in_time, before = settled(sent_and_cut, lambda found: found[0])

    assert in_time
    until("it was dropped", lambda: two.cut_in() == before + 1)
    assert list(pending(receiver)) == []


def died(line: DelayLine) -> int:
    """Kill the process of the line; its pid."""
    pid = line.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def test_line_that_dies_runs_again_by_itself() -> None:
    """At once, with all that was in force, also for what was sent meanwhile; and somebody is told."""
    told: list[str] = []
    with slots_of_a_job(A, B, C, trouble=told.append) as (fabric, (one, two, three)):
        one.network.set_state(degraded(sent=Degradation(delay_ms=50)))
        two.network.set_state(degraded(heard=Degradation(delay_ms=20)))
        line = fabric.means.line
        pid = died(line)
        until("it ended", lambda: line.pid != pid)  # its watcher has reaped it

        took = delays(one, three, 20)

        assert min(took) >= 50
        assert typical(one, two, 70, 5) == pytest.approx(70, abs=5)
        assert told == ["the delay line ended with status -9 and is started again"]


def test_line_that_dies_again_and_again_is_started_again(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """Also as it starts."""
    fabric, (one, two, _) = job
    one.network.set_state(degraded(sent=Degradation(delay_ms=50)))
    line = fabric.means.line

    for _ in range(4):
        pid = died(line)
        until("it runs again", lambda pid=pid: line.pid not in (None, pid))  # type: ignore[misc]

    assert min(delays(one, two, 20)) >= 50  # what comes while it starts waits longer
    assert typical(one, two, 50, 5) == pytest.approx(50, abs=5)


def test_line_that_cannot_run_is_tried_again_ever_more_seldom() -> None:
    """At once the first time, then after pauses that double, up to five seconds."""
    line = DelayLine([], print)
    line._started = time.monotonic()

    pauses = [line._pause() for _ in range(10)]
    line._started -= 60

    assert pauses[:4] == [0, 0.05, 0.1, 0.2]
    assert pauses[-2:] == [5, 5]
    assert line._pause() == 0


def test_line_that_does_not_obey_is_made_anew(
    job: tuple[FabricNetwork, list[Slot]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of one that stands still is done by another, with what was in force."""
    monkeypatch.setattr(_delay, "_END", 0.2)
    fabric, (one, two, three) = job
    one.network.set_state(degraded(sent=Degradation(delay_ms=50)))
    pid, control = fabric.means.line.pid, fabric.means.line._control
    assert pid is not None and control is not None
    os.kill(pid, signal.SIGSTOP)
    control.settimeout(0.2)  # of this one alone: the next has its time to start

    two.network.set_state(degraded(sent=Degradation(delay_ms=20)))

    assert typical(one, three, 50, 5) == pytest.approx(50, abs=5)
    assert typical(two, three, 20, 5) == pytest.approx(20, abs=5)


def test_delay_is_asked_for_as_the_line_dies(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """It is not refused: the next process has it, with all that was in force."""
    fabric, (one, two, three) = job
    one.network.set_state(degraded(sent=Degradation(delay_ms=50)))
    died(fabric.means.line)

    two.network.set_state(degraded(sent=Degradation(delay_ms=20)))

    assert typical(one, three, 50, 5) == pytest.approx(50, abs=5)
    assert typical(two, three, 20, 5) == pytest.approx(20, abs=5)


def test_links_to_as_many_peers_as_a_job_may_have(slots: list[Slot]) -> None:
    """Each is degraded in every way, in both directions, and all of them are whole again."""
    one, two, _ = slots
    worse = Degradation(33.333333333333, 10**6, 12345.678901234, 1234.5678901234, *[33.333333333333] * 3)
    peers = [f"10.78.{number // 250}.{number % 250 + 1}" for number in range(999)]
    links = (LinkState("", worse, worse), *(LinkState(peer, worse, worse) for peer in sorted(peers)))

    one.network.set_state(NetworkState(links=links))
    one.network.set_state(WHOLE)

    assert typical(one, two, 0, 1) < 1


def test_flood_of_one_slot_leaves_room_for_another() -> None:
    """A slot that sends more under a long delay than the line can hold loses packets; others lose none."""
    ours, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flooding, other, size = b"\2ooooo", b"\2xxxxx", 60_000
    with ours, device:
        device.setblocking(False)
        ours.settimeout(PATIENCE)
        line = Line([device.fileno()])
        line.obey(json.dumps([0, flooding.hex(), {"": [[60_000, 0, 0, 0, 0]]}]).encode())

        for _ in range(MOST_BYTES // size + 10):
            ours.send(bytes(6) + flooding + bytes(size))
            line.read(0)
        for _ in range(3):  # as they go the line keeps count
            ours.send(bytes(6) + other + bytes(size))
            line.read(0)
            line.send()

            assert ours.recv(2 * size)[6:12] == other
        assert set(line._held) == {(0, flooding)}


def test_what_waits_is_not_read_before_all_orders_are_there() -> None:
    """A packet that was there before the line is late as its slot's order says, which came after others."""
    ours, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    unused, heard = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    orders, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    slot, other = b"\2ooooo", b"\2xxxxx"
    with ours, device, unused, heard, orders, control:
        for each in (device, heard):
            each.setblocking(False)
        for each in (ours, orders):
            each.settimeout(PATIENCE)
        ours.send(bytes(6) + slot + bytes(60))
        given = [end.fileno() for end in (control, device, heard)]
        with subprocess.Popen(
            [sys.executable, _delay_process.__file__, *map(str, given)], pass_fds=given
        ) as line:
            control.close()
            for mac in (other, slot):
                orders.send(json.dumps([0, mac.hex(), {"": [[300, 0, 0, 0, 0]]}]).encode())
                assert orders.recv(16) == b"done"
            start = time.monotonic()
            orders.send(READ)
            assert orders.recv(16) == b"done"

            assert ours.recv(200)[6:12] == slot
            took = time.monotonic() - start
            orders.close()
            assert line.wait(PATIENCE) == 0
        assert took >= 0.3


def test_heal_and_close_leave_no_profile_and_no_process(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """What nobody needs any more is gone from the line, and the line with the network."""
    fabric, (one, two, _) = job
    for slot in (one, two):
        slot.network.set_state(degraded(sent=Degradation(delay_ms=50), heard=Degradation(jitter_ms=1)))
    pid = fabric.means.line.pid
    assert pid is not None

    one.network.set_state(WHOLE)
    two.network.close()

    assert fabric.means.line._orders == {}
    assert typical(one, job[1][2], 0, 1) < 1
    fabric.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_refusal_leaves_the_delays_as_they_were(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """Of a slot whose change was refused together with another's."""
    fabric, (one, two, three) = job
    one.network.set_state(degraded(sent=Degradation(delay_ms=20)))
    fabric.chains.transaction([three.network._table.delete()])

    with pytest.raises(NetworkError):
        fabric.set_states([(slot.network, degraded(sent=Degradation(delay_ms=100))) for slot in (one, three)])

    assert typical(one, two, 20, 5) == pytest.approx(20, abs=5)
    assert set(fabric.means.line._orders) == {(0, one.network.mac)}
    with contextlib.suppress(NetworkError):
        three.network.close()
