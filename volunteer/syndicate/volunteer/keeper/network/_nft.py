"""nftables messages: tables, chains, sets and rules as values, sent in transactions.

Why netdev chains: they see every packet of a device before and after the stacks, and a drop there is silent
for the sender, whereas a drop in an output hook is an EPERM for it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyroute2.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink import nftsocket as nft

from ._netlink import Message, NetlinkSocket, encode

Expression = dict[str, Any]

INET, NETDEV, BRIDGE = nft.NFPROTO_INET, nft.NFPROTO_NETDEV, nft.NFPROTO_BRIDGE
INGRESS, EGRESS = 0, 1  # hooks of the netdev family, linux/netfilter.h
INPUT, OUTPUT = 1, 3  # hooks of the inet family
PREROUTING = 0  # hook of the bridge family
NETLINK_NETFILTER = 12

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ELEMENT_BYTES, _ELEMENT_SIZE = 4, 16  # of the key alone, and with its attributes
_FRAME_SIZE = _ELEMENT_SIZE - _ELEMENT_BYTES
_ELEMENTS_PER_MESSAGE = 1024  # an attribute holds at most 64 KiB
_MESSAGE_LENGTH, _LIST_LENGTH = struct.Struct("=I"), struct.Struct("=H")
_DROP, _ACCEPT = 0, 1


@dataclass(frozen=True, slots=True)
class Field:
    """Where a value lies in a packet: header (0 link, 1 network, 2 transport), offset and length in bytes."""

    header: int
    offset: int
    length: int


ETHER_SOURCE = Field(0, 6, 6)
ETHER_TYPE = Field(0, 12, 2)  # read from the frame, so that a VLAN tag shows as one
IP_SOURCE = Field(1, 12, 4)
IP_TARGET = Field(1, 16, 4)
TCP_TARGET = Field(2, 2, 2)
ARP_FORMAT = Field(1, 0, 6)
ARP_SENDER_MAC = Field(1, 8, 6)
ARP_SENDER = Field(1, 14, 4)
ARP_TARGET = Field(1, 24, 4)

ETHER_IPV4 = b"\x08\x00"
ETHER_ARP = b"\x08\x06"
ARP_OF_IPV4 = b"\x00\x01\x08\x00\x06\x04"  # Ethernet, IPv4, addresses of 6 and 4 bytes


class _Rule(nft.nft_rule_msg):  # type: ignore[misc]  # pyroute2 has no types
    """A rule in which packets can be sent by another device: pyroute2's own names a type that it has not."""

    class nft_expr(nft.nft_rule_msg.nft_expr):  # type: ignore[misc]  # the name is looked up
        class nft_fwd(nft.nft_regs):  # type: ignore[misc]
            nla_map = (("NFTA_FWD_UNSPEC", "none"), ("NFTA_FWD_SREG_DEV", "regs"))


@dataclass(frozen=True, slots=True)
class SetType:
    """What a set holds: nftables' number for the type and the length of an element in bytes."""

    number: int
    length: int


ADDRESSES = SetType(nft.DATA_TYPE_IPADDR, 4)
UIDS = SetType(nft.DATA_TYPE_UID, 4)
PORTS = SetType(nft.DATA_TYPE_INET_SERVICE, 4)  # 2 bytes, padded as in a register: nft shows others


def address_elements(addresses: Iterable[str]) -> list[bytes]:
    """IPv4 addresses as elements of a set, without repeats."""
    return [IPv4Address(address).packed for address in dict.fromkeys(addresses)]


def port_elements(ports: Iterable[int]) -> list[bytes]:
    """Ports as elements of a set."""
    return [port.to_bytes(2, "big") + bytes(2) for port in ports]


def uid_element(uid: int) -> bytes:
    """A uid as an element of a set: in the order of the machine, as the kernel compares it."""
    return struct.pack("=I", uid)


def value(data: bytes) -> dict[str, Any]:
    """Bytes as an expression's operand."""
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _load(field: Field) -> Expression:
    where = {"dreg": 1, "base": field.header, "offset": field.offset, "len": field.length}
    return expression("payload", where)


def expression(name: str, attributes: dict[str, Any], prefix: str = "") -> Expression:
    """One expression of a rule, as pyroute2 has it; `prefix` is of its attributes' names, if not its name."""
    prefix = f"NFTA_{prefix or name.upper()}_"
    attrs = [(prefix + key.upper(), content) for key, content in attributes.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attrs})]}


def _compare(data: bytes, operator: int) -> Expression:
    return expression("cmp", {"sreg": 1, "op": operator, "data": value(data)})


def _verdict(code: int) -> Expression:
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return expression("immediate", {"dreg": 0, "data": data})


def equal(field: Field, data: bytes) -> list[Expression]:
    """The field holds exactly this."""
    return [_load(field), _compare(data, nft.Cmp.NFT_CMP_EQ)]


def differ(field: Field, data: bytes) -> list[Expression]:
    """The field holds anything but this."""
    return [_load(field), _compare(data, nft.Cmp.NFT_CMP_NEQ)]


def within(field: Field, set_name: str) -> list[Expression]:
    """The field holds an element of the set."""
    return [_load(field), expression("lookup", {"sreg": 1, "set": set_name})]


def owned_by(set_name: str) -> list[Expression]:
    """The packet's socket has a file, and the file's uid is in the set."""
    return [_owner(), expression("lookup", {"sreg": 1, "set": set_name})]


def owned_by_others(set_name: str) -> list[Expression]:
    """The packet's socket has a file, and the file's uid is not in the set."""
    inverted = {"sreg": 1, "set": set_name, "flags": {"NFT_LOOKUP_F_INV"}}
    return [_owner(), expression("lookup", inverted)]


def _owner() -> Expression:
    return _meta(nft.Meta.NFT_META_SKUID)


def _meta(key: int) -> Expression:
    return expression("meta", {"key": key, "dreg": 1})


def comes_by(index: int) -> list[Expression]:
    """The packet came in by the device of this index."""
    return [_meta(nft.Meta.NFT_META_IIF), _compare(struct.pack("=I", index), nft.Cmp.NFT_CMP_EQ)]


def leaves_by_other_than(device: str) -> list[Expression]:
    """The packet leaves by any device but this one."""
    name = device.encode("ascii").ljust(16, b"\0")
    out_device = expression("meta", {"key": nft.Meta.NFT_META_OIFNAME, "dreg": 1})
    return [out_device, _compare(name, nft.Cmp.NFT_CMP_NEQ)]


def ipv4() -> list[Expression]:
    """The frame carries IPv4, untagged."""
    return equal(ETHER_TYPE, ETHER_IPV4)


def over_ipv4() -> list[Expression]:
    """The packet is IPv4's; in the inet family, whose hooks see no frame."""
    return [_meta(nft.Meta.NFT_META_NFPROTO), _compare(bytes([socket.AF_INET]), nft.Cmp.NFT_CMP_EQ)]


def to_tcp_port_within(set_name: str) -> list[Expression]:
    """The packet is TCP's, to a port of the set."""
    is_tcp = [_meta(nft.Meta.NFT_META_L4PROTO), _compare(bytes([socket.IPPROTO_TCP]), nft.Cmp.NFT_CMP_EQ)]
    return [*is_tcp, *within(TCP_TARGET, set_name)]


def arp() -> list[Expression]:
    """The frame carries ARP for IPv4 over Ethernet, untagged."""
    return [*equal(ETHER_TYPE, ETHER_ARP), *equal(ARP_FORMAT, ARP_OF_IPV4)]


def accept() -> list[Expression]:
    """Let the packet pass; no later rule of the chain sees it."""
    return [_verdict(_ACCEPT)]


def count() -> list[Expression]:
    """Count the packet."""
    return [expression("counter", {})]


def drop() -> list[Expression]:
    """Count the packet and drop it in silence."""
    return [*count(), _verdict(_DROP)]


@dataclass(frozen=True, slots=True)
class Filling:
    """How a set is filled: the message that empties it, and one that adds a blank element, last in it.

    Elements are laid in the blank's place: to encode five one by one takes four times as long as the kernel
    takes to have them in the set.
    """

    empty: Message
    add: Message

    def exactly(self, elements: Sequence[bytes]) -> list[Message]:
        """Let the set hold these elements of 4 bytes and no others."""
        return [self.empty, *self.more(elements)]

    def more(self, elements: Sequence[bytes]) -> list[Message]:
        """Put elements of 4 bytes into the set; none for no elements."""
        return [
            self._message(elements[start : start + _ELEMENTS_PER_MESSAGE])
            for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE)
        ]

    def _message(self, elements: Sequence[bytes]) -> Message:
        stem = self.add.data[:-_ELEMENT_BYTES]  # up to where the elements lie
        filled = bytearray(stem + stem[-_FRAME_SIZE:].join(elements))
        _MESSAGE_LENGTH.pack_into(filled, 0, len(filled))
        _LIST_LENGTH.pack_into(filled, len(stem) - _FRAME_SIZE - 4, len(elements) * _ELEMENT_SIZE + 4)
        return Message(self.add.what, bytes(filled))


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
            ("NFTA_RULE_EXPRESSIONS", [one for part in parts for one in part]),
            ("NFTA_RULE_USERDATA", {"value": comment}),
        ]
        what, flags = f"add rule “{comment}” to {chain} in", NLM_F_CREATE | NLM_F_APPEND
        return self._message(what, nft.NFT_MSG_NEWRULE, _Rule, attributes, flags)

    def sub_chain(self, name: str) -> Message:
        """Make a chain that other chains go to."""
        attributes = [("NFTA_CHAIN_TABLE", self.name), ("NFTA_CHAIN_NAME", name)]
        what = f"make chain {name} in"
        return self._message(what, nft.NFT_MSG_NEWCHAIN, nft.nft_chain_msg, attributes, NLM_F_CREATE)

    def clear(self, chain: str) -> Message:
        """Remove all rules of a chain: a removal that names no rule means all of them."""
        attributes = [("NFTA_RULE_TABLE", self.name), ("NFTA_RULE_CHAIN", chain)]
        return self._message(f"clear chain {chain} in", nft.NFT_MSG_DELRULE, nft.nft_rule_msg, attributes)

    def add(self, set_name: str, elements: Sequence[bytes]) -> list[Message]:
        """Put elements of 4 bytes into a set; none for no elements."""
        return self.filling(set_name).more(elements)

    def filling(self, set_name: str) -> Filling:
        """What `add` does to this set, encoded but for the elements."""
        blank = {"attrs": [("NFTA_SET_ELEM_KEY", value(bytes(_ELEMENT_BYTES)))]}
        attributes = [*self._of_set(set_name), ("NFTA_SET_ELEM_LIST_ELEMENTS", [blank])]
        what, kind = f"add to set {set_name} in", nft.NFT_MSG_NEWSETELEM
        add = self._message(what, kind, nft.nft_set_elem_list_msg, attributes, NLM_F_CREATE)
        return Filling(self.flush(set_name), add)

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
            rule = _Rule(part)
            rule.decode()
            # Older kernels ignore the table named in the request.
            if rule.get_attr("NFTA_RULE_TABLE") != self.name:
                continue
            for one in rule.get_attr("NFTA_RULE_EXPRESSIONS"):
                if one.get_attr("NFTA_EXPR_NAME") == "counter":
                    comment = str(rule.get_attr("NFTA_RULE_USERDATA"))
                    count = one.get_attr("NFTA_EXPR_DATA").get_attr("NFTA_COUNTER_PACKETS")
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
        what, kind = f"{what} table {self.name}", NFNL_SUBSYS_NFTABLES << 8 | kind
        return encode(what, message, kind, flags, acknowledged=False)  # it is one of a transaction


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
