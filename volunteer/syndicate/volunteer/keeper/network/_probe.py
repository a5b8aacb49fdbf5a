"""What this kernel lets the keeper do, found by doing it in a namespace that is thrown away."""

from __future__ import annotations

import os
from collections.abc import Callable

from . import _nft as nft
from . import _route as route
from ._contract import REMEDIES, NetworkError
from ._namespace import make_namespace
from ._netlink import Message, NetlinkSocket

OK = "ok"

_BRIDGE = route.Device(1000, "synbridge", "02:00:00:00:00:01")
_DEVICE = route.Device(1001, "synprobe")
_PEER = route.Device(1002, "synpeer")
_TABLE = nft.Table(nft.NETDEV, "syn_probe")


def probe() -> dict[str, str]:
    """Try each thing that slots need: name to `ok`, or to one line with the error and what mends it.

    Names: netns, veth, bridge, nft_tables, nft_sets, nft_ingress, nft_egress, nft_skuid (the last only for
    the host's network). Leaves nothing; takes about 10 ms.
    """
    try:
        netns_fd, findings = make_namespace(_try_all)
    except NetworkError as error:
        first = {"netns": str(error.with_remedy("netns"))}
        return first | {name: "not tried: no network namespace" for name in REMEDIES if name not in first}
    os.close(netns_fd)
    return {"netns": OK} | findings


def _try_all() -> dict[str, str]:
    findings: dict[str, str] = {}

    def attempt(name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except NetworkError as error:
            findings[name] = str(error.with_remedy(name))
        else:
            findings[name] = OK

    attempt(
        "veth", lambda: _links([route.make_veth(_DEVICE, _PEER), route.set_up(_DEVICE.index, _DEVICE.name)])
    )
    attempt("bridge", lambda: _links([route.make_bridge(_BRIDGE)]))
    table, addresses = _TABLE.create(exclusive=False), _TABLE.new_set("addresses", nft.ADDRESSES, 1)
    in_set = [*nft.ipv4(), *nft.within(nft.IP_SOURCE, "addresses")]
    ingress = _TABLE.chain("ingress", nft.INGRESS, drops=True, device=_DEVICE.name)
    egress = _TABLE.chain("egress", nft.EGRESS, drops=True, device=_DEVICE.name)
    uids = _TABLE.new_set("uids", nft.UIDS, 2)
    attempt("nft_tables", lambda: _chains([table]))
    attempt(
        "nft_sets",
        lambda: _chains([table, addresses, *_TABLE.add("addresses", nft.address_elements(["10.0.0.1"]))]),
    )
    attempt(
        "nft_ingress",
        lambda: _chains([table, addresses, ingress, _TABLE.rule("ingress", "try", in_set, nft.drop())]),
    )
    attempt(
        "nft_egress",
        lambda: _chains([table, addresses, egress, _TABLE.rule("egress", "try", in_set, nft.drop())]),
    )
    attempt(
        "nft_skuid",
        lambda: _chains(
            [table, uids, egress, _TABLE.rule("egress", "try", nft.owned_by("uids"), nft.drop())]
        ),
    )
    return findings


def _links(messages: list[Message]) -> None:
    link = NetlinkSocket(route.NETLINK_ROUTE)
    try:
        link.request(messages)
    finally:
        link.close()


def _chains(messages: list[Message]) -> None:
    chains = nft.NftSocket()
    try:
        chains.transaction(messages)
    finally:
        chains.close()
