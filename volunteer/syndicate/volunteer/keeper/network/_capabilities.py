"""Which faults of a slot's network this kernel can make, found by trying in a throw-away namespace."""

from __future__ import annotations

import os

from . import _actions as actions
from . import _links as links
from . import _nft as nft
from . import _route as route
from . import _traffic as traffic
from ._contract import NetworkError
from ._delay import open_tap
from ._detours import FRESH, PASSED, Delays, Pair, make_resets
from ._namespace import make_namespace
from ._netlink import Message, NetlinkSocket

OK = "ok"

_BRIDGE = route.Device(1000, "synbridge", "02:00:00:00:00:01")
_TRIED = Pair(route.Device(1001, "synport"), route.Device(1002, "synother"))
_TRIED_TAPS = Delays(route.Device(1003, "syntap0"), route.Device(1004, "syntap1"))
_TABLE = nft.Table(nft.NETDEV, "syn_probe")
_AS_DELAY = ("jitter", "duplicate", "corrupt", "reorder")
_NOT_IN_HOST = 'not in the host\'s network; give slots networks of their own (network = "fabric")'
_REMEDIES = {
    "loss": "needs numgen in nf_tables (CONFIG_NFT_NUMGEN; modprobe nft_numgen)",
    "reset": "needs reject at netdev's or bridges' hooks, and fwd (Linux 5.17; modprobe nft_reject_netdev or "
    "nft_reject_bridge, and nft_fwd_netdev)",
    "delay": "needs /dev/net/tun and fwd at netdev hooks (Linux 5.17; modprobe tun nft_fwd_netdev)",
    "rate": "needs htb and fwd at netdev hooks (Linux 5.17; modprobe sch_htb nft_fwd_netdev)",
}


def faults(kind: str) -> dict[str, str]:
    """Try each fault of a network of this kind, `fabric` or `host`: name to `ok`, or to one line why not.

    Names: one-way, reset, loss, rate, delay, jitter, duplicate, corrupt, reorder. The line says what mends it
    where something does. A cut is no such fault: every network can cut. Leaves nothing; takes about 20 ms.
    """
    if kind == "host":
        return {"one-way": OK} | {name: f"{name}: {_NOT_IN_HOST}" for name in (*_REMEDIES, *_AS_DELAY)}
    try:
        netns_fd, found = make_namespace(_try_all)
    except NetworkError as error:
        found = {name: f"{name}: {error}" for name in _REMEDIES}
    else:
        os.close(netns_fd)
    as_delay = {name: found["delay"].replace("delay:", f"{name}:", 1) for name in _AS_DELAY}
    return {"one-way": OK} | found | as_delay


def _try_all() -> dict[str, str]:
    found: dict[str, str] = {}
    link = NetlinkSocket(route.NETLINK_ROUTE)
    try:
        chains = nft.NftSocket()
        try:
            for name, work in (("loss", _lose), ("reset", _reset), ("rate", _slow), ("delay", _delay)):
                try:
                    work(link, chains)
                except NetworkError as error:
                    found[name] = f"{name}: {error}; {_REMEDIES[name]}"
                else:
                    found[name] = OK
        finally:
            chains.close()
    finally:
        link.close()
    return found


def _lose(link: NetlinkSocket, chains: nft.NftSocket) -> None:
    link.request([route.make_bridge(_BRIDGE), *_TRIED.make(_BRIDGE)])
    by_chance = actions.by_chance(actions.chances(50.0))
    chains.transaction(
        [
            _TABLE.create(exclusive=False),
            *links.make_chains(_TABLE),
            _TABLE.rule(links.SENT, "try", by_chance, actions.go_to(links.LOST)),
        ]
    )


def _reset(link: NetlinkSocket, chains: nft.NftSocket) -> None:
    make_resets(link, chains, "syn_resets", _TRIED, _BRIDGE)
    chains.transaction(_detour(_TRIED.other))


def _slow(link: NetlinkSocket, chains: nft.NftSocket) -> None:
    link.request([traffic.make_root(_TRIED.other), *_TRIED.bring_up()])
    tried = traffic.TrafficClass(1, traffic.ROOT, 125_000, 125_000, leaf=True)
    link.request(traffic.make_class(_TRIED.other, tried))
    chains.transaction(_detour(_TRIED.other))


def _delay(link: NetlinkSocket, chains: nft.NftSocket) -> None:
    os.close(open_tap(_TRIED_TAPS.heard))
    descriptor = open_tap(_TRIED_TAPS.sent)
    try:
        link.request([route.join_bridge(_TRIED_TAPS.sent, _BRIDGE, 1000)])
        chains.transaction(_detour(_TRIED_TAPS.sent))
    finally:
        os.close(descriptor)


def _detour(by: route.Device) -> list[Message]:
    """Chains that mark packets and send them by another device, on both of a device's hooks."""
    table = nft.Table(nft.NETDEV, "syn_detour")
    detour = [*actions.set_mark(PASSED), *actions.set_class(traffic.handle(1)), *actions.send_by(by.index)]
    return [
        table.create(exclusive=False),
        *(
            message
            for name, hook in (("in", nft.INGRESS), ("out", nft.EGRESS))
            for message in (
                table.chain(name, hook, drops=True, device=_TRIED.port.name),
                table.rule(name, "try", actions.not_marked(FRESH), detour),
            )
        ),
    ]
