"""What packets suffer on a slot's links, as rules of two chains: of what it sends, and of what it hears.

Isolation and cuts decide before: only what may pass comes here. Encoding a rule takes longer than the kernel
takes to have it, so each kind of rule is encoded once, with blanks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from socket import AF_INET, inet_ntop

from ...local import Degradation, LinkState
from . import _actions as actions
from . import _nft as nft
from ._common import packed_addresses
from ._contract import NetworkError
from ._delay import Entry, Profile
from ._detours import FRESH, PASSED, SLOW_HEARD, SLOW_SENT, Delays
from ._netlink import Message

SENT, HEARD, LOST = "sent", "heard", "lost"
_PEER, _OPERAND = b"\xfe\xdc\xba\x98", b"\x89\xab\xcd\xef"  # blanks
_WHOLE = ""


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of a slot's links: its chain, and where the peer's address stands."""

    number: int
    chain: str
    peer: nft.Field
    degradation: Callable[[LinkState], Degradation]
    slow: int  # marks of what goes by a rate, and of what is delayed then
    slow_and_late: int


DIRECTIONS = (
    Direction(0, SENT, nft.IP_TARGET, lambda link: link.sent, FRESH, SLOW_SENT),
    Direction(1, HEARD, nft.IP_SOURCE, lambda link: link.heard, PASSED, SLOW_HEARD),
)


def make_chains(table: nft.Table) -> list[Message]:
    """The chains as they are where nothing is degraded."""
    return [
        table.sub_chain(LOST),
        table.rule(LOST, LOST, nft.drop()),
        *(
            message
            for direction in DIRECTIONS
            for message in (table.sub_chain(direction.chain), _accept(table, direction.chain))
        ),
    ]


def _accept(table: nft.Table, chain: str) -> Message:
    return table.rule(chain, "job", nft.accept())


def encode_rules(
    table: nft.Table, slow_index: int | None, late: Delays | None
) -> dict[tuple[str, str], Message]:
    """Every kind of rule by its chain and kind, with blanks for peer and operand.

    `slow_index` is the device that gives rates; rules of rates or delays are not there where nothing does.
    """
    encoded: dict[tuple[str, str], Message] = {}
    for direction in DIRECTIONS:
        chain = direction.chain
        kinds = {"loss": [*actions.by_chance(_OPERAND), *actions.go_to(LOST)]}
        if slow_index is not None:
            by_class = [*actions.set_class(_OPERAND), *actions.send_by(slow_index)]
            kinds["rate"] = [*actions.set_mark(direction.slow), *by_class]
            kinds["rate and delay"] = [*actions.set_mark(direction.slow_and_late), *by_class]
        if late is not None:
            kinds["delay"] = actions.send_by((late.sent, late.heard)[direction.number].index)
        of_peer = nft.equal(direction.peer, _PEER)
        encoded |= {
            (chain, "clear"): table.clear(chain),
            (chain, "accept"): _accept(table, chain),
            (chain, "passed"): table.rule(chain, "passed", actions.not_marked(FRESH), nft.accept()),
        }
        for kind, action in kinds.items():
            encoded[chain, kind] = table.rule(chain, kind, action)
            encoded[chain, f"{kind} of peer"] = table.rule(chain, kind, of_peer, action)
    return encoded


def check_links(links: Sequence[LinkState], findings: dict[str, str]) -> None:
    """Raise NetworkError for what is no degradation, or none that can be here."""
    packed_addresses(link.peer for link in links if link.peer != _WHOLE)
    for link in links:
        for asked in (link.sent, link.heard):
            for field in fields(asked):
                _check(field.name, getattr(asked, field.name), findings)


def _check(name: str, value: float, findings: dict[str, str]) -> None:
    most = 100.0 if name.endswith("_percent") else float("inf")
    if not 0 <= value <= most or value == float("inf"):
        bounds = "between 0 and 100" if most == 100.0 else "0 or more"
        raise NetworkError(f"{name} is {value:g}: it must be {bounds}", errno.EINVAL)
    finding = findings[name.partition("_")[0]]
    if value and finding != "ok":
        raise NetworkError(finding, errno.EOPNOTSUPP)


def rates(links: Sequence[LinkState], direction: Direction) -> dict[str, int]:
    """Bits a second by peer, "" for the whole slot; the least where several are about one."""
    found: dict[str, int] = {}
    for link in links:
        rate = direction.degradation(link).rate_bps
        if rate:
            found[link.peer] = min(rate, found.get(link.peer, rate))
    return found


def delays(links: Sequence[LinkState], direction: Direction) -> Profile:
    """What the delay line does to packets of this direction, by peer: all that is about them."""
    found: dict[str, list[Entry]] = {}
    for link in links:
        asked = direction.degradation(link)
        entry = (
            asked.delay_ms,
            asked.jitter_ms,
            asked.duplicate_percent,
            asked.corrupt_percent,
            asked.reorder_percent,
        )
        if any(entry):
            found.setdefault(link.peer, []).append(entry)
    whole = found.get(_WHOLE, [])
    return {
        packed_addresses([peer])[0] if peer else b"": entries + (whole if peer else [])
        for peer, entries in found.items()
    }


def rules(
    links: Sequence[LinkState],
    direction: Direction,
    handles: dict[str, bytes],
    late: Profile,
    encoded: dict[tuple[str, str], Message],
) -> list[Message]:
    """What makes the direction's chain hold exactly this; `handles` are the classes of the links' rates."""
    chain = direction.chain
    made = [encoded[chain, "clear"]]
    if chain == HEARD and (handles or late):
        made.append(encoded[chain, "passed"])  # resets, and what took the detours already
    for link in links:
        percent = direction.degradation(link).loss_percent
        if percent:
            made.append(_fill(encoded, chain, "loss", link.peer, actions.chances(percent)))
    detoured = {*handles, *(inet_ntop(AF_INET, peer) if peer else _WHOLE for peer in late)}
    for peer in sorted(detoured, reverse=True):  # the whole slot's last: a packet takes one detour
        handle = handles.get(peer, handles.get(_WHOLE))
        is_late = b"" in late or (peer != _WHOLE and packed_addresses([peer])[0] in late)
        kind = "delay" if handle is None else "rate and delay" if is_late else "rate"
        made.append(_fill(encoded, chain, kind, peer, handle or b""))
    return [*made, encoded[chain, "accept"]]


def _fill(
    encoded: dict[tuple[str, str], Message], chain: str, kind: str, peer: str, operand: bytes
) -> Message:
    blank = encoded[chain, kind if peer == _WHOLE else f"{kind} of peer"]
    data = blank.data.replace(_OPERAND, operand) if operand else blank.data
    if peer != _WHOLE:
        data = data.replace(_PEER, packed_addresses([peer])[0])
    return Message(blank.what, data)
