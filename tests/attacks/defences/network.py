"""What keeps a slot's packets to its job, and how each of it is switched off for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.attacks.defence import Defence

_BYSTANDERS = 2


def _accepting(*rules: tuple[str, str]) -> Callable[[], None]:
    """Rules, by chain and comment, that let pass what they would drop."""

    def off() -> None:
        from syndicate.volunteer.keeper.network import _nft as nft

        rule = nft.Table.rule

        def rule_or_not(self: nft.Table, chain: str, comment: str, *parts: Any) -> Any:
            if (chain, comment) in rules:  # it counts as before, or the slot could not tell its counters
                passes = [*nft.count(), *nft.accept()]
                parts = (*parts[:-1], passes)
            return rule(self, chain, comment, *parts)

        nft.Table.rule = rule_or_not  # type: ignore[method-assign]

    return off


def _with_ipv6() -> None:
    """IPv6 is on in every slot, and the bridge floods as bridges do: it needs multicast to find anybody."""
    from syndicate.volunteer.keeper.network import _fabric, _fabric_slot
    from syndicate.volunteer.keeper.network import _route as route

    _fabric.disable_ipv6 = _fabric_slot.disable_ipv6 = lambda: None  # type: ignore[attr-defined]
    route.fix_port = lambda port, **_: route.set_up(port.index, port.name)


def _in_the_hosts() -> None:
    """Jobs run in the host's network; the bystander, which comes first, keeps a namespace."""
    from syndicate.volunteer.keeper.ground import Ground
    from syndicate.volunteer.keeper.launch import Launcher

    start, prepare, prepared = Launcher.start, Ground.prepare, []

    def start_outside(self: Launcher, argv: Any, inside: int, mntns: int, netns: Any, *rest: Any) -> int:
        own = len(prepared) <= _BYSTANDERS
        return start(self, argv, inside, mntns, netns if own else None, *rest)

    def prepare_outside(self: Ground, *given: Any) -> Any:
        prepared.append(self)
        if len(prepared) > _BYSTANDERS:
            self._standby.drop_sandbox()  # the one that waits has a namespace
        return prepare(self, *given)

    Launcher.start = start_outside  # type: ignore[method-assign]
    Ground.prepare = prepare_outside  # type: ignore[method-assign]


_FROM, _TO = "from_slot", "to_slot"

DEFENCES = {
    "default-drop": Defence(
        "keeper",
        "chains that drop what is not between members of one job",
        _accepting((_FROM, "refused"), (_TO, "refused")),
    ),
    "source": Defence(
        "keeper", "a slot sends nothing but from its own address to its job's", _accepting((_FROM, "refused"))
    ),
    "hardware": Defence(
        "keeper", "a slot sends nothing but from its own hardware address", _accepting((_FROM, "forged"))
    ),
    "cut": Defence("keeper", "the chains' set of those cut off", _accepting((_FROM, "cut"), (_TO, "cut"))),
    "ipv6": Defence("keeper", "no IPv6 in a slot, and a bridge that floods nothing", _with_ipv6),
    "host": Defence("keeper", "a network namespace of the slot's own", _in_the_hosts),
}
