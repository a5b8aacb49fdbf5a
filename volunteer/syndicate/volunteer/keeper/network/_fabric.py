"""Slots in namespaces of their own, joined by a bridge in a namespace that the host's firewall cannot see.

Each slot hangs on a pair of devices; chains at the fabric's end of the pair decide what passes, out of the
reach of anything inside the slot. A cut only changes the elements of sets: making a table takes ten times as
long. Links are degraded by rules of two more chains, and resets and rates by detours that all slots share.

A cut drops IPv4 and lets ARP pass. Were ARP cut too, a sender would be told EHOSTUNREACH after three
seconds, and a heal would wait for the next try to resolve the address.
"""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...local import NetworkState
from . import _nft as nft
from . import _route as route
from . import _traffic as traffic
from ._capabilities import faults
from ._common import Releases, check_instance
from ._contract import NetworkError, SlotNetwork
from ._delay import DelayLine, open_tap
from ._detours import Delays, Pair, Shaper, make_resets
from ._fabric_slot import BRIDGE_INDEX, FabricSlot, disable_ipv6
from ._faults import Means, carry_out
from ._namespace import held_namespaces, identity, in_namespace, make_namespace, write_sysctl
from ._netlink import NetlinkSocket
from ._probe import OK, probe
from ._slot_table import (
    NUMBERS,
    SlotTemplate,
)

_MAX_SLOTS = 1000  # a bridge takes 1,023 ports; the rest is for those that the kernel is still removing
# A change of so much takes the kernel some tenths of a millisecond.
_BRIEF_ELEMENTS, _BRIEF_SLOTS = 128, 4
_NEEDED = frozenset({"netns", "veth", "bridge", "nft_tables", "nft_sets", "nft_ingress", "nft_egress"})


def _prepare_fabric() -> tuple[NetlinkSocket, nft.NftSocket]:
    """Set up the fabric's namespace from within: no IPv6, no IP firewall over bridged packets."""
    disable_ipv6()
    for protocol in ("iptables", "ip6tables", "arptables"):
        write_sysctl(f"bridge/bridge-nf-call-{protocol}", "0")
    link = NetlinkSocket(route.NETLINK_ROUTE)
    try:
        return link, nft.NftSocket()
    except NetworkError:
        link.close()
        raise


T = TypeVar("T")


class FabricNetwork:
    """The network of a volunteer that gives each slot a namespace.

    Args:
        instance: the id in the names of all that is made in the kernel, 1 to 6 characters of a-z and 0-9.
        removal_seconds: how long `leftovers` waits for what the kernel is still removing; that takes about
            30 ms after the last hold on a namespace, more on a busy machine.
        trouble: called with a line about what broke by itself and is being mended, from any thread.

    Raises NetworkError for another instance id.
    """

    kind = "fabric"

    def __init__(
        self,
        instance: str,
        removal_seconds: float = 5.0,
        trouble: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.instance = check_instance(instance)
        self._trouble = trouble
        self._removal_seconds = removal_seconds
        self._mac_prefix = f"02:{zlib.crc32(instance.encode()) & 0xFF:02x}"  # 02: locally administered
        self.bridge = route.Device(BRIDGE_INDEX, f"syn{instance}", f"{self._mac_prefix}:ff:ff:ff:ff")
        self._netns_fd: int | None = None
        self._sockets: tuple[NetlinkSocket, nft.NftSocket] | None = None
        self._given: set[str] = set()  # devices that the kernel puts into each new namespace
        self._resets = Pair(
            route.Device(BRIDGE_INDEX + 1, f"syn{instance}-rst0", f"{self._mac_prefix}:ff:ff:ff:01"),
            route.Device(BRIDGE_INDEX + 2, f"syn{instance}-rst1", f"{self._mac_prefix}:ff:ff:ff:02"),
        )
        self._slow = Pair(
            route.Device(BRIDGE_INDEX + 3, f"syn{instance}-slo0", f"{self._mac_prefix}:ff:ff:ff:03"),
            route.Device(BRIDGE_INDEX + 4, f"syn{instance}-slo1", f"{self._mac_prefix}:ff:ff:ff:04"),
        )
        self._late = Delays(
            route.Device(BRIDGE_INDEX + 5, f"syn{instance}-dly0"),
            route.Device(BRIDGE_INDEX + 6, f"syn{instance}-dly1"),
        )
        self._table = nft.Table(nft.NETDEV, f"syn_{instance}")
        self._findings: dict[str, str] = {}
        self._means: Means | None = None
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
        return self._opened(self._sockets)[0]

    @property
    def chains(self) -> nft.NftSocket:
        """Chains of the fabric."""
        return self._opened(self._sockets)[1]

    @property
    def means(self) -> Means:
        """By what slots suffer."""
        return self._opened(self._means)

    def _opened(self, part: T | None) -> T:
        if part is None:
            raise NetworkError(f"the network of instance {self.instance} is not open", errno.ENOTCONN)
        return part

    def faults(self) -> dict[str, str]:
        """See Network."""
        return dict(self._findings)

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
                self._findings = faults(self.kind)
                self._make_detours()
            except NetworkError:
                self._release()
                raise

    def _make_detours(self) -> None:
        """Make, once for all slots, what faults need beside the slots' own chains, as far as can be."""
        resets, slow, late = (self._findings[name] == OK for name in ("reset", "rate", "delay"))
        for pair, wanted in ((self._resets, resets), (self._slow, slow)):
            if wanted:
                self.links.request(pair.make(self.bridge))
        taps = in_namespace(self._netns_fd, self._open_taps) if late else []
        line = DelayLine(taps, self._trouble)
        try:
            self._fill_table(slow=slow, late=late)
            if resets:
                make_resets(self.links, self.chains, self._table.name, self._resets, self.bridge)
                self.links.request(self._resets.bring_up())
            if slow:
                self.links.request([traffic.make_root(self._slow.other), *self._slow.bring_up()])
            if late:
                self.links.request(self._late.join(self.bridge))
        except BaseException:
            line.close()
            raise
        template = SlotTemplate(
            self.instance,
            self._resets.port.index if resets else None,
            self._slow.other.index if slow else None,
            self._late if late else None,
        )
        self._means = Means(template, Shaper(self.links, self._slow), line, self._findings)

    def _open_taps(self) -> list[int]:
        sent = open_tap(self._late.sent)
        try:
            return [sent, open_tap(self._late.heard)]
        except BaseException:
            os.close(sent)
            raise

    def _fill_table(self, *, slow: bool, late: bool) -> None:
        messages = [self._table.create()]
        if late:
            messages += self._late.make_marks(self._table, self._slow if slow else None)
        self.chains.transaction(messages)

    def make_slot(self, name: str) -> FabricSlot:
        """See Network. Slots may be made at once from several threads; at most 1,000 are open at a time."""
        with self._lock:
            self._opened(self._sockets)
            if len(self._slots) >= _MAX_SLOTS:
                raise NetworkError(
                    f"slot {name}: {_MAX_SLOTS} are open, a bridge has no more ports", errno.EXFULL
                )
            number = self._slots_made % NUMBERS
            self._slots_made += 1
            mac = ":".join([self._mac_prefix, *(f"{byte:02x}" for byte in number.to_bytes(4, "big"))])
            slot = self._slots[number] = FabricSlot(self, name, number, mac)
        try:
            slot.make()
        except BaseException:
            slot.close()
            raise
        return slot

    def set_states(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> None:
        """See Network; one transaction for all, so that several slots cost little more than one."""
        own: dict[int, tuple[FabricSlot, NetworkState]] = {}
        for slot, state in changes:
            if not isinstance(slot, FabricSlot):
                raise TypeError("a fabric changes its own slots only")
            if slot.number in own:
                raise ValueError("a slot has one state")
            own[slot.number] = slot, state
        held: list[threading.Lock] = []
        try:
            for number in sorted(own):
                lock = own[number][0].lock
                lock.acquire()
                held.append(lock)
            carry_out((slot.plan(state) for slot, state in own.values()), self.chains, self.means)
        finally:
            for lock in held:
                lock.release()

    def is_brief(self, changes: Sequence[tuple[SlotNetwork, NetworkState]]) -> bool:
        """See Network: some elements of sets, and nobody else talks to the kernel about chains."""
        if len(changes) > _BRIEF_SLOTS or self.chains.link.busy:
            return False
        elements = 0
        for slot, state in changes:
            if not (isinstance(slot, FabricSlot) and slot.is_brief(state)):
                return False
            elements += 2 * len(state.cut) + len(state.cut_out) + len(state.cut_in) + len(state.reset)
        return elements <= _BRIEF_ELEMENTS

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
            found += self.means.shaper.leftovers()
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
        late = {self._late.sent.name, self._late.heard.name}
        shared = {self.bridge.name, self._table.name, *self._resets.names, *self._slow.names, *late}
        return self._given.union(shared, *(slot.explains() for slot in slots))

    def _release(self) -> None:
        """Let go of the fabric's namespace; all that is in it goes with it."""
        for link in self._sockets or ():
            link.close()
        self._sockets = None
        if self._means is not None:
            self._means.line.close()
            self._means = None
        if self._netns_fd is not None:
            self._released.add(identity(self._netns_fd))
            os.close(self._netns_fd)
            self._netns_fd = None
