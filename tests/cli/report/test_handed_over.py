"""``report`` and ``fetch`` with the histories that clients handed over to the manager."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, ended_job, log

HEADER = '{{"syndicate_history":1,"boot_id":"{boot}","host":"{task}","task":"{task}","pid":7,'
START = '"start_ns":{start},"start_utc_ns":1750000001000000000}}\n'
CLOCK = '{{"clock":{ahead},"error":1000,"t":0,"manager":"boot-m"}}\n'
PUT = '{"i":0,"t":0,"p":0,"f":"put","k":"x","v":1}\n{"ok":0,"t":2000000}\n'
AHEAD = 50_000_000


def history(task: str, boot: str = "boot-m", ahead: int | None = None) -> bytes:
    """One put, 1 s after the start of the job."""
    text = (HEADER + START).format(boot=boot, task=task, start=1_001_000_000_000 + (ahead or 0))
    return (text + ("" if ahead is None else CLOCK.format(ahead=ahead)) + PUT).encode()


def sent(
    task: str, data: bytes, name: str = "history", sha256: str | None = None
) -> list[scheduler.ReadHistoriesResponse]:
    """A history in two pieces."""
    digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    first = scheduler.ReadHistoriesResponse(
        task=task, name=name, data=data[:100], size=len(data), sha256=digest
    )
    return [first, scheduler.ReadHistoriesResponse(task=task, name=name, data=data[100:])]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def job(manager: FakeManager) -> FakeManager:
    """Job 12 has ended; two clients on two machines, one of them 50 ms ahead, handed histories over."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [[log("master", 0, b"hello\n", 1.0)] for _ in range(2)]
    manager.scheduler.histories[12] = [
        [
            *sent("client-0", history("client-0", ahead=0)),
            *sent("client-1", history("client-1", "boot-v", AHEAD), "history-2"),
        ]
    ]
    return manager


def test_report_takes_what_was_handed_over(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """And tells how each client's clock stood, on the page, for programs and on the terminal."""
    ended = ctl("report", "12", "--json", "-o", "page.html")
    assert ended.code == 0, ended.err
    assert ended.document["operations"] == 2
    bound = "client-1: clock +50.000 ms ± 0.001 ms of the manager's, intervals widened by that"
    assert bound in ended.document["clocks"] and bound in ended.err
    assert "Clock of client-1: clock +50.000 ms" in (here / "page.html").read_text()


def test_files_that_are_named_win(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """Then the manager is not asked."""
    (here / "mine.jsonl").write_bytes(history("client-0"))
    job.scheduler.histories[12] = [sent("../evil", b"")]
    ended = ctl("report", "12", "--json", "--history", "mine.jsonl")
    assert (ended.code, ended.document["operations"]) == (0, 1), ended.err


def test_fetch_lays_them_down_by_client(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """As they were handed over."""
    ended = ctl("fetch", "12", "store")
    assert ended.code == 0, ended.err
    folder = here / "store" / "job-12"
    assert (folder / "history/client-0/history.jsonl").read_bytes() == history("client-0", ahead=0)
    assert (folder / "history/client-1/history-2.jsonl").exists()
    assert json.loads((folder / "results.json").read_text())["operations"] == 2


def test_a_stream_that_breaks_begins_anew(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """Nothing is there twice."""
    whole = job.scheduler.histories[12][0]
    job.scheduler.histories[12] = [[*whole[:1], None], [*whole[:3], None], whole]
    ended = ctl("fetch", "12", "store")
    assert ended.code == 0, ended.err
    data = (here / "store/job-12/history/client-0/history.jsonl").read_bytes()
    assert data == history("client-0", ahead=0)


@pytest.mark.parametrize(
    ("pieces", "said", "operations"),
    [
        (sent("client-0", b"no history\n"), "no JSON", 0),
        (sent("client-0", history("client-0"), sha256=""), "was not handed over whole", 1),
        (
            [*sent("client-0", history("client-0")), *sent("client-1", history("client-1", "b"))],
            "one time",
            0,
        ),
        ([], "", 0),
    ],
)
def test_what_cannot_be_used_is_said_and_left_out(
    ctl: Ctl,
    job: FakeManager,
    here: Path,
    pieces: list[scheduler.ReadHistoriesResponse],
    said: str,
    operations: int,
) -> None:
    """A report is made all the same: students write what is in a history."""
    job.scheduler.histories[12] = [pieces]
    ended = ctl("report", "12", "--json")
    assert ended.code == 0, ended.err
    assert said in ended.err
    assert (ended.document["operations"] or 0) == operations


@pytest.mark.parametrize(("task", "name"), [("../evil", "history"), ("client-0", "../evil"), ("", "\0")])
def test_a_name_that_leads_elsewhere_is_refused(
    ctl: Ctl, job: FakeManager, here: Path, task: str, name: str
) -> None:
    """Nothing is written."""
    job.scheduler.histories[12] = [sent(task, history("client-0"), name)]
    ended = ctl("fetch", "12", "store")
    assert ended.code != 0 and "the manager tells of a history" in ended.err
    assert not list(here.rglob("*.jsonl"))
