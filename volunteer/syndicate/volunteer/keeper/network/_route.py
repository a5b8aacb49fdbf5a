"""rtnetlink messages: devices, addresses and the bridge's forwarding entries.

Devices get their index with their name, so that the messages that follow need no question in between.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface
from socket import AF_BRIDGE, AF_INET
from typing import Any

from pyroute2.netlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL
from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_SETLINK,
    RTMGRP_LINK,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import NTF_MASTER, NUD_NOARP, ndmsg

from ..patience import Patience
from ._contract import NetworkError
from ._namespace import in_namespace
from ._netlink import Message, NetlinkSocket, encode

NETLINK_ROUTE = 0
_EVENT_SIZE = 1 << 16
_LOOK_SECONDS, _MOST_SECONDS = 0.5, 1.0  # between looks, and that one which comes late uses up
LOOPBACK_INDEX = 1  # the same in every namespace


@dataclass(frozen=True, slots=True)
class Device:
    """A network device: its index and name, and its hardware address where it matters."""

    index: int
    name: str
    mac: str = ""


def _link(index: int, *, up: bool = False) -> Any:
    message = ifinfmsg()
    message["family"] = 0
    message["index"] = index
    message["flags"] = message["change"] = IFF_UP if up else 0
    return message


def make_bridge(bridge: Device) -> Message:
    """Make a bridge, up: no spanning tree, no snooping, no host firewall over bridged packets."""
    settings = [
        ("IFLA_BR_FORWARD_DELAY", 0),
        ("IFLA_BR_STP_STATE", 0),
        ("IFLA_BR_MCAST_SNOOPING", 0),
        ("IFLA_BR_NF_CALL_IPTABLES", 0),
        ("IFLA_BR_NF_CALL_IP6TABLES", 0),
        ("IFLA_BR_NF_CALL_ARPTABLES", 0),
    ]
    message = _link(bridge.index, up=True)
    message["attrs"] = [
        ("IFLA_IFNAME", bridge.name),
        ("IFLA_ADDRESS", bridge.mac),  # else it changes with each port
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": settings})]}),
    ]
    return encode(f"make bridge {bridge.name}", message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)


def make_veth(
    here: Device, peer: Device, netns_fd: int | None = None, bridge: Device | None = None
) -> Message:
    """Make a pair of devices, both down: `here`, a port of `bridge` if given, and `peer` in `netns_fd`."""
    peer_attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", peer.name)]
    if peer.mac:
        peer_attributes.append(("IFLA_ADDRESS", peer.mac))
    if netns_fd is not None:
        peer_attributes.append(("IFLA_NET_NS_FD", netns_fd))
    # Its flags must stay 0: the kernel cannot bring one end up before it has the other.
    other_end = {"family": 0, "index": peer.index, "flags": 0, "change": 0, "attrs": peer_attributes}
    pair = {"attrs": [("VETH_INFO_PEER", other_end)]}
    message = _link(here.index)
    message["attrs"] = [
        ("IFLA_IFNAME", here.name),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", pair)]}),
    ]
    if bridge is not None:
        message["attrs"].append(("IFLA_MASTER", bridge.index))
    what = f"make the pair {here.name} – {peer.name}"
    return encode(what, message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)


def set_up(index: int, name: str) -> Message:
    """Bring a device up."""
    return encode(f"bring up {name}", _link(index, up=True), RTM_SETLINK)


def join_bridge(device: Device, bridge: Device, queue: int) -> Message:
    """Make a device a port of the bridge, with so many packets that wait for who reads it."""
    message = _link(device.index)
    message["attrs"] = [("IFLA_MASTER", bridge.index), ("IFLA_TXQLEN", queue)]
    return encode(f"make {device.name} a port of {bridge.name}", message, RTM_NEWLINK)


def fix_port(port: Device, *, deaf: bool = False) -> Message:
    """Let a bridge port learn nothing and carry only what is for it; broadcasts (ARP) too if not `deaf`."""
    settings = [
        ("IFLA_BRPORT_LEARNING", 0),
        ("IFLA_BRPORT_UNICAST_FLOOD", 0),
        ("IFLA_BRPORT_MCAST_FLOOD", 0),
        *([("IFLA_BRPORT_BCAST_FLOOD", 0)] if deaf else []),
    ]
    message = _link(port.index)
    slave = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": settings})]
    message["attrs"] = [("IFLA_LINKINFO", {"attrs": slave})]
    return encode(f"set up bridge port {port.name}", message, RTM_NEWLINK)


def forward_to(port: Device, mac: str) -> Message:
    """Tell the port's bridge for good that `mac` is behind it."""
    message = ndmsg()
    message["family"] = AF_BRIDGE
    message["ifindex"] = port.index
    message["state"] = NUD_NOARP
    message["flags"] = NTF_MASTER
    message["attrs"] = [("NDA_LLADDR", mac)]
    return encode(f"add {mac} to port {port.name}", message, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL)


def add_address(device: Device, address: IPv4Interface) -> Message:
    """Give a device an address, with the route to its network."""
    message = ifaddrmsg()
    message["family"] = AF_INET
    message["prefixlen"] = address.network.prefixlen
    message["index"] = device.index
    message["attrs"] = [
        ("IFA_LOCAL", str(address.ip)),
        ("IFA_ADDRESS", str(address.ip)),
        ("IFA_BROADCAST", str(address.network.broadcast_address)),
    ]
    return encode(
        f"give {device.name} the address {address}", message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL
    )


def set_down(device: Device) -> Message:
    """Bring a device down: nothing passes any more."""
    message = _link(device.index)
    message["change"] = IFF_UP
    return encode(f"bring down {device.name}", message, RTM_SETLINK)


def remove(device: Device) -> Message:
    """Remove a device, and with it the other end of a pair; takes the kernel about 30 ms."""
    return encode(f"remove {device.name}", _link(device.index), RTM_DELLINK)


def devices(link: NetlinkSocket) -> list[Device]:
    """All devices of the socket's namespace."""
    found = []
    for part in link.dump(encode("list the devices", _link(0), RTM_GETLINK, NLM_F_DUMP)):
        message = ifinfmsg(part)
        message.decode()
        mac = message.get_attr("IFLA_ADDRESS") or ""
        found.append(Device(message["index"], str(message.get_attr("IFLA_IFNAME")), str(mac)))
    return found


def addresses(link: NetlinkSocket) -> list[tuple[str, int]]:
    """All IPv4 addresses of the socket's namespace, each with the index of its device."""
    request = ifaddrmsg()
    request["family"] = AF_INET
    found = []
    for part in link.dump(encode("list the addresses", request, RTM_GETADDR, NLM_F_DUMP)):
        message = ifaddrmsg(part)
        message.decode()
        found.append((str(message.get_attr("IFA_LOCAL")), int(message["index"])))
    return found


def await_removal(link: NetlinkSocket, netns_fd: int, names: set[str], seconds: float) -> set[str]:
    """Wait until the devices of these names are gone; return those still there after `seconds` of Patience.

    `link` is a socket in the namespace of `netns_fd`.
    """
    patience = Patience(seconds, _MOST_SECONDS)
    with contextlib.closing(in_namespace(netns_fd, _open_events)) as events:
        while True:
            remaining = names & {device.name for device in devices(link)}
            left = patience.left()
            if not remaining or left <= 0:
                return remaining
            events.settimeout(min(left, _LOOK_SECONDS))
            try:
                events.recv(_EVENT_SIZE)
            except TimeoutError:
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # events were lost: look at the devices again
                    raise NetworkError.refused("watch the devices", error.errno or 0) from error


def _open_events() -> socket.socket:
    """A socket that hears of every change to a device of the caller's namespace."""
    try:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
        events.bind((0, RTMGRP_LINK))
    except OSError as error:
        raise NetworkError.refused("watch the devices", error.errno or 0) from error
    return events
