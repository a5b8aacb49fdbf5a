"""What a leader knows of one other member."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.values import Append, AppendReply

BATCH = 128  # entries in one message
WINDOW = 1024  # entries sent ahead of what is acknowledged


@dataclass(slots=True)
class Progress:
    """How far a member's log agrees with the leader's, and when it was last heard.

    While `probing`, one message at a time looks for the place where the logs agree; after that entries are
    sent ahead of the answers.
    """

    next: int
    heard: float
    match: int = 0
    probing: bool = True
    waiting: bool = False  # a probe is out
    round: int = 0
    incarnation: str = ""
    voter: bool = False

    def renew(self, incarnation: str, last_index: int) -> None:
        """Forgets what an earlier disk of this member held."""
        self.incarnation = incarnation
        self.match, self.next, self.round = 0, last_index + 1, 0
        self.probing, self.waiting = True, False

    def counts(self, admitted: str) -> bool:
        """Whether its answers count towards a majority, if `admitted` is the disk it should have."""
        return self.voter and self.incarnation == admitted

    def range(self, last_index: int, beat: bool) -> tuple[int, int] | None:
        """The entries to send now as (first, stop), empty for a heartbeat; None for no message at all."""
        if self.probing:
            if self.waiting and not beat:
                return None
            return self.next, min(last_index + 1, self.next + BATCH)
        stop = min(last_index + 1, self.next + BATCH, self.match + WINDOW + 1)
        if stop <= self.next:
            return (self.next, self.next) if beat else None
        return self.next, stop

    def sent(self, message: Append) -> None:
        """Notes that a message left."""
        if self.probing:
            self.waiting = True
        else:
            self.next += len(message.entries)

    def accepted(self, reply: AppendReply) -> None:
        """The logs agree up to `reply.at`."""
        self.match = max(self.match, reply.at)
        self.next = max(self.next, self.match + 1) if not self.probing else self.match + 1
        self.probing = self.waiting = False

    def rejected(self, retry_at: int) -> None:
        """The logs do not agree before `next`; look again from `retry_at`."""
        self.next = max(self.match + 1, min(retry_at, self.next))
        self.probing, self.waiting = True, False
