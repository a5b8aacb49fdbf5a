"""Expressions of rules that do more than let pass or drop: chance, marks, detours, resets."""

from __future__ import annotations

import struct

from pyroute2.netlink.nfnetlink import nftsocket as nft

from ._nft import Expression, Field, count, equal, expression, value

_GOTO = -4
_CHANCES = 1_000_000_000
_RANDOM, _HTON, _TCP_RESET = 1, 1, 1  # linux/netfilter/nf_tables.h
_IP_PROTOCOL, _TCP = Field(1, 9, 1), b"\x06"


def chances(percent: float) -> bytes:
    """So many of a hundred packets as the operand of `by_chance`; a little where it is more than none."""
    return struct.pack(">I", max(1, round(percent / 100 * _CHANCES)))


def by_chance(operand: bytes) -> list[Expression]:
    """The packet is one that chance takes, each by itself; `operand` is of `chances`."""
    return [
        expression("numgen", {"dreg": 1, "modulus": _CHANCES, "type": _RANDOM}, "NG"),
        expression("byteorder", {"sreg": 1, "dreg": 1, "op": _HTON, "len": 4, "size": 4}),
        expression("cmp", {"sreg": 1, "op": nft.Cmp.NFT_CMP_LT, "data": value(operand)}),
    ]


def tcp() -> list[Expression]:
    """The packet is IPv4's, as was found before, and of TCP."""
    return equal(_IP_PROTOCOL, _TCP)


def marked(mark: int) -> list[Expression]:
    """The packet carries this mark; 0 is none."""
    return _compare_mark(nft.Cmp.NFT_CMP_EQ, mark)


def not_marked(mark: int) -> list[Expression]:
    """The packet carries another mark, or none."""
    return _compare_mark(nft.Cmp.NFT_CMP_NEQ, mark)


def _compare_mark(operator: int, mark: int) -> list[Expression]:
    return [
        expression("meta", {"key": nft.Meta.NFT_META_MARK, "dreg": 1}),
        expression("cmp", {"sreg": 1, "op": operator, "data": value(struct.pack("=I", mark))}),
    ]


def set_mark(mark: int) -> list[Expression]:
    """Mark the packet; nothing outside this namespace can, and nothing outside it sees the mark."""
    return _set(nft.Meta.NFT_META_MARK, struct.pack("=I", mark))


def set_class(handle: bytes) -> list[Expression]:
    """Let the packet go by this class of the qdisc that it meets; `handle` is of `_traffic.handle`."""
    return _set(nft.Meta.NFT_META_PRIORITY, handle)


def _set(key: int, data: bytes) -> list[Expression]:
    return [
        expression("immediate", {"dreg": 1, "data": value(data)}),
        expression("meta", {"key": key, "sreg": 1}),
    ]


def send_by(index: int) -> list[Expression]:
    """Take the packet out of its way and send it by the device of this index, as it is."""
    return [
        expression("immediate", {"dreg": 1, "data": value(struct.pack("=I", index))}),
        expression("fwd", {"sreg_dev": 1}),
    ]


def go_to(chain: str) -> list[Expression]:
    """Go on in this chain, and do not come back; where it ends the base chain's policy decides."""
    verdict = [("NFTA_VERDICT_CODE", _GOTO), ("NFTA_VERDICT_CHAIN", chain)]
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": verdict})]}
    return [expression("immediate", {"dreg": 0, "data": data})]


def reset() -> list[Expression]:
    """Count the segment, drop it, and answer its sender with a reset in the name of its target."""
    return [*count(), expression("reject", {"type": _TCP_RESET, "icmp_code": 0})]
