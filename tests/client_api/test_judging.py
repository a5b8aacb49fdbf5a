"""Several clients hand their histories over, and one of them judges, as the fake job has it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from syndicate.client_api import (
    Fault,
    FaultKind,
    HistoriesMissing,
    History,
    HistoryClosed,
    HistoryTooLarge,
    Stamp,
    _fake_histories,
)
from syndicate.client_api._calls import own_boot_id
from syndicate.client_api.checkers import (
    Answer,
    AvailableAgain,
    Counter,
    FaultWindow,
    KeyValue,
    Linearizable,
    fault_windows,
)
from syndicate.client_api.history import read
from syndicate.client_api.testing import AioFakeChaos, FakeChaos, FakeJob
from syndicate.v1 import chaos_pb2, common_pb2

MS = 1_000_000
REGISTER = {"linearizable": Linearizable(KeyValue())}
START = 10**12


def job(clients: int = 2) -> FakeJob:
    """One server and some clients."""
    return FakeJob(["10.77.0.11"], [f"10.77.0.{250 + number}" for number in range(clients)])


def client(of: FakeJob, number: int) -> FakeChaos:
    """One of its clients."""
    return FakeChaos(job=of, caller=f"client-{number}")


def recorded(folder: Path, task: str, *operations: tuple[str, Any, int, int], **clock: Any) -> Path:
    """A history of puts and gets of one key, in ms of the manager's clock, by a clock that is off.

    It was measured once at the manager's time 0, exactly, unless `measured` is false.
    """
    ahead = clock.get("ahead", 0)
    boot_id = clock.get("boot_id", own_boot_id())
    header = {"boot_id": boot_id, "host": task, "task": task, "pid": 7}
    lines: list[dict[str, Any]] = [
        {"syndicate_history": 1, **header, "start_ns": START + ahead, "start_utc_ns": 0}
    ]
    if clock.get("measured", True):
        lines.append({"clock": ahead, "error": clock.get("error", 1000), "t": 0, "manager": "fake-boot"})
    for number, (kind, value, begin, end) in enumerate(operations):
        what = {"v": value} if kind == "put" else {}
        lines.append({"i": number, "t": begin * MS, "p": 0, "f": kind, "k": "x", **what})
        lines.append({"ok": number, "t": end * MS, **({"v": value} if kind == "get" else {})})
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return path


def judge(of: FakeJob, **how: Any) -> tuple[Any, str]:
    """What client-0 finds and says."""
    said: list[str] = []
    how = {"checkers": REGISTER, "tested": False, "wait_s": 0.0, "say": said.append, **how}
    verdict = client(of, 0).judge(**how)
    return verdict, "\n".join(said)


def test_a_history_is_measured_closed_and_handed_over(tmp_path: Path) -> None:
    """In pieces of the relay's size, with its digest; again it changes nothing."""
    of = job(1)
    with client(of, 0) as chaos, History(tmp_path / "my history.jsonl", task="client-0") as history:
        for number in range(8000):
            history.invoke(number, "put", "x" * 20, number).ok()
        handed = chaos.hand_over(history)
        again = chaos.hand_over(history.path)
    data = Path(history.path).read_bytes()
    assert handed == again and (handed.name, handed.size) == ("my-history", len(data))
    assert of.history("client-0", "my-history") == data and len(read(history.path).clocks) == 1
    pieces = [call.request for call in of.calls if call.rpc == "PutHistory"]
    assert max(len(piece.data) for piece in pieces) == 192 << 10  # type: ignore[attr-defined]  # PutHistory's


def test_what_a_killed_client_left_is_sent_without_its_empty_end(tmp_path: Path) -> None:
    """The NUL bytes are not, a torn line is: reading knows it."""
    of = job(1)
    path = recorded(tmp_path, "client-0", ("put", 1, 0, 1))
    whole = path.read_bytes() + b'{"i":9,"t'
    path.write_bytes(whole + bytes(300_000))
    client(of, 0).hand_over(path)
    assert of.history("client-0", "client-0") == whole


def test_a_client_without_its_disk_hands_over_beside_the_first_one(tmp_path: Path) -> None:
    """Another history of the same name gets the next one; a name that was given is not changed."""
    of = job(1)
    chaos = client(of, 0)
    first = recorded(tmp_path, "history", ("put", 1, 0, 1))
    chaos.hand_over(first, final=False)
    second = recorded(tmp_path, "history", ("put", 2, 0, 1))
    with pytest.raises(HistoryClosed):
        chaos.hand_over(second, name="history")
    assert [chaos.hand_over(second).name, chaos.hand_over(second).name] == ["history.2", "history.2"]
    with pytest.raises(HistoryClosed):
        chaos.hand_over(recorded(tmp_path, "other", ("put", 3, 0, 1)))


@pytest.mark.parametrize("name", ["", "../x", "\0", "A", "a/b", ".x", "x" * 64])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    """It is refused before anything is sent."""
    of = job(1)
    with pytest.raises(ValueError, match="names no history"):
        client(of, 0).hand_over(recorded(tmp_path, "client-0"), name=name)
    assert not of.calls


def test_too_much_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bound; the judge's own makes its verdict unknown."""
    monkeypatch.setattr(_fake_histories, "HISTORY_BYTES", 100)
    of = job(1)
    path = recorded(tmp_path, "client-0", ("put", 1, 0, 1))
    with pytest.raises(HistoryTooLarge) as caught:
        client(of, 0).hand_over(path)
    verdict, _ = judge(of, history=path)
    assert caught.value.most == 100
    assert verdict.answer is Answer.UNKNOWN and "at most 100 bytes" in verdict.reason


def test_a_correct_store_is_judged_once_for_all(tmp_path: Path) -> None:
    """The judge waits for the others, checks all together, says how the clocks stood, and finishes."""
    of = job(3)
    one = recorded(tmp_path, "client-1", ("put", 1, 0, 10))
    two = recorded(tmp_path, "client-2", ("get", 1, 20, 30))

    def others() -> None:
        for number, path in ((1, one), (2, two)):
            client(of, number).hand_over(path)
            client(of, number).finish()

    thread = threading.Timer(0.05, others)
    thread.start()
    verdict, said = judge(of, history=recorded(tmp_path, "client-0", ("get", None, 0, 5)), wait_s=60.0)
    thread.join()

    assert verdict.answer is Answer.TRUE, said
    assert said.count("intervals exact: one machine") == 3 and "3 histories of 1 machine\n" in said
    assert of.results["client-0"].text == said
    assert of.results["client-0"].metrics["clocks.worst_error_ms"] == pytest.approx(0.001, abs=0.02)


def test_a_judges_metrics_stand_beside_the_verdicts(tmp_path: Path) -> None:
    """So that the seed of a nemesis is in the result; what the verdict measured keeps its names."""
    of = job(1)
    path = recorded(tmp_path, "client-0", ("put", 1, 0, 1))
    judge(of, history=path, metrics={"nemesis_seed": 4711, "clocks.worst_error_ms": 99})
    told = of.results["client-0"].metrics
    assert told["nemesis_seed"] == 4711 and told["clocks.worst_error_ms"] < 1


def test_50_ms_of_another_clock_do_not_make_a_correct_store_false(tmp_path: Path) -> None:
    """Its clock is ahead, so that the read seems to end before the write that it saw: it is moved back."""
    of = job(2)
    far = {"boot_id": "elsewhere", "ahead": 50 * MS, "error": 2 * MS}
    client(of, 1).hand_over(recorded(tmp_path, "client-1", ("put", 1, 100, 110), **far))
    verdict, said = judge(of, history=recorded(tmp_path, "client-0", ("get", 1, 111, 112)))
    assert verdict.answer is Answer.TRUE, said
    assert "client-1: clock +50.000 ms ± 2.0" in said and said.count("widened by that") == 2


def test_a_stale_read_that_the_bound_does_not_cover_is_false(tmp_path: Path) -> None:
    """A read far later than the bound that misses the write."""
    of = job(2)
    far = {"boot_id": "elsewhere", "ahead": 50 * MS, "error": 2 * MS}
    client(of, 1).hand_over(recorded(tmp_path, "client-1", ("put", 1, 100, 110), **far))
    verdict, said = judge(of, history=recorded(tmp_path, "client-0", ("get", None, 140, 150)))
    assert verdict.answer is Answer.FALSE and "± 2.0" in said
    assert of.results["client-0"].outcome == common_pb2.OUTCOME_FAIL


def test_a_client_that_died_leaves_no_verdict(tmp_path: Path) -> None:
    """Unknown, whatever the others' histories show: the missing one may explain it. It is named."""
    of = job(2)
    client(of, 0).kill("10.77.0.251")
    verdict, said = judge(of, history=recorded(tmp_path, "client-0", ("get", 7, 0, 1)))
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "not all histories were handed over: client-1" and "client-1" in said


def test_a_history_that_is_not_whole_leaves_none(tmp_path: Path) -> None:
    """Its client was killed while it handed it over."""
    of = job(2)
    dying = client(of, 1)
    data = recorded(tmp_path, "client-1", ("put", 1, 0, 1)).read_bytes()
    request = chaos_pb2.PutHistoryRequest(data=data)
    dying._invoke("PutHistory", request, 1.0)
    client(of, 0).kill("10.77.0.251")
    client(of, 0).revive("10.77.0.251")
    dying.hand_over(recorded(tmp_path, "later", ("put", 2, 0, 1)))
    verdict, _ = judge(of)
    assert "client-1 (history is not whole)" in verdict.reason


def test_what_a_revived_client_lost_with_its_disk_leaves_no_verdict(tmp_path: Path) -> None:
    """It handed over for one of two runs; with both there is a verdict again."""
    of = job(2)
    client(of, 0).kill("10.77.0.251")
    client(of, 0).revive("10.77.0.251", with_disk=False)
    own = recorded(tmp_path, "client-0", ("put", 1, 0, 1))
    client(of, 1).hand_over(recorded(tmp_path, "second", ("put", 2, 2, 3)), final=False)
    client(of, 1).hand_over(recorded(tmp_path, "second", ("put", 2, 2, 3)))
    verdict, _ = judge(of, history=own)
    assert verdict.reason == "not all histories were handed over: client-1 (1 of its 2 runs)"

    of = job(2)
    client(of, 0).kill("10.77.0.251")
    client(of, 0).revive("10.77.0.251")
    client(of, 1).hand_over(recorded(tmp_path, "first", ("put", 3, 4, 5)), final=False)
    client(of, 1).hand_over(recorded(tmp_path, "second", ("put", 2, 2, 3)))
    verdict, said = judge(of, history=own)
    assert verdict.answer is Answer.TRUE, said


def test_a_client_that_is_silent_is_waited_for_so_long(tmp_path: Path) -> None:
    """Then the verdict is unknown, and names it; gather raises."""
    of = job(2)
    with pytest.raises(HistoriesMissing, match="client-1"):
        client(of, 0).gather(0.05)
    verdict, _ = judge(of, history=recorded(tmp_path, "client-0", ("put", 1, 0, 1)), wait_s=0.05)
    assert verdict.answer is Answer.UNKNOWN and "client-1" in verdict.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [("nonsense\n", "no JSON"), ("", "no header"), ('{"syndicate_history":1}\n', "client-1")],
)
def test_a_history_that_is_none_leaves_no_verdict(tmp_path: Path, text: str, said: str) -> None:
    """The text names the file."""
    of = job(2)
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    client(of, 1).hand_over(path)
    verdict, _ = judge(of)
    assert verdict.answer is Answer.UNKNOWN and said in verdict.reason


def test_clocks_that_were_never_compared_leave_no_verdict(tmp_path: Path) -> None:
    """Between machines, and beside the ledger's windows."""
    of = job(2)
    far = recorded(tmp_path, "client-1", ("put", 1, 0, 1), boot_id="elsewhere", measured=False)
    client(of, 1).hand_over(far)
    verdict, _ = judge(of, history=recorded(tmp_path, "client-0", ("put", 2, 0, 1)))
    alone = job(1)
    client(alone, 0).pause("10.77.0.11")
    unmeasured = recorded(tmp_path, "client-0", ("put", 1, 0, 1), measured=False)
    second, _ = judge(alone, history=unmeasured, tested=True)
    for found in (verdict, second):
        assert found.answer is Answer.UNKNOWN and "set_clock" in found.reason


def test_a_checker_that_cannot_judge_leaves_no_verdict(tmp_path: Path) -> None:
    """An operation that it does not know is told, and the client finishes."""
    of = job(1)
    path = recorded(tmp_path, "client-0", ("put", 1, 0, 1))
    verdict, _ = judge(of, checkers={"counter": Counter()}, history=path)
    assert verdict.answer is Answer.UNKNOWN and "does not know 'put'" in verdict.reason
    assert "client-0" in of.results


def test_a_pass_is_tested_against_the_ledger(tmp_path: Path) -> None:
    """Nothing succeeded while a server was paused: vacuous. Checkers are given the same windows."""
    of = job(1)
    chaos = client(of, 0)
    chaos.pause("10.77.0.11")
    of.advance(5)
    chaos.resume("10.77.0.11")
    given: list[Sequence[FaultWindow]] = []

    def available(windows: Sequence[FaultWindow]) -> AvailableAgain:
        given.append(windows)
        return AvailableAgain(5.0, windows)

    path = recorded(tmp_path, "client-0", ("put", 1, 0, 1))
    verdict, _ = judge(of, checkers={**REGISTER, "available": available}, history=path, tested=True)
    assert verdict.parts["tested"].answer is Answer.UNKNOWN
    assert "no put was tried during pause master" in verdict.parts["tested"].reason
    ((window,),) = given
    assert window.end_ns is not None and window.end_ns - window.start_ns >= 5000 * MS


def line(
    fault_id: int, kind: FaultKind, task: str, at: int | None, healed: int | None = None, **more: Any
) -> Fault:
    """A line of the ledger; times in ms."""

    def stamp(ms: int | None) -> Stamp | None:
        return None if ms is None else Stamp("m", ms * MS, 0)

    asked = Stamp("m", 0, 0)
    values = {"call_id": fault_id, "requested_by": "client-0", "text": "", "error": "", **more}
    return Fault(
        fault_id=fault_id,
        kind=kind,
        task=task,
        requested_at=asked,
        applied_at=stamp(at),
        applied_at_manager=stamp(at),
        applied_error_ns=0,
        lease_s=None,
        healed_at_manager=stamp(healed),
        healed_error_ns=0,
        healed_by="",
        **values,
    )


def test_windows_of_the_ledger() -> None:
    """One for each call; a kill lasts until the revival, what failed or takes no time has none."""
    ledger = [
        line(1, FaultKind.PARTITION, "master", 10, 40, call_id=1),
        line(2, FaultKind.PARTITION, "slave-0", 12, 45, call_id=1),
        line(3, FaultKind.KILL, "master", 50),
        line(4, FaultKind.REVIVE, "slave-0", 55),
        line(5, FaultKind.REVIVE, "master", 60),
        line(6, FaultKind.KILL, "slave-0", 70),
        line(7, FaultKind.SIGNAL, "master", 75),
        line(8, FaultKind.PAUSE, "master", None, error="it failed"),
        line(9, FaultKind.DEGRADE, "master", 80),
    ]
    assert fault_windows(ledger) == [
        ("partition master, slave-0", 10 * MS, 45 * MS),
        ("kill master", 50 * MS, 60 * MS),
        ("kill slave-0", 70 * MS, None),
        ("degrade master", 80 * MS, None),
    ]


async def test_the_same_for_asyncio(tmp_path: Path) -> None:
    """Other tasks of the loop go on while it waits."""
    of = job(2)
    said: list[str] = []
    judge_, other = AioFakeChaos(job=of), AioFakeChaos(job=of, caller="client-1")

    async def later() -> None:
        await other.hand_over(recorded(tmp_path, "client-1", ("put", 1, 0, 10)))
        await other.finish()

    async with asyncio.TaskGroup() as tasks:
        own = recorded(tmp_path, "client-0", ("get", 1, 20, 30))
        how: dict[str, Any] = {"wait_s": 60.0, "tested": False, "say": said.append, "metrics": {"seed": 7}}
        judging = tasks.create_task(judge_.judge(REGISTER, own, **how))
        await asyncio.sleep(0)
        tasks.create_task(later())
    assert judging.result().answer is Answer.TRUE and "2 histories" in said[0]
    assert set(of.results) == {"client-0", "client-1"}
    assert of.results["client-0"].metrics["seed"] == 7
