"""Worlds that are drawn by a seed, deeper than random ones, with the weight on what makes trouble."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from manager_core.worlds import FAULTS, KINDS, LEASES, NAMES, Worlds
from syndicate.manager.core.model import AnswerCode, Outcome, Reason


class Driver:
    """Drives a world by a seed, with the weight on what makes trouble: faults in jobs that run."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.world = Worlds.__new__(Worlds)

    def run(self, steps: int) -> None:
        """Begins, goes on for so many steps, and ends kindly."""
        chance, world = self.chance, self.world
        slots = (chance.randint(1, 4), chance.randint(1, 4), chance.randint(1, 4))
        domains = (chance.choice("xxxy"), chance.choice("xxxy"), chance.choice("xxxy"))
        Worlds.begin(world, slots, domains, rough=True)
        rough = chance.random()
        actions = [*self.mild(), *[(weight * rough, act) for weight, act in self.rough()]]
        weights = [weight for weight, _ in actions]
        for _ in range(steps):
            chance.choices(actions, weights)[0][1]()
            world.nothing_is_started_twice()
            world.one_attempt_at_a_time()
        world.teardown()

    def mild(self) -> list[tuple[float, Callable[[], None]]]:
        """What users and clients do, and the passing of time."""
        c, w = self.chance, self.world
        faults = ("kill", "revive", "disconnect", "reconnect")
        mends = {"kill": ("revive",), "disconnect": ("reconnect", "kill"), "pause": ("resume", "kill")}
        ends = (
            Reason.EXITED_ZERO,
            Reason.EXITED_ZERO,
            Reason.EXITED_NONZERO,
            Reason.SIGNALED,
            Reason.NO_TARGET,
        )
        return [
            (
                10,
                lambda: w.submit(
                    c.randint(1, 3), c.choice((0, 1, 1, 2)), c.choice("abcd"), self.limit(), c.randint(0, 3)
                ),
            ),
            (1, lambda: w.cancel(c.randrange(8))),
            (8, lambda: w.deliver_some(c.randint(1, 6)) if w.cluster.inbox else None),
            (8, w.deliver_all),
            (5, lambda: w.task_ends(self.pick(), c.choice(ends), self.odds(0.8))),
            (2, lambda: w.tell_again(c.choice(NAMES))),
            (
                25,
                lambda: w.fault(
                    self.pick(),
                    self.pick(),
                    c.choice((*faults, *FAULTS)),
                    self.odds(0.7),
                    self.odds(0.2),
                    self.odds(0.6),
                    c.choice(LEASES),
                    self.odds(0.4),
                ),
            ),
            (4, lambda: (first := c.choice(tuple(mends)), w.break_and_mend(first, c.choice(mends[first])))),
            (2, lambda: w.finish(self.pick(), c.choice(list(Outcome)))),
            (6, lambda: w.time_passes(c.choice((0.1, 0.1, 1.0, 6.0)), self.odds(0.5), self.odds(0.9))),
        ]

    def rough(self) -> list[tuple[float, Callable[[], None]]]:
        """What machines and networks do."""
        c, w = self.chance, self.world
        codes = (
            AnswerCode.BUSY,
            AnswerCode.FAILED,
            AnswerCode.BAD_SOURCE,
            AnswerCode.STALE,
            AnswerCode.UNKNOWN_TASK,
        )
        return [
            (1, lambda: w.drain(self.name(), self.odds(0.5))),
            (2, lambda: w.stream_ends(self.name())),
            (1, lambda: w.stream_dies(self.name())),
            (4, lambda: w.attach(self.name())),
            (1, lambda: w.reboot(self.name())),
            (2, lambda: w.mute(self.name(), c.choice(("", "", *KINDS)))),
            (1.5, lambda: w.refuse(self.name(), c.choice(codes), c.choice(KINDS), c.randint(1, 3))),
            (1, lambda: w.another_manager(self.name())),
            (0.5, lambda: w.task_ends(self.pick(), Reason.INFRASTRUCTURE, self.odds(0.5))),
            (1, lambda: w.time_passes(c.choice((16.0, 35.0, 45.0)), self.odds(0.5), self.odds(0.5))),
            (1, w.manager_restarts),
            (1, lambda: w.manager_dies_in_a_step(self.name(), self.odds(0.5))),
        ]

    def pick(self) -> int:
        """One of many."""
        return self.chance.randrange(1000)

    def name(self) -> str:
        """One of the volunteers."""
        return self.chance.choice(NAMES)

    def limit(self) -> float:
        """A time limit."""
        return self.chance.choice((20.0, 120.0, 600.0))

    def odds(self, probability: float) -> bool:
        """True so often."""
        return self.chance.random() < probability


@pytest.mark.parametrize("seed", range(60))
def test_a_seeded_world_keeps_its_promises(seed: int) -> None:
    """As the random worlds, deeper: the same seed makes the same world."""
    Driver(seed).run(120)
