"""What is recorded is what was told, by threads and tasks; wrong calls are errors and write nothing."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from syndicate.client_api import ClockBound, Pong, Stamp
from syndicate.client_api.history import History, HistoryError, Outcome, read


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """One that is open, on a clock that goes on by 10 ns each time it is asked."""
    ticks = count(1000, 10)
    with History(tmp_path / "history.jsonl", task="client-0", now_ns=lambda: next(ticks)) as made:
        yield made


def test_an_operation_is_read_back_as_it_was_told(history: History) -> None:
    """Each field, with times on the history's clock; what was not completed is INFO."""
    history.invoke("writer", "put", key="x", argument=[1, {"a": None}]).ok("ö\n")
    history.invoke(2, "get", key="x").fail("not the leader")
    history.invoke(3, "get").info(TimeoutError("after 5 s"))
    history.invoke(4, "append", argument="")
    put, get, unknown, open_ = read(history.path).operations
    assert (put.index, put.process, put.kind, put.key, put.argument) == (
        0,
        "writer",
        "put",
        "x",
        [1, {"a": None}],
    )
    assert (put.outcome, put.result, put.invoked_ns, put.completed_ns) == (Outcome.OK, "ö\n", 1010, 1020)
    assert (get.index, get.outcome, get.error, get.result) == (1, Outcome.FAIL, "not the leader", None)
    assert (unknown.outcome, unknown.error, unknown.completed_ns) == (
        Outcome.INFO,
        "TimeoutError: after 5 s",
        1060,
    )
    assert (open_.outcome, open_.completed_ns, open_.argument) == (Outcome.INFO, None, "")


def test_the_header_tells_who_recorded_and_on_which_clock(tmp_path: Path) -> None:
    """Its boot id is the kernel's, its start a moment of CLOCK_BOOTTIME."""
    before = uptime_ns()
    with History(tmp_path / "h", task="client-3") as history:
        header = read(history.path).header
    assert header == history.header and header.task == "client-3"
    assert header.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert before <= header.start_ns <= uptime_ns() + 10**7  # which is told in hundredths of a second


def uptime_ns() -> int:
    """That of the kernel, rounded down."""
    return round(float(Path("/proc/uptime").read_text().split()[0]) * 100) * 10**7


def test_the_task_is_that_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SYNDICATE_TASK, unless it is told."""
    monkeypatch.setenv("SYNDICATE_TASK", "client-7")
    with History(tmp_path / "h") as history:
        assert history.header.task == "client-7"


def test_a_closed_file_holds_nothing_but_its_lines(history: History) -> None:
    """The room that was taken ahead is given back; each line is JSON in ASCII."""
    history.invoke(1, "put", argument="ü").ok()
    history.close()
    lines = Path(history.path).read_text("ascii").splitlines()
    assert lines[1:] == [r'{"i":0,"t":10,"p":1,"f":"put","v":"\u00fc"}', '{"ok":0,"t":20}']


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 1000)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_threads_record_at_once(tmp_path: Path) -> None:
    """Each thread's operations are all there, each with its own result, past many windows of the file."""
    threads, each = 16, 1500

    def work(process: int) -> None:
        for number in range(each):
            history.invoke(process, "put", key="k" * 20, argument=number).ok([process, number])

    with History(tmp_path / "h") as history:
        workers = [threading.Thread(target=work, args=(process,)) for process in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    operations = read(history.path).operations
    assert Path(history.path).stat().st_size > 8 * 256 * 1024
    for process in range(threads):
        mine = [one for one in operations if one.process == process]
        assert [one.result for one in mine] == [[process, number] for number in range(each)]
        assert [one.argument for one in mine] == list(range(each))


async def test_tasks_record_at_once(tmp_path: Path) -> None:
    """A process for each task; what is open at the same time is told apart."""
    with History(tmp_path / "h") as history:

        async def work(process: int) -> None:
            for number in range(5):
                with history.operation(process, "put", argument=number) as operation:
                    await asyncio.sleep(0)
                    operation.ok(process)

        async with asyncio.TaskGroup() as group:
            for process in range(40):
                group.create_task(work(process))
    operations = read(history.path).operations
    assert len(operations) == 200 and all(one.result == one.process for one in operations)


def test_times_of_one_process_never_run_back(tmp_path: Path) -> None:
    """An end is not before its beginning, and the next beginning not before that, whatever threads do."""
    with History(tmp_path / "h") as history:
        for number in range(200):
            history.invoke(0, "put", argument=number).ok()
    ends = [end for one in read(history.path).operations for end in (one.invoked_ns, one.completed_ns or 0)]
    assert ends == sorted(ends)


def test_a_process_has_one_operation_open(history: History) -> None:
    """The second is refused by name of the first, and is not in the file."""
    history.invoke(1, "put", argument=1)
    with pytest.raises(HistoryError, match=r"process 1 invokes 'get', but its operation 0 is open"):
        history.invoke(1, "get")
    assert [one.kind for one in read(history.path).operations] == ["put"]


@pytest.mark.parametrize("end", ["ok", "fail", "info"])
def test_a_process_goes_on_after_each_end(history: History, end: str) -> None:
    """After INFO too: the operation stays unknown, its process invokes the next."""
    getattr(history.invoke(1, "put"), end)()
    history.invoke(1, "get").ok()
    assert [one.outcome for one in read(history.path).operations] == [Outcome(end), Outcome.OK]


def test_an_operation_ends_once(history: History) -> None:
    """A second end is refused, and the first one holds."""
    operation = history.invoke(1, "put")
    operation.info("timed out")
    with pytest.raises(
        HistoryError, match=r"'put' \(operation 0\) of process 1 is completed \(ok\), but has ended"
    ):
        operation.ok()
    assert operation.ended
    assert [one.outcome for one in read(history.path).operations] == [Outcome.INFO]


def test_of_threads_that_end_one_operation_one_wins(history: History) -> None:
    """And only one line is written."""
    operation = history.invoke(1, "put")
    refused = []

    def end() -> None:
        try:
            operation.ok()
        except HistoryError as error:
            refused.append(error)

    workers = [threading.Thread(target=end) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(refused) == 7
    assert read(history.path).operations[0].outcome is Outcome.OK


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda h: h.invoke(1.5, "put"), "process 1.5 is neither a number nor a name"),
        (lambda h: h.invoke(True, "put"), "process True is neither"),
        (lambda h: h.invoke(1, ""), "kind '' of process 1 is no name"),
        (lambda h: h.invoke(1, "put", key=b"x"), "the key of 'put' of process 1 is no JSON value: .*bytes"),
        (
            lambda h: h.invoke(1, "put", argument=math.nan),
            "the argument of 'put' of process 1 is no JSON value",
        ),
        (lambda h: h.invoke(1, "put", argument={1: 2}), "key 1 of an object is no text"),
        (lambda h: h.invoke(1, "put", argument=[{"a": {None: 2}}]), "key None of an object is no text"),
        (lambda h: h.invoke(1, "put", argument=10**5000), "the argument of 'put'"),
        (
            lambda h: h.invoke(1, "put").ok({1}),
            r"the result of 'put' \(operation 0\) of process 1 is no JSON",
        ),
    ],
)
def test_what_is_no_json_is_refused_by_name(history: History, call: Callable[[Any], None], text: str) -> None:
    """Of an invocation nothing is written; a result that is refused may be told again."""
    with pytest.raises(HistoryError, match=text):
        call(history)
    assert all(one.completed_ns is None for one in read(history.path).operations)
    history.invoke(2, "put").ok()


def test_a_loop_in_a_value_is_refused(history: History) -> None:
    """It has no end as JSON."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(HistoryError, match="the argument of 'put' of process 1 is no JSON value"):
        history.invoke(1, "put", argument=loop)


def test_a_block_records_what_it_is_told(history: History) -> None:
    """Its value is the invocation."""
    with history.operation(1, "get", key="x") as operation:
        operation.ok(5)
    (get,) = read(history.path).operations
    assert (get.kind, get.key, get.outcome, get.result) == ("get", "x", Outcome.OK, 5)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TimeoutError("5 s"), Outcome.INFO),
        (ConnectionResetError(), Outcome.INFO),
        (ValueError("a bug of the client"), Outcome.INFO),
        (KeyboardInterrupt(), Outcome.INFO),
        (asyncio.CancelledError(), Outcome.INFO),
        (KeyError("x"), Outcome.FAIL),
        (ConnectionRefusedError(), Outcome.FAIL),
    ],
)
def test_an_exception_means_unknown_unless_it_is_definite(
    history: History, error: BaseException, outcome: Outcome
) -> None:
    """A time-out told as a failure would make a violation that is none; the exception is raised on."""
    with pytest.raises(type(error)), history.operation(1, "put", definite=(KeyError, ConnectionRefusedError)):
        raise error
    (put,) = read(history.path).operations
    assert put.outcome is outcome and put.error.startswith(type(error).__name__)


def test_an_exception_after_the_end_changes_nothing(history: History) -> None:
    """What was told before it holds."""
    empty: dict[str, int] = {}
    with pytest.raises(KeyError), history.operation(1, "put", definite=(KeyError,)) as operation:
        _ = operation.ok(), empty["x"]
    assert read(history.path).operations[0].outcome is Outcome.OK


def test_a_block_that_tells_nothing_is_an_error(history: History) -> None:
    """A get whose result was forgotten must not become one of null."""
    with pytest.raises(HistoryError, match="has ended without ok, fail or info"), history.operation(1, "get"):
        pass
    assert read(history.path).operations[0].outcome is Outcome.INFO


def test_an_errors_text_is_cut(history: History) -> None:
    """Lines stay short."""
    history.invoke(1, "put").info("x" * 10_000)
    assert len(read(history.path).operations[0].error) == 200


def test_a_closed_history_takes_nothing(history: History) -> None:
    """Neither beginnings nor ends; closing twice is none the worse."""
    operation = history.invoke(1, "put")
    history.close()
    history.close()
    with pytest.raises(HistoryError, match=r"history\.jsonl: the history is closed"):
        operation.ok()
    with pytest.raises(HistoryError, match="the history is closed"):
        history.invoke(2, "put")
    assert len(read(history.path).operations) == 1


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """Unless it may be replaced."""
    path = tmp_path / "h"
    path.write_text("precious")
    with pytest.raises(HistoryError, match="there is a file already"):
        History(path)
    assert path.read_text() == "precious"
    with History(path, replace=True) as history:
        history.invoke(1, "put").ok()
    assert len(read(path).operations) == 1


def test_a_revived_client_finds_a_name_that_is_free(tmp_path: Path) -> None:
    """What it recorded in its life before is kept."""
    with History.open(tmp_path) as first, History.open(tmp_path, task="client-1") as second:
        assert [Path(one.path).name for one in (first, second)] == ["history.jsonl", "history-2.jsonl"]


def test_a_value_larger_than_a_window_is_recorded(history: History) -> None:
    """A window is made for it."""
    large = "x" * 3_000_000
    history.invoke(1, "put", argument=large).ok()
    history.invoke(1, "get").ok("small")
    put, get = read(history.path).operations
    assert (put.argument, get.result) == (large, "small")


def test_clock_bounds_are_lines_of_their_own(history: History) -> None:
    """With the moment at which they were told, and the manager's boot id where a ping told it."""
    bound = ClockBound(history.header.boot_id, -5000, 70)
    history.set_clock(bound)
    history.set_clock(Pong(140, Stamp("manager", 6000, 0), bound))
    first, second = read(history.path).clocks
    assert (first.at_ns, first.offset_ns, first.error_ns, first.manager_boot_id) == (1010, -5000, 70, "")
    assert (second.at_ns, second.boot_id, second.manager_boot_id) == (1020, bound.boot_id, "manager")


def test_a_bound_of_another_clock_is_refused(history: History) -> None:
    """As is an error of less than nothing."""
    with pytest.raises(HistoryError, match="the bound is of the clock 'other'"):
        history.set_clock(ClockBound("other", 0, 0))
    with pytest.raises(HistoryError, match="error is -1 ns"):
        history.set_clock(ClockBound(history.header.boot_id, 0, -1))


def test_without_the_interpreters_lock_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of several threads would mix there."""
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(HistoryError, match="global interpreter lock"):
        History(tmp_path / "h")
    assert not (tmp_path / "h").exists()
