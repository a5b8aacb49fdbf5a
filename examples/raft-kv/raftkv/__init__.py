"""A small replicated key-value store: Raft in standard-library Python.

It follows Ongaro's dissertation, "Consensus: Bridging Theory and Practice" (2014): leader election with
randomised timeouts and the pre-vote (9.6), log repair with conflict back-off (5.3 of the Raft paper),
commitment of entries of the current term only (5.4.2), client sessions (6.3), the read index (6.4), and a
leader that steps down when it hears no majority (6.2). There are no snapshots: a log lives as long as its
job.

The members are fixed and all equal. What is not in the dissertation is how a member whose disk was lost comes
back; the modules `birth` and `rejoin` say which rule is used and why it is sound.
"""
