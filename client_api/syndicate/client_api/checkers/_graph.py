"""A graph of dependencies: components and short cycles."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from enum import StrEnum

from syndicate.client_api.checkers._budget import Meter

_TRIES = 20  # cycles that are looked at for a shorter one


class Edge(StrEnum):
    """Why one transaction is before another."""

    WW = "ww"  # the other wrote the version after its own
    WR = "wr"  # the other read what it wrote
    RW = "rw"  # the other wrote the version after the one it read
    RT = "rt"  # it had ended when the other was invoked


class Graph:
    """Nodes are numbers from 0; of several edges between two the first kind that was said is told."""

    def __init__(self, size: int) -> None:
        self._out: list[dict[int, set[Edge]]] = [{} for _ in range(size)]

    def add(self, before: int, after: int, kind: Edge) -> None:
        """An edge; none from a node to itself."""
        if before != after:
            self._out[before].setdefault(after, set()).add(kind)

    def after(self, node: int, kinds: Collection[Edge]) -> list[int]:
        """Where edges of these kinds lead."""
        return [other for other, said in self._out[node].items() if not said.isdisjoint(kinds)]

    def kind(self, before: int, after: int, kinds: Collection[Edge]) -> Edge:
        """The first of these kinds that holds between two."""
        return next(kind for kind in Edge if kind in kinds and kind in self._out[before][after])

    def edges(self, kind: Edge) -> Iterator[tuple[int, int]]:
        """All of one kind."""
        for before, others in enumerate(self._out):
            for after, said in others.items():
                if kind in said:
                    yield before, after

    def components(self, kinds: Collection[Edge], meter: Meter) -> list[int]:
        """The number of each node's strongly connected component (Tarjan, without recursion)."""
        size = len(self._out)
        found, low, component = [-1] * size, [0] * size, [-1] * size
        stack: list[int] = []
        clock = components = 0
        for root in range(size):
            if found[root] >= 0:
                continue
            meter.check()
            work = [(root, iter(self.after(root, kinds)))]
            found[root] = low[root] = clock
            clock += 1
            stack.append(root)
            while work:
                node, others = work[-1]
                for other in others:
                    if found[other] < 0:
                        found[other] = low[other] = clock
                        clock += 1
                        if clock % 1024 == 0:
                            meter.check()
                        stack.append(other)
                        work.append((other, iter(self.after(other, kinds))))
                        break
                    if component[other] < 0:
                        low[node] = min(low[node], found[other])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == found[node]:
                        while component[node] < 0:
                            component[stack.pop()] = components
                        components += 1
        return component

    def path(
        self, start: int, goal: int, kinds: Collection[Edge], component: list[int], meter: Meter
    ) -> list[int] | None:
        """The shortest way within one component, both ends in it; None where there is none."""
        came: dict[int, int] = {start: start}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            if node == goal:
                way = [node]
                while node != start:
                    node = came[node]
                    way.append(node)
                return way[::-1]
            if len(came) % 1024 == 0:
                meter.check()
            for other in self.after(node, kinds):
                if other not in came and component[other] == component[start]:
                    came[other] = node
                    queue.append(other)
        return None

    def cycle(self, through: Edge, kinds: Collection[Edge], meter: Meter) -> list[int] | None:
        """A short cycle of one edge of a kind and else of these kinds; its first edge is that one."""
        every = {*kinds, through}
        component = self.components(every, meter)
        best: list[int] | None = None
        tries = _TRIES
        for before, after in self.edges(through):
            meter.check()
            if component[before] == component[after]:
                way = self.path(after, before, kinds, component, meter)
                if way is not None and (best is None or len(way) < len(best)):
                    best = [before, *way[:-1]]
                    tries -= 1
                    if len(best) == 2 or not tries:
                        break
        return best
