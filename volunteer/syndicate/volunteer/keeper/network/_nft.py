"""nftables messages: tables, chains, sets and rules as values, sent in transactions.

Why netdev chains: they see every packet of a device before and after the stacks, and a drop there is silent
for the sender, whereas a drop in an output hook is an EPERM for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyroute2.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink import nftsocket as nft
from pyroute2.nftables.expressions import genex

from ._netlink import Message, NetlinkSocket, encode

Expression = dict[str, Any]

INET, NETDEV = nft.NFPROTO_INET, nft.NFPROTO_NETDEV
INGRESS, EGRESS = 0, 1  # hooks of the netdev family, linux/netfilter.h
OUTPUT = 3  # hook of the inet family
NETLINK_NETFILTER = 12

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ELEMENTS_PER_MESSAGE = 1024  # an attribute holds at most 64 KiB, an element takes 16 bytes
_DROP, _ACCEPT = 0, 1


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value lies in a packet: header (0 link, 1 network), offset and length in bytes."""

    header: int
    offset: int
    length: int


ETHER_SOURCE = Field(0, 6, 6)
ETHER_TYPE = Field(0, 12, 2)  # read from the frame, so that a VLAN tag shows as one
IP_SOURCE = Field(1, 12, 4)
IP_TARGET = Field(1, 16, 4)
ARP_FORMAT = Field(1, 0, 6)
ARP_SENDER_MAC = Field(1, 8, 6)
ARP_SENDER = Field(1, 14, 4)
ARP_TARGET = Field(1, 24, 4)

ETHER_IPV4 = b"\x08\x00"
ETHER_ARP = b"\x08\x06"
ARP_OF_IPV4 = b"\x00\x01\x08\x00\x06\x04"  # Ethernet, IPv4, addresses of 6 and 4 bytes


@dataclass(frozen=True, slots=True)
class SetType:
    """What a set holds: nftables' number for the type and the length of an element in bytes."""

    number: int
    length: int


ADDRESSES = SetType(nft.DATA_TYPE_IPADDR, 4)
UIDS = SetType(nft.DATA_TYPE_UID, 4)


def address_elements(addresses: Iterable[str]) -> list[bytes]:
    """IPv4 addresses as elements of a set, without repeats."""
    return [IPv4Address(address).packed for address in dict.fromkeys(addresses)]


def uid_element(uid: int) -> bytes:
    """A uid as an element of a set: in the order of the machine, as the kernel compares it."""
    return struct.pack("=I", uid)


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _load(field: Field) -> Expression:
    where = {"dreg": 1, "base": field.header, "offset": field.offset, "len": field.length}
    return _expression("payload", where)


def _expression(name: str, attributes: dict[str, Any]) -> Expression:
    expression: Expression = genex(name, attributes)
    return expression


def _compare(data: bytes, operator: int) -> Expression:
    return _expression("cmp", {"sreg": 1, "op": operator, "data": _value(data)})


def _verdict(code: int) -> Expression:
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return _expression("immediate", {"dreg": 0, "data": data})


def equal(field: Field, data: bytes) -> list[Expression]:
    """The field holds exactly this."""
    return [_load(field), _compare(data, nft.Cmp.NFT_CMP_EQ)]


def differ(field: Field, data: bytes) -> list[Expression]:
    """The field holds anything but this."""
    return [_load(field), _compare(data, nft.Cmp.NFT_CMP_NEQ)]


def within(field: Field, set_name: str) -> list[Expression]:
    """The field holds an element of the set."""
    return [_load(field), _expression("lookup", {"sreg": 1, "set": set_name})]


def owned_by(set_name: str) -> list[Expression]:
    """The packet's socket has a file, and the file's uid is in the set."""
    return [_owner(), _expression("lookup", {"sreg": 1, "set": set_name})]


def owned_by_others(set_name: str) -> list[Expression]:
    """The packet's socket has a file, and the file's uid is not in the set."""
    inverted = {"sreg": 1, "set": set_name, "flags": {"NFT_LOOKUP_F_INV"}}
    return [_owner(), _expression("lookup", inverted)]


def _owner() -> Expression:
    return _expression("meta", {"key": nft.Meta.NFT_META_SKUID, "dreg": 1})


def leaves_by_other_than(device: str) -> list[Expression]:
    """The packet leaves by any device but this one."""
    name = device.encode("ascii").ljust(16, b"\0")
    out_device = _expression("meta", {"key": nft.Meta.NFT_META_OIFNAME, "dreg": 1})
    return [out_device, _compare(name, nft.Cmp.NFT_CMP_NEQ)]


def ipv4() -> list[Expression]:
    """The frame carries IPv4, untagged."""
    return equal(ETHER_TYPE, ETHER_IPV4)


def arp() -> list[Expression]:
    """The frame carries ARP for IPv4 over Ethernet, untagged."""
    return [*equal(ETHER_TYPE, ETHER_ARP), *equal(ARP_FORMAT, ARP_OF_IPV4)]


def accept() -> list[Expression]:
    """Let the packet pass; no later rule of the chain sees it."""
    return [_verdict(_ACCEPT)]


def drop() -> list[Expression]:
    """Count the packet and drop it in silence."""
    return [_expression("counter", {}), _verdict(_DROP)]


@dataclass(frozen=True, slots=True)
class Table:
    """One nftables table, named for errors by its own name."""

    family: int
    name: str

    def create(self, *, exclusive: bool = True) -> Message:
        """Make the table; if `exclusive`, refused with EEXIST where there is one already."""
        flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
        return self._message("make", nft.NFT_MSG_NEWTABLE, nft.nft_table_msg, [_named("TABLE", self)], flags)

    def delete(self) -> Message:
        """Remove the table with all in it."""
        return self._message("remove", nft.NFT_MSG_DELTABLE, nft.nft_table_msg, [_named("TABLE", self)])

    def new_set(self, name: str, kind: SetType, number: int) -> Message:
        """Make an empty set; `number` tells it apart within the transaction."""
        attributes = [
            ("NFTA_SET_TABLE", self.name),
            ("NFTA_SET_NAME", name),
            ("NFTA_SET_FLAGS", set()),
            ("NFTA_SET_KEY_TYPE", kind.number),
            ("NFTA_SET_KEY_LEN", kind.length),
            ("NFTA_SET_ID", number),
        ]
        return self._message(
            f"make set {name} in", nft.NFT_MSG_NEWSET, nft.nft_set_msg, attributes, NLM_F_CREATE
        )

    def chain(self, name: str, hook: int, *, drops: bool, device: str | None = None) -> Message:
        """Make a base chain; `drops` says what becomes of a packet that no rule decides."""
        place: list[tuple[str, Any]] = [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", 0)]
        if device is not None:
            place.append(("NFTA_HOOK_DEV", device))
        attributes = [
            ("NFTA_CHAIN_TABLE", self.name),
            ("NFTA_CHAIN_NAME", name),
            ("NFTA_CHAIN_HOOK", {"attrs": place}),
            ("NFTA_CHAIN_POLICY", _DROP if drops else _ACCEPT),
            ("NFTA_CHAIN_TYPE", "filter"),
        ]
        what = f"make chain {name} in"
        return self._message(what, nft.NFT_MSG_NEWCHAIN, nft.nft_chain_msg, attributes, NLM_F_CREATE)

    def rule(self, chain: str, comment: str, *parts: Sequence[Expression]) -> Message:
        """Add a rule at the end of a chain; people and `packets` know it by its comment."""
        attributes = [
            ("NFTA_RULE_TABLE", self.name),
            ("NFTA_RULE_CHAIN", chain),
            ("NFTA_RULE_EXPRESSIONS", [expression for part in parts for expression in part]),
            ("NFTA_RULE_USERDATA", {"value": comment}),
        ]
        what, flags = f"add rule “{comment}” to {chain} in", NLM_F_CREATE | NLM_F_APPEND
        return self._message(what, nft.NFT_MSG_NEWRULE, nft.nft_rule_msg, attributes, flags)

    def add(self, set_name: str, elements: Sequence[bytes]) -> list[Message]:
        """Put elements into a set; none for no elements."""
        messages = []
        for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE):
            keys = elements[start : start + _ELEMENTS_PER_MESSAGE]
            listed = [{"attrs": [("NFTA_SET_ELEM_KEY", _value(key))]} for key in keys]
            attributes = [*self._of_set(set_name), ("NFTA_SET_ELEM_LIST_ELEMENTS", listed)]
            what, kind = f"add to set {set_name} in", nft.NFT_MSG_NEWSETELEM
            messages.append(self._message(what, kind, nft.nft_set_elem_list_msg, attributes, NLM_F_CREATE))
        return messages

    def flush(self, set_name: str) -> Message:
        """Empty a set: a removal that lists no elements means all of them."""
        what, kind = f"empty set {set_name} in", nft.NFT_MSG_DELSETELEM
        return self._message(what, kind, nft.nft_set_elem_list_msg, self._of_set(set_name))

    def packets(self, link: NetlinkSocket) -> dict[tuple[str, str], int]:
        """Packets counted by each rule that counts: (chain, comment) to their number."""
        attributes = [("NFTA_RULE_TABLE", self.name)]
        request = self._message("read", nft.NFT_MSG_GETRULE, nft.nft_rule_msg, attributes, NLM_F_DUMP)
        counted: dict[tuple[str, str], int] = {}
        for part in link.dump(request):
            rule = nft.nft_rule_msg(part)
            rule.decode()
            # Older kernels ignore the table named in the request.
            if rule.get_attr("NFTA_RULE_TABLE") != self.name:
                continue
            for expression in rule.get_attr("NFTA_RULE_EXPRESSIONS"):
                if expression.get_attr("NFTA_EXPR_NAME") == "counter":
                    comment = str(rule.get_attr("NFTA_RULE_USERDATA"))
                    count = expression.get_attr("NFTA_EXPR_DATA").get_attr("NFTA_COUNTER_PACKETS")
                    counted[rule.get_attr("NFTA_RULE_CHAIN"), comment] = count
        return counted

    def _of_set(self, set_name: str) -> list[tuple[str, Any]]:
        return [("NFTA_SET_ELEM_LIST_TABLE", self.name), ("NFTA_SET_ELEM_LIST_SET", set_name)]

    def _message(
        self, what: str, kind: int, shape: Any, attributes: list[tuple[str, Any]], flags: int = 0
    ) -> Message:
        message = shape()
        message["nfgen_family"] = self.family
        message["attrs"] = attributes
        return encode(f"{what} table {self.name}", message, NFNL_SUBSYS_NFTABLES << 8 | kind, flags)


def _named(kind: str, table: Table) -> tuple[str, str]:
    return f"NFTA_{kind}_NAME", table.name


def tables(link: NetlinkSocket, family: int) -> list[str]:
    """The names of all tables of a family."""
    message = nft.nft_table_msg()
    message["nfgen_family"] = family
    request = encode("list the tables", message, NFNL_SUBSYS_NFTABLES << 8 | nft.NFT_MSG_GETTABLE, NLM_F_DUMP)
    names = []
    for part in link.dump(request):
        table = nft.nft_table_msg(part)
        table.decode()
        names.append(str(table.get_attr("NFTA_TABLE_NAME")))
    return names


class NftSocket:
    """nftables of one namespace: that of the thread that makes it. Raises NetworkError in every method."""

    def __init__(self) -> None:
        self.link = NetlinkSocket(NETLINK_NETFILTER)
        self._begin, self._end = _bracket("begin", _BATCH_BEGIN), _bracket("end", _BATCH_END)

    def transaction(self, messages: Sequence[Message]) -> None:
        """Have all messages done at once, or none of them."""
        self.link.transaction(self._begin, messages, self._end)

    def close(self) -> None:
        """Release the socket. Idempotent."""
        self.link.close()


def _bracket(what: str, kind: int) -> Message:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST  # without an acknowledgement, unlike all other messages
    message.encode()
    return Message(f"{what} a transaction", bytes(message.data))
