"""Jepsen's histories are read and written, as EDN and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.client_api.history import HistoryError, Operation, Outcome, read_jepsen, write_jepsen

from tests.client_api.history.made import histories, operation

SAME_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
EDN = """\
{:type :invoke, :process 0, :f :write, :value 3, :time 100, :index 0}
{:type :info, :process :nemesis, :f :start-partition, :value :majority, :time 120, :index 1}
{:type :invoke, :process 1, :f :read, :value nil, :time 150, :index 2}
{:type :ok, :process 0, :f :write, :value 3, :time 200, :index 3}
{:type :ok, :process 1, :f :read, :value 3, :time 250, :index 4}
{:type :invoke, :process 0, :f :cas, :value [3 4], :time 300, :index 5}
{:type :invoke, :process 1, :f :cas, :value [1 2], :time 310, :index 6}
{:type :fail, :process 1, :f :cas, :value [1 2], :time 320, :index 7, :error :mismatch}
{:type :info, :process 0, :f :cas, :value [3 4], :time 400, :index 8, :error [:timed-out "after 5 s"]}
{:type :invoke, :process 2, :f :read, :value nil, :time 500, :index 9}
"""
READ = (
    operation(0, 100, 200, kind="write", argument=3, result=3),
    operation(1, 150, 250, kind="read", argument=None, result=3, process=1),
    operation(
        2, 300, 400, kind="cas", argument=[3, 4], outcome=Outcome.INFO, error='[:timed-out "after 5 s"]'
    ),
    operation(3, 310, 320, kind="cas", argument=[1, 2], outcome=Outcome.FAIL, error="mismatch", process=1),
    operation(4, 500, None, kind="read", argument=None, outcome=Outcome.INFO, process=2),
)


def test_each_event_finds_its_operation(tmp_path: Path) -> None:
    """The nemesis is left out; what has no completion is open."""
    (tmp_path / "h.edn").write_text(EDN)
    assert read_jepsen(tmp_path / "h.edn") == READ


def test_one_vector_is_the_same(tmp_path: Path) -> None:
    """As `history.edn` of a store may be; tags of records too."""
    (tmp_path / "h.edn").write_text(f"[{EDN.replace('{:type', '#jepsen.history.Op{:type')}]")
    assert read_jepsen(tmp_path / "h.edn") == READ


@pytest.mark.parametrize("array", [False, True])
def test_json_is_the_same(tmp_path: Path, array: bool) -> None:
    """Lines of objects or one array, keywords with their colon or without."""
    events = [
        {"type": "invoke", "process": 0, "f": "txn", "value": [["append", 9, 1]], "time": 5, "index": 0},
        {"type": ":ok", "process": 0, "f": ":txn", "value": [["append", 9, 1]], "time": 9, "index": 1},
    ]
    text = json.dumps(events, indent=1) if array else "\n".join(map(json.dumps, events))
    (tmp_path / "h.json").write_text(text)
    (read,) = read_jepsen(tmp_path / "h.json")
    assert (read.kind, read.argument, read.result) == ("txn", [["append", 9, 1]], [["append", 9, 1]])
    assert (read.invoked_ns, read.completed_ns) == (5, 9)


def test_values_of_independent_keys_are_taken_apart(tmp_path: Path) -> None:
    """`[key value]` on every line."""
    (tmp_path / "h.edn").write_text(
        "{:type :invoke, :process 0, :f :write, :value [7 3]}\n"
        "{:type :ok, :process 0, :f :write, :value [7 3]}"
    )
    (read,) = read_jepsen(tmp_path / "h.edn", independent=True)
    assert (read.key, read.argument, read.result) == (7, 3, 3)


def test_without_times_the_order_is_the_time(tmp_path: Path) -> None:
    """-1 is none; a time that does not grow is moved on."""
    events = [("invoke", 0, -1), ("invoke", 1, -1), ("ok", 0, 50), ("ok", 1, 50), ("invoke", 0, 20)]
    lines = [f"{{:type :{kind}, :process {process}, :f :x, :time {time}}}" for kind, process, time in events]
    (tmp_path / "h.edn").write_text("\n".join(lines))
    ends = [(one.invoked_ns, one.completed_ns) for one in read_jepsen(tmp_path / "h.edn")]
    assert ends == [(0, 50), (1, 51), (52, None)]


@SAME_PATH
@given(histories(), st.sampled_from(["edn", "json"]), st.booleans())
def test_what_is_written_is_read(
    tmp_path: Path, operations: tuple[Operation, ...], form: str, independent: bool
) -> None:
    """Each operation; but an OK without a result repeats its argument, and processes end with INFO."""
    write_jepsen(tmp_path / "h", operations, form=form, independent=independent)
    expected = [
        replace(one, process=0, result=one.argument)
        if one.outcome is Outcome.OK and one.result is None
        else replace(one, process=0)
        for one in operations
    ]
    got = read_jepsen(tmp_path / "h", independent=independent)
    assert [replace(one, process=0) for one in got] == expected


def test_processes_become_numbers_that_end_with_info(tmp_path: Path) -> None:
    """Names get free ones, as does what goes on after INFO, and what overlaps as merged histories do."""
    operations = (
        operation(0, 10, 20, process=4, outcome=Outcome.INFO),
        operation(1, 15, 40, process="client-0/1"),
        operation(2, 30, 50, process=4),
        operation(3, 35, 60, process="client-0/1"),
        operation(4, 70, 80, process="client-0/1"),
    )
    write_jepsen(tmp_path / "h", operations)
    assert [one.process for one in read_jepsen(tmp_path / "h")] == [4, 5, 6, 7, 5]


def test_at_one_moment_what_was_at_once_stays_at_once(tmp_path: Path) -> None:
    """Beginnings come before ends, but for the process that has to end first."""
    operations = (
        operation(0, 10, 20, process=0),
        operation(1, 20, 30, process=1),
        operation(2, 20, 20, process=0),
        operation(3, 5, 20, process=2),
    )
    write_jepsen(tmp_path / "h", operations)
    lines = [
        (event["type"], event["process"])
        for event in map(json.loads, _as_json(tmp_path, operations).read_text().splitlines())
    ]
    assert lines == [
        ("invoke", 2),
        ("invoke", 0),
        ("invoke", 1),
        ("ok", 0),
        ("invoke", 0),
        ("ok", 0),
        ("ok", 2),
        ("ok", 1),
    ]


def _as_json(folder: Path, operations: tuple[Operation, ...]) -> Path:
    write_jepsen(folder / "h.json", operations, form="json")
    return folder / "h.json"


def test_parts_of_transactions_are_keywords(tmp_path: Path) -> None:
    """As Elle wants them."""
    write_jepsen(
        tmp_path / "h", [operation(0, 1, 2, kind="txn", argument=[["append", 9, "x"], ["r", 8, None]])]
    )
    assert ':value [[:append 9 "x"] [:r 8 nil]]' in (tmp_path / "h").read_text()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{:type :ok, :process 0, :f :x}", ":1: process 0 completes (ok) what it has not invoked"),
        (
            "{:type :invoke, :process 0, :f :x}\n{:type :invoke, :process 0, :f :y}",
            ":2: process 0 invokes 'y', but 'x' of ",
        ),
        (
            "{:type :invoke, :process 0, :f :x}\n\n{:type :ok, :process 0, :f :y}",
            ":3: process 0 completes 'y' of key None, but has 'x' of key None open",
        ),
        ("{:type :done, :process 0, :f :x}", ":1: ':type' must be one of invoke, ok, fail, info, not 'done'"),
        ("{:process 0, :f :x}", ":1: ':type' must be a keyword, not missing"),
        ("{:type :invoke, :process :a, :f :x}", ":1: ':process' must be a number, not 'a'"),
        ("{:type :invoke, :process 0}", ":1: ':f' must be a keyword, not missing"),
        (
            "{:type :invoke, :process 0, :f :x, :time 1.5}",
            ":1: ':time' must be a whole number of nanoseconds",
        ),
        ("{:type :invoke, :process 0, :f :x", ":1: '{' is not closed"),
        (":invoke", ":1: no map, but 'invoke'"),
        ('{"type": "invoke", "process": 0, "f": "x"}\n{"type"', ":2: no JSON"),
        ('[{"type": "invoke", "process": 0, "f": "x"}, 5]', ": item 1: no map, but 5"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, text: str, error: str) -> None:
    """File and line."""
    (tmp_path / "h").write_text(text)
    with pytest.raises(HistoryError) as caught:
        read_jepsen(tmp_path / "h")
    assert str(caught.value).startswith(f"{tmp_path}/h{error}")


def test_independent_values_must_be_pairs(tmp_path: Path) -> None:
    """As told by the one who reads."""
    (tmp_path / "h").write_text("{:type :invoke, :process 0, :f :x, :value 5}")
    with pytest.raises(HistoryError, match=r":1: ':value' must be \[key value\], not 5"):
        read_jepsen(tmp_path / "h", independent=True)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """By name of the file."""
    (tmp_path / "h").write_bytes(b"{:f \xff}")
    with pytest.raises(HistoryError, match="h: no UTF-8"):
        read_jepsen(tmp_path / "h")


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match="form must be 'edn' or 'json', not 'xml'"):
        write_jepsen(tmp_path / "h", READ, form="xml")
    assert not (tmp_path / "h").exists()
