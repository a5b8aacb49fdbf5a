"""Sockets inside slots, and waits that end with the event or fail at a deadline."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from syndicate.volunteer.keeper.network import FabricNetwork, in_namespace
from syndicate.volunteer.keeper.network import _route as route
from syndicate.volunteer.keeper.network._common import check_interface
from syndicate.volunteer.keeper.network._netlink import NetlinkSocket
from syndicate.volunteer.local import NetworkState

T = TypeVar("T")

PATIENCE = 60.0  # seconds; for what happens within milliseconds on a quiet machine
PREFIX = 16
IP_RECVERR = 11
ETH_P_ALL = 3


def descriptors() -> set[str]:
    """Every descriptor of this process with what it is of.

    What earlier tests left for the collector is closed before: a descriptor that goes in the midst of a test
    would make room for one that is looked for.
    """
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


def until(what: str, condition: Callable[[], bool]) -> None:
    """Ask the kernel until it says so; fail if it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in {PATIENCE:g} s: {what}"


def settled(measure: Callable[[], T], is_right: Callable[[T], bool], times: int = 6) -> T:
    """What was measured, and is right; or the last of so many measurements, none of which was.

    For times and rates: on a busy machine who sends, carries or receives may stand still in the midst of one.
    """
    for _ in range(times):
        measured = measure()
        if is_right(measured):
            break
    return measured


class Slot:
    """A slot with its address and the sockets that a test opened in it."""

    def __init__(self, network: object, address: str, stack: contextlib.ExitStack) -> None:
        self.network = network
        self.address = address
        self._stack = stack

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the slot and ends with the test."""
        made = in_namespace(self.network.netns_fd, lambda: socket.socket(family, kind, protocol))
        made.settimeout(PATIENCE)
        return self._stack.enter_context(made)

    def udp(self, port: int = 0) -> socket.socket:
        """A UDP socket on the slot's address that reports every error the kernel learns of."""
        made = self.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        made.bind((self.address, port))
        return made

    def connection(self, other: Slot) -> tuple[socket.socket, socket.socket]:
        """Both ends of a TCP connection from this slot to the other."""
        listener = other.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((other.address, 0))
        listener.listen()
        here = self.socket(socket.AF_INET, socket.SOCK_STREAM)
        here.connect(listener.getsockname())
        there, _ = listener.accept()
        there.settimeout(PATIENCE)
        return here, self._stack.enter_context(there)

    def frames(self) -> socket.socket:
        """A socket for whole Ethernet frames on the slot's device."""
        made = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.bind(("eth0", ETH_P_ALL))
        return made

    def cut_out(self) -> int:
        """Packets of its own that a cut dropped."""
        return self.network.counters().cut_out

    def cut_in(self) -> int:
        """Packets to it that a cut dropped."""
        return self.network.counters().cut_in

    def refused_out(self) -> int:
        """Packets of its own that isolation dropped."""
        return self.network.counters().refused_out

    def refused_in(self) -> int:
        """Packets to it that isolation dropped."""
        return self.network.counters().refused_in


def cut(peers: Sequence[str]) -> NetworkState:
    """Nothing but a cut from these."""
    return NetworkState(cut=tuple(peers))


@contextlib.contextmanager
def slots_of_a_job(
    *addresses: str, trouble: Callable[[str], None] = lambda what: None
) -> Iterator[tuple[FabricNetwork, list[Slot]]]:
    """An open network and the slots of one job in it; at the end nothing of them is left."""
    fabric = FabricNetwork("tst", trouble=trouble)
    fabric.open()
    try:
        with contextlib.ExitStack() as stack:
            yield fabric, [add_slot(fabric, address, addresses, stack) for address in addresses]
    finally:
        fabric.close()
    assert fabric.leftovers() == []


def add_slot(fabric: FabricNetwork, address: str, peers: Sequence[str], stack: contextlib.ExitStack) -> Slot:
    """One more slot, of a job with these members."""
    network = fabric.make_slot(address)
    network.assign(address, PREFIX, peers, uid=0)
    return Slot(network, address, stack)


def exchange(sender: socket.socket, receiver: socket.socket, data: bytes = b"hello") -> bytes:
    """Send one datagram and return the next that the receiver gets."""
    sender.sendto(data, receiver.getsockname())
    return receiver.recv(2048)


def pending(receiver: socket.socket) -> Iterator[bytes]:
    """What has arrived and was not read yet; an empty piece at the end of a connection."""
    receiver.setblocking(False)
    try:
        data = b"more"
        while data:
            data = receiver.recv(2048)
            yield data
    except BlockingIOError:
        return
    finally:
        receiver.settimeout(PATIENCE)


def take_address(slot: Slot, address: str) -> None:
    """Give the slot's device one more address, as no task could."""

    def add() -> None:
        link = NetlinkSocket(route.NETLINK_ROUTE)
        with contextlib.closing(link):
            eth0 = next(device for device in route.devices(link) if device.name == "eth0")
            link.request([route.add_address(eth0, check_interface(address, PREFIX))])

    in_namespace(slot.network.netns_fd, add)


def devices_of(netns_fd: int | None) -> list[route.Device]:
    """All devices of a namespace."""

    def ask() -> list[route.Device]:
        with contextlib.closing(NetlinkSocket(route.NETLINK_ROUTE)) as link:
            return route.devices(link)

    return in_namespace(netns_fd, ask)
