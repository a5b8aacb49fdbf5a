"""What is asked of Redis: that its keys behave as one register each, read from any of its servers.

That is more than it promises, since its replication is asynchronous; it is what users of replicas often take
for granted. So the answer is false each time, and says which read was the first to show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from syndicate.client_api.checkers import Answer, KeyValue, Linearizable, NotVacuous, Verdict, compose
from syndicate.client_api.history import Operation

KEYS = {"stale": "stale_reads", "kept": "writes_lost_with_disk", "lost": "lost_writes"}
"""What a violation at each key is counted as: each key is used in one step of the plan."""


def judge(operations: Sequence[Operation], windows: Sequence[tuple[str, int, int]]) -> Verdict:
    """The verdict on the whole history; its metrics count violations, each step's key for itself."""
    register = Linearizable(KeyValue())
    # A cut of some milliseconds is enough for the one read of the plan, so no window is too short to count.
    checker = compose({"linearizable": register, "tested": NotVacuous(windows, least_s=0.0)})
    verdict = checker.check(operations)
    violations = {
        metric: float(register.check([one for one in operations if one.key == key]).answer is Answer.FALSE)
        for key, metric in KEYS.items()
    }
    return replace(verdict, metrics={"operations": float(len(operations)), **violations})
