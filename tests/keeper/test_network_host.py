"""A slot in a host's network: two scratch namespaces stand for the host and for other machines."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from keeper.network_helpers import PATIENCE, PREFIX, cut, exchange, pending, until
from syndicate.volunteer.keeper.network import HostNetwork, NetworkError, in_namespace
from syndicate.volunteer.keeper.network import _nft as nft
from syndicate.volunteer.keeper.network import _route as route
from syndicate.volunteer.keeper.network._common import check_interface
from syndicate.volunteer.keeper.network._host import HostSlot
from syndicate.volunteer.keeper.network._namespace import make_namespace
from syndicate.volunteer.keeper.network._netlink import NetlinkSocket
from syndicate.volunteer.keeper.sync_server import open_doors
from syndicate.volunteer.local import Degradation, LinkState, NetworkState

HOST, PEER, STRANGER, MANAGER = "10.66.0.1", "10.66.0.2", "10.66.0.3", "10.66.0.4"
ELSEWHERE_HOST, ELSEWHERE = "10.67.0.1", "10.67.0.2"  # behind a second device
TASK, OTHER = 61_001, 61_002  # uids


@dataclass
class World:
    """A host with an uplink and a second device, and all other machines in one namespace."""

    host_fd: int
    others_fd: int
    stack: contextlib.ExitStack

    def udp(self, address: str, uid: int = 0, port: int = 0) -> socket.socket:
        """A UDP socket of that uid, on the host or on another machine by its address."""
        at_host = address in (HOST, ELSEWHERE_HOST)
        made = in_namespace(
            self.host_fd if at_host else self.others_fd, lambda: socket_of(uid, socket.SOCK_DGRAM)
        )
        made.bind((address, port))
        return self.stack.enter_context(made)

    def listener(self, uid: int) -> socket.socket:
        """Where a process of that uid on the host takes connections."""
        made = in_namespace(self.host_fd, lambda: socket_of(uid, socket.SOCK_STREAM))
        made.bind((HOST, 0))
        made.listen()
        return self.stack.enter_context(made)

    def call(self, peer: str, listener: socket.socket, within: float = PATIENCE) -> socket.socket:
        """A connection that another machine makes to the host."""
        made = in_namespace(self.others_fd, lambda: socket_of(0, socket.SOCK_STREAM))
        self.stack.enter_context(made).bind((peer, 0))
        made.settimeout(within)
        made.connect(listener.getsockname())
        return made

    def connection(self, peer: str, uid: int) -> tuple[socket.socket, socket.socket]:
        """A TCP connection from a process of that uid on the host: its end and the peer's."""
        listener = in_namespace(self.others_fd, lambda: socket_of(0, socket.SOCK_STREAM))
        listener.bind((peer, 0))
        listener.listen()
        here = in_namespace(self.host_fd, lambda: socket_of(uid, socket.SOCK_STREAM))
        here.connect(listener.getsockname())
        there, _ = listener.accept()
        listener.close()
        there.settimeout(PATIENCE)
        return self.stack.enter_context(here), self.stack.enter_context(there)


def socket_of(uid: int, kind: int) -> socket.socket:
    """A socket whose file belongs to `uid`; for threads that end with the call."""
    ctypes.CDLL(None).setfsuid(uid)
    made = socket.socket(socket.AF_INET, kind)
    made.settimeout(PATIENCE)
    return made


@pytest.fixture
def world() -> Iterator[World]:
    """Host and others, joined by two pairs of devices."""
    with contextlib.ExitStack() as stack:
        ends = []
        for _ in range(2):
            netns_fd, link = make_namespace(lambda: NetlinkSocket(route.NETLINK_ROUTE))
            stack.callback(os.close, netns_fd)
            stack.callback(link.close)
            ends.append((netns_fd, link))
        (host_fd, host), (others_fd, others) = ends
        pairs = [
            (10, "synup", [HOST], [PEER, STRANGER, MANAGER]),
            (20, "synelse", [ELSEWHERE_HOST], [ELSEWHERE]),
        ]
        for link in (host, others):
            link.request([route.set_up(1, "lo")])
        for index, name, near, far in pairs:
            here, there = route.Device(index, name), route.Device(index, name)
            host.request([route.make_veth(here, there, others_fd)])
            for link, device, addresses in ((host, here, near), (others, there, far)):
                link.request([route.set_up(device.index, device.name)])
                link.request([route.add_address(device, check_interface(text, 24)) for text in addresses])
        yield World(host_fd, others_fd, stack)


@pytest.fixture
def network(world: World) -> Iterator[HostNetwork]:
    """An open network of the host; at the end no table of it is left."""
    network = HostNetwork("tst", HOST, [MANAGER], world.host_fd)
    network.open()
    yield network
    network.close()
    assert tables_of(world) == []


def assigned(network: HostNetwork) -> HostSlot:
    """Its slot, given to the task with one peer."""
    slot = network.make_slot("one")
    slot.assign(HOST, PREFIX, [HOST, PEER], TASK)
    return slot


def tables_of(world: World) -> list[str]:
    """All nftables tables of the host."""
    chains = in_namespace(world.host_fd, nft.NftSocket)
    with contextlib.closing(chains):
        return [name for family in (nft.NETDEV, nft.INET) for name in nft.tables(chains.link, family)]


def test_task_talks_to_its_peer(world: World, network: HostNetwork) -> None:
    """The task's packets to its job pass, and so do the answers."""
    assigned(network)
    task, peer = world.udp(HOST, TASK), world.udp(PEER)

    assert exchange(task, peer) == b"hello"
    assert exchange(peer, task) == b"hello"


def test_cut_stops_the_task_both_ways_in_silence(world: World, network: HostNetwork) -> None:
    """Nothing passes between the task and a cut peer, and neither sender sees an error."""
    slot = assigned(network)
    task, peer = world.udp(HOST, TASK), world.udp(PEER)
    exchange(task, peer)

    slot.set_state(cut([PEER]))
    for _ in range(100):
        task.sendto(b"out", peer.getsockname())
        peer.sendto(b"in", task.getsockname())

    until("all were dropped", lambda: (slot.counters().cut_out, slot.counters().cut_in) == (100, 100))
    assert list(pending(task)) == list(pending(peer)) == []


@pytest.mark.parametrize("one_way", ["cut_out", "cut_in"])
def test_cut_one_way_leaves_the_other_way(world: World, network: HostNetwork, one_way: str) -> None:
    """What the task sends is lost and what it hears is not, or the other way about."""
    slot = assigned(network)
    task, peer = world.udp(HOST, TASK), world.udp(PEER)
    ends = (task, peer) if one_way == "cut_out" else (peer, task)

    slot.set_state(NetworkState(**{one_way: (PEER,)}))
    ends[0].sendto(b"lost", ends[1].getsockname())

    until("it was dropped", lambda: getattr(slot.counters(), one_way) == 1)
    assert exchange(ends[1], ends[0]) == b"hello"
    assert list(pending(ends[1])) == []


@pytest.mark.parametrize(
    "state",
    [
        NetworkState(cut=(PEER,), reset=(PEER,)),
        NetworkState(cut=(PEER,), links=(LinkState("", Degradation(loss_percent=1)),)),
    ],
)
def test_what_a_host_network_cannot_do_is_refused(
    world: World, network: HostNetwork, state: NetworkState
) -> None:
    """And nothing of the state is done."""
    slot = assigned(network)

    with pytest.raises(NetworkError, match="not in the host's network"):
        network.set_states([(slot, state)])

    assert exchange(world.udp(HOST, TASK), world.udp(PEER)) == b"hello"


def test_heal_resumes_a_connection(world: World, network: HostNetwork) -> None:
    """Bytes written into a cut connection arrive after the heal, none before."""
    slot = assigned(network)
    here, there = world.connection(PEER, TASK)

    slot.set_state(cut([PEER]))
    here.sendall(b"late")
    until("the cut dropped it", lambda: slot.counters().cut_out > 0)
    assert list(pending(there)) == []
    slot.set_state(cut([]))

    assert there.recv(100) == b"late"


def test_end_of_a_process_does_not_cross_a_cut(world: World, network: HostNetwork) -> None:
    """A socket that its process closed has no uid any more: a FIN sent again is cut like the first."""
    slot = assigned(network)
    here, there = world.connection(PEER, TASK)

    slot.set_state(cut([PEER]))
    here.close()

    until("the FIN was dropped twice", lambda: slot.counters().cut_out >= 2)
    assert list(pending(there)) == []


def test_task_reaches_nobody_but_its_peers(world: World, network: HostNetwork) -> None:
    """A packet of the task to another machine is dropped, one of another user is not."""
    slot = assigned(network)
    stranger = world.udp(STRANGER)

    world.udp(HOST, TASK).sendto(b"lost", stranger.getsockname())

    until("it was refused", lambda: slot.counters().refused_out == 1)
    assert exchange(world.udp(HOST, OTHER), stranger) == b"hello"
    assert exchange(world.udp(HOST, 0), stranger) == b"hello"


def test_the_sockets_of_a_sync_server_are_the_tasks(world: World, network: HostNetwork) -> None:
    """Peers are answered, strangers and those that are cut off are not; nor can these connect."""
    slot = assigned(network)
    peer, stranger = world.udp(PEER), world.udp(STRANGER)
    with contextlib.closing(open_doors(HOST, f"{HOST}:16534", world.host_fd, TASK)) as doors:
        for other in (peer, stranger):
            doors.udp.sendto(b"answer", other.getsockname())
        assert peer.recv(16) == b"answer"
        with in_namespace(
            world.others_fd, lambda: socket.create_connection((HOST, 16534), PATIENCE, (PEER, 0))
        ):
            assert list(pending(stranger)) == []
        with pytest.raises(TimeoutError):
            in_namespace(world.others_fd, lambda: socket.create_connection((HOST, 16534), 0.5, (STRANGER, 0)))

        slot.set_state(cut([PEER]))
        doors.udp.sendto(b"answer", peer.getsockname())
        until("it was dropped", lambda: slot.counters().cut_out == 1)
        assert list(pending(peer)) == []


def test_task_does_not_leave_by_another_device(world: World, network: HostNetwork) -> None:
    """The task is refused on devices beside the uplink, which other users still use."""
    slot = assigned(network)
    elsewhere = world.udp(ELSEWHERE)

    with pytest.raises(PermissionError):
        world.udp(ELSEWHERE_HOST, TASK).sendto(b"lost", elsewhere.getsockname())

    assert slot.counters().refused_out == 1
    assert exchange(world.udp(ELSEWHERE_HOST, OTHER), elsewhere) == b"hello"


def test_task_talks_to_itself_while_cut(world: World, network: HostNetwork) -> None:
    """Packets to the host's own address stay on loopback, whatever is cut."""
    slot = assigned(network)

    slot.set_state(cut([PEER]))

    assert exchange(world.udp(HOST, TASK), world.udp(HOST, TASK)) == b"hello"


def test_cut_leaves_other_machines_alone(world: World, network: HostNetwork) -> None:
    """Other users and machines that are not cut go on talking."""
    slot = assigned(network)

    slot.set_state(cut([PEER]))

    assert exchange(world.udp(HOST, OTHER), world.udp(STRANGER)) == b"hello"
    assert exchange(world.udp(STRANGER), world.udp(HOST, OTHER)) == b"hello"


def test_manager_can_never_be_cut(world: World, network: HostNetwork) -> None:
    """A cut that names the manager is refused whole, and what held before still holds."""
    slot = assigned(network)
    slot.set_state(cut([PEER]))

    with pytest.raises(NetworkError, match=f"{MANAGER} is the manager's: it can never be cut"):
        slot.set_state(cut([STRANGER, MANAGER]))

    assert exchange(world.udp(MANAGER), world.udp(HOST)) == b"hello"
    assert exchange(world.udp(STRANGER), world.udp(HOST)) == b"hello"
    world.udp(HOST, TASK).sendto(b"lost", world.udp(PEER).getsockname())
    until("the peer is still cut", lambda: slot.counters().cut_out == 1)


@pytest.mark.parametrize("when", ["before", "while it is cut"])
def test_a_manager_on_a_cut_machine_is_heard(world: World, network: HostNetwork, when: str) -> None:
    """The volunteer's connection to it stands, and can be made: else nobody could heal the cut."""
    slot = assigned(network)
    connection = world.connection(PEER, OTHER) if when == "before" else None
    slot.set_state(cut([PEER]))

    here, there = connection or world.connection(PEER, OTHER)

    there.sendall(b"heal")
    assert here.recv(100) == b"heal"
    here.sendall(b"healed")
    assert there.recv(100) == b"healed"


@pytest.mark.parametrize("when", ["before", "while it is cut"])
def test_a_manager_on_this_machine_hears_a_cut_one(world: World, network: HostNetwork, when: str) -> None:
    """The volunteer over there calls it again, as it did before."""
    slot = assigned(network)
    listener = world.listener(OTHER)
    caller = world.call(PEER, listener) if when == "before" else None
    slot.set_state(cut([PEER]))

    there = caller or world.call(PEER, listener)

    here = world.stack.enter_context(listener.accept()[0])
    there.sendall(b"hello")
    here.settimeout(PATIENCE)
    assert here.recv(100) == b"hello"
    here.sendall(b"welcome")
    assert there.recv(100) == b"welcome"


def test_connections_of_the_task_are_cut_all_the_same(world: World, network: HostNetwork) -> None:
    """One that it has, and one that a cut peer makes to it; what it has not taken yet as well."""
    slot = assigned(network)
    here, there = world.connection(PEER, TASK)
    listener = world.listener(TASK)
    waiting = world.call(PEER, listener)
    slot.set_state(NetworkState(cut_in=(PEER,)))

    there.sendall(b"lost")
    waiting.sendall(b"lost too")
    until("both were dropped", lambda: slot.counters().cut_in >= 2)
    with pytest.raises(TimeoutError):
        world.call(PEER, listener, within=0.5)

    assert list(pending(here)) == []
    assert list(pending(world.stack.enter_context(listener.accept()[0]))) == []


def test_stale_tables_of_a_crashed_keeper_are_removed(world: World) -> None:
    """Tables that an instance left behind go when it opens again; another instance's stay."""
    crashed = HostNetwork("tst", HOST, [], world.host_fd)
    crashed.open()
    assigned(crashed).set_state(cut([PEER]))
    crashed.chains.close()  # all that the kernel does for a process that ends
    other = HostNetwork("tst2", HOST, [], world.host_fd)
    other.open()
    other.make_slot("other's")

    again = HostNetwork("tst", HOST, [], world.host_fd)
    again.open()

    assert tables_of(world) == ["syn_tst2", "syn_tst2"]
    assert exchange(world.udp(HOST, TASK), world.udp(PEER)) == b"hello"
    other.close()
    again.close()


def test_host_has_one_slot(world: World, network: HostNetwork) -> None:
    """A second slot is refused until the first is closed; a closed one leaves no table."""
    slot = network.make_slot("one")

    with pytest.raises(NetworkError, match="one slot, which is taken"):
        network.make_slot("two")
    slot.close()
    slot.close()

    assert network.leftovers() == []
    assert tables_of(world) == []
    network.make_slot("two")


def test_leftovers_name_a_table_without_a_slot(world: World, network: HostNetwork) -> None:
    """A table of this instance that no slot explains is told."""
    network.chains.transaction([network.uplink_table.create()])

    assert network.leftovers() == ["nft table syn_tst"]
    network.remove_tables()


def test_half_made_slot_is_released(world: World, network: HostNetwork) -> None:
    """If the tables cannot be made, none is left and the next slot succeeds."""
    network.chains.transaction([network.task_table.create()])

    with pytest.raises(NetworkError, match="make table syn_tst: File exists"):
        network.make_slot("one")

    assert tables_of(world) == []
    network.make_slot("two")


def test_slot_is_the_hosts(world: World, network: HostNetwork) -> None:
    """The slot has no namespace of its own, the uplink's MAC, and only the host's address."""
    slot = network.make_slot("one")

    assert slot.netns_fd is None
    assert slot.mac == network.uplink.mac != ""
    with pytest.raises(NetworkError, match="is not the host's address"):
        slot.assign(PEER, PREFIX, [PEER], TASK)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("10.9.9.9", "is no address of this machine"), ("127.0.0.1", "is a loopback address")],
)
def test_address_must_be_the_machines(world: World, address: str, reason: str) -> None:
    """An address that no device has, or that no other machine can reach, is refused at open."""
    network = HostNetwork("tst", address, [], world.host_fd)

    with pytest.raises(NetworkError, match=reason):
        network.open()
    network.close()


def test_held_task_reaches_nobody_until_it_resumes(world: World, network: HostNetwork) -> None:
    """A held task is known by its uid, before it is assigned too, and nothing that it sends passes."""
    slot = network.make_slot("one")
    slot.hold(TASK)
    early, peer = world.udp(HOST, TASK), world.udp(PEER)
    early.sendto(b"early", peer.getsockname())
    slot.assign(HOST, PREFIX, [HOST, PEER], TASK)
    early.sendto(b"still held", peer.getsockname())
    until("both were dropped", lambda: slot.counters().refused_out == 2)

    slot.resume()

    assert exchange(early, peer) == b"hello"
    slot.hold(TASK)
    early.sendto(b"held again", peer.getsockname())
    until("it was dropped", lambda: slot.counters().refused_out == 3)
    slot.resume()
    assert exchange(early, peer) == b"hello"
