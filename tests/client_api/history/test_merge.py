"""Histories of several clients on one time line: nothing correct becomes false, and the bound is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.client_api import ClockBound
from syndicate.client_api.checkers import Answer, KeyValue, Linearizable
from syndicate.client_api.history import (
    ClockReading,
    Header,
    History,
    HistoryError,
    Operation,
    Outcome,
    Recorded,
    merge,
    read,
)

from tests.client_api.history.made import operation

MS = 1_000_000


def client(name: str, boot_id: str, operations: Sequence[Operation], *clocks: ClockReading) -> Recorded:
    """What a client on a machine recorded."""
    header = Header(boot_id, name, name, 7, operations[0].invoked_ns if operations else 0, 0)
    return Recorded(f"{name}.jsonl", header, tuple(operations), clocks)


def reading(boot_id: str, at_ns: int, offset_ns: int, error_ns: int, manager: str = "m") -> ClockReading:
    """Of a manager's clock."""
    return ClockReading(boot_id, at_ns, offset_ns, error_ns, manager)


def linearizable(operations: Sequence[Operation], value: object = None) -> bool:
    """By trying all orders, of puts and gets on one register that are all OK."""
    if not operations:
        return True
    first_end = min(one.completed_ns or 0 for one in operations)
    for one in operations:
        if one.invoked_ns > first_end or (one.kind == "get" and one.result != value):
            continue
        rest = [other for other in operations if other is not one]
        if linearizable(rest, one.argument if one.kind == "put" else value):
            return True
    return False


def test_a_clock_that_is_off_by_50_ms_makes_no_violation() -> None:
    """Without the bound the read seems to end before the write that it saw began; with it all is well."""
    ahead = 50 * MS
    write = operation(0, 100 * MS + ahead, 110 * MS + ahead, argument="new")
    see = operation(0, 120 * MS, 121 * MS, kind="get", argument=None, result="new")
    writer = client("client-0", "a", [write], reading("a", 90 * MS + ahead, ahead - MS, 2 * MS))
    reader = client("client-1", "b", [see], reading("b", 90 * MS, 0, MS))
    assert not linearizable([write, see])
    merged = merge([writer, reader])
    assert linearizable(merged.operations)
    assert [one.process for one in merged.operations] == ["client-0/0", "client-1/0"]


def test_the_checker_is_not_misled_by_a_clock_that_is_off() -> None:
    """A store that answers at once, two hosts 50 ms apart: false by the bare times, true with the bounds."""
    values = [(number, 100 * MS + number * 4 * MS) for number in range(10)]
    puts = [operation(n, at + 50 * MS, at + 51 * MS, process=n, key="x", argument=n) for n, at in values]
    gets = [
        operation(n, at + 2 * MS, at + 3 * MS, process=n, kind="get", key="x", argument=None, result=n)
        for n, at in values
    ]
    writer = client("client-0", "a", puts, reading("a", 120 * MS, 51 * MS, 2 * MS))
    reader = client("client-1", "b", gets, reading("b", 120 * MS, 0, MS))
    bare = [
        replace(one, index=index, process=index)
        for index, one in enumerate(sorted([*puts, *gets], key=lambda one: one.invoked_ns))
    ]
    checker = Linearizable(KeyValue())
    assert checker.check(bare).answer is Answer.FALSE
    assert checker.check(merge([writer, reader]).operations).answer is Answer.TRUE


def test_a_violation_longer_than_the_bounds_is_still_one() -> None:
    """Widening hides what is shorter than the clocks' errors, and no more."""
    write = operation(0, 100 * MS, 110 * MS, argument="new")
    stale = operation(0, 200 * MS, 201 * MS, kind="get", argument=None, result=None)
    writer = client("client-0", "a", [write], reading("a", 90 * MS, 0, 2 * MS))
    reader = client("client-1", "b", [stale], reading("b", 90 * MS, 0, MS))
    assert not linearizable(merge([writer, reader]).operations)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Operation], list[Recorded]]:
    """What truly happened on a register, linearizable, and what clients with honest bounds recorded of it."""
    truth: list[Operation] = []
    now, value = 10_000 * MS, None
    ends = [now] * 3
    for index in range(draw(st.integers(1, 6))):
        process = draw(st.integers(0, 2))
        now = max(now, ends[process]) + draw(st.integers(2, 40 * MS))
        begun = draw(st.integers(ends[process] + 1, now))
        ended = now + draw(st.integers(0, 40 * MS))
        ends[process] = ended
        if draw(st.booleans()):
            value = index
            truth.append(operation(index, begun, ended, process=process, argument=value))
        else:
            truth.append(
                operation(index, begun, ended, process=process, kind="get", argument=None, result=value)
            )
    return truth, [
        draw(clients(number, [one for one in truth if one.process == number])) for number in range(3)
    ]


@st.composite
def clients(draw: st.DrawFn, number: int, truth: Sequence[Operation]) -> Recorded:
    """A client whose clock is off by up to 50 ms or by days, and drifts by up to 200 ppm."""
    offset = draw(st.integers(-50 * MS, 50 * MS) | st.integers(-(10**14), 10**14))
    ppm = draw(st.integers(-190, 190))

    def local(true_ns: int) -> int:
        return true_ns + offset + true_ns * ppm // 1_000_000

    clocks = []
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(9_000 * MS, 11_000 * MS))
        error = draw(st.integers(0, 5 * MS))
        wrong = draw(st.integers(-error, error))
        clocks.append(reading(f"boot-{number}", local(at), local(at) - at + wrong, error + 1))
    operations = [
        replace(one, invoked_ns=local(one.invoked_ns), completed_ns=local(one.completed_ns or 0))
        for one in truth
    ]
    return client(f"client-{number}", f"boot-{number}", operations, *clocks)


@settings(deadline=None)
@given(worlds())
def test_what_was_linearizable_stays_so(world: tuple[list[Operation], list[Recorded]]) -> None:
    """Each true interval lies in the one that was made of it: what explains the truth explains that too."""
    truth, recorded = world
    merged = merge(recorded).operations
    assert linearizable(truth) and linearizable(merged)
    for process in range(3):
        mine = sorted((one for one in truth if one.process == process), key=lambda one: one.invoked_ns)
        widened = [one for one in merged if one.process == f"client-{process}/{process}"]
        for one, wide in zip(mine, widened, strict=True):
            assert wide.invoked_ns <= one.invoked_ns
            assert (wide.completed_ns or 0) >= (one.completed_ns or 0)


@settings(deadline=None)
@given(worlds())
def test_operations_are_counted_anew_by_their_beginnings(
    world: tuple[list[Operation], list[Recorded]],
) -> None:
    """None is lost, and of one process the order is kept."""
    truth, recorded = world
    merged = merge(recorded).operations
    assert [one.index for one in merged] == list(range(len(truth)))
    assert all(one.invoked_ns <= other.invoked_ns for one, other in pairwise(merged))


def test_clients_of_one_machine_are_put_together_as_they_are() -> None:
    """They share a clock: no bound comes between them, and one offset moves all."""
    first = operation(0, 100, 110, argument="a")
    second = operation(0, 111, 120, argument="b")
    merged = merge(
        [
            client("client-0", "a", [first], reading("a", 0, 1000, 50)),
            client("client-1", "a", [second], reading("a", 200, 1010, 60)),
        ]
    )
    (one, other), (clock, _) = merged.operations, merged.clocks
    assert (other.invoked_ns - one.invoked_ns, (other.completed_ns or 0) - one.invoked_ns) == (11, 20)
    assert clock.offset_ns == 100 - one.invoked_ns and not clock.widened and clock.readings == 2


def test_one_machine_needs_no_clock() -> None:
    """The times are its own then, and that is told."""
    merged = merge([client("client-0", "a", [operation(0, 100, 110)])])
    assert merged.operations[0].invoked_ns == 100
    assert str(merged.clocks[0]) == "client-0: on its own clock, never compared to the manager's"


def test_one_machine_outlives_a_change_of_managers() -> None:
    """Among its clients nothing was unsure; the last manager's clock is the line."""
    merged = merge(
        [
            client(
                "client-0", "a", [operation(0, 100, 110)], reading("a", 0, 5, 1), reading("a", 50, 90, 1, "n")
            )
        ]
    )
    assert merged.operations[0].invoked_ns == 10


def test_one_machine_outlives_readings_that_contradict_each_other() -> None:
    """For the same reason; the last one holds."""
    merged = merge(
        [client("client-0", "a", [operation(0, 100, 110)], reading("a", 0, 5, 1), reading("a", 50, 90, 1))]
    )
    assert merged.operations[0].invoked_ns == 10 and merged.clocks[0].readings == 1


def test_the_bound_that_was_used_is_told() -> None:
    """Offset and worst error of each client, for a report to print."""
    merged = merge(
        [
            client("client-0", "a", [operation(0, 10**9, 2 * 10**9)], reading("a", 10**9, 50 * MS, MS)),
            client("client-1", "b", [operation(0, 10**9, 2 * 10**9)], reading("b", 10**9, 0, MS)),
        ]
    )
    told = merged.clocks[0]
    assert (told.client, told.boot_id, told.offset_ns, told.readings, told.widened) == (
        "client-0",
        "a",
        50 * MS,
        1,
        True,
    )
    # A second after the only reading, 200 ppm of it are added.
    assert told.error_ns == MS + 200_000
    assert str(told) == "client-0: clock +50.000 ms ± 1.200 ms of the manager's, intervals widened by that"


def test_between_two_readings_the_nearer_counts() -> None:
    """What is known of the clock is as good as the nearest reading and the drift since."""
    clocks = [reading("a", second * 10**9, 0, 1000) for second in (0, 10)]
    operations = [
        operation(n, at * 10**9, None, outcome=Outcome.INFO, process=n) for n, at in enumerate((1, 5, 9))
    ]
    merged = merge(
        [client("client-0", "a", operations, *clocks), client("client-1", "b", [], reading("b", 0, 0, 0))]
    )
    early = [at * 10**9 - one.invoked_ns for at, one in zip((1, 5, 9), merged.operations, strict=True)]
    assert early == [201_000, 1_001_000, 201_000]


def test_what_has_no_end_gets_none() -> None:
    """It stays open for ever."""
    open_ = operation(0, 100, None, outcome=Outcome.INFO)
    merged = merge(
        [
            client("client-0", "a", [open_], reading("a", 0, 0, 5)),
            client("client-1", "b", [], reading("b", 0, 0, 5)),
        ]
    )
    assert merged.operations[0].completed_ns is None and merged.operations[0].invoked_ns < 100


def test_a_clock_that_was_never_measured_is_refused_by_name() -> None:
    """Among several machines its times mean nothing; what is known from elsewhere helps."""
    known = client("client-0", "a", [operation(0, 100, 110)], reading("a", 0, 0, 5))
    unknown = client("client-1", "b", [operation(0, 100, 110)])
    with pytest.raises(HistoryError, match=r"client-1\.jsonl: the clock of client-1 was never compared"):
        merge([known, unknown])
    assert len(merge([known, unknown], readings=[reading("b", 0, 0, 5)]).operations) == 2
    assert len(merge([known, client("client-2", "c", [])]).operations) == 1


def test_readings_that_contradict_each_other_are_refused() -> None:
    """One of them is wrong, and nobody knows which."""
    torn = client("client-0", "a", [operation(0, 1, 2)], reading("a", 0, 0, 5), reading("a", 10, 1000, 5))
    other = client("client-1", "b", [], reading("b", 0, 0, 5))
    with pytest.raises(
        HistoryError, match=r"the clock of client-0: .* contradicts another one: at a drift of 200 ppm"
    ):
        merge([torn, other])


def test_clocks_of_two_managers_are_refused() -> None:
    """Nothing is known of how these stand to each other."""
    one = client("client-0", "a", [], reading("a", 0, 0, 5, "m1"))
    other = client("client-1", "b", [], reading("b", 0, 0, 5, "m2"))
    with pytest.raises(HistoryError, match="clocks were compared to those of 2 managers: m1, m2"):
        merge([one, other])


def test_a_history_is_taken_once() -> None:
    """A file that is named twice would double what happened."""
    one = client("client-0", "a", [operation(0, 100, 110)])
    with pytest.raises(HistoryError, match=r"again\.jsonl: the same history as client-0\.jsonl"):
        merge([one, replace(one, source="again.jsonl")])


def test_processes_stay_apart() -> None:
    """Those of a client's second life too, and names that look like numbers."""
    lives = [
        client(
            "client-0", "a", [operation(0, at, at + 5, process=3), operation(1, at + 1, at + 6, process="3")]
        )
        for at in (100, 200)
    ]
    processes = [one.process for one in merge(lives).operations]
    assert processes == ["client-0/3", "client-0/'3'", "client-0.2/3", "client-0.2/'3'"]


def test_nothing_makes_nothing() -> None:
    """No history is not an error."""
    assert merge([]).operations == () == merge([]).clocks


def test_recorded_files_are_merged(tmp_path: Path) -> None:
    """From `set_clock` to the common line, through files."""
    for number in range(2):
        with History(tmp_path / f"{number}", task=f"client-{number}") as history:
            history.set_clock(ClockBound(history.header.boot_id, 700, 90))
            history.invoke(1, "put", argument=number).ok()
    recorded = [read(tmp_path / f"{number}") for number in range(2)]
    merged = merge(recorded)
    assert [one.argument for one in merged.operations] == [0, 1]
    assert [clock.client for clock in merged.clocks] == ["client-0", "client-1"]
    assert abs(merged.operations[0].invoked_ns - (recorded[0].operations[0].invoked_ns - 700)) < 100
