"""Loss and rate of a slot's links, measured, and how they compose with each other and with cuts."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from keeper.network_helpers import PATIENCE, Slot, pending, settled, slots_of_a_job, until
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError
from syndicate.volunteer.local import WHOLE, Degradation, LinkState, NetworkState

A, B, C = "10.77.0.1", "10.77.0.2", "10.77.0.3"
PACKETS = 50_000
SO_TIMESTAMPNS, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 35, 32, 33
GAP = 40_000_000  # nanoseconds, more than two packets of the slowest rate here need
IP_AND_UDP = 28  # bytes of headers
PACKET, SEGMENT = 1500, 1448  # bytes of a full packet, and those of a stream in it
TOLERANCE = 0.05


@pytest.fixture
def job() -> Iterator[tuple[FabricNetwork, list[Slot]]]:
    """Three slots of one job."""
    with slots_of_a_job(A, B, C) as made:
        yield made


@pytest.fixture
def slots(job: tuple[FabricNetwork, list[Slot]]) -> list[Slot]:
    """The slots alone."""
    return job[1]


def degraded(
    peer: str = "", sent: Degradation | None = None, heard: Degradation | None = None
) -> NetworkState:
    """One link of a slot, degraded."""
    return NetworkState(links=(LinkState(peer, sent or Degradation(), heard or Degradation()),))


def send_all(sender: socket.socket, receiver: socket.socket, number: int) -> int:
    """Send so many small datagrams, and return how many arrived.

    Between two slots a datagram is delivered or dropped before the call that sends it returns.
    """
    arrived = 0
    for start in range(0, number, 50):  # few enough for the receiver's buffer
        for _ in range(start, min(start + 50, number)):
            sender.sendto(b"x", receiver.getsockname())
        arrived += len(list(pending(receiver)))
    return arrived


@pytest.mark.parametrize("direction", ["sent", "heard"])
@pytest.mark.parametrize("peer", ["", B])
def test_loss_is_what_was_set(slots: list[Slot], direction: str, peer: str) -> None:
    """10 % set: 9 to 11 % of 50,000 datagrams are lost, each is counted, and the sender hears of none."""
    one, two, _ = slots
    loss = Degradation(loss_percent=10)
    one.network.set_state(degraded(peer, **{direction: loss}))
    ends = (one.udp(), two.udp()) if direction == "sent" else (two.udp(), one.udp())

    arrived = send_all(*ends, PACKETS)

    lost = one.network.counters().lost
    assert arrived + lost == PACKETS
    assert 0.09 <= lost / PACKETS <= 0.11
    assert ends[0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_loss_is_of_one_direction_and_one_peer(slots: list[Slot]) -> None:
    """What the slot hears, and what it sends to others, is whole."""
    one, two, three = slots
    one.network.set_state(degraded(B, sent=Degradation(loss_percent=100)))
    left, right, other = one.udp(), two.udp(), three.udp()

    assert send_all(right, left, 500) == 500
    assert send_all(left, other, 500) == 500
    assert send_all(left, right, 500) == 0
    assert one.network.counters().lost == 500


def test_losses_of_a_peer_and_of_the_slot_add_up(slots: list[Slot]) -> None:
    """A packet goes through both entries: half of a half arrives."""
    one, two, _ = slots
    half = Degradation(loss_percent=50)
    one.network.set_state(NetworkState(links=(LinkState("", half), LinkState(B, half))))

    arrived = send_all(one.udp(), two.udp(), 20_000)

    assert 0.23 <= arrived / 20_000 <= 0.27  # six standard deviations


def test_heal_ends_all(slots: list[Slot]) -> None:
    """After it nothing is lost, and what was counted stays counted."""
    one, two, _ = slots
    one.network.set_state(degraded(sent=Degradation(loss_percent=100, rate_bps=1000)))
    left, right = one.udp(), two.udp()
    left.sendto(b"lost", right.getsockname())
    until("it was lost", lambda: one.network.counters().lost == 1)

    one.network.set_state(WHOLE)

    assert send_all(left, right, 1000) == 1000
    assert one.network.counters().lost == 1


def test_cuts_change_and_links_stay(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """A cut that comes and goes touches neither the rules nor the classes of the links."""
    fabric, (one, two, _) = job
    links = degraded(sent=Degradation(loss_percent=100, rate_bps=1_000_000)).links
    one.network.set_state(NetworkState(links=links))
    classes = set(fabric.means.shaper._used)

    one.network.set_state(NetworkState(cut=(C,), links=links))
    one.network.set_state(NetworkState(links=links))

    assert send_all(one.udp(), two.udp(), 100) == 0
    assert one.network.counters().lost == 100
    assert fabric.means.shaper._used == classes


def flood(slot: Slot, peer: Slot, rate: int, seconds: float = 1.0) -> float:
    """Bits a second of IPv4 that arrive at `peer` while `slot` sends without end, which are to be `rate`.

    Where it comes out wrong it is measured again: see `settled`.
    """
    return settled(lambda: flood_once(slot, peer, seconds), lambda found: found == close_to(rate))


def close_to(rate: int) -> object:
    """What equals any rate that is right."""
    return pytest.approx(rate, rel=TOLERANCE)


def flood_once(slot: Slot, peer: Slot, seconds: float) -> float:
    """Bits a second of IPv4 that arrive at `peer` while `slot` sends without end, by the kernel's time.

    The first tenth does not count, in which a burst may pass, nor do gaps in which this process had no turn
    for so long that its queue ran empty.
    """
    sender, receiver = slot.udp(), peer.udp()
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 20)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    payload = bytes(1400)
    first = last = counted = spent = 0
    deadline = time.monotonic() + PATIENCE
    while spent < seconds * 0.9e9:
        assert time.monotonic() < deadline, "too little arrives"
        for _ in range(20):
            sender.sendto(payload, receiver.getsockname())
        for stamp in stamps(receiver):
            first = first or stamp
            if stamp > first + seconds * 1e8 and stamp - last < GAP:
                counted += 1
                spent += stamp - last
            last = stamp
    return counted * (len(payload) + IP_AND_UDP) * 8 / (spent / 1e9)


def stamps(receiver: socket.socket) -> Iterator[int]:
    """When each datagram came that waits to be read, in nanoseconds."""
    receiver.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            _, ancillary, _, _ = receiver.recvmsg(2048, 64)
            seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
            yield seconds * 10**9 + nanoseconds
    receiver.settimeout(PATIENCE)


def bulk(slot: Slot, peer: Slot, rate: int) -> float:
    """Bits a second of IPv4 on a connection that is to have `rate`, read for about three seconds.

    Where it comes out wrong it is measured again: on a busy machine a sender that has no turn for a while
    leaves its queue empty, and what is sent again is not counted twice.
    """
    return settled(lambda: bulk_once(slot, peer, rate // 8 * 3), lambda found: found == close_to(rate))


def bulk_once(slot: Slot, peer: Slot, amount: int) -> float:
    """Bits a second of IPv4 while `peer` reads `amount` bytes from a connection, without the first tenth."""
    here, there = slot.connection(peer)
    there.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def write() -> None:
        with contextlib.suppress(ConnectionError):  # the reader has had enough
            while True:
                here.sendall(bytes(1 << 16))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return read_rate(there, amount)
    finally:
        here.shutdown(socket.SHUT_RDWR)
        writer.join()


def read_rate(there: socket.socket, amount: int) -> float:
    """Bits a second of full IPv4 packets, by the kernel's stamps of the segments that were read."""
    received = counted = unstamped = first = last = 0
    while received < amount:
        data, ancillary, _, _ = there.recvmsg(1 << 16, 64)
        received += len(data)
        unstamped += len(data)
        if not ancillary:
            continue  # more of a segment that was stamped with its beginning
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2])
        last = seconds * 10**9 + nanoseconds
        if first:
            counted += unstamped
        elif received > amount / 10:
            first = last
        unstamped = 0
    return counted * PACKET / SEGMENT * 8 / ((last - first) / 1e9)


@pytest.mark.parametrize("direction", ["sent", "heard"])
@pytest.mark.parametrize("rate", [2_000_000, 20_000_000])
def test_rate_of_a_flood_is_what_was_set(slots: list[Slot], direction: str, rate: int) -> None:
    """Within 5 % of a flood of datagrams; no sender hears an error."""
    one, two, _ = slots
    one.network.set_state(degraded(**{direction: Degradation(rate_bps=rate)}))
    ends = (one, two) if direction == "sent" else (two, one)

    assert flood(*ends, rate, seconds=1.5) == close_to(rate)


@pytest.mark.parametrize("direction", ["sent", "heard"])
@pytest.mark.parametrize("rate", [10_000_000, 100_000_000])
def test_rate_of_a_connection_is_what_was_set(slots: list[Slot], direction: str, rate: int) -> None:
    """Within 5 % of what a TCP connection carries that sends without end."""
    one, two, _ = slots
    one.network.set_state(degraded(**{direction: Degradation(rate_bps=rate)}))
    ends = (one, two) if direction == "sent" else (two, one)

    assert bulk(*ends, rate) == close_to(rate)


def test_rate_of_a_peer_leaves_others_alone(slots: list[Slot]) -> None:
    """Only what goes to that peer is slow."""
    one, two, three = slots
    one.network.set_state(degraded(B, sent=Degradation(rate_bps=2_000_000)))

    assert settled(lambda: flood_once(one, three, seconds=0.2), lambda rate: rate > 50_000_000) > 50_000_000
    assert flood(one, two, 2_000_000) == close_to(2_000_000)


def test_peers_share_the_rate_of_the_slot(slots: list[Slot]) -> None:
    """Each goes by the least of its own rate and of the slot's, and all together by the slot's."""
    one, two, three = slots
    links = (
        LinkState("", Degradation(rate_bps=4_000_000)),
        LinkState(B, Degradation(rate_bps=1_000_000)),
        LinkState(C, Degradation(rate_bps=40_000_000)),
    )
    one.network.set_state(NetworkState(links=links))

    assert flood(one, three, 4_000_000) == close_to(4_000_000)
    assert flood(one, two, 1_000_000) == close_to(1_000_000)


def test_loss_and_rate_and_cut_compose(slots: list[Slot]) -> None:
    """What is left of a loss goes by the rate, and a cut peer hears nothing."""
    one, two, three = slots
    links = (LinkState("", Degradation(loss_percent=50, rate_bps=4_000_000)),)
    one.network.set_state(NetworkState(cut_out=(C,), links=links))
    receiver = three.udp()

    one.udp().sendto(b"lost", receiver.getsockname())

    assert flood(one, two, 4_000_000) == close_to(4_000_000)
    assert one.network.counters().lost > 100
    # On a busy machine the datagram may still wait for its neighbour's address.
    until("the cut took it", lambda: one.network.counters().cut_out == 1)
    assert list(pending(receiver)) == []


def test_reset_comes_through_a_slow_link(slots: list[Slot]) -> None:
    """A reset that the slot hears is its own fault's and waits in no queue."""
    one, two, _ = slots
    here, _ = one.connection(two)
    slow = Degradation(rate_bps=8_000)

    one.network.set_state(NetworkState(reset=(B,), links=(LinkState("", slow, slow),)))
    here.send(b"x")

    with pytest.raises(ConnectionResetError):
        here.recv(1)


@pytest.mark.parametrize("name", ["loss_percent", "rate_bps", "delay_ms", "jitter_ms", "corrupt_percent"])
def test_what_this_network_cannot_do_is_refused(job: tuple[FabricNetwork, list[Slot]], name: str) -> None:
    """With the reason that was found."""
    fabric, (one, _, _) = job
    kind = name.partition("_")[0]
    fabric.means.findings[kind] = f"{kind}: not here"

    with pytest.raises(NetworkError, match=f"{kind}: not here"):
        one.network.set_state(degraded(sent=Degradation(**{name: 10})))


def test_closed_slot_leaves_no_class(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """The classes of its rates are gone with it, with what waits in them."""
    fabric, (one, two, _) = job
    slow = Degradation(rate_bps=8_000)
    one.network.set_state(
        NetworkState(links=(LinkState("", slow, slow), LinkState(B, slow, slow), LinkState(C, slow)))
    )
    sender = one.udp()
    for _ in range(20):
        sender.sendto(bytes(1000), two.udp().getsockname())
    assert len(fabric.means.shaper._used) == 7  # two of the whole slot's are above the others

    one.network.close()

    assert fabric.means.shaper._used == set()
    assert fabric.means.shaper.leftovers() == []
