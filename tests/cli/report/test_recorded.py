"""Histories on the run's time line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from syndicate.cli.report.numbers import rows
from syndicate.cli.report.recorded import counterexample, recording
from syndicate.cli.report.run import Recording
from syndicate.cli.report.series import MOST_POINTS, one_by_one
from syndicate.client_api.checkers import Budget, KeyValue, Linearizable, compose
from syndicate.client_api.history import History, HistoryError, Recorded, read
from syndicate.v1.common_pb2 import Stamp

from tests.cli.report.samples import BAD_TEXT

START = Stamp(boot_id="boot-m", monotonic_ns=1_000_000_000, utc_ns=5_000_000_000_000)


def history(tmp_path: Path, name: str, boot: str, start_ns: int, lines: str) -> Recorded:
    """One that a client has left."""
    path = tmp_path / f"{name}.jsonl"
    header = (
        f'{{"syndicate_history":1,"boot_id":"{boot}","host":"{name}","task":"{name}","pid":7,'
        f'"start_ns":{start_ns},"start_utc_ns":5003000000000}}\n'
    )
    path.write_text(header + lines)
    return read(path)


PUT = '{"i":0,"t":812300000,"p":3,"f":"put","k":"x","v":2}\n{"ok":0,"t":815204000}\n'
GET = '{"i":1,"t":820100000,"p":1,"f":"get","k":"x"}\n{"ok":1,"t":822000000,"v":1}\n'
LOST = '{"i":2,"t":900000000,"p":2,"f":"get","k":"x"}\n'


def test_a_client_on_the_managers_machine_shares_its_clock(tmp_path: Path) -> None:
    """The same boot id is the same clock: times count from the job's start, exactly."""
    told = recording([history(tmp_path, "client-0", "boot-m", 1_500_000_000, PUT + LOST)], START)
    put, get = told.operations
    assert (put.begin_s, put.end_s, put.outcome) == (1.3123, 1.315204, "ok")
    assert (put.process, put.words) == ("client-0/3", "put x 2")
    assert (get.end_s, get.outcome) == (None, "info")
    assert told.clocks == ("client-0: on the manager's own clock, intervals exact",)


def test_a_measured_clock_puts_a_history_onto_the_managers(tmp_path: Path) -> None:
    """The offset is taken off, and its bound is told."""
    clock = '{"clock":400000000,"error":2000000,"t":0,"manager":"boot-m"}\n'
    told = recording([history(tmp_path, "client-0", "boot-v", 1_500_000_000, clock + PUT)], START)
    assert told.operations[0].begin_s == pytest.approx(0.9123, abs=0.001)
    assert "± 2." in told.clocks[0]


def test_a_clock_that_was_never_measured_is_placed_by_the_time_of_day(tmp_path: Path) -> None:
    """Better than nothing, and said."""
    told = recording([history(tmp_path, "client-0", "boot-v", 77, PUT)], START)
    assert told.operations[0].begin_s == pytest.approx(3.8123)
    assert "time of day" in told.clocks[0]


def test_unmeasured_clocks_of_two_machines_are_refused(tmp_path: Path) -> None:
    """Nothing tells their order."""
    both = [history(tmp_path, f"client-{n}", f"boot-{n}", 77, PUT) for n in (0, 1)]
    with pytest.raises(HistoryError, match="never compared"):
        recording(both, START)


def test_the_operations_of_a_counterexample_are_found(tmp_path: Path) -> None:
    """By process and time, which a verdict tells from the history's first invocation."""
    first = '{"i":7,"t":0,"p":9,"f":"get","k":"z"}\n'
    found = history(tmp_path, "client-0", "boot-m", 0, first + PUT + GET + LOST)
    told = recording([found], START, BAD_TEXT.splitlines())
    assert [told.operations[place].words for place in told.bad] == ["put x 2", "get x → 1"]


def many(ok: int, failed: int) -> str:
    """Successes, and then failures, of one process."""
    lines = []
    for number in range(ok + failed):
        end = f'"ok":{number}' if number < ok else f'"fail":{number},"e":"no"'
        lines.append(f'{{"i":{number},"t":{number * 1000},"p":1,"f":"put","k":"x","v":{number}}}')
        lines.append(f'{{{end},"t":{number * 1000 + 500}}}')
    return "\n".join(lines) + "\n"


def test_beyond_a_bound_only_what_is_drawn_has_words(tmp_path: Path) -> None:
    """Successes become bands, and of failures some are drawn; but each counts, and so do its microseconds."""
    found = history(tmp_path, "client-0", "boot-m", 0, many(MOST_POINTS + 1, 2500))
    told = recording([found], START)

    good = [op for op in told.operations if op.outcome == "ok"]
    bad = [op for op in told.operations if op.outcome == "fail"]
    assert (len(good), len(bad)) == (MOST_POINTS + 1, 2500)
    assert {op.words for op in good} == {""}
    assert [op for op in bad if op.words] == one_by_one("fail", bad)
    (row,) = rows(told.operations, [])
    assert (row.ok, row.fail, row.info) == (MOST_POINTS + 1, 2500, 0)
    assert row.latencies_s == pytest.approx((0.0000005,) * 4)


def test_as_many_as_are_drawn_have_words(tmp_path: Path) -> None:
    """Each of them, up to the bound."""
    found = history(tmp_path, "client-0", "boot-m", 0, many(MOST_POINTS, 10))
    assert all(op.words for op in recording([found], START).operations)


def test_an_operation_takes_little_memory(tmp_path: Path) -> None:
    """Of many, few have a text of their own: process, kind and words are shared or left out."""
    found = [history(tmp_path, "client-0", "boot-m", 0, many(MOST_POINTS + 6000, 0))]
    tracemalloc.start()
    told = recording(found, START)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(told.operations) < 165  # bytes


def test_what_a_checker_says_of_a_recorded_history_is_found(tmp_path: Path) -> None:
    """From the client's recording to the mark in the picture: the stale read, and the write it missed."""
    path = tmp_path / "history.jsonl"
    with History(path, task="client-0") as recorder:
        for process, kind, argument, result in (
            (0, "put", 1, None),
            (1, "put", 2, None),
            (2, "get", None, 2),
            (3, "get", None, 1),
        ):
            recorder.invoke(process, kind, "x", argument).ok(result)
    found = read(path)
    verdict = compose({"kv": Linearizable(KeyValue())}).check(found.operations, Budget(seconds=60))
    start = Stamp(boot_id=found.header.boot_id, monotonic_ns=found.header.start_ns)
    told = recording([found], start, verdict.text().splitlines())
    assert [told.operations[place].words for place in told.bad][-1] == "get x → 1"
    assert counterexample(verdict.text().splitlines())[-1][3].endswith("process 3  get x  -> 1")


def test_very_many_kinds_share_a_name(tmp_path: Path) -> None:
    """A client may name its operations as it likes; the tables have an end all the same."""
    lines = "".join(f'{{"i":{place},"t":{place},"p":{place},"f":"kind-{place}"}}\n' for place in range(1000))
    told = recording([history(tmp_path, "client-0", "boot-m", 0, lines)], START)
    assert len({op.kind for op in told.operations}) == 17


def deeper(frames: int, call: Callable[[], Recording]) -> Recording:
    """What a call gives from so many frames further down."""
    return deeper(frames - 1, call) if frames else call()


def test_a_value_that_is_too_deep_to_be_shown_is_left_out(tmp_path: Path) -> None:
    """What was just not too deep to be read is for a deeper stack; a server's answer breaks no report."""
    told = None
    for depth in range(999, 900, -1):
        put = PUT.replace('"v":2', f'"v":{"[" * depth}{"]" * depth}')
        with suppress(HistoryError):
            found = history(tmp_path, "client-0", "boot-m", 0, put)
            told = deeper(20, lambda found=found: recording([found], START))
            break
    assert told is not None
    assert told.operations[0].words == "put x …"


def test_a_text_without_a_counterexample_marks_nothing() -> None:
    """A client may say what it likes."""
    assert counterexample(["all well", "  1.000 ms – 2 of 3", "  meanwhile:"]) == []
