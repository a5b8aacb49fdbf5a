"""How a cluster is born, so that a lost disk is never taken for a new cluster.

A member that starts with an empty disk cannot tell by itself whether the cluster is new or its disk was
lost. So the first set of disks is fixed once, by all: each disk draws a random *incarnation*; the first
member collects the incarnation of every member into a roster and asks all to *pin* it, that is to write it
down and never pin another one; when all hold it, the cluster is *formed*, and whoever asks is told so, with
the roster.

- Two rosters cannot both be formed while one of the disks survives: each needs every member's pin, and a
  member pins one.
- A member that hears "formed" compares the roster with its own incarnation. The same: its disk is whole since
  the birth, and it is a voter. Another one: its disk was lost, and it rejoins (`rejoin`).
- A disk lost *while* the cluster forms, before anybody knows it formed, leaves it unformed. That is safe, and
  the answer is to start again.
"""

from __future__ import annotations

from raftkv.values import Form, Formed, Hello, Message, Meta, Pinned, Roster

REPEAT_S = 0.1


class Birth:
    """One member until it knows that the cluster is formed; no I/O, no clock.

    `meta` must be on disk before the messages of `take` leave.
    """

    def __init__(self, me: str, members: tuple[str, ...], meta: Meta, now: float) -> None:
        self._me = me
        self._members = members
        self._peers = tuple(member for member in members if member != me)
        self.meta = meta
        self._heard: Roster = {me: meta.incarnation}
        self._pinned_by = {me}
        self._out: list[tuple[str, Message]] = []
        self._next = now
        self._advance()

    @property
    def deadline(self) -> float:
        """When `tick` has something to do."""
        return self._next

    def tick(self, now: float) -> None:
        """Says again what may have been lost."""
        if now < self._next:
            return
        self._next = now + REPEAT_S
        for peer in self._peers:
            self._out.append((peer, Hello(self._me, self.meta.incarnation)))
            if self._leads and self.meta.roster is not None:
                self._out.append((peer, Form(self._me, self.meta.roster)))

    def receive(self, message: Message) -> None:
        """Takes in what a peer said; anything that is not about birth is not for an unborn member."""
        match message:
            case Hello(src, incarnation):
                self._heard[src] = incarnation
            case Form(src, roster):
                self._pin(src, roster)
            case Pinned(src, roster) if roster == self.meta.roster:
                self._pinned_by.add(src)
            case Formed(_, roster):
                self._be_born(roster)
        self._advance()

    def take(self) -> list[tuple[str, Message]]:
        """The messages to send, each with its receiver."""
        out, self._out = self._out, []
        return out

    @property
    def _leads(self) -> bool:
        return self._me == self._members[0]

    def _pin(self, src: str, roster: Roster) -> None:
        if self.meta.formed or roster.get(self._me) != self.meta.incarnation:
            return
        if self.meta.roster is None:
            self.meta = self.meta._replace(roster=roster)
        if self.meta.roster == roster:
            self._out.append((src, Pinned(self._me, roster)))

    def _advance(self) -> None:
        if not self._leads or self.meta.formed:
            return
        if self.meta.roster is None and len(self._heard) == len(self._members):
            self.meta = self.meta._replace(roster=dict(self._heard))
            self._next = 0.0  # ask the others now
        if self.meta.roster is not None and len(self._pinned_by) == len(self._members):
            self._be_born(self.meta.roster)

    def _be_born(self, roster: Roster) -> None:
        if self.meta.formed:
            return
        whole = roster[self._me] == self.meta.incarnation
        self.meta = self.meta._replace(roster=roster, formed=True, voter=whole)
        self._out += [(peer, Formed(self._me, roster)) for peer in self._peers]
