"""How long verdicts take: a good history, a bad one, and one that was built to explode.

The histories have the shape of those that Porcupine publishes of a key-value store (50 clients, some 1,700
gets, puts and appends on ten keys), but are generated here: a correct store is simulated, each operation
takes effect at some moment of its interval, and one read of the bad one returns what had been replaced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from syndicate.client_api.checkers import Answer, Budget, KeyValue, Linearizable

from tests.bench.figure import Figure, of
from tests.client_api.checkers.exploding import queue_of_equals
from tests.client_api.checkers.made import simulated, stale

NAMES = ("checker_good", "checker_bad", "checker_exploding")
SEEDS = range(15)
BUDGET_S = 2.0


def judge(checker: Linearizable, history: list, budget: Budget, answer: Answer) -> float:  # type: ignore[type-arg]
    """Seconds that a verdict took; an AssertionError where it is another than this."""
    begun = time.perf_counter()
    verdict = checker.check(history, budget)
    taken = time.perf_counter() - begun
    assert verdict.answer is answer, verdict.text()
    return taken


def measure() -> Iterator[Figure]:
    """A good and a bad history of each seed in turn; then the exploding one."""
    checker = Linearizable(KeyValue(""))
    good, bad = [], []
    for seed in SEEDS:
        good.append(judge(checker, simulated(seed, 1700, 50, 10), Budget(), Answer.TRUE))
        spoiled = stale(simulated(seed, 2000, 50, 10), random.Random(seed))
        bad.append(judge(checker, spoiled, Budget(), Answer.FALSE))
    yield of("checker_good", "s", good, "", [])
    yield of("checker_bad", "s", bad, "", [])
    model, history = queue_of_equals()
    taken = [judge(Linearizable(model), history, Budget(BUDGET_S), Answer.UNKNOWN) for _ in range(3)]
    yield of("checker_exploding", "s", taken, "its budget", [BUDGET_S])
