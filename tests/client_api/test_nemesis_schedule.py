"""The schedule of a nemesis: the same bytes for the same seed, and always with an end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from syndicate.client_api import Nemesis, nemesis
from syndicate.client_api._dice import Dice
from syndicate.client_api._nemesis_plan import plan
from syndicate.client_api.nemesis import Planned, Schedule
from syndicate.client_api.testing import FakeChaos

FIVE = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
LIVES = ("kill", "pause", "signal")
SCRIPT = """
from syndicate.client_api import Nemesis, nemesis
from syndicate.client_api.testing import FakeChaos
faults = [
    nemesis.kill(rate=0.3, duration=(1, 4)),
    nemesis.partition("isolate-one", rate=0.1, duration="3s"),
    nemesis.degrade(loss="10%", delay="50ms", bandwidth="1Mbit", rate=0.2),
    nemesis.pause(whom="minority"),
]
targets = ["master", "slave-0", "slave-1", "slave-2", "slave-3"]
print(Nemesis(FakeChaos(), seed=4711, faults=faults, targets=targets).schedule(60).to_json())
"""
# Of the bytes that SCRIPT prints: another digest is another schedule for every seed that somebody wrote down.
DIGEST = "e8a4fccaf3ae441ee0f73cffb93bcb2c1a635e09dfcb08dafe46c1ae29df5c92"


def made(**environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout.strip()


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_one_seed_is_one_schedule_in_every_process(hash_seed: str) -> None:
    """Byte for byte, whatever the hashes of texts are; and as it was written down here."""
    assert hashlib.sha256(made(PYTHONHASHSEED=hash_seed).encode()).hexdigest() == DIGEST


def test_seeds_do_something() -> None:
    """Another seed is another schedule."""
    faults = [nemesis.kill(rate=0.5, duration=1)]
    drawn = {plan(seed, faults, FIVE, 30_000).events for seed in range(50)}
    assert len(drawn) == 50


def test_the_dice_are_fair_and_keep_their_bounds() -> None:
    """Each side comes up about as often; streams of other labels differ."""
    dice = Dice(1, "a")
    counts = [0] * 6
    for _ in range(6000):
        counts[dice.below(6)] += 1
    assert all(850 < count < 1150 for count in counts)
    assert [Dice(1, "a").below(1 << 40) for _ in range(2)] == [Dice(1, "a").below(1 << 40)] * 2
    assert Dice(1, "a").below(1 << 40) != Dice(1, "b").below(1 << 40)
    assert sorted(Dice(2).shuffled(range(9))) == list(range(9))


kinds = st.sampled_from(
    ["kill", "pause", "signal", "disconnect", "reset", "partition", "degrade", "disk-full"]
)


@st.composite
def planned(draw: Any) -> Planned:
    least = draw(st.integers(1, 2000))
    return Planned(
        draw(kinds),
        draw(st.floats(0.05, 5)),
        least,
        least + draw(st.integers(0, 3000)),
        draw(st.sampled_from(["one", "minority", 1])),
    )


@settings(deadline=None)
@given(
    st.integers(0, 1 << 53),
    st.lists(planned(), min_size=1, max_size=4),
    st.integers(5, 7),
    st.integers(20, 90),
)
def test_schedules_keep_their_promises(seed: int, faults: list[Planned], members: int, seconds: int) -> None:
    """Each event has its end within the schedule, and nothing of a kind overlaps at a target."""
    targets = [f"slave-{number}" for number in range(members)]
    try:
        schedule = plan(seed, faults, targets, seconds * 1000)
    except ValueError as error:
        assume("never finds a free target" not in str(error))
        raise

    assert plan(seed, faults, targets, seconds * 1000).to_json() == schedule.to_json()
    assert [event.at_ms for event in schedule] == sorted(event.at_ms for event in schedule)
    assert {event.kind for event in schedule} == {fault.kind for fault in faults}
    for event in schedule:
        assert 0 <= event.at_ms < event.until_ms <= seconds * 1000
        assert event.targets and set(event.targets) <= set(targets)
        assert any(
            fault.kind == event.kind and fault.least_ms <= event.until_ms - event.at_ms <= fault.most_ms
            for fault in faults
        )
    for target in targets:
        by_kind: dict[str, list[Any]] = {}
        for event in schedule:
            if target in event.targets:
                by_kind.setdefault("life" if event.kind in LIVES else event.kind, []).append(event)
        for events in by_kind.values():
            assert all(one.until_ms < other.at_ms for one, other in pairwise(events))


@settings(deadline=None)
@given(st.integers(0, 1 << 53), planned(), planned())
def test_a_fault_added_behind_changes_nothing_before_it(seed: int, one: Planned, other: Planned) -> None:
    """A schedule can be grown without losing what was seen with its seed."""
    alone = plan(seed, [one], FIVE, 60_000).events
    try:
        both = plan(seed, [one, other], FIVE, 60_000).events
    except ValueError:
        return
    assert [event for event in alone if event not in both] == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nemesis.kill(rate=0), "rate of kill"),
        (lambda: nemesis.kill(rate=-1), "rate of kill"),
        (lambda: nemesis.kill(rate=float("nan")), "rate of kill"),
        (lambda: nemesis.kill(duration=0), "1 ms"),
        (lambda: nemesis.kill(duration=(5, 2)), "1 ms"),
        (lambda: nemesis.kill(whom="some"), "nobody"),
        (lambda: nemesis.kill(duration="soon"), "duration of kill"),
        (lambda: nemesis.partition("triangle"), "no shape"),
        (lambda: nemesis.degrade(), "does nothing"),
        (lambda: nemesis.signal("QUTI"), "no signal"),
        (lambda: plan(1, [], FIVE, 1000), "without faults"),
        (lambda: plan(1, [nemesis.kill()], [], 1000), "targets"),
        (lambda: plan(1, [nemesis.kill()], ["master", "master"], 60_000), "targets"),
        (lambda: plan(1, [nemesis.kill(whom=9)], FIVE, 60_000), "9 at once"),
        (lambda: plan(1, [nemesis.kill(duration=5)], FIVE, 4000), "holds for 5000 ms"),
        (lambda: plan(1, [nemesis.pause(whom="all", duration=9)] * 2, FIVE, 10_000), "free target"),
        (lambda: Nemesis(FakeChaos(), seed=-1), "seed"),
        (lambda: Nemesis(FakeChaos(), seed=1 << 53), "seed"),
    ],
)
def test_what_does_not_fit_is_told(make: Any, words: str) -> None:
    """Before anything is done, and by name: no nemesis does nothing in silence."""
    with pytest.raises(ValueError, match=words):
        make()


def test_a_fault_comes_at_least_once_however_rare() -> None:
    """A rate of once an hour still has its turn in ten seconds."""
    for seed in range(20):
        assert len(plan(seed, [nemesis.kill(rate=1 / 3600, duration=2)], FIVE, 10_000)) == 1


def test_a_schedule_is_read_again() -> None:
    """As it was written, to be replayed."""
    faults = [nemesis.partition("bridge"), nemesis.degrade(loss=2.5, one_way=True)]
    schedule = plan(3, faults, FIVE, 60_000)
    assert Schedule.from_json(schedule.to_json()) == schedule
    assert all(event.options["ip"] in FIVE for event in schedule if event.kind == "partition")


@pytest.mark.parametrize(
    "broken",
    [
        lambda plain: {**plain, "format": 2},
        lambda plain: {name: value for name, value in plain.items() if name != "seed"},
        lambda plain: {**plain, "events": [{**plain["events"][0], "until_ms": 10**9}]},
        lambda plain: {**plain, "events": [{**plain["events"][0], "kind": "../x"}]},
        lambda plain: {**plain, "events": [7]},
        lambda plain: [plain],
    ],
)
def test_what_is_no_schedule_is_refused(broken: Any) -> None:
    """A file that was changed by hand is told what is wrong."""
    plain = plan(3, [nemesis.kill()], FIVE, 60_000).as_plain()
    with pytest.raises(ValueError, match="schedule"):
        Schedule.from_json(json.dumps(broken(plain)))
