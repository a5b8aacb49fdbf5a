"""Histories built to explode; as a program, judges one with little memory and prints what came of it."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable

from syndicate.client_api.checkers import REFUSED, Budget, Linearizable, Model, Queue
from syndicate.client_api.history._operation import Operation, Outcome

ADDRESS_SPACE = 512 * 2**20


def queue_of_equals() -> tuple[Model, list[Operation]]:
    """Enqueues of equal elements, so that no order is ruled out; a dequeue of what is not there."""
    rng = random.Random(1)
    puts = [
        Operation(n, n, "enqueue", None, n // 2, Outcome.OK if n % 2 else Outcome.INFO, None, n, 10_000 + n)
        for n in range(120)
    ]
    gets = [
        Operation(n, n, "dequeue", None, None, Outcome.INFO, None, rng.randrange(10_000), 20_000 + n)
        for n in range(120, 240)
    ]
    return Queue(), [
        *puts,
        *gets,
        Operation(240, 240, "dequeue", None, None, Outcome.OK, "x", 30_000, 30_001),
    ]


class Log(Model):
    """All that was done, in its order: no two orders leave the same. What comes last is refused."""

    initial = ()

    def step(self, state, operation):  # type: ignore[no-untyped-def]
        """One more; no `get`."""
        return REFUSED if operation.kind == "get" else (*state, operation.argument)


def every_order() -> tuple[Model, list[Operation]]:
    """Three hundred operations at once, and one that no order allows."""
    many = [Operation(n, n, "do", None, n, Outcome.OK, None, n, 10_000 + n) for n in range(300)]
    return Log(), [*many, Operation(300, 300, "get", None, None, Outcome.OK, None, 20_000, 20_001)]


BUILT: dict[str, Callable[[], tuple[Model, list[Operation]]]] = {
    "queue_of_equals": queue_of_equals,
    "every_order": every_order,
}


def main(name: str, seconds: float, megabytes: int, measured: bool) -> None:
    """Judge the history of a name within a budget."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    model, operations = BUILT[name]()
    if measured:
        tracemalloc.start()
    # This process's time: while the machine does something else no check can end.
    clock = time.process_time
    begun = clock()
    verdict = Linearizable(model).check(operations, Budget(seconds, megabytes * 2**20, clock))
    taken = clock() - begun
    peak = tracemalloc.get_traced_memory()[1] if measured else 0
    told = {"answer": verdict.answer, "reason": verdict.reason, "seconds": taken, "peak": peak}
    print(json.dumps({**told, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "measured")
