"""Slots in the fabric: who reaches whom, what a cut does, and what no slot can do."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from keeper.network_helpers import PREFIX, Slot, cut, devices_of, exchange, pending, take_address, until
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError, in_namespace
from syndicate.volunteer.keeper.network._namespace import write_sysctl

Job = Callable[..., list[Slot]]


@pytest.fixture
def fabric() -> Iterator[FabricNetwork]:
    """An open network; at the end nothing of it is left."""
    network = FabricNetwork("tst")
    network.open()
    yield network
    network.close()
    assert network.leftovers() == []


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes the sockets of a test before its network."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def job(fabric: FabricNetwork, stack: contextlib.ExitStack) -> Job:
    """Makes the slots of one job, at the addresses given."""

    def make(*addresses: str) -> list[Slot]:
        members = []
        for address in addresses:
            network = fabric.make_slot(address)
            network.assign(address, PREFIX, addresses, uid=0)
            members.append(Slot(network, address, stack))
        return members

    return make


def test_udp_and_tcp_pass_between_slots_of_a_job(job: Job) -> None:
    """Two slots of one job talk over UDP and over TCP."""
    one, two = job("10.77.0.1", "10.77.0.2")
    here, there = one.connection(two)

    here.sendall(b"over tcp")

    assert there.recv(100) == b"over tcp"
    assert exchange(one.udp(), two.udp(), b"over udp") == b"over udp"


def test_full_sized_packets_pass(job: Job) -> None:
    """A datagram that fills the MTU of 1,500 bytes arrives whole, and a larger one in fragments."""
    one, two = job("10.77.0.1", "10.77.0.2")
    receiver = two.udp()

    one.udp().sendto(bytes(1472), receiver.getsockname())
    one.udp().sendto(bytes(9000), receiver.getsockname())

    assert [len(receiver.recv(10_000)), len(receiver.recv(10_000))] == [1472, 9000]


def test_cut_stops_udp_both_ways_without_an_error(job: Job) -> None:
    """Nothing of 100 datagrams each way arrives, and no sender hears of it."""
    one, two = job("10.77.0.1", "10.77.0.2")
    left, right = one.udp(), two.udp()
    exchange(left, right)

    one.network.set_state(cut([two.address]))
    for _ in range(100):  # an error that the kernel learnt from one packet would fail the next call
        left.sendto(b"out", right.getsockname())
        right.sendto(b"in", left.getsockname())

    until("the cut dropped all", lambda: (one.cut_out(), one.cut_in()) == (100, 100))
    assert list(pending(left)) == list(pending(right)) == []
    for sender in (left, right):
        assert sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            sender.recv(100, socket.MSG_ERRQUEUE)


def test_cut_stops_a_running_connection_and_heal_resumes_it(job: Job) -> None:
    """Bytes written into a cut connection arrive after the heal, none before, in both directions."""
    one, two = job("10.77.0.1", "10.77.0.2")
    here, there = one.connection(two)

    one.network.set_state(cut([two.address]))
    here.sendall(b"from here")
    there.sendall(b"from there")
    until("both directions were dropped", lambda: one.cut_out() > 0 and one.cut_in() > 0)
    assert list(pending(here)) == list(pending(there)) == []

    one.network.set_state(cut([]))
    assert there.recv(100) == b"from here"
    assert here.recv(100) == b"from there"


def test_cut_leaves_third_parties_alone(job: Job) -> None:
    """A slot that is not named keeps talking with both sides of a cut."""
    one, two, three = job("10.77.0.1", "10.77.0.2", "10.77.0.3")

    one.network.set_state(cut([two.address]))

    for other in (one, two):
        assert exchange(other.udp(), three.udp()) == b"hello"
        assert exchange(three.udp(), other.udp()) == b"hello"


def test_cut_leaves_the_slot_to_itself(job: Job) -> None:
    """A slot cut from everyone, itself named too, talks to its own address and to loopback."""
    one, two = job("10.77.0.1", "10.77.0.2")
    inside = one.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inside.bind(("127.0.0.1", 0))

    one.network.set_state(cut([one.address, two.address]))

    assert exchange(one.udp(), one.udp()) == b"hello"
    assert exchange(inside, inside) == b"hello"


def test_heal_lets_the_first_packet_through(job: Job) -> None:
    """The first datagram after a heal arrives, between slots that never spoke before the cut either."""
    one, two = job("10.77.0.1", "10.77.0.2")
    sender, receiver = one.udp(), two.udp()
    one.network.set_state(cut([two.address]))
    sender.sendto(b"lost", receiver.getsockname())
    until("the first was dropped", lambda: one.cut_out() == 1)

    one.network.set_state(cut([]))

    assert exchange(sender, receiver, b"first") == b"first"


def test_cut_is_absolute_and_repeats_are_harmless(job: Job) -> None:
    """Each call states the whole set: who is no longer named is healed, who is named twice is cut once."""
    one, two, three = job("10.77.0.1", "10.77.0.2", "10.77.0.3")

    one.network.set_state(cut([two.address, three.address]))
    one.network.set_state(cut([three.address, three.address]))
    one.network.set_state(cut([three.address]))

    assert exchange(one.udp(), two.udp()) == b"hello"
    one.udp().sendto(b"lost", three.udp().getsockname())
    until("the third is still cut", lambda: one.cut_out() == 1)


def test_cuts_on_both_sides_heal_one_by_one(job: Job) -> None:
    """A pair cut at both ends stays cut until the second end is healed."""
    one, two = job("10.77.0.1", "10.77.0.2")
    sender, receiver = one.udp(), two.udp()
    one.network.set_state(cut([two.address]))
    two.network.set_state(cut([one.address]))

    one.network.set_state(cut([]))
    sender.sendto(b"lost", receiver.getsockname())
    until("the far end still drops", lambda: two.cut_in() == 1)
    two.network.set_state(cut([]))

    assert exchange(sender, receiver, b"through") == b"through"


def test_many_addresses_can_be_cut(job: Job) -> None:
    """A set too large for one message is cut whole."""
    one, two = job("10.77.0.1", "10.77.0.2")
    crowd = [f"10.78.{high}.{low}" for high in range(16) for low in range(250)]

    one.network.set_state(cut([*crowd, two.address]))

    one.udp().sendto(b"lost", two.udp().getsockname())
    until("the last of the set is cut", lambda: one.cut_out() == 1)


def test_unassigned_slot_reaches_nothing(
    fabric: FabricNetwork, job: Job, stack: contextlib.ExitStack
) -> None:
    """A slot that was only made gets no packet out, even if it takes an address and knows its neighbour."""
    (member,) = job("10.77.0.1")
    fresh = Slot(fabric.make_slot("fresh"), "10.77.0.2", stack)
    take_address(fresh, "10.77.0.2")

    fresh.udp().sendto(b"lost", member.udp().getsockname())

    until("its question for the neighbour was dropped", lambda: fresh.refused_out() > 0)
    assert member.refused_in() == 0


def test_slots_of_different_jobs_do_not_reach_each_other(job: Job) -> None:
    """Not even ARP passes from one job to another, in either direction."""
    one, _ = job("10.77.0.1", "10.77.0.2")
    foreign, _ = job("10.77.0.3", "10.77.0.4")

    one.udp().sendto(b"lost", foreign.udp().getsockname())
    until("the foreign address was refused", lambda: one.refused_out() > 0)
    foreign.udp().sendto(b"lost", one.udp().getsockname())
    until("and the other way", lambda: foreign.refused_out() > 0)

    assert (one.refused_in(), foreign.refused_in()) == (0, 0)


def test_receiver_refuses_who_is_not_its_peer(fabric: FabricNetwork, stack: contextlib.ExitStack) -> None:
    """Isolation holds at the receiving end alone, should the sending end be wrong about its peers."""
    addresses = ["10.77.0.1", "10.77.0.2"]
    wrong, right = (Slot(fabric.make_slot(address), address, stack) for address in addresses)
    wrong.network.assign(wrong.address, PREFIX, addresses, uid=0)
    right.network.assign(right.address, PREFIX, [right.address], uid=0)
    own, target = (bytes.fromhex(slot.network.mac.replace(":", "")) for slot in (wrong, right))

    wrong.frames().send(target + own + b"\x08\x00" + ipv4_payload(wrong.address, right.address))
    until("the receiver refused its packet", lambda: right.refused_in() == 1)
    wrong.udp().sendto(b"lost", right.udp().getsockname())

    until("the receiver refused its ARP", lambda: right.refused_in() > 1)


def test_forged_source_address_does_not_leave(job: Job) -> None:
    """A packet in the name of another member of the job is dropped at its sender."""
    one, two, three = job("10.77.0.1", "10.77.0.2", "10.77.0.3")
    receiver = two.udp()
    exchange(one.udp(), receiver)  # so that the neighbour is known
    take_address(one, three.address)
    forger = one.socket(socket.AF_INET, socket.SOCK_DGRAM)
    forger.bind((three.address, 0))

    forger.sendto(b"forged", receiver.getsockname())

    until("it was refused", lambda: one.refused_out() == 1)
    assert list(pending(receiver)) == []


def ipv4_payload(source: str, target: str) -> bytes:
    """An IPv4 packet of a protocol nobody speaks."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20, 0, 0, 64, 253, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(target)


def arp_payload(mac: bytes, source: str, target: str) -> bytes:
    """An ARP request in the name of a hardware and an IPv4 address."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return head + mac + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)


FORGED_MAC = bytes.fromhex("020000c0ffee")
BROADCAST = b"\xff" * 6


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("forged MAC", lambda own, one, two: FORGED_MAC + b"\x08\x00" + ipv4_payload(one, two)),
        ("forged ARP sender", lambda own, one, two: own + b"\x08\x06" + arp_payload(own, "10.77.0.3", two)),
        ("forged ARP MAC", lambda own, one, two: own + b"\x08\x06" + arp_payload(FORGED_MAC, one, two)),
        ("ARP for a stranger", lambda own, one, two: own + b"\x08\x06" + arp_payload(own, one, "10.77.9.9")),
        ("gratuitous ARP", lambda own, one, two: own + b"\x08\x06" + arp_payload(own, one, one)),
        ("IPv6", lambda own, one, two: own + b"\x86\xdd" + b"\x60" + bytes(39)),
        ("VLAN", lambda own, one, two: own + b"\x81\x00\x00\x05\x08\x00" + ipv4_payload(one, two)),
        ("priority tag", lambda own, one, two: own + b"\x81\x00\x00\x00\x08\x00" + ipv4_payload(one, two)),
        ("broadcast", lambda own, one, two: own + b"\x08\x00" + ipv4_payload(one, "255.255.255.255")),
        ("multicast", lambda own, one, two: own + b"\x08\x00" + ipv4_payload(one, "224.0.0.251")),
        ("unknown protocol", lambda own, one, two: own + b"\x88\xb5" + bytes(46)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_frame_that_is_not_its_own_business_does_not_leave(
    job: Job, name: str, frame: Callable[[bytes, str, str], bytes]
) -> None:
    """Whole frames made by hand: only honest IPv4 and ARP between peers leave a slot."""
    one, two = job("10.77.0.1", "10.77.0.2")
    own = bytes.fromhex(one.network.mac.replace(":", ""))
    sender, watcher = one.frames(), two.frames()

    sender.send(BROADCAST + frame(own, one.address, two.address))

    until(f"{name} was refused", lambda: one.refused_out() == 1)
    assert list(pending(watcher)) == []


def test_honest_frame_made_by_hand_arrives(job: Job) -> None:
    """What the frames of the test above lack: an honest one does arrive at the watcher."""
    one, two = job("10.77.0.1", "10.77.0.2")
    own = bytes.fromhex(one.network.mac.replace(":", ""))
    target = bytes.fromhex(two.network.mac.replace(":", ""))
    watcher = two.frames()
    packet = ipv4_payload(one.address, two.address)

    one.frames().send(target + own + b"\x08\x00" + packet)

    assert watcher.recv(2048)[14:34] == packet


def test_slot_has_no_ipv6(job: Job) -> None:
    """No IPv6 address exists in a slot, on eth0 as on loopback."""
    (one,) = job("10.77.0.1")

    with pytest.raises(OSError, match="Cannot assign requested address"):
        one.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind(("::1", 0))
    assert in_namespace(one.network.netns_fd, read_ipv6_addresses) == ""


def test_ping_needs_no_privilege(job: Job) -> None:
    """A task may use ping sockets: its peers answer, and while cut it hears nothing."""
    one, two = job("10.77.0.1", "10.77.0.2")
    ping = one.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    request = struct.pack("!BBHHH", 8, 0, 0, 0, 1) + b"ping"

    ping.sendto(request, (two.address, 0))
    assert ping.recv(100)[8:] == b"ping"
    one.network.set_state(cut([two.address]))
    ping.sendto(request, (two.address, 0))

    until("the request was dropped", lambda: one.cut_out() == 1)
    assert list(pending(ping)) == []


def test_macs_are_local_and_differ(fabric: FabricNetwork) -> None:
    """Each slot has a locally administered unicast MAC of its own, seen in its namespace."""
    slots = [fabric.make_slot(str(number)) for number in range(3)]

    assert len({slot.mac for slot in slots}) == 3
    for slot in slots:
        assert int(slot.mac[:2], 16) & 0b11 == 0b10
        eth0 = next(device for device in devices_of(slot.netns_fd) if device.name == "eth0")
        assert eth0.mac == slot.mac


def test_slot_takes_one_address_once(job: Job) -> None:
    """A second address is refused and the first one stays."""
    one, two = job("10.77.0.1", "10.77.0.2")

    with pytest.raises(NetworkError, match="has its one address already"):
        one.network.assign("10.77.0.9", PREFIX, [], uid=0)
    assert exchange(one.udp(), two.udp()) == b"hello"


@pytest.mark.parametrize("address", ["", "node-a", "10.77.0", "10.77.0.256", "::1", "10.77.0.1/16"])
def test_what_is_no_ipv4_address_is_refused(fabric: FabricNetwork, address: str) -> None:
    """Nothing but a dotted IPv4 address is assigned or cut."""
    slot = fabric.make_slot("one")

    with pytest.raises(NetworkError, match="not an IPv4 address"):
        slot.set_state(cut([address]))
    with pytest.raises(NetworkError, match="not an IPv4 address"):
        slot.assign("10.77.0.1", PREFIX, [address], uid=0)


def test_failed_transaction_changes_nothing(fabric: FabricNetwork, job: Job) -> None:
    """If one message of a batch is refused, a cut that held still holds, and the error names the message."""
    one, two = job("10.77.0.1", "10.77.0.2")
    one.network.set_state(cut([two.address]))
    table = one.network._table

    with pytest.raises(
        NetworkError, match=f"empty set absent in table {table.name}: No such file"
    ) as refusal:
        fabric.chains.transaction([table.flush("cut_out"), table.flush("absent")])

    assert refusal.value.code == errno.ENOENT
    one.udp().sendto(b"lost", two.udp().getsockname())
    until("still cut", lambda: one.cut_out() == 1)


def read_ipv6_addresses() -> str:
    """The kernel's list of IPv6 addresses in the calling thread's namespace."""
    with open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
        return file.read()


def test_held_slot_reaches_nobody_until_it_resumes(job: Job) -> None:
    """While a slot is held nothing passes either way and nobody hears of it; then all is as before."""
    one, two = job("10.77.0.1", "10.77.0.2")
    left, right = one.udp(), two.udp()
    exchange(left, right)

    one.network.hold(uid=0)
    one.network.hold(uid=0)
    left.sendto(b"out", right.getsockname())
    right.sendto(b"in", left.getsockname())

    until("both were dropped", lambda: one.refused_out() > 0 and one.refused_in() > 0)
    assert list(pending(left)) == list(pending(right)) == []
    one.network.resume()
    one.network.resume()
    assert exchange(left, right) == exchange(right, left) == b"hello"


def test_slot_assigned_while_held_reaches_nobody_until_it_resumes(
    fabric: FabricNetwork, stack: contextlib.ExitStack
) -> None:
    """What `assign` gives to a held slot is given at the end of the hold."""
    network = fabric.make_slot("held")
    network.hold(uid=0)
    addresses = ["10.77.0.3", "10.77.0.4"]
    network.assign(addresses[0], PREFIX, addresses, uid=0)
    held = Slot(network, addresses[0], stack)
    peer_network = fabric.make_slot("peer")
    peer_network.assign(addresses[1], PREFIX, addresses, uid=0)
    peer = Slot(peer_network, addresses[1], stack)
    sender, receiver = held.udp(), peer.udp()
    # The kernel asks each second, and by itself three times only: this may stand still for longer.
    in_namespace(network.netns_fd, lambda: write_sysctl("ipv4/neigh/eth0/mcast_solicit", "60"))

    sender.sendto(b"early", receiver.getsockname())

    until("its question for the neighbour was dropped", lambda: held.refused_out() > 0)
    network.resume()
    assert receiver.recv(100) == b"early"  # the kernel asks for the neighbour again
    assert exchange(receiver, sender) == b"hello"


def test_closed_slot_can_neither_be_held_nor_resume(fabric: FabricNetwork) -> None:
    """It is told so, as for a cut."""
    slot = fabric.make_slot("closed")
    slot.close()

    for work in (lambda: slot.hold(uid=0), slot.resume):
        with pytest.raises(NetworkError, match="is closed"):
            work()
