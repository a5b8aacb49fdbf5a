"""Porcupine's two shapes are read and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.client_api.history import HistoryError, Operation, Outcome, read_porcupine, write_porcupine

from tests.client_api.history.made import histories, operation

SAME_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
LOG = """\
WARN  jepsen.core - something else
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 1\t:invoke\t:write\t2
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 2\t:invoke\t:cas\t[1 4]
INFO  jepsen.util - 1\t:ok\t:write\t2
INFO  jepsen.util - 2\t:fail\t:cas\t[1 4]
INFO  jepsen.util - 3\t:invoke\t:write\t0
INFO  jepsen.util - 3\t:info\t:write\t:timed-out
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:fail\t:read\t:timed-out
"""


def test_the_log_is_read(tmp_path: Path) -> None:
    """Lines that tell no operation are passed over; what stands for the value of a failure is its reason."""
    (tmp_path / "h.log").write_text(LOG)
    assert read_porcupine(tmp_path / "h.log") == (
        operation(0, 0, 2, kind="read", argument=None),
        operation(1, 1, 4, kind="write", argument=2, result=2, process=1),
        operation(2, 3, 5, kind="cas", argument=[1, 4], outcome=Outcome.FAIL, process=2),
        operation(3, 6, 7, kind="write", argument=0, outcome=Outcome.INFO, error="timed-out", process=3),
        operation(4, 8, 9, kind="read", argument=None, outcome=Outcome.FAIL, error="timed-out"),
    )


def test_the_map_is_read(tmp_path: Path) -> None:
    """EDN with keys and without times."""
    (tmp_path / "h.txt").write_text(
        '{:process 0, :type :invoke, :f :append, :key "5", :value "x 0 0 y"}\n'
        '{:process 1, :type :invoke, :f :get, :key "5", :value nil}\n'
        '{:process 0, :type :ok, :f :append, :key "5", :value "x 0 0 y"}\n'
        '{:process 1, :type :ok, :f :get, :key "5", :value ""}\n'
    )
    assert read_porcupine(tmp_path / "h.txt") == (
        operation(0, 0, 2, kind="append", key="5", argument="x 0 0 y", result="x 0 0 y"),
        operation(1, 1, 3, kind="get", key="5", argument=None, result="", process=1),
    )


def _as_register(one: Operation, kind: str, number: int) -> Operation:
    argument = {"read": None, "write": number, "cas": [number, number + 1]}[kind]
    result = number if kind == "read" else argument
    timed_out = one.outcome is Outcome.INFO or (one.outcome is Outcome.FAIL and kind != "cas")
    return replace(
        one,
        kind=kind,
        key=None,
        argument=argument,
        result=result if one.outcome is Outcome.OK else None,
        error="timed-out" if timed_out and one.completed_ns is not None else "",
    )


def _order(operations: tuple[Operation, ...]) -> list[object]:
    """All but the numbers of processes and the times, of which only the order is kept."""
    moments = sorted(
        {end for one in operations for end in (one.invoked_ns, one.completed_ns) if end is not None}
    )
    place = {moment: number for number, moment in enumerate(moments)} | {None: None}
    return [
        replace(one, process=0, invoked_ns=place[one.invoked_ns], completed_ns=place[one.completed_ns])
        for one in operations
    ]


@SAME_PATH
@given(histories(values=st.none()), st.data())
def test_a_log_that_is_written_is_read(
    tmp_path: Path, operations: tuple[Operation, ...], data: st.DataObject
) -> None:
    """Operations on one register come back, in the same order."""
    kinds = st.sampled_from(["read", "write", "cas"])
    register = tuple(_as_register(one, data.draw(kinds), data.draw(st.integers(0, 9))) for one in operations)
    write_porcupine(tmp_path / "h", register)
    if register:
        assert _order(read_porcupine(tmp_path / "h")) == _order(register)


@SAME_PATH
@given(histories(values=st.text(), most=8), st.data())
def test_a_map_that_is_written_is_read(
    tmp_path: Path, operations: tuple[Operation, ...], data: st.DataObject
) -> None:
    """What failed is left out, what nobody knows the end of is open; texts of any kind come back."""
    kinds = st.sampled_from(["get", "put", "append"])
    asked = tuple(replace(one, kind=data.draw(kinds)) for one in operations)
    write_porcupine(tmp_path / "h", asked)
    expected = [
        (one.kind, one.key, one.argument if one.kind != "get" else one.result, one.outcome)
        for one in asked
        if one.outcome is not Outcome.FAIL
    ]
    got = read_porcupine(tmp_path / "h") if expected else ()
    assert [
        (one.kind, one.key, one.argument if one.kind != "get" else one.result, one.outcome) for one in got
    ] == expected


def test_a_get_that_found_nothing_is_written_as_the_empty_text(tmp_path: Path) -> None:
    """Which is what it is there."""
    write_porcupine(tmp_path / "h", [operation(0, 1, 2, kind="get", key="x", argument=None)])
    assert (tmp_path / "h").read_text().splitlines()[
        1
    ] == '{:process 0, :type :ok, :f :get, :key "x", :value ""}'


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "enqueue"}, "operation 0: 'enqueue' has no place here, only read, write, cas"),
        ({"kind": "enqueue", "key": "x"}, "operation 0: 'enqueue' has no place here, only get, put, append"),
        ({"kind": "write", "argument": "x"}, "operation 0: write of 'x' has no place in the log"),
        ({"kind": "cas", "argument": [1]}, r"operation 0: cas of \[1\] has no place in the log"),
        ({"kind": "put", "key": "x", "argument": 5}, "operation 0: 5 is no text"),
        ({"kind": "put", "key": 7, "argument": "x"}, "operation 0: 7 is no text"),
    ],
)
def test_what_has_no_place_is_refused_by_name(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    """Before anything is written."""
    with pytest.raises(HistoryError, match=text):
        write_porcupine(tmp_path / "h", [operation(0, 1, 2, **changes)])
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ": no line tells an operation"),
        ("hello\nworld", ": no line tells an operation"),
        ("INFO  jepsen.util - 0\t:ok\t:read\tnil", ":1: process 0 completes (ok) what it has not invoked"),
        ("\nINFO  jepsen.util - 0\t:invoke\t:cas\t[1 4", ":2: '[' is not closed"),
        ("INFO  jepsen.util - x\t:invoke\t:read\tnil", ":1: process 'x' is no number"),
        ("{:process 0, :type :ok", ":1: '{' is not closed"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, text: str, error: str) -> None:
    """File and line."""
    (tmp_path / "h").write_text(text)
    with pytest.raises(HistoryError) as caught:
        read_porcupine(tmp_path / "h")
    assert str(caught.value).startswith(f"{tmp_path}/h{error}")
