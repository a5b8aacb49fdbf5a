"""A history is read as it was written; only its last line may be torn, and the rest must be right."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.client_api.history import History, HistoryError, Operation, Outcome, read

from tests.client_api.history.made import VALUES, histories, operation

HEADER = (
    '{"syndicate_history":1,"boot_id":"b","host":"h","task":"client-0",'
    '"pid":7,"start_ns":1000,"start_utc_ns":5}'
)
PUT = '{"i":0,"t":1,"p":0,"f":"put"}'
SAME_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def recorded(path: Path, operations: tuple[Operation, ...]) -> Path:
    """Records what these operations did, at their moments."""
    now = 0
    with History(path, replace=True, now_ns=lambda: now) as history:
        open_ = {}
        ends = [(one.invoked_ns, False, one) for one in operations]
        ends += [(one.completed_ns, True, one) for one in operations if one.completed_ns is not None]
        for now, completion, one in sorted(ends, key=lambda end: end[0]):  # noqa: B007 - the clock reads it
            if not completion:
                open_[one.index] = history.invoke(one.process, one.kind, one.key, one.argument)
            elif one.outcome is Outcome.OK:
                open_[one.index].ok(one.result)
            else:
                (open_[one.index].fail if one.outcome is Outcome.FAIL else open_[one.index].info)(one.error)
    return path


@SAME_PATH
@given(histories())
def test_what_was_recorded_is_read(tmp_path: Path, operations: tuple[Operation, ...]) -> None:
    """Operation for operation, for whatever values JSON has."""
    assert read(recorded(tmp_path / "h", operations)).operations == operations


def test_a_file_torn_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    """Cut, or cut and followed by NUL bytes: whole lines count, the last one's bytes are told."""
    done = (operation(0, 5, 9, argument="ö"), operation(1, 12, 30, process=1, kind="get", result=[1, None]))
    whole = recorded(tmp_path / "h", done).read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole) + 1):
        last = whole[:end].rpartition(b"\n")[2]
        for tail in (b"", b"\0" * 50):
            (tmp_path / "torn").write_bytes(whole[:end] + tail)
            torn = read(tmp_path / "torn")
            # A line that lacks nothing but its newline is whole, unless it may go on.
            whole_line = not tail and last.endswith(b"}") and whole[end : end + 1] == b"\n"
            assert torn.torn == (0 if whole_line else len(last))
            ends = whole[:end].count(b"\n") - 1 + whole_line
            assert sum(1 + (one.completed_ns is not None) for one in torn.operations) == ends
            assert all(one in done or one.completed_ns is None for one in torn.operations)


def test_a_copied_line_with_a_hole_is_torn(tmp_path: Path) -> None:
    """A copy need not go from front to back: the end may be there before the middle."""
    (tmp_path / "h").write_bytes(f"{HEADER}\n{PUT}\n".encode() + b'{"ok":0\0\0\0\0}\n' + b"\0" * 100)
    recorded = read(tmp_path / "h")
    assert recorded.torn == 13 and recorded.operations[0].completed_ns is None


def test_a_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    """A JSON object that is closed is whole."""
    (tmp_path / "h").write_text(f'{HEADER}\n{PUT}\n{{"ok":0,"t":2}}')
    assert read(tmp_path / "h").operations[0].outcome is Outcome.OK


def test_a_history_is_read_while_it_is_recorded(tmp_path: Path) -> None:
    """As far as it has come."""
    with History(tmp_path / "h") as history:
        operation = history.invoke(1, "put")
        assert [one.outcome for one in read(history.path).operations] == [Outcome.INFO]
        operation.ok()
        assert [one.outcome for one in read(history.path).operations] == [Outcome.OK]


def test_operations_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    """Threads may write their lines a little later than they took their times."""
    lines = [HEADER, '{"i":1,"t":9,"p":1,"f":"put","v":"b"}', '{"i":0,"t":5,"p":0,"f":"put","v":"a"}']
    (tmp_path / "h").write_text("\n".join(lines))
    assert [(one.index, one.argument) for one in read(tmp_path / "h").operations] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], ":1: no header: the file is empty, or its first line is torn"),
        ([PUT], ":1: no header: not a history of Syndicate"),
        ([HEADER.replace(":1,", ":2,", 1)], ":1: version 2 of the format is not known here, only 1"),
        ([HEADER.replace('"pid":7', '"pid":"7"')], ":1: 'pid' must be a whole number of at least 0, not '7'"),
        ([HEADER.replace('"boot_id":"b",', "")], ":1: 'boot_id' must be a text, not missing"),
        ([HEADER, "nonsense", PUT], ":2: no JSON"),
        ([HEADER, "", PUT], ":2: no JSON"),
        ([HEADER, "[1]", PUT], ":2: no JSON object"),
        ([HEADER, '{"i":0,"t":1,"p":0,"f":"put","v":NaN}', PUT], ":2: no JSON: NaN is no JSON"),
        ([HEADER, "[" * 100_000, PUT], ":2: no JSON"),
        ([HEADER, '{"t":1}', PUT], ":2: neither an invocation, nor one completion, nor a clock's reading"),
        ([HEADER, PUT, '{"ok":0,"fail":0,"t":2}'], ":3: neither an invocation, nor one completion"),
        ([HEADER, PUT.replace('"t":1', '"t":-1')], ":2: 't' must be a whole number of at least 0, not -1"),
        ([HEADER, PUT.replace('"t":1', f'"t":{2**63}')], f":2: 't' must be at most {2**63 - 1}, not {2**63}"),
        (
            [HEADER, f'{{"clock":-{10**4000},"error":1,"t":1}}'],
            f":2: the clock's offset must be at most {2**63 - 1}, not -1000",
        ),
        ([HEADER, PUT.replace('"t":1', '"t":1.5')], ":2: 't' must be a whole number of at least 0, not 1.5"),
        ([HEADER, PUT.replace('"t":1', '"t":true')], ":2: 't' must be a whole number"),
        (
            [HEADER, PUT.replace('"p":0', '"p":null')],
            ":2: the process 'p' must be a number or a name, not missing",
        ),
        ([HEADER, PUT.replace('"put"', '""')], ":2: the kind 'f' must be a name, not ''"),
        ([HEADER, PUT.replace('"f"', '"g"')], ":2: 'g' does not belong into this line"),
        ([HEADER, '{"ok":0,"t":2}'], ":2: operation 0 is completed (ok) without an invocation"),
        (
            [HEADER, PUT, '{"ok":0,"t":2}', '{"info":0,"t":3}'],
            ":4: operation 0 is completed twice (ok, then info)",
        ),
        ([HEADER, PUT, '{"ok":0,"t":0}'], ":3: 'put' of process 0 ends before it was invoked"),
        ([HEADER, PUT, '{"ok":0,"t":2,"e":"x"}'], ":3: 'e' does not belong into this line"),
        ([HEADER, PUT, '{"fail":0,"t":2,"e":5}'], ":3: 'e' must be a text, not 5"),
        ([HEADER, PUT, PUT.replace('"i":0', '"i":1')], ":3: process 0 invokes 'put', but 'put' of "),
        ([HEADER, PUT, PUT.replace('"p":0', '"p":1')], ":3: operation 0 was invoked before"),
        (
            [HEADER, PUT, '{"ok":0,"t":5}', '{"i":1,"t":3,"p":0,"f":"get"}'],
            ":4: process 0 invokes 'get' before its last operation ended",
        ),
        ([HEADER, '{"clock":"x","error":1,"t":1}'], ":2: the clock's offset must be a whole number, not 'x'"),
        (
            [HEADER, '{"clock":1,"error":-1,"t":1}'],
            ":2: 'error' must be a whole number of at least 0, not -1",
        ),
        ([HEADER, "\0" * 5, PUT], ":2: a NUL byte before the end"),
    ],
)
def test_what_is_malformed_is_named_by_its_line(tmp_path: Path, lines: list[str], text: str) -> None:
    """File and line, and what is wrong with it."""
    path = tmp_path / "h"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(HistoryError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}{text}")


def test_bytes_that_are_no_text_are_malformed(tmp_path: Path) -> None:
    """Named by their line like the rest."""
    (tmp_path / "h").write_bytes(f"{HEADER}\n".encode() + b'{"i":0,"t":1,"p":0,"f":"\xff"}\n' + PUT.encode())
    with pytest.raises(HistoryError, match=":2: no JSON: 'utf-8' codec"):
        read(tmp_path / "h")


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    """With its usual text."""
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


LINES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {},
            optional={
                "i": st.integers(-1, 3) | VALUES,
                "t": st.integers(-1, 9) | VALUES,
                "p": st.integers(0, 2) | VALUES,
                "f": st.just("put") | VALUES,
                "k": VALUES,
                "v": VALUES,
                "ok": st.integers(0, 3),
                "fail": st.integers(0, 3),
                "clock": st.integers() | VALUES,
                "error": st.integers() | VALUES,
                "e": st.text() | VALUES,
            },
        ).map(json.dumps),
        st.text(),
    )
)


def _as_bytes(lines: list[str]) -> bytes:
    return f"{HEADER}\n".encode() + "\n".join(lines).encode("utf-8", "surrogatepass")


@SAME_PATH
@given(LINES.map(_as_bytes) | st.binary())
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    """With this package's error, which names the file and a line, and no other."""
    path = tmp_path / "h"
    path.write_bytes(content)
    try:
        operations = read(path).operations
    except HistoryError as error:
        place = str(error).removeprefix(f"{path}:").partition(":")[0]
        assert place.isdecimal()
    else:
        assert [one.index for one in operations] == list(range(len(operations)))


@SAME_PATH
@given(histories(most=4), st.data())
def test_a_changed_byte_is_read_or_refused(
    tmp_path: Path, operations: tuple[Operation, ...], data: st.DataObject
) -> None:
    """No other error than this package's."""
    path = recorded(tmp_path / "h", operations)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(HistoryError):
        read(path)
