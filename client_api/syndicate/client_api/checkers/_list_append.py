"""Transactions that append to lists and read them: the anomalies that their dependencies show.

Lists tell the order of their writes: each read names every version before it. From that follow the edges
between transactions, and a cycle of these is an anomaly, named as Adya did.

Source: Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental observations" (2020).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from syndicate.client_api.checkers._budget import Budget, Meter
from syndicate.client_api.checkers._checker import listed, validate, within
from syndicate.client_api.checkers._errors import BadOperation
from syndicate.client_api.checkers._graph import Edge, Graph
from syndicate.client_api.checkers._text import call, value
from syndicate.client_api.checkers._values import freeze
from syndicate.client_api.checkers._verdict import Answer, Verdict, origin, overlapping
from syndicate.client_api.history._operation import Operation, Outcome

_READS = ("r", "read")
_EDGES = 400  # bytes of one edge of the graph: a dict's entry and a set
_WORDS = {
    Edge.WW: "wrote before",
    Edge.WR: "was read by",
    Edge.RW: "did not see",
    Edge.RT: "had ended before",
}


# The gravest first: its name, the edge that makes it, and those that may stand beside it.
_CYCLES = (
    ("G0", Edge.WW, (Edge.WW,)),
    ("G1c", Edge.WR, (Edge.WW, Edge.WR)),
    ("G-single", Edge.RW, (Edge.WW, Edge.WR)),
    ("G2", Edge.RW, (Edge.WW, Edge.WR, Edge.RW)),
)
_SHORT = 4  # transactions: a longer cycle is told only where the order of time gives none that is shorter


@dataclass(frozen=True, slots=True)
class _Micro:
    """One step of a transaction: `values` are what a read returned, or the one element appended."""

    reads: bool
    key: Hashable
    name: Any  # the key as the history has it
    values: tuple[Hashable, ...] | None  # None of a read that nobody knows the result of


@dataclass(frozen=True, slots=True)
class _Anomaly:
    name: str
    text: str
    transactions: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class ListAppend:
    """`txn`, whose argument is a list of ["append", key, element] and ["r", key, null].

    The result is the same list with what was read. (`append` and `read` alone are transactions of one step.)
    With `realtime`, a transaction that had ended is before those that were invoked later (strict
    serializability); without, any order will do (serializability).
    """

    realtime: bool = True

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`. Raises BadOperation for a malformed step or a repeated append."""
        validate(operations, {"txn", "append", "read", "r"}, "ListAppend", overlap_ns)
        steps = {one.index: list(_steps(one)) for one in operations}
        return within(
            budget, operations, lambda meter: _Inference(self.realtime, operations, steps, meter).verdict()
        )


def _steps(one: Operation) -> Iterator[_Micro]:
    """The steps of a transaction. Raises BadOperation."""
    if one.kind != "txn":
        reads = one.kind in _READS
        given = [[one.kind, one.key, one.result if reads else one.argument]]
    else:
        given = [listed(one, step, "step") for step in listed(one, one.argument, "argument")]
        if one.outcome is Outcome.OK:
            shape = [step[:2] for step in given]
            given = [listed(one, step, "step") for step in listed(one, one.result, "result")]
            if [step[:2] for step in given] != shape:
                raise BadOperation(one, "its result has other steps than its argument")
    for step in given:
        if len(step) != 3 or step[0] not in ("append", *_READS):
            raise BadOperation(
                one, f'its step {value(step)} is neither ["append", key, element] nor ["r", key, list]'
            )
        what, key, thing = step
        if what == "append":
            yield _Micro(False, freeze(key), key, (freeze(thing),))
        elif one.outcome is Outcome.OK:
            # A key that was never appended to may read as nothing.
            elements = [] if thing is None else listed(one, thing, "read")
            plain = {*map(type, elements)} <= {int, str}  # long lists are read often
            frozen = tuple(elements) if plain else tuple(map(freeze, elements))
            yield _Micro(True, freeze(key), key, frozen)
        else:
            yield _Micro(True, freeze(key), key, None)


class _Inference:
    """What one history tells of its transactions."""

    def __init__(
        self, realtime: bool, operations: Sequence[Operation], steps: dict[int, list[_Micro]], meter: Meter
    ) -> None:
        self._realtime = realtime
        self._operations = operations
        self._steps = steps
        self._meter = meter
        self._writer: dict[tuple[Hashable, Hashable], Operation] = {}
        self._last: dict[tuple[int, Hashable], Hashable] = {}
        self._order: dict[Hashable, tuple[Hashable, ...]] = {}
        self._names: dict[Hashable, Any] = {}
        self._longest: dict[Hashable, Operation] = {}
        for one in operations:
            for step in steps[one.index]:
                self._names[step.key] = step.name
                if step.reads or step.values is None:
                    continue
                (element,) = step.values
                if self._writer.setdefault((step.key, element), one) is not one or (
                    self._last.get((one.index, step.key)) == element
                ):
                    raise BadOperation(
                        one, f"it appends {value(element)} to {step.name} again; elements must differ"
                    )
                self._last[one.index, step.key] = element
        self._good = [one for one in operations if one.outcome is Outcome.OK]

    def verdict(self) -> Verdict:
        """FALSE with the gravest anomaly first, or TRUE."""
        found = list(self._direct())
        if not found:
            found = list(self._cycles(self._graph()))
        start = origin(self._operations)
        reads = sum(step.reads for one in self._good for step in self._steps[one.index])
        metrics = {
            "transactions": float(len(self._operations)),
            "reads": float(reads),
            "anomalies": float(len(found)),
        }
        if found:
            worst = found[0]
            names = {one.index for one in worst.transactions}
            around = [
                one for one in overlapping(worst.transactions[-1], self._operations) if one.index not in names
            ]
            findings = {"anomalies": [{"name": one.name, "text": one.text} for one in found[:20]]}
            reason = f"{worst.name}: {worst.text}"
            return Verdict(Answer.FALSE, reason, worst.transactions, tuple(around), start, metrics, findings)
        if not reads:
            return Verdict(Answer.UNKNOWN, "nothing was read", origin_ns=start, metrics=metrics)
        kind = "strictly serializable" if self._realtime else "serializable"
        return Verdict(Answer.TRUE, f"no anomaly: it looks {kind}", origin_ns=start, metrics=metrics)

    def _direct(self) -> Iterator[_Anomaly]:
        """What single reads show."""
        for one in self._good:
            self._meter.check()
            own: dict[Hashable, list[Hashable]] = {}
            before: dict[Hashable, tuple[Hashable, ...]] = {}
            for step in self._steps[one.index]:
                if not step.reads or step.values is None:
                    own.setdefault(step.key, []).extend(step.values or ())
                    continue
                mine = tuple(own.get(step.key, ()))
                outer = step.values[: len(step.values) - len(mine)]
                if step.values[len(outer) :] != mine or before.setdefault(step.key, outer) != outer:
                    yield _Anomaly("internal", f"{call(one)} contradicts itself at key {step.name}", (one,))
                    return
                yield from self._one_read(one, step, outer)

    def _one_read(self, one: Operation, step: _Micro, outer: tuple[Hashable, ...]) -> Iterator[_Anomaly]:
        """A read of what others wrote; only what no read before it had is looked at one by one."""
        longest = self._order.get(step.key, ())
        short, long = sorted((outer, longest), key=len)
        agrees = long[: len(short)] == short
        new = outer[len(longest) :] if agrees else outer
        if len(outer) > len(longest) and len(set(outer)) != len(outer):
            yield _Anomaly("duplicates", f"a read of {step.name} returned an element twice", (one,))
        for element in new:
            yield from self._one_element(one, step, element)
        writer = self._writer.get((step.key, outer[-1])) if outer else None
        if writer is not None and self._last[writer.index, step.key] != outer[-1]:
            text = f"a read of {step.name} ended with {value(outer[-1])}, in the midst of a transaction"
            yield _Anomaly("G1b", text, (writer, one))
        if not agrees:
            text = f"two reads of {step.name} disagree on its order"
            yield _Anomaly("incompatible-order", text, (self._longest[step.key], one))
        elif len(outer) >= len(longest):
            self._order[step.key] = outer
            self._longest[step.key] = one

    def _one_element(self, one: Operation, step: _Micro, element: Hashable) -> Iterator[_Anomaly]:
        writer = self._writer.get((step.key, element))
        what = f"a read of {step.name} returned {value(element)}"
        if writer is None:
            yield _Anomaly("phantom", f"{what}, which nobody appended", (one,))
        elif writer.outcome is Outcome.FAIL:
            yield _Anomaly("G1a", f"{what}, whose transaction had failed", (writer, one))
        elif writer is one:
            yield _Anomaly("internal", f"{what} before its own transaction appended it", (one,))

    def _graph(self) -> Graph:
        """The dependencies between what happened: what succeeded, or wrote what was read."""
        placed = {(key, element) for key, order in self._order.items() for element in order}
        seen = {self._writer[at].index for at in placed}
        self._nodes = [
            one
            for one in self._operations
            if one.outcome is Outcome.OK or (one.outcome is Outcome.INFO and one.index in seen)
        ]
        number = {one.index: at for at, one in enumerate(self._nodes)}
        graph = Graph(len(self._nodes))
        unread: dict[Hashable, list[int]] = {}
        for (key, element), one in self._writer.items():
            if (key, element) not in placed and one.index in number:
                unread.setdefault(key, []).append(number[one.index])
        for key, order in self._order.items():
            writers = [number[self._writer[key, element].index] for element in order]
            for before, after in pairwise(writers):
                graph.add(before, after, Edge.WW)
            if writers:
                for after in unread.get(key, ()):
                    graph.add(writers[-1], after, Edge.WW)
        for one in self._good:
            self._meter.check()
            self._read_edges(graph, number, unread, one)
        if self._realtime:
            self._realtime_edges(graph)
        return graph

    def _read_edges(
        self, graph: Graph, number: dict[int, int], unread: dict[Hashable, list[int]], one: Operation
    ) -> None:
        me = number[one.index]
        own: dict[Hashable, int] = {}
        for step in self._steps[one.index]:
            if not step.reads or step.values is None:
                own[step.key] = own.get(step.key, 0) + 1
                continue
            self._meter.used += 2 * _EDGES
            seen = step.values[: len(step.values) - own.get(step.key, 0)]
            order = self._order.get(step.key, ())
            if seen:
                graph.add(number[self._writer[step.key, seen[-1]].index], me, Edge.WR)
            if len(seen) < len(order):
                graph.add(me, number[self._writer[step.key, order[len(seen)]].index], Edge.RW)
            else:
                # Every read that there is lacks these: they stand behind the longest.
                self._meter.used += _EDGES * len(unread.get(step.key, ()))
                for after in unread.get(step.key, ()):
                    graph.add(me, after, Edge.RW)

    def _realtime_edges(self, graph: Graph) -> None:
        """From each transaction to those invoked after its end, but where another lies between."""
        events: list[tuple[int, int, int]] = []
        for at, one in enumerate(self._nodes):
            events.append((one.invoked_ns, 0, at))
            if one.outcome is Outcome.OK:
                events.append((int(one.completed_ns or 0), 1, at))
        ended: set[int] = set()
        behind: dict[int, frozenset[int]] = {}
        for _, ends, at in sorted(events):
            if not ends:
                behind[at] = frozenset(ended)
                self._meter.used += _EDGES * len(ended)
                self._meter.check()
                for before in ended:
                    graph.add(before, at, Edge.RT)
            else:
                ended -= behind.pop(at)
                ended.add(at)

    def _cycles(self, graph: Graph) -> Iterator[_Anomaly]:
        """The gravest without the order of time, and with it; that of fewer transactions first."""
        found = []
        for suffix, time in (("", ()), ("-realtime", (Edge.RT,))) if self._realtime else (("", ()),):
            for name, through, others in _CYCLES:
                kinds = (*others, *time)
                way = graph.cycle(through, kinds, self._meter)
                if way is not None:
                    ways = self._shown(graph, way, through, kinds)
                    found.append((len(ways), self._told(name + suffix, ways)))
                    break
            if found and found[-1][0] <= _SHORT:
                break
        yield from (anomaly for _, anomaly in sorted(found, key=lambda pair: pair[0]))

    def _shown(
        self, graph: Graph, way: list[int], through: Edge, kinds: tuple[Edge, ...]
    ) -> list[tuple[Operation, Edge]]:
        """Each transaction with the edge that leaves it, but for those between two edges of time."""
        said = [through]
        said += [graph.kind(one, other, kinds) for one, other in pairwise([*way[1:], way[0]])]
        return [
            (self._nodes[at], kind)
            for at, kind, before in zip(way, said, [said[-1], *said], strict=False)
            if kind is not Edge.RT or before is not Edge.RT
        ]

    def _told(self, name: str, ways: list[tuple[Operation, Edge]]) -> _Anomaly:
        following = [one for one, _ in [*ways[1:], ways[0]]]
        words = [
            f"{one.index} {_WORDS[kind]} {other.index}"
            for (one, kind), other in zip(ways, following, strict=True)
        ]
        told = ", ".join(words if len(words) <= 2 * _SHORT else [*words[:_SHORT], "…", *words[-_SHORT:]])
        ops = sorted((one for one, _ in ways), key=lambda one: one.invoked_ns)
        return _Anomaly(name, f"a cycle of transactions: {told}", tuple(ops))
