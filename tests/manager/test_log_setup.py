"""The manager's own log: its form, and the ids that its lines have."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from syndicate.manager.log_setup import Ids, configure, form_for
from syndicate.manager.rpc.scheduler import Scheduler
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Start
from tests.manager.scripted import WAIT_S


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """Structlog as it was before."""
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("wanted", "is_terminal", "form"),
    [
        ("auto", True, "console"),
        ("auto", False, "json"),
        ("json", True, "json"),
        ("console", False, "console"),
    ],
)
def test_the_form_follows_who_reads(wanted: Any, is_terminal: bool, form: str) -> None:
    """People at a terminal, or what keeps lines; and the operator's word before both."""
    assert form_for(wanted, is_terminal) == form


def test_each_line_has_the_managers_ids_unless_it_says_otherwise() -> None:
    """Also one of another thread, whose context is its own."""
    ids = Ids()
    assert ids(None, "info", {"event": "before"}) == {"event": "before"}
    ids.bind(cluster_id="c-1", epoch=3)

    assert ids(None, "info", {"event": "x", "epoch": 4}) == {"event": "x", "epoch": 4, "cluster_id": "c-1"}


@pytest.mark.usefixtures("unconfigured")
def test_an_error_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With the traceback in it, escaped."""
    configure("auto")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        structlog.get_logger().exception("rpc.failed", path=Path("/x"))

    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["path"]) == ("rpc.failed", "error", "/x")
    assert "Traceback" in told["exception"] and told["timestamp"].endswith("Z")


def lines_of(state: Path, *options: str, terminal: bool) -> str:
    """What a manager writes to standard error from its start to its end."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "syndicate.manager", "--state-dir", str(state), "--insecure"]
    ports = ["--listen-users", "127.0.0.1:0", "--listen-volunteers", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *ports, *options], stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline().startswith(b"ready")
        process.send_signal(signal.SIGTERM)
        text = b""
        try:
            while piece := os.read(reader, 65_536):
                text += piece
        except OSError:  # a terminal whose other end is closed says it so
            pass
        finally:
            os.close(reader)
        process.wait(WAIT_S)
    return text.decode()


def test_a_pipe_gets_json_with_the_ids_of_the_manager(tmp_path: Path) -> None:
    """Without an option, as under systemd."""
    lines = [json.loads(line) for line in lines_of(tmp_path, terminal=False).splitlines()]

    ready = next(line for line in lines if line["event"] == "manager.ready")
    stopping = next(line for line in lines if line["event"] == "manager.stopping")
    assert ready["epoch"] == stopping["epoch"] == 1
    assert stopping["cluster_id"].startswith("c-")


def test_a_terminal_gets_lines_for_people(tmp_path: Path) -> None:
    """The same command at a terminal."""
    text = lines_of(tmp_path, terminal=True)

    assert "manager.ready" in text and not text.lstrip().startswith("{")


async def test_a_jobs_lines_have_its_ids(start: Start) -> None:
    """That it started and ended, with job_id, attempt, owner and request_id."""
    with structlog.testing.capture_logs() as told:
        async with start() as manager, manager.volunteer(exit_at_start=True).attached():
            job_id = await manager.submit(request_id="11111111-2222-3333-4444-555555555555")
            await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED, common.JOB_STATE_FAILED)

    lines = {line["event"]: line for line in told if "job_id" in line}
    for event in ("job.started", "job.ended"):
        line = lines[event]
        assert (line["job_id"], line["attempt"], line["owner"]) == (job_id, 1, "admin")
        assert line["request_id"] == "11111111-2222-3333-4444-555555555555"


async def test_a_call_that_fails_is_told_with_what_it_named(start: Start, monkeypatch: Any) -> None:
    """And with the number that its caller was given."""

    async def wrong(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Scheduler, "CancelJob", wrong)
    with structlog.testing.capture_logs() as told:
        async with start() as manager:
            request = scheduler.CancelJobRequest(request_id="r" * 100, job_id=9)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await manager.scheduler.CancelJob(request, **manager.credentials)
            await asyncio.sleep(0)

    (line,) = (line for line in told if line["event"] == "rpc.failed")
    assert (line["job_id"], line["request_id"]) == (9, "r" * 64)
    assert line["incident"] in (failed.value.details() or "")
