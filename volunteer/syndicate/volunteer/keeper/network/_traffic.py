"""Traffic control messages: one hierarchical token bucket, and classes of it with a queue each.

Why not nft's own limit: it drops at once what comes too fast and lets a whole second's worth pass at first;
measured, 10 Mbit/s let pass 13.6 of a UDP flood in three seconds, against 9.96 here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELTCLASS, RTM_GETTCLASS, RTM_NEWQDISC, RTM_NEWTCLASS, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from ._netlink import NLM_F_DUMP, Message, NetlinkSocket, encode
from ._route import Device

ROOT = 0  # the qdisc itself, as a parent of classes
MOST_CLASSES = 0xFFFE

_MAJOR = 1 << 16
_HANDLE, _HANDLE_OFFSET = struct.Struct("=I"), 24  # in a tcmsg behind its header
_INIT, _PARMS, _RATE64, _CEIL64 = 2, 1, 6, 7  # TCA_HTB_*
_VERSION = 3
_ETHERNET = 1  # the kernel computes the times itself, no table of them is needed
_TICK_NS = 64
_BURST_NS = 20_000_000  # what a late timer may make good
_FRAME, _PACKET = 1514, 1500  # bytes of a full frame, and of what it carries
_QUEUE_SECONDS, _LEAST_QUEUE = 0.1, 128 << 10  # two of the largest packets of segmentation offload


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """A class by its number: what passes it, and what it may borrow from `parent`, in bytes a second."""

    number: int
    parent: int
    rate: int
    most: int
    leaf: bool


class _Message(tcmsg):  # type: ignore[misc]  # pyroute2 has no types
    """With options as bytes."""

    nla_map = tuple((name, "cdata" if name == "TCA_OPTIONS" else kind) for name, kind in tcmsg.nla_map)


def handle(number: int) -> bytes:
    """A class as the kernel keeps it with a packet."""
    return struct.pack("=I", _MAJOR | number)


def frame_rate(bits_per_second: int) -> int:
    """Bytes a second of frames that carry so many bits a second of full IPv4 packets."""
    return max(1, round(bits_per_second * _FRAME / _PACKET / 8))


def make_root(device: Device) -> Message:
    """Have a device send by classes; what has none is not limited."""
    options = _attribute(_INIT, struct.pack("=IIIII", _VERSION, 10, 0, 0, 0))
    what = f"make the qdisc of {device.name}"
    return _encode(what, device, RTM_NEWQDISC, "htb", TC_H_ROOT, _MAJOR, options)


def make_class(device: Device, made: TrafficClass) -> list[Message]:
    """Make a class, and its queue if nothing is below it."""
    times = struct.pack(
        "=IIIII", _BURST_NS // _TICK_NS, _BURST_NS // _TICK_NS, _FRAME, 0, 0
    )  # a frame in each turn
    parameters = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(made.rate, 0xFFFFFFFF))
    parameters += struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(made.most, 0xFFFFFFFF)) + times
    options = _attribute(_PARMS, parameters)
    for kind, rate in ((_RATE64, made.rate), (_CEIL64, made.most)):
        if rate > 0xFFFFFFFF:
            options += _attribute(kind, struct.pack("=Q", rate))
    parent, number = _MAJOR | made.parent, _MAJOR | made.number
    what = f"class {made.number} of {device.name}"
    messages = [_encode(f"make {what}", device, RTM_NEWTCLASS, "htb", parent, number, options)]
    if made.leaf:
        # What finds the queue full is lost; a sender on this machine is held back before that.
        queue = struct.pack("=I", min(max(_LEAST_QUEUE, int(made.most * _QUEUE_SECONDS)), 0xFFFFFFFF))
        messages.append(_encode(f"give a queue to {what}", device, RTM_NEWQDISC, "bfifo", number, 0, queue))
    return messages


def remove_class(device: Device, made: TrafficClass) -> Message:
    """Remove a class with what is in its queue."""
    message = _message(device, _MAJOR | made.parent, _MAJOR | made.number)
    return encode(f"remove class {made.number} of {device.name}", message, RTM_DELTCLASS)


def class_numbers(link: NetlinkSocket, device: Device) -> set[int]:
    """The numbers of a device's classes, as the kernel has them."""
    message = _message(device, 0, 0)
    parts = link.dump(encode(f"list the classes of {device.name}", message, RTM_GETTCLASS, NLM_F_DUMP))
    return {_HANDLE.unpack_from(part, _HANDLE_OFFSET)[0] & (_MAJOR - 1) for part in parts}


def _encode(
    what: str, device: Device, kind: int, qdisc: str, parent: int, number: int, options: bytes
) -> Message:
    message = _message(device, parent, number)
    message["attrs"] = [("TCA_KIND", qdisc), ("TCA_OPTIONS", options)]
    return encode(what, message, kind, NLM_F_CREATE | NLM_F_EXCL)


def _message(device: Device, parent: int, number: int) -> Any:
    message = _Message()
    message["index"] = device.index
    message["parent"] = parent
    message["handle"] = number
    return message


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)
