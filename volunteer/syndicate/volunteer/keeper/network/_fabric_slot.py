"""A slot of the fabric: a namespace, and a pair of devices with chains at the fabric's end."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from typing import Protocol

from ...local import NetworkState
from . import _nft as nft
from . import _route as route
from ._common import Releases, check_addresses, check_interface
from ._contract import Counters, NetworkError, SlotNetwork
from ._faults import Means, Plan, SlotFaults
from ._links import LOST
from ._namespace import Sockets, make_namespace, write_sysctl
from ._netlink import Message, NetlinkSocket
from ._slot_table import FORGED, FROM_SLOT, REFUSED, TO_SLOT, label

BRIDGE_INDEX = 1000  # above whatever devices a kernel puts into each new namespace
_FIRST_PORT_INDEX = BRIDGE_INDEX + 10  # those between are of detours
_ETH0_INDEX = 1000


def _prepare() -> tuple[NetlinkSocket, Sockets]:
    """Set up a slot's namespace from within: no IPv6, and ping for tasks that have no capability."""
    disable_ipv6()
    write_sysctl("ipv4/ping_group_range", "0 2147483647")
    sockets = Sockets()
    try:
        return NetlinkSocket(route.NETLINK_ROUTE), sockets
    except NetworkError:
        sockets.close()
        raise


def disable_ipv6() -> None:
    """For the namespace of the calling thread."""
    write_sysctl("ipv6/conf/all/disable_ipv6", "1")
    write_sysctl("ipv6/conf/default/disable_ipv6", "1")


class Fabric(Protocol):
    """What a slot asks of the fabric that it is in; `FabricNetwork` is one."""

    @property
    def instance(self) -> str:
        """The id in all names."""

    @property
    def bridge(self) -> route.Device:
        """What the slots' devices are joined by."""

    @property
    def links(self) -> NetlinkSocket:
        """For devices."""

    @property
    def chains(self) -> nft.NftSocket:
        """For chains."""

    @property
    def means(self) -> Means:
        """By what slots suffer."""

    def set_states(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> None:
        """Let slots suffer exactly this, all of them or none. Raises NetworkError."""

    def adopt_namespace(self, netns_fd: int) -> None:
        """A namespace is in use."""

    def release_namespace(self, netns_fd: int) -> None:
        """It is not any more."""

    def forget(self, number: int) -> None:
        """A slot is closed."""


class FabricSlot:
    """A slot in its own namespace; made by `FabricNetwork.make_slot`, which see."""

    def __init__(self, fabric: Fabric, name: str, number: int, mac: str) -> None:
        self._fabric = fabric
        self._name = name
        self._number = number
        self._mac = mac
        self._netns_fd: int | None = None
        self._link: NetlinkSocket | None = None
        self._sockets: Sockets | None = None
        self._assigned = False
        self._held = False
        self._closed = False
        self._close_failed = False
        self._lock = threading.Lock()  # make, assign and close exclude each other
        self._label = f"{fabric.instance}-{label(number)}"
        self._port = route.Device(_FIRST_PORT_INDEX + number, f"syn{self._label}")
        self._eth0 = route.Device(_ETH0_INDEX, "eth0", mac)
        self._table = nft.Table(nft.NETDEV, f"syn_{self._label}")
        self._faults = SlotFaults(name, self._label, mac, fabric.means)
        self._disown = self._table.flush(
            "own"
        )  # the chains accept nothing that is not from or to an own address
        self._own: list[Message] = []

    @property
    def netns_fd(self) -> int | None:
        """Descriptor of the slot's namespace, owned by the slot; None once it is closed."""
        return self._netns_fd

    @property
    def mac(self) -> str:
        """The only hardware address whose frames leave the slot."""
        return self._mac

    def make(self) -> None:
        """Make it all, the chains before the port comes up; raises NetworkError, then it is to be closed."""
        with self._lock:
            bridge, port = self._fabric.bridge, self._port
            netns_fd, (link, self._sockets) = make_namespace(_prepare)
            self._netns_fd, self._link = netns_fd, link
            self._fabric.adopt_namespace(netns_fd)
            self._fabric.links.request([route.make_veth(port, self._eth0, netns_fd, bridge)])
            self._fabric.chains.transaction(self._fabric.means.template.fill(self._label, self._mac))
            self._fabric.links.request(
                [route.fix_port(port), route.forward_to(port, self._mac), route.set_up(port.index, port.name)]
            )
            link.request([route.set_up(route.LOOPBACK_INDEX, "lo"), route.set_up(_ETH0_INDEX, "eth0")])

    def assign(self, address: str, prefix_length: int, peers: Sequence[str], uid: int) -> None:
        """See SlotNetwork; the uid does not matter here, the whole namespace is the task's."""
        del uid
        own, *others = check_addresses([address, *peers])
        interface = check_interface(own, prefix_length)
        reachable = [peer for peer in others if peer != own]
        with self._lock:
            if self._closed or self._assigned or self._link is None:
                raise NetworkError(f"slot {self._name}: closed, or has its one address already", errno.EINVAL)
            self._assigned = True
            self._own = self._table.add("own", nft.address_elements([own]))
            peers_set = self._table.add("peers", nft.address_elements(reachable))
            self._fabric.chains.transaction([*(() if self._held else self._own), *peers_set])
            self._link.request([route.add_address(self._eth0, interface)])
            self._link.close()
            self._link = None

    def hold(self, uid: int) -> None:
        """See SlotNetwork; the uid does not matter here."""
        del uid
        with self._lock:
            if self._closed:
                raise NetworkError(f"slot {self._name} is closed: nothing can be held", errno.EINVAL)
            if not self._held and self._own:
                self._fabric.chains.transaction([self._disown])
            self._held = True

    def resume(self) -> None:
        """See SlotNetwork."""
        with self._lock:
            if self._closed:
                raise NetworkError(f"slot {self._name} is closed: nothing can pass", errno.EINVAL)
            if self._held and self._own:
                self._fabric.chains.transaction(self._own)
            self._held = False

    def set_state(self, state: NetworkState) -> None:
        """See SlotNetwork."""
        self._fabric.set_states([(self, state)])

    def plan(self, state: NetworkState) -> Plan:
        """What is to be done for the slot to suffer exactly this; raises NetworkError where it cannot be.

        The caller has the slot's lock until the plan is carried out or given up.
        """
        if self._closed:
            raise NetworkError(f"slot {self._name} is closed: its network can suffer nothing", errno.EINVAL)
        return self._faults.plan(state)

    def is_brief(self, state: NetworkState) -> bool:
        """Whether only elements of sets are to be changed, and nobody else changes the slot."""
        return not state.links and self._faults.is_plain and not self._lock.locked()

    @property
    def lock(self) -> threading.Lock:
        """Held by who changes the slot."""
        return self._lock

    @property
    def number(self) -> int:
        """Slots are locked in the order of their numbers."""
        return self._number

    def counters(self) -> Counters:
        """See SlotNetwork."""
        counted = self._table.packets(self._fabric.chains.link)
        try:
            return Counters(
                cut_out=sum(counted[FROM_SLOT, rule] for rule in self._fabric.means.template.cutting),
                cut_in=sum(counted[TO_SLOT, rule] for rule in self._fabric.means.template.cutting),
                lost=counted[LOST, LOST],
                refused_out=counted[FROM_SLOT, REFUSED] + counted[FROM_SLOT, FORGED],
                refused_in=counted[TO_SLOT, REFUSED],
            )
        except KeyError:
            raise NetworkError(f"slot {self._name} has no counters: it is closed", errno.ENOENT) from None

    def close(self) -> None:
        """See SlotNetwork.

        The port goes down first, so that no packet ever passes without the chains. The kernel removes the
        devices with the namespace, about 30 ms after the return; a job should not wait for that. But where a
        connection still waits for its peer's last answer the namespace stays for minutes, and jobs that leave
        such ones would fill the bridge with ports: then the port is removed here.
        """
        with self._lock:
            if self._closed:
                return
            releases = Releases()
            releases.attempt(self._bring_down, errno.ENODEV, errno.ENOTCONN)
            releases.attempt(self._remove_table, errno.ENOENT, errno.ENOTCONN)
            releases.attempt(self._faults.release)
            releases.attempt(self._remove_port_in_use, errno.ENODEV, errno.ENOTCONN)
            if self._link is not None:
                self._link.close()
                self._link = None
            if self._netns_fd is not None:
                self._fabric.release_namespace(self._netns_fd)
                self._netns_fd = None
            self._close_failed = True
            releases.finish()
            self._closed = True
        self._fabric.forget(self._number)

    def _bring_down(self) -> None:
        self._fabric.links.request([route.set_down(self._port)])

    def _remove_port_in_use(self) -> None:
        sockets, self._sockets = self._sockets, None
        if sockets is None:
            return
        try:
            if sockets.tcp():
                self._fabric.links.request([route.remove(self._port)])
        finally:
            sockets.close()

    def _remove_table(self) -> None:
        self._fabric.chains.transaction([self._table.delete()])

    def explains(self) -> set[str]:
        """Names of what it rightly holds in the fabric; a slot whose close failed holds nothing rightly."""
        return set() if self._closed or self._close_failed else {self._port.name, self._table.name}
