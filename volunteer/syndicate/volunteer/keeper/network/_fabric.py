"""Slots in namespaces of their own, joined by a bridge in a namespace that the host's firewall cannot see.

Each slot hangs on a pair of devices; chains at the fabric's end of the pair decide what passes, out of the
reach of anything inside the slot. A fault only changes the elements of one set: making a table takes ten
times as long.

A cut drops IPv4 and lets ARP pass. Were ARP cut too, a sender would be told EHOSTUNREACH after three
seconds, and a heal would wait for the next try to resolve the address.
"""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Sequence

from . import _nft as nft
from . import _route as route
from ._common import Releases, check_addresses, check_instance, check_interface
from ._contract import Counters, NetworkError
from ._namespace import Sockets, held_namespaces, identity, make_namespace, write_sysctl
from ._netlink import Message, NetlinkSocket
from ._probe import OK, probe

_BRIDGE_INDEX = 1000  # above whatever devices a kernel puts into each new namespace
_FIRST_PORT_INDEX = _BRIDGE_INDEX + 1
_ETH0_INDEX = 1000
_MAX_SLOTS = 1000  # a bridge takes 1,023 ports; the rest is for those that the kernel is still removing
_NEEDED = frozenset({"netns", "veth", "bridge", "nft_tables", "nft_sets", "nft_ingress", "nft_egress"})
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LABEL_LENGTH = 5
_NUMBERS = len(_DIGITS) ** _LABEL_LENGTH
_FROM_SLOT, _TO_SLOT = "from_slot", "to_slot"
_CUT, _REFUSED = "cut", "refused"  # comments of the rules that count


def _rules(table: nft.Table, device: str, mac: str) -> list[Message]:
    """All of a slot's table: empty sets, and chains at its device that drop what no rule accepts."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    from_ip = [*nft.ipv4(), *nft.within(nft.IP_SOURCE, "own")]
    to_ip = [*nft.ipv4(), *nft.within(nft.IP_TARGET, "own")]
    from_arp = [
        *nft.arp(),
        *nft.equal(nft.ARP_SENDER_MAC, hardware),
        *nft.within(nft.ARP_SENDER, "own"),
        *nft.within(nft.ARP_TARGET, "peers"),
    ]
    to_arp = [*nft.arp(), *nft.within(nft.ARP_SENDER, "peers"), *nft.within(nft.ARP_TARGET, "own")]
    return [
        table.create(),
        table.new_set("own", nft.ADDRESSES, 1),
        table.new_set("peers", nft.ADDRESSES, 2),
        table.new_set("cut", nft.ADDRESSES, 3),
        table.chain(_FROM_SLOT, nft.INGRESS, drops=True, device=device),
        table.rule(_FROM_SLOT, "forged", nft.differ(nft.ETHER_SOURCE, hardware), nft.drop()),
        table.rule(_FROM_SLOT, _CUT, from_ip, nft.within(nft.IP_TARGET, "cut"), nft.drop()),
        table.rule(_FROM_SLOT, "job", from_ip, nft.within(nft.IP_TARGET, "peers"), nft.accept()),
        table.rule(_FROM_SLOT, "arp", from_arp, nft.accept()),
        table.rule(_FROM_SLOT, _REFUSED, nft.drop()),
        table.chain(_TO_SLOT, nft.EGRESS, drops=True, device=device),
        table.rule(_TO_SLOT, _CUT, to_ip, nft.within(nft.IP_SOURCE, "cut"), nft.drop()),
        table.rule(_TO_SLOT, "job", to_ip, nft.within(nft.IP_SOURCE, "peers"), nft.accept()),
        table.rule(_TO_SLOT, "arp", to_arp, nft.accept()),
        table.rule(_TO_SLOT, _REFUSED, nft.drop()),
    ]


def _label(number: int) -> str:
    """A slot's number as the five characters that are left for it in a device's name of fifteen."""
    digits = []
    for _ in range(_LABEL_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


class _RulesTemplate:
    """A slot's table encoded once; filling in the slot's names saves 4 ms of encoding for each slot."""

    _NUMBER = _NUMBERS - 1  # no slot gets it
    _MAC = "fe:ff:ff:ff:ff:fe"  # nor this

    def __init__(self, instance: str) -> None:
        self._label = f"{instance}-{_label(self._NUMBER)}"
        self._messages = _rules(nft.Table(nft.NETDEV, f"syn_{self._label}"), f"syn{self._label}", self._MAC)

    def fill(self, label: str, mac: str) -> list[Message]:
        """The messages for the slot of that label and hardware address, both as long as the blanks."""
        blank_mac, own_mac = (bytes.fromhex(text.replace(":", "")) for text in (self._MAC, mac))
        blank_label, own_label = self._label.encode(), label.encode()
        return [
            Message(
                message.what.replace(self._label, label),
                message.data.replace(blank_label, own_label).replace(blank_mac, own_mac),
            )
            for message in self._messages
        ]


def _prepare_slot() -> tuple[NetlinkSocket, Sockets]:
    """Set up a slot's namespace from within: no IPv6, and ping for tasks that have no capability."""
    _disable_ipv6()
    write_sysctl("ipv4/ping_group_range", "0 2147483647")
    sockets = Sockets()
    try:
        return NetlinkSocket(route.NETLINK_ROUTE), sockets
    except NetworkError:
        sockets.close()
        raise


def _prepare_fabric() -> tuple[NetlinkSocket, nft.NftSocket]:
    """Set up the fabric's namespace from within: no IPv6, no IP firewall over bridged packets."""
    _disable_ipv6()
    for protocol in ("iptables", "ip6tables", "arptables"):
        write_sysctl(f"bridge/bridge-nf-call-{protocol}", "0")
    link = NetlinkSocket(route.NETLINK_ROUTE)
    try:
        return link, nft.NftSocket()
    except NetworkError:
        link.close()
        raise


def _disable_ipv6() -> None:
    write_sysctl("ipv6/conf/all/disable_ipv6", "1")
    write_sysctl("ipv6/conf/default/disable_ipv6", "1")


class FabricSlot:
    """A slot in its own namespace; made by `FabricNetwork.make_slot`, which see."""

    def __init__(self, fabric: FabricNetwork, name: str, number: int, mac: str) -> None:
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
        self._label = f"{fabric.instance}-{_label(number)}"
        self._port = route.Device(_FIRST_PORT_INDEX + number, f"syn{self._label}")
        self._eth0 = route.Device(_ETH0_INDEX, "eth0", mac)
        self._table = nft.Table(nft.NETDEV, f"syn_{self._label}")
        self._empty_cut = self._table.flush("cut")
        self._disown = self._table.flush(
            "own"
        )  # the chains accept nothing that is not from or to an own address
        self._own: list[Message] = []
        # A slot is often cut from the same again, and encoding takes longer than the kernel does.
        self._last_cut: tuple[list[bytes], list[Message]] = ([], [])

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
            netns_fd, (link, self._sockets) = make_namespace(_prepare_slot)
            self._netns_fd, self._link = netns_fd, link
            self._fabric.adopt_namespace(netns_fd)
            self._fabric.links.request([route.make_veth(port, self._eth0, netns_fd, bridge)])
            self._fabric.chains.transaction(self._fabric.rules.fill(self._label, self._mac))
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

    def set_cut(self, peers: Sequence[str]) -> None:
        """See SlotNetwork."""
        if self._closed:
            raise NetworkError(f"slot {self._name} is closed: nothing can be cut", errno.EINVAL)
        elements = nft.address_elements(check_addresses(peers))
        if elements and elements != self._last_cut[0]:
            self._last_cut = elements, self._table.add("cut", elements)
        self._fabric.chains.transaction([self._empty_cut, *(self._last_cut[1] if elements else ())])

    def counters(self) -> Counters:
        """See SlotNetwork."""
        counted = self._table.packets(self._fabric.chains.link)
        try:
            return Counters(
                cut_out=counted[_FROM_SLOT, _CUT],
                cut_in=counted[_TO_SLOT, _CUT],
                refused_out=counted[_FROM_SLOT, _REFUSED] + counted[_FROM_SLOT, "forged"],
                refused_in=counted[_TO_SLOT, _REFUSED],
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


class FabricNetwork:
    """The network of a volunteer that gives each slot a namespace.

    Args:
        instance: the id in the names of all that is made in the kernel, 1 to 6 characters of a-z and 0-9.
        removal_seconds: how long `leftovers` waits for what the kernel is still removing; that takes about
            30 ms after the last hold on a namespace, more on a busy machine.

    Raises NetworkError for another instance id.
    """

    kind = "fabric"

    def __init__(self, instance: str, removal_seconds: float = 5.0) -> None:
        self.instance = check_instance(instance)
        self._removal_seconds = removal_seconds
        self._mac_prefix = f"02:{zlib.crc32(instance.encode()) & 0xFF:02x}"  # 02: locally administered
        self.bridge = route.Device(_BRIDGE_INDEX, f"syn{instance}", f"{self._mac_prefix}:ff:ff:ff:ff")
        self._netns_fd: int | None = None
        self._sockets: tuple[NetlinkSocket, nft.NftSocket] | None = None
        self._given: set[str] = set()  # devices that the kernel puts into each new namespace
        self.rules = _RulesTemplate(instance)
        self._slots: dict[int, FabricSlot] = {}
        self._slots_made = 0
        self._released: set[int] = set()  # identities of namespaces that should be gone
        self._lock = threading.Lock()

    @property
    def netns_fd(self) -> int | None:
        """Descriptor of the fabric's namespace, for people who look into it; None while it is not open."""
        return self._netns_fd

    @property
    def links(self) -> NetlinkSocket:
        """Devices of the fabric."""
        return self._open_sockets()[0]

    @property
    def chains(self) -> nft.NftSocket:
        """Chains of the fabric."""
        return self._open_sockets()[1]

    def _open_sockets(self) -> tuple[NetlinkSocket, nft.NftSocket]:
        if self._sockets is None:
            raise NetworkError(f"the network of instance {self.instance} is not open", errno.ENOTCONN)
        return self._sockets

    def open(self) -> None:
        """Make the fabric's namespace and bridge, once the kernel has shown that it can do all of this."""
        missing = [finding for name, finding in probe().items() if name in _NEEDED and finding != OK]
        if missing:
            raise NetworkError(missing[0], errno.EOPNOTSUPP)
        with self._lock:
            if self._sockets is not None:
                raise NetworkError(f"the network of instance {self.instance} is open already", errno.EISCONN)
            self._netns_fd, self._sockets = make_namespace(_prepare_fabric)
            try:
                self._given = {device.name for device in route.devices(self.links)}
                self.links.request([route.make_bridge(self.bridge)])
            except NetworkError:
                self._release()
                raise

    def make_slot(self, name: str) -> FabricSlot:
        """See Network. Slots may be made at once from several threads; at most 1,000 are open at a time."""
        with self._lock:
            self._open_sockets()
            if len(self._slots) >= _MAX_SLOTS:
                raise NetworkError(
                    f"slot {name}: {_MAX_SLOTS} are open, a bridge has no more ports", errno.EXFULL
                )
            number = self._slots_made % (_NUMBERS - 1)
            self._slots_made += 1
            mac = ":".join([self._mac_prefix, *(f"{byte:02x}" for byte in number.to_bytes(4, "big"))])
            slot = self._slots[number] = FabricSlot(self, name, number, mac)
        try:
            slot.make()
        except BaseException:
            slot.close()
            raise
        return slot

    def close(self) -> None:
        """See Network. The namespace itself ends in the kernel soon after the return."""
        releases = Releases()
        for slot in list(self._slots.values()):
            releases.attempt(slot.close)
        with self._lock:
            self._release()
        releases.finish()

    def leftovers(self) -> list[str]:
        """See Network."""
        found = []
        if self._sockets is not None and self._netns_fd is not None:
            explained = self._explained()
            devices = {device.name for device in route.devices(self.links)}
            tables = nft.tables(self.chains.link, nft.NETDEV)
            explained |= self._explained()  # once more: slots may come and go while this is asked
            lasting = route.await_removal(
                self.links, self._netns_fd, devices - explained, self._removal_seconds
            )
            found += [f"device {name}" for name in sorted(lasting)]
            found += [f"nft table {name}" for name in tables if name not in explained]
        with self._lock:
            held = held_namespaces()
            self._released &= set(held.values())
            found += [
                f"network namespace net:[{number}] held by descriptor {descriptor}"
                for descriptor, number in held.items()
                if number in self._released
            ]
        return found

    def adopt_namespace(self, netns_fd: int) -> None:
        """Note that a namespace is in use: the kernel gives the identity of one that ended to a new one."""
        with self._lock:
            self._released.discard(identity(netns_fd))

    def release_namespace(self, netns_fd: int) -> None:
        """Let go of a namespace, and remember that no other descriptor should hold it."""
        with self._lock:
            self._released.add(identity(netns_fd))
            os.close(netns_fd)

    def forget(self, number: int) -> None:
        """Note that a slot is closed."""
        with self._lock:
            self._slots.pop(number, None)

    def _explained(self) -> set[str]:
        slots = list(self._slots.values())
        return self._given.union({self.bridge.name}, *(slot.explains() for slot in slots))

    def _release(self) -> None:
        """Let go of the fabric's namespace; all that is in it goes with it."""
        for link in self._sockets or ():
            link.close()
        self._sockets = None
        if self._netns_fd is not None:
            self._released.add(identity(self._netns_fd))
            os.close(self._netns_fd)
            self._netns_fd = None
