"""How a member whose disk was lost takes part again.

A lost disk held promises that others count on: votes, and acknowledgements of entries. A member that forgot
them could help a second leader into a term, or elect a leader without an entry that it once helped to commit.

The rule. N members, a majority is q = N // 2 + 1, so there are at most 2q - 2 others (2q - 3 for an even N).

1. A disk is known by its incarnation. A member that finds its own not in the cluster's first roster (see
   `birth`) is a *learner*: it copies the log, but does not vote, does not stand, and does not count.
2. It asks (`Join`) until the leader writes an `admit` entry that names its incarnation.
3. From then on the leader counts no acknowledgement of the member's earlier disk, and none of the new disk
   before that says that it is a voter. So the admission is committed by q members *other than this one*.
4. When the member learns that the latest admission of itself is committed and names its own incarnation, it
   stores that it is a voter, and that its vote of the current term is given to nobody.

Why this is sound. Let X be the lost disk, X' the new one, and A the admission, written in term a. A was
written after X was gone, since X' drew its incarnation after that. Of the others, q hold A; any majority
that X was part of has q - 1 others; so the two share a member Z, which is not X.

- X voted for a leader of term t. Had Z held A when it voted, that leader's log would have held A too before
  the vote was asked for (a vote needs a log at least as up to date), but then X was gone and could not
  vote. So Z voted first and took A later, hence a >= t: X' copied A in a term of at least t, and votes in
  none up to it.
- X acknowledged an entry e of term t that was committed. If t > a: Z voted for the leader of t before A was
  written (above), and could not have taken A in the lower term a. If t = a: one leader wrote both, e before
  A, since X was gone when A was written. If t < a: the leader of a holds e (leader completeness), before A.
  In each case X' holds e when it holds A, before it votes.
- More disks lost, at once or in turn: admissions are entries of one log, so the argument goes through in
  their order. With more than N - q members not admitted nothing is committed any more, which is safe.

What it rests on: Viewstamped Replication Revisited (Liskov and Cowling, 2012), 4.3, where a recovering
replica waits for answers of a majority of others, the leader of the latest view among them; Recovering
Shared Objects Without Stable Storage (Michael et al., DISC 2017), which shows that a lost replica's old
messages must stop counting (here: the log says which disk counts, and votes go only to logs that say it
too); and membership change through the log with learners (Ongaro's dissertation, chapter 4).
"""

from __future__ import annotations

from raftkv.log import Log
from raftkv.values import BARRED, Meta


def counted_disk(node: str, log: Log, meta: Meta) -> str:
    """The incarnation of `node` whose acknowledgements count for a leader with this log (step 3)."""
    latest = log.admitted(node)
    if latest is not None:
        return latest[1]
    if meta.roster is None:
        raise AssertionError("a cluster that is not formed counts nothing")
    return meta.roster[node]


def standing(me: str, log: Log, commit: int, meta: Meta) -> Meta:
    """The member's meta once everything up to `commit` is known to be committed (step 4).

    Only the latest admission of a member says something: when the log is applied again after a start, earlier
    ones are about disks that are gone. Where the latest names another disk (a late `Join` of a dead one), the
    member is a learner again until it is admitted once more.
    """
    latest = log.admitted(me)
    if latest is None or latest[0] > commit:
        return meta
    voter = latest[1] == meta.incarnation
    return meta if voter == meta.voter else meta._replace(voter=voter, vote=BARRED)
