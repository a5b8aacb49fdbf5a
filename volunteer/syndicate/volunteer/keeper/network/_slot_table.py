"""A slot's own table: what is the job's traffic, and what a fault lets pass of it.

The chains hang on the fabric's end of the slot's pair of devices. Isolation comes first, in every state: what
is not from or to the slot's own address and a member of its job is dropped before any fault is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import _actions as actions
from . import _links as links
from . import _nft as nft
from ._detours import FRESH, MADE_HERE, Delays
from ._netlink import Message

FROM_SLOT, TO_SLOT = "from_slot", "to_slot"
FAULT_SETS = ("cut_out", "cut_in", "reset")
FORGED, CUT, RESET, BOUNCED, REFUSED = "forged", "cut", "reset", "bounced", "refused"
"""Comments of the rules that count."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LABEL_LENGTH = 5
NUMBERS = len(_DIGITS) ** _LABEL_LENGTH - 1
"""How many slots have a label of their own."""


def _rules(table: nft.Table, device: str, mac: str, resets_index: int | None) -> list[Message]:
    """All of a slot's table: empty sets, and chains at its device that drop what no rule accepts.

    A reset is made beyond the device of `resets_index`; it carries no mark, everything from a slot does.
    """
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
    reset_out = [*from_ip, *nft.within(nft.IP_TARGET, "reset")]
    reset_in = [*to_ip, *nft.within(nft.IP_SOURCE, "reset"), *actions.not_marked(MADE_HERE)]
    bounce = [] if resets_index is None else [*actions.tcp(), *nft.count(), *actions.send_by(resets_index)]
    return [
        table.create(),
        table.new_set("own", nft.ADDRESSES, 1),
        table.new_set("peers", nft.ADDRESSES, 2),
        *(table.new_set(name, nft.ADDRESSES, number) for number, name in enumerate(FAULT_SETS, 3)),
        *links.make_chains(table),
        table.chain(FROM_SLOT, nft.INGRESS, drops=True, device=device),
        table.rule(FROM_SLOT, FORGED, nft.differ(nft.ETHER_SOURCE, hardware), nft.drop()),
        table.rule(FROM_SLOT, CUT, from_ip, nft.within(nft.IP_TARGET, "cut_out"), nft.drop()),
        *([table.rule(FROM_SLOT, BOUNCED, reset_out, bounce)] if bounce else []),
        table.rule(FROM_SLOT, RESET, reset_out, nft.drop()),
        table.rule(
            FROM_SLOT,
            "job",
            from_ip,
            nft.within(nft.IP_TARGET, "peers"),
            actions.set_mark(FRESH),
            actions.go_to(links.SENT),
        ),
        table.rule(FROM_SLOT, "arp", from_arp, nft.accept()),
        table.rule(FROM_SLOT, REFUSED, nft.drop()),
        table.chain(TO_SLOT, nft.EGRESS, drops=True, device=device),
        table.rule(TO_SLOT, CUT, to_ip, nft.within(nft.IP_SOURCE, "cut_in"), nft.drop()),
        *([table.rule(TO_SLOT, BOUNCED, reset_in, bounce)] if bounce else []),
        table.rule(TO_SLOT, RESET, reset_in, nft.drop()),
        table.rule(TO_SLOT, "job", to_ip, nft.within(nft.IP_SOURCE, "peers"), actions.go_to(links.HEARD)),
        table.rule(TO_SLOT, "arp", to_arp, nft.accept()),
        table.rule(TO_SLOT, REFUSED, nft.drop()),
    ]


def label(number: int) -> str:
    """A slot's number as the five characters that are left for it in a device's name of fifteen."""
    digits = []
    for _ in range(_LABEL_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


class SlotTemplate:
    """A slot's table encoded once; filling in the slot's names saves 4 ms of encoding for each slot.

    Args:
        instance: as in the names of devices and tables.
        resets_index, slow_index, late: devices by which packets take a detour; None where there are none.
    """

    _NUMBER = NUMBERS  # no slot gets it
    _MAC = "fe:ff:ff:ff:ff:fe"  # nor this

    def __init__(
        self, instance: str, resets_index: int | None, slow_index: int | None, late: Delays | None
    ) -> None:
        self.cutting = (CUT, RESET) if resets_index is None else (CUT, RESET, BOUNCED)
        self._label = f"{instance}-{label(self._NUMBER)}"
        table = nft.Table(nft.NETDEV, f"syn_{self._label}")
        self._messages = _rules(table, f"syn{self._label}", self._MAC, resets_index)
        self._fillings = {name: table.filling(name) for name in FAULT_SETS}
        self._links = links.encode_rules(table, slow_index, late)

    def fill(self, label: str, mac: str) -> list[Message]:
        """The messages for the slot of that label and hardware address, both as long as the blanks."""
        blank_mac, own_mac = (bytes.fromhex(text.replace(":", "")) for text in (self._MAC, mac))
        return [
            Message(message.what, message.data.replace(blank_mac, own_mac))
            for message in self._named(self._messages, label)
        ]

    def fillings(self, label: str) -> dict[str, nft.Filling]:
        """How the sets of the slot of that label are filled that hold what its network suffers."""
        return {
            name: nft.Filling(*self._named([filling.empty, filling.add], label))
            for name, filling in self._fillings.items()
        }

    def link_rules(self, label: str) -> dict[tuple[str, str], Message]:
        """The rules of the links of the slot of that label, as `_links.encode_rules` has them."""
        return dict(zip(self._links, self._named(list(self._links.values()), label), strict=True))

    def _named(self, messages: Sequence[Message], label: str) -> list[Message]:
        blank_label, own_label = self._label.encode(), label.encode()
        return [
            Message(message.what.replace(self._label, label), message.data.replace(blank_label, own_label))
            for message in messages
        ]
