"""What a slot's network suffers: cuts one way, resets, several slots at once, and that isolation stays."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator, Sequence

import pytest
from keeper.network_helpers import Slot, add_slot, exchange, pending, slots_of_a_job, until
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError
from syndicate.volunteer.keeper.network._netlink import Message
from syndicate.volunteer.local import WHOLE, Degradation, LinkState, NetworkState

A, B, C = "10.77.0.1", "10.77.0.2", "10.77.0.3"
STRANGER = "10.77.0.9"


@pytest.fixture
def job() -> Iterator[tuple[FabricNetwork, list[Slot]]]:
    """Three slots of one job."""
    with slots_of_a_job(A, B, C) as made:
        yield made


@pytest.fixture
def slots(job: tuple[FabricNetwork, list[Slot]]) -> list[Slot]:
    """The slots alone."""
    return job[1]


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes what a test opens beside them."""
    with contextlib.ExitStack() as stack:
        yield stack


def test_cut_out_loses_what_the_slot_sends_and_not_what_it_hears(slots: list[Slot]) -> None:
    """One direction is silent and the other one works, with no error for the sender."""
    one, two, three = slots
    left, right = one.udp(), two.udp()
    exchange(left, right)

    one.network.set_state(NetworkState(cut_out=(B,)))
    left.sendto(b"lost", right.getsockname())

    until("it was dropped", lambda: one.cut_out() == 1)
    assert exchange(right, left) == b"hello"
    assert list(pending(right)) == []
    assert left.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert exchange(left, three.udp()) == b"hello"


def test_cut_in_loses_what_the_slot_would_hear_and_not_what_it_sends(slots: list[Slot]) -> None:
    """The other way about."""
    one, two, three = slots
    left, right = one.udp(), two.udp()
    exchange(left, right)

    one.network.set_state(NetworkState(cut_in=(B,)))
    right.sendto(b"lost", left.getsockname())

    until("it was dropped", lambda: one.cut_in() == 1)
    assert exchange(left, right) == b"hello"
    assert list(pending(left)) == []
    assert exchange(three.udp(), left) == b"hello"


def test_reset_tears_a_connection_when_the_slot_sends(slots: list[Slot]) -> None:
    """The first segment that the slot sends is answered with a reset."""
    here, _ = slots[0].connection(slots[1])

    slots[0].network.set_state(NetworkState(reset=(B,)))
    here.send(b"x")

    with pytest.raises(ConnectionResetError):
        here.recv(1)


def test_reset_tears_a_connection_when_the_peer_sends(slots: list[Slot]) -> None:
    """So is the first segment of the peer, whose own state says nothing of it."""
    _, there = slots[0].connection(slots[1])

    slots[0].network.set_state(NetworkState(reset=(B,)))
    there.send(b"x")

    with pytest.raises(ConnectionResetError):
        there.recv(1)


def test_reset_refuses_new_connections_of_both_sides(slots: list[Slot]) -> None:
    """Who connects is told ECONNREFUSED at once, though both listen."""
    one, two, _ = slots
    for caller, called in ((one, two), (two, one)):
        listener = called.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((called.address, 0))
        listener.listen()
        one.network.set_state(NetworkState(reset=(B,)))

        with pytest.raises(ConnectionRefusedError):
            caller.socket(socket.AF_INET, socket.SOCK_STREAM).connect(listener.getsockname())


def test_reset_from_both_sides_is_answered_to_both(slots: list[Slot]) -> None:
    """Two slots that reset each other tear the connection as one does."""
    one, two, _ = slots
    here, there = one.connection(two)

    one.network.set_state(NetworkState(reset=(B,)))
    two.network.set_state(NetworkState(reset=(A,)))
    here.send(b"x")
    there.send(b"x")

    for end in (here, there):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_reset_lets_nothing_else_pass(slots: list[Slot]) -> None:
    """Datagrams vanish in silence, both ways, and third parties talk on."""
    one, two, three = slots
    left, right = one.udp(), two.udp()
    exchange(left, right)
    connected, accepted = one.connection(three)

    one.network.set_state(NetworkState(reset=(B,)))
    left.sendto(b"out", right.getsockname())
    right.sendto(b"in", left.getsockname())

    until("both were dropped", lambda: (one.cut_out(), one.cut_in()) == (1, 1))
    assert list(pending(left)) == list(pending(right)) == []
    connected.send(b"on")
    assert accepted.recv(10) == b"on"
    assert exchange(left, three.udp()) == b"hello"


def test_cut_is_silent_where_there_is_a_reset_too(slots: list[Slot]) -> None:
    """Who is cut hears no reset."""
    one, two, _ = slots
    here, there = one.connection(two)

    one.network.set_state(NetworkState(cut=(B,), reset=(B,)))
    here.send(b"late")
    until("it was dropped", lambda: one.cut_out() > 0)
    one.network.set_state(WHOLE)

    assert there.recv(10) == b"late"


def test_heal_of_a_reset_lets_new_connections_pass(slots: list[Slot]) -> None:
    """After it all is as before."""
    one, two, _ = slots
    one.network.set_state(NetworkState(reset=(B,)))

    one.network.set_state(WHOLE)

    here, there = one.connection(two)
    here.send(b"again")
    assert there.recv(10) == b"again"


def test_several_slots_change_at_once(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """One call sets the states of several slots."""
    fabric, (one, two, three) = job
    sockets = [slot.udp() for slot in (one, two, three)]
    exchange(sockets[0], sockets[2])
    exchange(sockets[1], sockets[2])

    fabric.set_states(
        [(one.network, NetworkState(cut=(C,))), (two.network, NetworkState(cut_out=(C,)))],
    )
    sockets[0].sendto(b"lost", sockets[2].getsockname())
    sockets[1].sendto(b"lost", sockets[2].getsockname())

    until("both were dropped", lambda: (one.cut_out(), two.cut_out()) == (1, 1))
    assert exchange(sockets[0], sockets[1]) == b"hello"


def test_refusal_of_one_slot_leaves_all_as_they_were(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """A closed slot among them, and no other changes; nothing of the rates made for them is left."""
    fabric, (one, two, three) = job
    two.network.close()
    slow = (LinkState("", Degradation(rate_bps=1_000_000), Degradation(rate_bps=1_000_000)),)

    with pytest.raises(NetworkError, match=f"slot {B} is closed"):
        fabric.set_states([(one.network, NetworkState(cut=(C,), links=slow)), (two.network, WHOLE)])

    assert exchange(one.udp(), three.udp()) == b"hello"
    assert fabric.leftovers() == []
    assert fabric.means.shaper._used == set()


def test_refusal_by_the_kernel_leaves_all_as_they_were(job: tuple[FabricNetwork, list[Slot]]) -> None:
    """Where a table is gone under the keeper's feet the others' states stay, and their next change takes."""
    fabric, (one, two, three) = job
    fabric.chains.transaction([two.network._table.delete()])
    before = NetworkState(cut=(B,))
    one.network.set_state(before)
    slow = NetworkState(cut=(C,), links=(LinkState("", Degradation(rate_bps=1_000_000)),))

    with pytest.raises(NetworkError, match="No such file or directory"):
        fabric.set_states([(one.network, slow), (two.network, slow)])

    assert fabric.means.shaper._used == set()
    assert fabric.means.shaper.leftovers() == []
    assert exchange(one.udp(), three.udp()) == b"hello"
    one.network.set_state(slow)
    one.udp().sendto(b"lost", three.udp().getsockname())
    until("it is cut now", lambda: one.cut_out() == 1)


def test_change_of_unknown_outcome_does_not_stay(
    job: tuple[FabricNetwork, list[Slot]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel took without an answer, it holds only until the next change."""
    fabric, (one, two, three) = job
    transaction = fabric.chains.transaction

    def unanswered(messages: Sequence[Message]) -> None:
        transaction(messages)
        raise NetworkError("the kernel did not answer", errno.ETIMEDOUT)

    with monkeypatch.context() as patch:
        patch.setattr(fabric.chains, "transaction", unanswered)
        with pytest.raises(NetworkError, match="did not answer"):
            one.network.set_state(NetworkState(cut=(C,)))
    one.network.set_state(NetworkState(cut=(B,)))

    assert exchange(one.udp(), three.udp()) == b"hello"
    one.udp().sendto(b"lost", two.udp().getsockname())
    until("it was dropped", lambda: one.cut_out() == 1)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (NetworkState(cut=("node-a",)), "not an IPv4 address"),
        (NetworkState(reset=("",)), "not an IPv4 address"),
        (NetworkState(links=(LinkState("node-a"),)), "not an IPv4 address"),
        (NetworkState(links=(LinkState("", Degradation(loss_percent=101)),)), "loss_percent is 101"),
        (NetworkState(links=(LinkState("", Degradation(loss_percent=-1)),)), "loss_percent is -1"),
        (NetworkState(links=(LinkState("", Degradation(loss_percent=float("nan"))),)), "is nan"),
        (NetworkState(links=(LinkState("", heard=Degradation(rate_bps=-1)),)), "rate_bps is -1"),
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(
    slots: list[Slot], state: NetworkState, reason: str
) -> None:
    """The error names the item, and the cut that held before still holds."""
    one, two, _ = slots
    one.network.set_state(NetworkState(cut=(B,)))

    with pytest.raises(NetworkError, match=reason) as refusal:
        one.network.set_state(state)

    assert refusal.value.code == errno.EINVAL
    one.udp().sendto(b"lost", two.udp().getsockname())
    until("still cut", lambda: one.cut_out() == 1)


LIMITED = Degradation(loss_percent=0.001, rate_bps=1_000_000_000, delay_ms=0.1)
STATES = {
    "whole": WHOLE,
    "reset": NetworkState(reset=(STRANGER,)),
    "links": NetworkState(links=(LinkState("", LIMITED, LIMITED),)),
    "link to a stranger": NetworkState(links=(LinkState(STRANGER, LIMITED, LIMITED),)),
    "all": NetworkState(
        cut_out=(B,), cut_in=(C,), reset=(STRANGER,), links=(LinkState("", LIMITED, LIMITED),)
    ),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
@pytest.mark.parametrize("protocol", [socket.IPPROTO_UDP, socket.IPPROTO_TCP])
def test_no_state_lets_a_slot_reach_strangers(
    job: tuple[FabricNetwork, list[Slot]],
    stack: contextlib.ExitStack,
    state: NetworkState,
    protocol: int,
) -> None:
    """A frame made by hand for another job's slot never arrives at its port."""
    fabric, (one, _, _) = job
    stranger = add_slot(fabric, STRANGER, [STRANGER, A], stack)  # it would take the slot for its peer
    watcher = stranger.frames()
    one.network.set_state(state)

    one.frames().send(frame(one, stranger, protocol))

    until("it was dropped", lambda: one.refused_out() + one.cut_out() == 1)
    assert list(pending(watcher)) == []


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
@pytest.mark.parametrize("protocol", [socket.IPPROTO_UDP, socket.IPPROTO_TCP])
def test_no_state_lets_strangers_reach_a_slot(
    job: tuple[FabricNetwork, list[Slot]],
    stack: contextlib.ExitStack,
    state: NetworkState,
    protocol: int,
) -> None:
    """Nor does one of a slot that wrongly takes this one for its peer."""
    fabric, (one, _, _) = job
    stranger = add_slot(fabric, STRANGER, [STRANGER, A], stack)
    watcher = one.frames()
    one.network.set_state(state)

    stranger.frames().send(frame(stranger, one, protocol))

    until("it was dropped", lambda: one.refused_in() + one.cut_in() == 1)
    assert list(pending(watcher)) == []


def frame(source: Slot, target: Slot, protocol: int) -> bytes:
    """A whole frame with an IPv4 header and a TCP one, whatever `protocol` says; no checksum is wrong."""
    ports = struct.pack("!HHIIBBHHH", 4000, 4000, 1, 0, 5 << 4, 2, 1000, 0, 0)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(ports), 0, 0, 64, protocol, 0)
    head += socket.inet_aton(source.address) + socket.inet_aton(target.address)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    pseudo = head[12:20] + struct.pack("!BBH", 0, protocol, len(ports))
    ports = ports[:16] + struct.pack("!H", checksum(pseudo + ports)) + ports[18:]
    macs = [bytes.fromhex(slot.network.mac.replace(":", "")) for slot in (target, source)]
    return b"".join(macs) + b"\x08\x00" + head + ports


def checksum(data: bytes) -> int:
    """As in RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
