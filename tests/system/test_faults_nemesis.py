"""A nemesis with every kind of fault on a real job, and what the ledger says of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, ended, output
from tests.system.conftest import assert_nothing_is_left

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]  # up to five runs, each of up to two minutes

LATE_NS = 500_000_000
"""How much later than planned half of the faults may begin on a busy machine."""
LATEST_NS = 2_000_000_000
"""How much later any of them may, and how much longer last."""
STILL_NS = 250_000_000
"""Where one begins so much later, something stood still: a signal may then be healed before it has ended its
task, and a call not be answered in time.
"""
LONG_STILL_NS = 1_000_000_000
"""Where one ends so much later, something stood still: a heal that is not answered is asked for again, and
its end is that of the second.
"""
MOST_RUNS = 5
LASTING = {"pause", "disconnect", "reset", "partition", "degrade", "disk-full"}


@pytest.fixture(scope="module")
def found(shared_cluster: Cluster) -> Iterator[dict[str, Any]]:
    """What the client of one run printed; afterwards nothing is left.

    A run in which something stood still says little of the nemesis, and is done again.
    """
    for _ in range(MOST_RUNS):
        job = shared_cluster.run("probes", machines=5, client="nemesis-client", time_limit_s=120)
        text = output(shared_cluster, job, "client-0")
        assert ended(job) == "succeeded", text
        printed = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
        if not stood_still(printed):
            break
    assert not stood_still(printed), (
        f"a call or fault was late in each of {MOST_RUNS} runs: {late_ns(printed)}, {late_at_end_ns(printed)}"
    )
    yield printed
    assert_nothing_is_left(shared_cluster)


def stood_still(found: dict[str, Any]) -> bool:
    """Whether a call was not answered in time, or a fault begun or ended much later than planned."""
    return (
        max(late_ns(found)) > STILL_NS
        or max(late_at_end_ns(found)) > LONG_STILL_NS
        or not all(window["certain"] for window in found["record"]["windows"])
    )


def late_ns(found: dict[str, Any]) -> list[int]:
    """How much later than planned each fault was begun."""
    events = found["schedule"]["events"]
    return [
        window["start_ns"] - events[window["number"]]["at_ms"] * 1_000_000
        for window in found["record"]["windows"]
    ]


def late_at_end_ns(found: dict[str, Any]) -> list[int]:
    """How much later than planned each fault was taken back."""
    events = found["schedule"]["events"]
    return [
        window["end_ns"] - events[window["number"]]["until_ms"] * 1_000_000
        for window in found["record"]["windows"]
        if window["end_ns"] is not None
    ]


def test_all_is_healed_at_its_end(found: dict[str, Any]) -> None:
    """Every member runs, none is paused, nothing is in force, nothing was given up."""
    assert {name: state for name, state in found["members"].items() if name != "client-0"} == {
        name: ["running", False, []] for name in ("master", "slave-0", "slave-1", "slave-2", "slave-3")
    }
    assert not [line for line in found["ledger"].values() if line["in_force"] or line["error"]]
    assert found["record"]["unhealed"] == []


def test_every_event_of_its_schedule_was_tried_in_time(found: dict[str, Any]) -> None:
    """Each has its window, begun when it was planned, or a line that says why not; each kind held."""
    windows = {window["number"]: window for window in found["record"]["windows"]}
    refused = {one["number"] for one in found["record"]["refused"]}
    events = found["schedule"]["events"]
    assert windows.keys() | refused == set(range(len(events)))
    late = late_ns(found)
    for window, window_late_ns in zip(windows.values(), late, strict=True):
        assert -window["error_ns"] <= window_late_ns < LATEST_NS, (window, events[window["number"]])
    assert statistics.median(late) < LATE_NS, late
    assert {window["kind"] for window in windows.values()} == LASTING | {"kill", "signal"}
    assert len(refused) < len(windows)


def test_its_windows_are_those_of_the_ledger(found: dict[str, Any]) -> None:
    """Each begins when its first line held and lasts as long; no line that lasts is in none of them."""
    lines, zero = found["ledger"], found["record"]["started_ns"]
    in_windows, apart_ns = [], []
    for window in found["record"]["windows"]:
        own = [lines[str(number)] for number in window["fault_ids"]]
        assert own and {line["kind"] for line in own} == {window["kind"]}, window
        assert {line["task"] for line in own} == set(window["targets"])
        assert abs(min(line["applied_ns"] for line in own) - zero - window["start_ns"]) <= window["error_ns"]
        if window["kind"] in LASTING:
            in_windows += window["fault_ids"]
            # A pause ends with its task, where that is killed meanwhile.
            held_ns = max(line["held_ns"] for line in own)
            lasted_ns = window["end_ns"] - window["start_ns"]
            if not any(line["healed_by"] == "kill" for line in own):
                apart_ns.append(abs(held_ns - lasted_ns))
    assert statistics.median(apart_ns) < LATE_NS / 5 and max(apart_ns) < LATEST_NS, apart_ns
    assert sorted(in_windows) == sorted(int(number) for number in lines if lines[number]["kind"] in LASTING)


def test_its_seed_is_its_schedule(found: dict[str, Any]) -> None:
    """Drawn again from the same seed and members it is the same, byte for byte."""
    assert found["again"]
    assert found["schedule"]["seed"] == found["record"]["seed"] == 4711
