"""From what a slot's network is to suffer to what the kernel is told, and in which order.

Rules and sets change in one transaction, for one slot as for many. Traffic classes and the delay line are
other parts: new classes are made before, when no rule leads to them, and old ones removed after; the line is
told of delays before, and told the old ones again if anything is refused. So a refusal leaves all as it was.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ...local import LinkState, NetworkState
from . import _links as links
from . import _nft as nft
from ._common import packed_addresses
from ._contract import NetworkError
from ._delay import DelayLine, Profile
from ._detours import Classes, Shaper
from ._netlink import Message
from ._slot_table import FAULT_SETS, SlotTemplate

OK = "ok"


@dataclass(frozen=True, slots=True)
class Suffered:
    """What a slot's chains hold: elements of its sets, its links, and the classes of either direction.

    `late` is what the delay line does, by the direction's number; nothing where nothing is delayed.
    """

    sets: dict[str, list[bytes]]
    links: tuple[LinkState, ...] = ()
    classes: dict[str, Classes] = field(default_factory=dict)
    late: dict[int, Profile] = field(default_factory=dict)


class Plan(NamedTuple):
    """What makes a slot suffer what is wanted."""

    faults: SlotFaults
    known: Suffered
    wanted: Suffered
    messages: list[Message]
    added: list[Classes]
    dropped: list[Classes]


@dataclass(frozen=True, slots=True)
class Means:
    """By what all slots of a fabric suffer."""

    template: SlotTemplate
    shaper: Shaper
    line: DelayLine
    findings: dict[str, str]


class SlotFaults:
    """What one slot suffers. One thread at a time uses it. Methods raise NetworkError."""

    def __init__(self, name: str, label: str, mac: str, means: Means) -> None:
        self.mac = mac
        self._name = name
        self._means = means
        self._shaper = means.shaper
        self._findings = means.findings
        self._fillings = means.template.fillings(label)
        self._label = label
        self._suffered = Suffered({name: [] for name in FAULT_SETS})
        self._certain = True  # that the kernel has it so

    @property
    def is_plain(self) -> bool:
        """Whether its sets are all that there is, and the kernel is known to have them so."""
        return self._certain and not self._suffered.links

    def plan(self, state: NetworkState) -> Plan:
        """What is to be done; `carry_out` does it or gives it up. Nothing of what stays as it is."""
        known = self._suffered
        sets = self._wanted_sets(state)
        messages: list[Message] = []
        for name, elements in sets.items():
            held = known.sets[name] if self._certain else None
            if elements != held:
                filling = self._fillings[name]
                # What is known to be empty need not be emptied first.
                messages += filling.more(elements) if held == [] else filling.exactly(elements)
        if self._certain and state.links == known.links:
            wanted = Suffered(sets, known.links, known.classes, known.late)
            return Plan(self, known, wanted, messages, [], [])
        links.check_links(state.links, self._findings)
        classes: dict[str, Classes] = {}
        late: dict[int, Profile] = {}
        added: list[Classes] = []
        try:
            for direction in links.DIRECTIONS:
                rates = links.rates(state.links, direction)
                kept = known.classes.get(direction.chain)
                if kept is None or kept.rates != rates or not self._certain:
                    kept = self._shaper.number(rates)
                    added.append(kept)
                classes[direction.chain] = kept
                delays = links.delays(state.links, direction)
                if delays:
                    late[direction.number] = delays
                messages += links.rules(state.links, direction, kept.handles, delays, self._rules)
        except NetworkError:
            self._shaper.remove(added)
            raise
        dropped = [old for chain, old in known.classes.items() if classes[chain] is not old]
        return Plan(self, known, Suffered(sets, state.links, classes, late), messages, added, dropped)

    @cached_property
    def _rules(self) -> dict[tuple[str, str], Message]:
        """Most slots never need them."""
        return self._means.template.link_rules(self._label)

    def note(self, suffered: Suffered | None) -> None:
        """Note what the kernel has; None where that is not known."""
        self._certain = suffered is not None
        if suffered is not None:
            self._suffered = suffered

    def release(self) -> None:
        """Remove what outlives the slot's table. Idempotent."""
        old, self._suffered = self._suffered, Suffered(self._suffered.sets)
        self._shaper.remove(list(old.classes.values()))
        for number in old.late:
            self._means.line.set(number, self.mac, {})

    def _wanted_sets(self, state: NetworkState) -> dict[str, list[bytes]]:
        if state.cut_out or state.cut_in:
            self._require("one-way")
        if state.reset:
            self._require("reset")
        cut = packed_addresses(state.cut)
        return {
            "cut_out": packed_addresses([*state.cut, *state.cut_out]) if state.cut_out else cut,
            "cut_in": packed_addresses([*state.cut, *state.cut_in]) if state.cut_in else cut,
            "reset": packed_addresses(state.reset) if state.reset else [],
        }

    def _require(self, capability: str) -> None:
        if self._findings[capability] != OK:
            raise NetworkError(f"slot {self._name}: {self._findings[capability]}", errno.EOPNOTSUPP)


def carry_out(planned: Iterable[Plan], chains: nft.NftSocket, means: Means) -> None:
    """Do it all, or none of it; `planned` plans as it goes, and may refuse. Raises NetworkError."""
    plans: list[Plan] = []
    try:
        for plan in planned:
            plans.append(plan)  # one by one: those before a refusal are given up
        means.shaper.make([one for plan in plans for one in plan.added])
        _delay(plans, means.line)
        _commit(plans, chains)
    except NetworkError:
        means.shaper.remove([one for plan in plans for one in plan.added])
        with contextlib.suppress(NetworkError):  # it does not run, and delays nothing
            _undo_delays(plans, means.line)
        raise
    for plan in plans:
        plan.faults.note(plan.wanted)
    means.shaper.remove([one for plan in plans for one in plan.dropped])
    _end_delays(plans, means.line)


def _delay(plans: Sequence[Plan], line: DelayLine) -> None:
    for plan in plans:
        for number, profile in plan.wanted.late.items():
            line.set(number, plan.faults.mac, profile)


def _undo_delays(plans: Sequence[Plan], line: DelayLine) -> None:
    for plan in plans:
        for number in plan.wanted.late:
            line.set(number, plan.faults.mac, plan.known.late.get(number, {}))


def _end_delays(plans: Sequence[Plan], line: DelayLine) -> None:
    """Of what is not delayed any more."""
    for plan in plans:
        for number in plan.known.late:
            if number not in plan.wanted.late:
                with contextlib.suppress(NetworkError):  # no packet comes to it any more
                    line.set(number, plan.faults.mac, {})


def _commit(plans: Sequence[Plan], chains: nft.NftSocket) -> None:
    messages = [message for plan in plans for message in plan.messages]
    try:
        chains.transaction(messages)
    except NetworkError:
        for plan in plans:  # refused, or never answered: the next plan takes nothing for granted
            plan.faults.note(None)
        raise
