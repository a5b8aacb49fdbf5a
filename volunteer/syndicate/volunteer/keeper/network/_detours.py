"""Where packets go that a fault neither lets pass nor drops: pairs of devices beside the slots' ports.

A slot's chain sends a packet by the one end of a pair; what comes out of the other end is on the bridge
again, on its way to the port that it is for. At the ends the kernel can do what it cannot in the slot's own
chains: answer with a reset, also for what is on its way to a slot, and hold back what is too fast.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from . import _actions as actions
from . import _nft as nft
from . import _route as route
from . import _traffic as traffic
from ._contract import NetworkError
from ._netlink import Message, NetlinkSocket

MADE_HERE, FRESH, PASSED, SLOW_SENT, SLOW_HEARD = range(5)
"""Marks: of resets; of what a slot sent; of that when only its target's isolation and cuts are left to pass;
of what goes by its rate and is then to be delayed, as its sender or as its target has it."""

_RESETS, _SLOW = "resets", "slow"
_LATE = 10_000  # packets that the delay line may have to read
_WAITING = 1000  # packets, as pairs of devices have by default
_WHOLE = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two devices: `port` is the bridge's, `other` is its other end."""

    port: route.Device
    other: route.Device

    @property
    def names(self) -> set[str]:
        """Of both."""
        return {self.port.name, self.other.name}

    def make(self, bridge: route.Device) -> list[Message]:
        """Make both, down; the bridge learns nothing from what comes in and floods nothing to them."""
        return [
            route.make_veth(self.port, self.other, bridge=bridge),
            route.fix_port(self.port, deaf=True),
        ]

    def bring_up(self) -> list[Message]:
        """Let packets pass."""
        return [route.set_up(device.index, device.name) for device in (self.other, self.port)]


def make_resets(
    links: NetlinkSocket, chains: nft.NftSocket, name: str, pair: Pair, bridge: route.Device
) -> None:
    """Have each TCP segment that is sent by the pair's port answered, and everything dropped there.

    The answer comes in by that port, and the bridge takes it to the sender. A kernel without `reject` at a
    device's hook, as Debian's are, has it at a bridge's: there the other end is a port as well, which nothing
    passes. Tables of this name are made. Raises NetworkError where the kernel can do neither.
    """
    table = nft.Table(nft.NETDEV, name)
    try:
        chains.transaction(
            [
                table.create(exclusive=False),
                table.chain(_RESETS, nft.INGRESS, drops=True, device=pair.other.name),
                table.rule(_RESETS, _RESETS, nft.ipv4(), actions.tcp(), actions.reset()),
            ]
        )
    except NetworkError as error:
        if error.code not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        links.request(
            [route.join_bridge(pair.other, bridge, _WAITING), route.fix_port(pair.other, deaf=True)]
        )
        chains.transaction(_bridged(nft.Table(nft.BRIDGE, name), pair))


def _bridged(table: nft.Table, pair: Pair) -> list[Message]:
    here = nft.comes_by(pair.other.index)
    return [
        table.create(),
        table.chain(_RESETS, nft.PREROUTING, drops=False),
        table.rule(_RESETS, _RESETS, here, nft.ipv4(), actions.tcp(), actions.reset()),
        table.rule(_RESETS, "rest", here, nft.drop()),
    ]


@dataclass(frozen=True, slots=True)
class Delays:
    """The delay line's devices, both ports of the bridge: of what slots send, and of what they hear."""

    sent: route.Device
    heard: route.Device

    def join(self, bridge: route.Device) -> list[Message]:
        """Have what is written to them go on its way over the bridge, and nothing else flow in."""
        return [
            message
            for device in (self.sent, self.heard)
            for message in (
                route.join_bridge(device, bridge, _LATE),
                route.fix_port(device, deaf=True),
                route.set_up(device.index, device.name),
            )
        ]

    def make_marks(self, table: nft.Table, slow: Pair | None) -> list[Message]:
        """Chains that mark what was delayed, and send to be delayed what was held back by its rate before."""
        messages = []
        for device, mark in ((self.sent, FRESH), (self.heard, PASSED)):
            chain = f"late_{device.name[-4:]}"
            messages.append(table.chain(chain, nft.INGRESS, drops=False, device=device.name))
            messages.append(table.rule(chain, "late", actions.set_mark(mark)))
        if slow is not None:
            messages.append(table.chain(_SLOW, nft.INGRESS, drops=False, device=slow.port.name))
            for device, mark in ((self.sent, SLOW_SENT), (self.heard, SLOW_HEARD)):
                then = actions.send_by(device.index)
                messages.append(table.rule(_SLOW, "then late", actions.marked(mark), then))
        return messages


@dataclass(frozen=True, slots=True)
class Classes:
    """Traffic classes in the order of their making, and each peer's as its packets carry it."""

    rates: dict[str, int]
    handles: dict[str, bytes]
    made: list[traffic.TrafficClass]


class Shaper:
    """Gives rates to what is sent by the far end of its pair: a class for each peer, below that of the slot.

    Used by several threads at once. Methods raise NetworkError.
    """

    def __init__(self, links: NetlinkSocket, pair: Pair) -> None:
        self._links = links
        self._device = pair.other
        self._lock = threading.Lock()
        self._used: set[int] = set()
        self._next = 1
        self._stuck: list[traffic.TrafficClass] = []

    def number(self, rates: dict[str, int]) -> Classes:
        """Number the classes for these rates, bits a second by peer, "" for all together; to be removed.

        None is made yet. Raises NetworkError if there are not so many numbers.
        """
        whole = traffic.frame_rate(rates[_WHOLE]) if _WHOLE in rates else 0
        nested = bool(whole) and len(rates) > 1
        numbers = self._take(len(rates) + nested)
        made: list[traffic.TrafficClass] = []
        parent = traffic.ROOT
        if nested:
            parent = numbers.pop()
            made.append(traffic.TrafficClass(parent, traffic.ROOT, whole, whole, leaf=False))
        for number, bits in zip(numbers, rates.values(), strict=True):
            most = traffic.frame_rate(bits)
            # Below another a class has next to nothing of its own and borrows, or the whole would not hold.
            own = max(1, most // 100_000) if nested else most
            made.append(traffic.TrafficClass(number, parent, own, most, leaf=True))
        handles = {peer: traffic.handle(number) for peer, number in zip(rates, numbers, strict=True)}
        return Classes(rates, handles, made)

    def make(self, drafts: Sequence[Classes]) -> None:
        """Make what was numbered; nothing passes by it before a rule says so."""
        classes = [one for draft in drafts for one in draft.made]
        if classes:
            self._links.request(
                [message for one in classes for message in traffic.make_class(self._device, one)]
            )

    def remove(self, drafts: Sequence[Classes]) -> None:
        """Remove classes, made or not, with what waits in their queues.

        Those that cannot be removed limit nothing, for no rule leads to them; they are tried again at the
        next call, and told by `leftovers` until they are gone.
        """
        if not (drafts or self._stuck):
            return
        with self._lock:
            # What is below another goes first.
            doomed = self._stuck + [one for draft in drafts for one in reversed(draft.made)]
            self._stuck = [one for one in doomed if not self._is_removed(one)]
            self._used.difference_update({one.number for one in doomed} - {one.number for one in self._stuck})

    def leftovers(self) -> list[str]:
        """Classes that are there and no slot explains, one line each."""
        with self._lock:
            explained = self._used - {one.number for one in self._stuck}
            found = traffic.class_numbers(self._links, self._device) - explained
        return [f"traffic class {number} of {self._device.name}" for number in sorted(found)]

    def _is_removed(self, one: traffic.TrafficClass) -> bool:
        try:
            self._links.request([traffic.remove_class(self._device, one)])
        except NetworkError as error:
            return error.code in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN)
        return True

    def _take(self, count: int) -> list[int]:
        with self._lock:
            if len(self._used) + count > traffic.MOST_CLASSES:
                raise NetworkError(f"rate: no more than {traffic.MOST_CLASSES} can be in force", errno.EXFULL)
            numbers: list[int] = []
            while len(numbers) < count:
                if self._next not in self._used:
                    numbers.append(self._next)
                    self._used.add(self._next)
                self._next = self._next % traffic.MOST_CLASSES + 1
            return numbers
