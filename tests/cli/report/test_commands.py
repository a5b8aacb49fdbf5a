"""``report`` and ``fetch``."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, ended_job, log, queued_job, running_job

HISTORY = (
    '{"syndicate_history":1,"boot_id":"boot-m","host":"client-0","task":"client-0","pid":7,'
    '"start_ns":1001000000000,"start_utc_ns":1750000001000000000}\n'
    '{"i":0,"t":0,"p":0,"f":"put","k":"x","v":1}\n{"ok":0,"t":2000000}\n'
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def job(manager: FakeManager) -> FakeManager:
    """A manager that has job 12, ended, with output."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [
        [
            log("master", 0, b"hello\n", 1.0),
            log("slave-0", 0, b"first\n", 2.0),
            log("slave-0", 0, b"again\n", 8.0, generation=2),
        ]
    ]
    return manager


def test_report_writes_a_page(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """By itself it is job-N.html, and what was written is said."""
    ended = ctl("report", "12")
    assert ended.code == 0, ended.err
    assert ended.out == ""
    assert ended.err.startswith("wrote      job-12.html  1.")
    assert "slave-0" in (here / "job-12.html").read_text()
    assert [path.name for path in here.iterdir()] == ["job-12.html"]


def test_report_takes_histories(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """Operations come from what the clients recorded."""
    (here / "history.jsonl").write_text(HISTORY)
    ended = ctl("report", "12", "--json", "--history", "history.jsonl")
    assert ended.code == 0, ended.err
    assert (ended.document["operations"], ended.document["latencies"][0]["kind"]) == (1, "put")


def test_report_for_programs_writes_no_page(
    ctl: Ctl, job: FakeManager, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JUnit's and Gradescope's files need no drawing library."""
    monkeypatch.setitem(sys.modules, "bokeh", None)
    ended = ctl("report", "12", "--junit", "junit.xml", "--gradescope", "results.json")
    assert ended.code == 0, ended.err
    assert ElementTree.parse(here / "junit.xml").getroot().get("tests") == "1"
    assert json.loads((here / "results.json").read_text())["score"] == 0.97
    assert not (here / "job-12.html").exists()


def test_report_without_the_extra_says_what_to_install(
    ctl: Ctl, job: FakeManager, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, the remedy, and nothing is written."""
    monkeypatch.delitem(sys.modules, "syndicate.cli.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setitem(sys.modules, "bokeh.document", None)
    ended = ctl("report", "12")
    assert ended.code == 71
    assert "pip install 'syndicate-cluster[cli,report]'" in ended.err
    assert list(here.iterdir()) == []


def test_report_into_a_pipe(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """What is no plain file is written to and never replaced."""
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        ended = ctl("report", "12", "--gradescope", "pipe")
        assert ended.code == 0, ended.err
        assert json.loads(os.read(reader, 65536))["score"] == 0.97
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_report_through_a_link(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """A link is written through: /dev/stdout is one to a file, where a shell redirects it."""
    (here / "behind").write_text("old")
    (here / "link").symlink_to("behind")
    assert ctl("report", "12", "--gradescope", "link").code == 0
    assert (here / "link").is_symlink()
    assert json.loads((here / "behind").read_text())["score"] == 0.97


def test_report_to_a_dash_names_the_way(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """No file of that name is made."""
    ended = ctl("report", "12", "--junit", "-")
    assert (ended.code, list(here.iterdir())) == (64, [])
    assert "/dev/stdout" in ended.err


def test_grade_of_a_replay_says_that_it_is_one(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """In the file and on the terminal: a replay is not the run that is graded."""
    job.scheduler.jobs[12].spec.replay_of = 9
    ended = ctl("report", "12", "--gradescope", "results.json")
    assert "replay     of job 9: a new run, not the one that is graded" in ended.err
    told = json.loads((here / "results.json").read_text())
    assert told["output"].startswith("This is a replay of job 9: a new run")
    assert told["extra_data"]["replay_of"] == 9


def test_report_of_a_running_job(ctl: Ctl, manager: FakeManager, here: Path) -> None:
    """As far as it has come; but there is no grade yet."""
    manager.scheduler.jobs[12] = running_job()
    assert ctl("report", "12").code == 0
    ended = ctl("report", "12", "--gradescope", "results.json")
    assert ended.code == 75
    assert "syndicatectl wait 12" in ended.err


def test_report_of_a_queued_job(ctl: Ctl, manager: FakeManager, here: Path) -> None:
    """There is a page, with nothing drawn."""
    manager.scheduler.jobs[12] = queued_job()
    ended = ctl("report", "12", "-o", "early.html")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("text", "said"), [("", "no header"), ("what", "history.jsonl:1"), (HISTORY + HISTORY[:40], "")]
)
def test_report_of_a_bad_history(ctl: Ctl, job: FakeManager, here: Path, text: str, said: str) -> None:
    """The error names file and line; a torn last line is none."""
    (here / "history.jsonl").write_text(text)
    ended = ctl("report", "12", "--json", "--history", "history.jsonl")
    assert ended.code == (64 if said else 0)
    assert said in ended.err


def test_report_that_cannot_be_written(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """73, and the name of the file."""
    ended = ctl("report", "12", "--junit", "no/such/folder.xml")
    assert ended.code == 73
    assert "no/such/folder.xml cannot be written" in ended.err


def test_fetch_lays_a_job_out(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """Job, faults, results, logs by task, histories, the report, and a link to the latest."""
    (here / "history.jsonl").write_text(HISTORY)
    ended = ctl("fetch", "12", "store", "--history", "history.jsonl")
    assert ended.code == 0, ended.err
    folder = here / "store" / "job-12"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "faults.json",
        "history/history.jsonl",
        "job.json",
        "logs/master.log",
        "logs/slave-0.log",
        "report.html",
        "results.json",
    ]
    assert (folder / "logs/slave-0.log").read_bytes() == b"first\n\n--- generation 2 ---\nagain\n"
    assert len(json.loads((folder / "faults.json").read_text())) == 4
    assert json.loads((folder / "results.json").read_text())["operations"] == 1
    assert os.readlink(here / "store" / "latest") == "job-12"


def test_fetch_keeps_what_is_there(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """A folder is replaced with --force only, and whole."""
    assert ctl("fetch", "12", "store").code == 0
    mine = here / "store" / "job-12" / "mine"
    mine.touch()
    refused = ctl("fetch", "12", "store")
    assert refused.code == 73
    assert "--force" in refused.err
    assert mine.exists()
    assert ctl("fetch", "12", "store", "--force").code == 0
    assert not mine.exists()
    assert sorted(os.listdir(here / "store")) == ["job-12", "latest"]


def test_fetch_that_fails_leaves_nothing(ctl: Ctl, job: FakeManager, here: Path) -> None:
    """A task that the job has not cannot name a file, and what was begun is taken away."""
    job.scheduler.logs[12] = [[log("../../evil", 0, b"x\n", 1.0)]]
    ended = ctl("fetch", "12", "store")
    assert ended.code == 70
    assert os.listdir(here / "store") == []


def test_fetch_without_the_extra_goes_without_the_page(
    ctl: Ctl, job: FakeManager, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is there, and what is missing is said."""
    monkeypatch.delitem(sys.modules, "syndicate.cli.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setitem(sys.modules, "bokeh.document", None)
    ended = ctl("fetch", "12", "store")
    assert ended.code == 0, ended.err
    assert "without report.html" in ended.err
    assert not (here / "store" / "job-12" / "report.html").exists()
