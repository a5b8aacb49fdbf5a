"""The slots that a job could have right now, by domain and volunteer; kept up to date slot by slot."""

from __future__ import annotations

from collections.abc import Iterator

from .snapshot import FreeNode


class Pool:
    """Free slots of volunteers that are attached and not drained."""

    def __init__(self) -> None:
        self._domains: dict[str, dict[str, set[int]]] = {}
        self._counts: dict[str, int] = {}
        self.total = 0

    def put(self, domain: str, volunteer_id: str, slot: int) -> bool:
        """The slot is free; False where that was known."""
        slots = self._domains.setdefault(domain, {}).setdefault(volunteer_id, set())
        if slot in slots:
            return False
        slots.add(slot)
        self._counts[domain] = self._counts.get(domain, 0) + 1
        self.total += 1
        return True

    def take(self, domain: str, volunteer_id: str, slot: int) -> None:
        """The slot is not free; harmless where that was known."""
        nodes = self._domains.get(domain, {})
        slots = nodes.get(volunteer_id)
        if slots is None or slot not in slots:
            return
        slots.remove(slot)
        self.total -= 1
        self._counts[domain] -= 1
        if not slots:
            del nodes[volunteer_id]
        if not nodes:
            del self._domains[domain], self._counts[domain]

    def has(self, domain: str, volunteer_id: str, slot: int) -> bool:
        """Whether the slot is free."""
        return slot in self._domains.get(domain, {}).get(volunteer_id, ())

    def counts(self) -> dict[str, int]:
        """Free slots of each domain that has some."""
        return dict(self._counts)

    def most(self) -> int:
        """The free slots of the domain that has most."""
        return max(self._counts.values(), default=0)

    def free_nodes(self) -> Iterator[FreeNode]:
        """All of it, in the order of names."""
        for domain in sorted(self._domains):
            for volunteer_id, slots in sorted(self._domains[domain].items()):
                yield FreeNode(volunteer_id, domain, tuple(sorted(slots)))
