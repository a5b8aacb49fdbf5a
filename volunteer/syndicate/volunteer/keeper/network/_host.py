"""One slot in the host's own network: chains on the uplink that know the task by its uid.

Weaker than a namespace: the loopback device is the host's. What a cut peer sends is lost for the task, and so
is what no socket is known for. TCP of others passes, such as the volunteer's to its manager, and what calls a
manager on this machine: a cut that severed these could not be healed.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import TypeVar

from ...local import NetworkState
from . import _nft as nft
from . import _route as route
from ._capabilities import faults
from ._common import Releases, check_addresses, check_instance
from ._contract import Counters, NetworkError, SlotNetwork
from ._listeners import listening
from ._namespace import in_namespace
from ._netlink import Message, NetlinkSocket

T = TypeVar("T")

_FROM_HOST, _TO_HOST, _OTHER_DEVICES = "from_host", "to_host", "other_devices"
_NOT_HERE = 'not in the host\'s network; give slots a network of their own (network = "fabric")'
_CUT, _REFUSED = "cut", "refused"  # comments of the rules that count


def _uplink_rules(table: nft.Table, device: str) -> list[Message]:
    """The uplink's table: nothing is cut, nobody is the task.

    A socket whose process has ended has no owner, yet its FIN or RST may still leave: to a cut peer only what
    is known to belong to another user may go.
    """
    to_cut = [*nft.ipv4(), *nft.within(nft.IP_TARGET, "cut_out")]
    to_peer = [*nft.ipv4(), *nft.within(nft.IP_TARGET, "peers")]
    return [
        table.create(),
        table.new_set("task", nft.UIDS, 1),
        table.new_set("peers", nft.ADDRESSES, 2),
        table.new_set("cut_out", nft.ADDRESSES, 3),
        table.chain(_FROM_HOST, nft.EGRESS, drops=False, device=device),
        table.rule(_FROM_HOST, "others", to_cut, nft.owned_by_others("task"), nft.accept()),
        table.rule(_FROM_HOST, _CUT, to_cut, nft.drop()),
        table.rule(_FROM_HOST, "job", nft.owned_by("task"), to_peer, nft.accept()),
        table.rule(_FROM_HOST, _REFUSED, nft.owned_by("task"), nft.drop()),
    ]


def _task_rules(table: nft.Table, device: str) -> list[Message]:
    """The table that knows sockets: it keeps the task off every device but the uplink and loopback, and cut.

    To leave by another it may be refused by EPERM: this is no fault that should look like a silent network.
    What comes in is looked at where the kernel has found the socket of a connection, also of one that is
    being made from here (`tcp_early_demux`). One that is being made to here has none: its port is known.
    """
    outside = [*nft.leaves_by_other_than(device), *nft.leaves_by_other_than("lo")]
    from_cut = [*nft.over_ipv4(), *nft.within(nft.IP_SOURCE, "cut_in")]
    return [
        table.create(),
        table.new_set("task", nft.UIDS, 1),
        table.new_set("cut_in", nft.ADDRESSES, 2),
        table.new_set("others_ports", nft.PORTS, 3),
        table.chain(_OTHER_DEVICES, nft.OUTPUT, drops=False),
        table.rule(_OTHER_DEVICES, _REFUSED, outside, nft.owned_by("task"), nft.drop()),
        table.chain(_TO_HOST, nft.INPUT, drops=False),
        table.rule(_TO_HOST, "others", from_cut, nft.owned_by_others("task"), nft.accept()),
        table.rule(_TO_HOST, "ports", from_cut, nft.to_tcp_port_within("others_ports"), nft.accept()),
        table.rule(_TO_HOST, _CUT, from_cut, nft.drop()),
    ]


class HostSlot:
    """The only slot of a host; made by `HostNetwork.make_slot`, which see."""

    netns_fd = None

    def __init__(self, host: HostNetwork, name: str) -> None:
        self._host = host
        self._name = name
        self._assigned = False
        self._held = False
        self._closed = False
        self._lock = threading.Lock()
        self._cut_out, self._cut_in = host.uplink_table.filling("cut_out"), host.task_table.filling("cut_in")
        self._ports = host.task_table.filling("others_ports")
        self._peers: list[Message] = []
        self._uid: int | None = None

    @property
    def mac(self) -> str:
        """The uplink's hardware address."""
        return self._host.uplink.mac

    def make(self) -> None:
        """Make the tables, empty. Raises NetworkError, then it is to be closed."""
        device = self._host.uplink.name
        tables = [
            _uplink_rules(self._host.uplink_table, device),
            _task_rules(self._host.task_table, device),
        ]
        self._host.chains.transaction([message for table in tables for message in table])

    def assign(self, address: str, prefix_length: int, peers: Sequence[str], uid: int) -> None:
        """See SlotNetwork; the address must be the host's, its prefix is what it is already."""
        del prefix_length
        own, *others = check_addresses([address, *peers])
        if own != self._host.address:
            raise NetworkError(f"slot {self._name}: {own} is not the host's address {self._host.address}")
        reachable = nft.address_elements([peer for peer in others if peer != own])
        with self._lock:
            if self._closed or self._assigned:
                state = "closed" if self._closed else "assigned already"
                raise NetworkError(f"slot {self._name} is {state}: it takes one task, once", errno.EINVAL)
            self._assigned = True
            self._peers = self._host.uplink_table.add("peers", reachable)
            self._host.chains.transaction([*(() if self._held else self._peers), *self._known_by(uid)])

    def _known_by(self, uid: int) -> list[Message]:
        """Have the chains know the task, which are open to all others."""
        self._uid = uid
        task = [nft.uid_element(uid)]
        return [*self._host.uplink_table.add("task", task), *self._host.task_table.add("task", task)]

    def hold(self, uid: int) -> None:
        """See SlotNetwork: a task that is known and has no peers reaches nobody."""
        with self._lock:
            if self._closed:
                raise NetworkError(f"slot {self._name} is closed: nothing can be held", errno.EINVAL)
            if not self._held:
                self._host.chains.transaction([self._host.uplink_table.flush("peers"), *self._known_by(uid)])
            self._held = True

    def resume(self) -> None:
        """See SlotNetwork."""
        with self._lock:
            if self._closed:
                raise NetworkError(f"slot {self._name} is closed: nothing can pass", errno.EINVAL)
            if self._held and self._peers:
                self._host.chains.transaction(self._peers)
            self._held = False

    def set_state(self, state: NetworkState) -> None:
        """See SlotNetwork. Raises NetworkError also for an address that must never be cut."""
        if self._closed:
            raise NetworkError(f"slot {self._name} is closed: its network can suffer nothing", errno.EINVAL)
        if state.reset or state.links:
            asked = "reset" if state.reset else "links"
            raise NetworkError(f"{asked}: {_NOT_HERE}", errno.EOPNOTSUPP)
        cut_out = check_addresses([*state.cut, *state.cut_out])
        cut_in = check_addresses([*state.cut, *state.cut_in])
        spared = sorted(self._host.never_cut.intersection([*cut_out, *cut_in]))
        if spared:
            raise NetworkError(f"{', '.join(spared)} is the manager's: it can never be cut", errno.EPERM)
        self._host.chains.transaction(
            [
                *(self._others_ports() if cut_in else ()),
                *self._cut_out.exactly(nft.address_elements(cut_out)),
                *self._cut_in.exactly(nft.address_elements(cut_in)),
            ]
        )

    def _others_ports(self) -> list[Message]:
        """Have the chains know where others than the task take connections now."""
        ports = in_namespace(self._host.netns_fd, lambda: listening(self._uid))
        return self._ports.exactly(nft.port_elements(ports))

    def counters(self) -> Counters:
        """See SlotNetwork; `refused_in` is 0: what comes in is refused by nobody."""
        link = self._host.chains.link
        counted = self._host.uplink_table.packets(link) | self._host.task_table.packets(link)
        try:
            return Counters(
                cut_out=counted[_FROM_HOST, _CUT],
                cut_in=counted[_TO_HOST, _CUT],
                lost=0,
                refused_out=counted[_FROM_HOST, _REFUSED] + counted[_OTHER_DEVICES, _REFUSED],
                refused_in=0,
            )
        except KeyError:
            raise NetworkError(f"slot {self._name} has no counters: it is closed", errno.ENOENT) from None

    def close(self) -> None:
        """See SlotNetwork."""
        with self._lock:
            if self._closed:
                return
            self._host.remove_tables()
            self._closed = True
        self._host.forget(self)


class HostNetwork:
    """The network of a volunteer whose one slot shares the host's.

    Args:
        instance: the id in the names of its tables, 1 to 6 characters of a-z and 0-9.
        address: the host's address, under which the slot is reached; its device is the uplink.
        never_cut: addresses of the manager.
        netns_fd: the namespace to work in, for tests; None for the caller's. Stays the caller's.

    Raises NetworkError for an instance id or an address that is none.
    """

    kind = "host"

    def __init__(
        self, instance: str, address: str, never_cut: Sequence[str], netns_fd: int | None = None
    ) -> None:
        name = f"syn_{check_instance(instance)}"
        self.address = check_addresses([address])[0]
        self.never_cut = frozenset(check_addresses(never_cut))
        self.uplink_table = nft.Table(nft.NETDEV, name)
        self.task_table = nft.Table(nft.INET, name)
        self.netns_fd = netns_fd
        self._chains: nft.NftSocket | None = None
        self._uplink: route.Device | None = None
        self._slot: HostSlot | None = None
        self._lock = threading.Lock()

    @property
    def chains(self) -> nft.NftSocket:
        """Chains of the host."""
        return self._opened(self._chains)

    @property
    def uplink(self) -> route.Device:
        """The device that has the host's address."""
        return self._opened(self._uplink)

    def faults(self) -> dict[str, str]:
        """See Network."""
        return faults(self.kind)

    def open(self) -> None:
        """Find the uplink, and remove the tables that a keeper of this instance left when it crashed."""
        with self._lock:
            if self._chains is not None:
                raise NetworkError(f"the network {self.uplink_table.name} is open already", errno.EISCONN)
            self._uplink = in_namespace(self.netns_fd, self._find_uplink)
            try:
                self._chains = in_namespace(self.netns_fd, nft.NftSocket)
                self.remove_tables()
            except NetworkError as error:
                self._release()
                raise error.with_remedy("nft_tables") from error

    def make_slot(self, name: str) -> HostSlot:
        """See Network. Raises NetworkError for a second slot while there is one."""
        with self._lock:
            if self._slot is not None:
                raise NetworkError(
                    f"slot {name}: the host's network has one slot, which is taken", errno.EBUSY
                )
            slot = self._slot = HostSlot(self, name)
        try:
            slot.make()
        except NetworkError as error:
            slot.close()
            raise error.with_remedy("nft_egress") from error
        except BaseException:
            slot.close()
            raise
        return slot

    def set_states(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> None:
        """See Network; there is one slot at most."""
        for slot, state in changes:
            slot.set_state(state)

    def is_brief(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> bool:
        """See Network; the host's own rules may be in use by others."""
        del changes
        return False

    def close(self) -> None:
        """See Network."""
        releases = Releases()
        if self._slot is not None:
            releases.attempt(self._slot.close)
        with self._lock:
            self._release()
        releases.finish()

    def leftovers(self) -> list[str]:
        """See Network."""
        if self._chains is None or self._slot is not None:
            return []
        return [f"nft table {table.name}" for table in self._tables() if self._has(table)]

    def remove_tables(self) -> None:
        """Remove this instance's tables, whether they are there or not."""
        releases = Releases()
        for table in self._tables():
            releases.attempt(partial(self.chains.transaction, [table.delete()]), errno.ENOENT)
        releases.finish()

    def forget(self, slot: HostSlot) -> None:
        """Note that a slot is closed."""
        with self._lock:
            if self._slot is slot:
                self._slot = None

    def _tables(self) -> tuple[nft.Table, nft.Table]:
        return self.uplink_table, self.task_table

    def _has(self, table: nft.Table) -> bool:
        return table.name in nft.tables(self.chains.link, table.family)

    def _find_uplink(self) -> route.Device:
        link = NetlinkSocket(route.NETLINK_ROUTE)
        try:
            index = dict(route.addresses(link)).get(self.address)
            device = next((device for device in route.devices(link) if device.index == index), None)
        finally:
            link.close()
        if device is None:
            raise NetworkError(
                f"{self.address} is no address of this machine; see `ip -4 address`", errno.EADDRNOTAVAIL
            )
        if IPv4Address(self.address).is_loopback:
            reason = "give the one by which other machines reach this one"
            raise NetworkError(f"{self.address} is a loopback address: {reason}", errno.EADDRNOTAVAIL)
        return device

    def _release(self) -> None:
        if self._chains is not None:
            self._chains.close()
        self._chains = self._uplink = None

    def _opened(self, part: T | None) -> T:
        if part is None:
            raise NetworkError(f"the network {self.uplink_table.name} is not open", errno.ENOTCONN)
        return part
