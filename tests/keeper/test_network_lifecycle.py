"""What the fabric makes in the kernel, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from keeper.network_helpers import PATIENCE, PREFIX, Slot, cut, descriptors, until
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError, in_namespace
from syndicate.volunteer.keeper.network import _nft as nft
from syndicate.volunteer.keeper.network import _route as route
from syndicate.volunteer.keeper.network._namespace import held_namespaces, identity, make_namespace
from syndicate.volunteer.keeper.network._netlink import NetlinkSocket


@pytest.fixture
def fabric() -> Iterator[FabricNetwork]:
    """An open network, closed at the end."""
    network = FabricNetwork("tst")
    network.open()
    yield network
    network.close()


class Canary:
    """A device of a scratch namespace that ends when a watched namespace ends, which holds its other end."""

    def __init__(self, stack: contextlib.ExitStack, netns_fd: int | None) -> None:
        assert netns_fd is not None
        self._netns_fd, self._link = make_namespace(lambda: NetlinkSocket(route.NETLINK_ROUTE))
        stack.callback(os.close, self._netns_fd)
        stack.callback(self._link.close)
        device = route.Device(50, "syncanary")
        self._link.request([route.make_veth(device, route.Device(51, "synother"), netns_fd)])

    def outlives(self, seconds: float) -> bool:
        """Whether the watched namespace is still there after so many seconds; returns when it ends."""
        return bool(route.await_removal(self._link, self._netns_fd, {"syncanary"}, seconds))


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Releases what a test holds before its network is closed."""
    with contextlib.ExitStack() as stack:
        yield stack


def in_fabric(fabric: FabricNetwork) -> tuple[set[str], list[str]]:
    """Devices and tables of the fabric's namespace."""
    return {device.name for device in route.devices(fabric.links)}, nft.tables(fabric.chains.link, nft.NETDEV)


def test_closed_slot_leaves_nothing(fabric: FabricNetwork, stack: contextlib.ExitStack) -> None:
    """Device, table, descriptor and namespace of a slot are gone after its close."""
    before, held = in_fabric(fabric), held_namespaces()
    slot = fabric.make_slot("one")
    slot.assign("10.77.0.1", PREFIX, ["10.77.0.1", "10.77.0.2"], uid=0)
    slot.set_state(cut(["10.77.0.2"]))
    canary = Canary(stack, slot.netns_fd)

    slot.close()

    assert fabric.leftovers() == []
    assert in_fabric(fabric) == before
    assert slot.netns_fd is None
    assert not canary.outlives(PATIENCE)
    assert set(held_namespaces().values()) <= set(held.values()) | {identity(canary._netns_fd)}


def test_unfinished_connections_keep_no_port(fabric: FabricNetwork, stack: contextlib.ExitStack) -> None:
    """What a cut peer never acknowledged keeps the namespace for minutes; the port goes all the same."""
    addresses = ["10.77.0.1", "10.77.0.2"]
    slots = [Slot(fabric.make_slot(address), address, stack) for address in addresses]
    for slot in slots:
        slot.network.assign(slot.address, PREFIX, addresses, uid=0)
    here, there = slots[0].connection(slots[1])
    slots[0].network.set_state(cut(addresses[1:]))
    here.sendall(b"never to be heard of")
    here.close()
    there.close()
    port = slots[0].network._port.name

    slots[0].network.close()

    assert port not in in_fabric(fabric)[0]


def test_close_is_idempotent(fabric: FabricNetwork) -> None:
    """A second close of a slot or of the network does nothing."""
    slot = fabric.make_slot("one")

    slot.close()
    slot.close()
    fabric.close()
    fabric.close()
    slot.close()

    assert fabric.leftovers() == []


def test_closed_network_leaves_nothing(stack: contextlib.ExitStack) -> None:
    """The namespaces of fabric and slots end when the network is closed with its slots open."""
    network = FabricNetwork("tst")
    network.open()
    slots = [network.make_slot(name) for name in ("one", "two")]
    canaries = [
        Canary(stack, netns_fd) for netns_fd in (network.netns_fd, *(slot.netns_fd for slot in slots))
    ]

    network.close()

    assert [canary.outlives(PATIENCE) for canary in canaries] == [False, False, False]
    assert network.leftovers() == []


def test_network_opens_again_after_close(fabric: FabricNetwork) -> None:
    """A closed network can be opened and used again."""
    fabric.close()

    fabric.open()

    fabric.make_slot("one").set_state(cut([]))
    assert fabric.leftovers() == []


@pytest.mark.parametrize("obstacle", ["device", "table"])
def test_half_made_slot_is_released(
    fabric: FabricNetwork, stack: contextlib.ExitStack, obstacle: str
) -> None:
    """A slot that fails midway leaves neither device nor table nor namespace, and the next one succeeds."""
    held = held_namespaces()
    before = in_fabric(fabric)
    if obstacle == "device":
        fabric.links.request([route.make_bridge(route.Device(9, "syntst-00000", "02:00:00:00:00:09"))])
    else:
        fabric.chains.transaction([nft.Table(nft.NETDEV, "syn_tst-00000").create()])

    with pytest.raises(NetworkError, match=r"00000.*: File exists"):
        fabric.make_slot("one")

    if obstacle == "device":
        fabric.links.request([route.remove(route.Device(9, "syntst-00000"))])
    assert fabric.leftovers() == []
    assert in_fabric(fabric) == before
    assert held_namespaces() == held
    fabric.make_slot("two")


def test_leftovers_name_what_no_slot_explains() -> None:
    """A stray device, a stray table and a leaked descriptor of a closed slot are each told."""
    fabric = FabricNetwork("tst", removal_seconds=0.1)
    fabric.open()
    fabric.make_slot("kept")
    slot = fabric.make_slot("leaked")
    assert slot.netns_fd is not None
    leaked = os.dup(slot.netns_fd)
    number = identity(leaked)
    try:
        slot.close()
        fabric.chains.transaction([nft.Table(nft.NETDEV, "syn_stray").create()])

        found = fabric.leftovers()

        assert found == [
            "device syntst-00001",  # its other end is in the namespace that is still held
            "nft table syn_stray",
            f"network namespace net:[{number}] held by descriptor {leaked}",
        ]
    finally:
        os.close(leaked)
        fabric.close()


def test_closed_slot_refuses_work(fabric: FabricNetwork) -> None:
    """After its close a slot takes no address, no cut, and has no counters."""
    slot = fabric.make_slot("one")
    slot.close()

    with pytest.raises(NetworkError, match="slot one: closed"):
        slot.assign("10.77.0.1", PREFIX, [], uid=0)
    with pytest.raises(NetworkError, match="slot one is closed"):
        slot.set_state(cut([]))
    with pytest.raises(NetworkError, match="slot one has no counters"):
        slot.counters()


def test_network_that_is_not_open_refuses_slots() -> None:
    """A slot needs an open network, and a network is opened once."""
    network = FabricNetwork("tst")

    with pytest.raises(NetworkError, match="not open"):
        network.make_slot("one")
    network.open()
    with pytest.raises(NetworkError, match="open already"):
        network.open()
    network.close()


@pytest.mark.parametrize("instance", ["", "toolong", "Upper", "a-b", "a/b"])
def test_instance_must_fit_into_device_names(instance: str) -> None:
    """An instance id that would not fit into a name of 15 characters is refused."""
    with pytest.raises(NetworkError, match="1 to 6 characters"):
        FabricNetwork(instance)


def test_names_of_devices_and_tables_carry_the_instance(fabric: FabricNetwork) -> None:
    """Everything made in the fabric begins with `syn` and the instance, in at most 15 characters."""
    fabric.make_slot("one")

    names, tables = in_fabric(fabric)

    made = names - fabric._given
    detours = {f"syntst-{kind}{end}" for kind in ("rst", "slo", "dly") for end in (0, 1)}
    assert made == {"syntst", "syntst-00000"} | detours
    assert all(len(name) <= 15 for name in made)
    assert tables == ["syn_tst", "syn_tst-00000"]


def test_slots_are_made_and_closed_from_many_threads(fabric: FabricNetwork) -> None:
    """Slots made, assigned, cut and closed at once from four threads do not disturb each other."""

    def live(number: int) -> None:
        slot = fabric.make_slot(str(number))
        slot.assign(f"10.77.0.{number + 1}", PREFIX, ["10.77.0.200"], uid=0)
        slot.set_state(cut(["10.77.0.200"]))
        slot.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(20)))

    assert fabric.leftovers() == []


def test_callers_stay_in_their_namespace(fabric: FabricNetwork) -> None:
    """Neither the calling thread nor one that outlives the calls ends up in a slot's namespace."""
    home = os.stat("/proc/thread-self/ns/net").st_ino

    slot = fabric.make_slot("one")
    inside = in_namespace(slot.netns_fd, lambda: os.stat("/proc/thread-self/ns/net").st_ino)

    assert slot.netns_fd is not None
    assert inside == identity(slot.netns_fd) != home
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
    until("the throw-away threads ended", lambda: threads_outside(home) == 0)


def threads_outside(home: int) -> int:
    """How many threads of this process are in another network namespace than `home`."""
    outside = 0
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it ends meanwhile
            outside += os.stat(f"/proc/self/task/{thread}/ns/net").st_ino != home
    return outside


def test_descriptors_do_not_leak(fabric: FabricNetwork) -> None:
    """Fifty slots made and closed leave the process with as many descriptors and threads as before."""
    fabric.make_slot("warm").close()
    before, threads = descriptors(), set(threading.enumerate())

    for number in range(50):
        slot = fabric.make_slot(str(number))
        slot.assign("10.77.0.1", PREFIX, [], uid=0)
        slot.close()

    assert descriptors() <= before
    assert set(threading.enumerate()) <= threads
