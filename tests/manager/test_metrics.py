"""What a manager that runs tells Prometheus: scraped over HTTP, read with the OpenMetrics parser."""

from __future__ import annotations

import asyncio
import filecmp
import json
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.manager.rpc import PortInUse
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.people import until
from tests.manager.scripted import WAIT_S, bearer, stamp
from tests.support.metrics import families, offences, scrape, value

ROOT = Path(__file__).resolve().parents[2]


def metrics_of(manager: Running) -> str:
    """Where the manager says that it serves them."""
    return str(json.loads((manager.state_dir / "manager.ready").read_text())["metrics"])


async def seen(manager: Running) -> dict[str, Any]:
    """All its metrics, by name."""
    text, _ = await asyncio.to_thread(scrape, metrics_of(manager))
    return families(text)


async def test_a_jobs_way_is_in_the_metrics(start: Start) -> None:
    """It counts as submitted, waits, is reserved, started, killed and released, and ends in one state."""
    async with (
        start(metrics_listen="127.0.0.1:0") as manager,
        manager.volunteer().attached() as volunteer,
    ):
        began = time.monotonic()
        job_id = await manager.submit(machines=2)
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)
        during = await seen(manager)
        for task in ("master", "slave-0"):
            volunteer.exit(volunteer.task(task))
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        after, took_s = await seen(manager), time.monotonic() - began

    assert value(during, "syndicate_manager_slots", state="used") == 2
    assert value(during, "syndicate_manager_slots", state="free") == 2
    assert value(during, "syndicate_manager_streams", peer="volunteer") == 1
    assert value(after, "syndicate_manager_submissions_total") == 1
    assert value(after, "syndicate_manager_jobs_ended_total", state="succeeded") == 1
    assert value(after, "syndicate_manager_queue_wait_seconds_count") == 1
    for phase in ("reserve", "start", "release"):
        assert value(after, "syndicate_manager_gang_phase_seconds_count", phase=phase) == 1
        assert 0 < value(after, "syndicate_manager_gang_phase_seconds_sum", phase=phase) < took_s
    assert value(after, "syndicate_manager_store_commit_seconds_count") > 0
    assert value(after, "process_resident_memory_bytes") > 10 << 20


async def test_waiting_jobs_are_told_apart_by_what_they_wait_for(start: Start) -> None:
    """The first lacks slots, the one behind it its turn."""
    async with (
        start(metrics_listen="127.0.0.1:0") as manager,
        manager.volunteer(slots=2).attached() as volunteer,
    ):
        await manager.submit(machines=2)
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)
        await manager.submit(machines=2)
        await manager.submit(machines=1)
        found = await seen(manager)

    assert value(found, "syndicate_manager_jobs", state="queued") == 2
    assert value(found, "syndicate_manager_queued_jobs", reason="slots") == 1
    assert value(found, "syndicate_manager_queued_jobs", reason="turn") == 1
    assert value(found, "syndicate_manager_queue_longest_wait_seconds", reason="slots") > 0


async def test_denials_are_counted_by_reason_and_never_by_a_users_text(start: Start) -> None:
    """A wrong token is one kind, whatever it was and whatever was asked."""
    async with start(metrics_listen="127.0.0.1:0") as manager:
        for number in range(5):
            with pytest.raises(grpc.aio.AioRpcError):
                await manager.scheduler.GetJob(
                    scheduler.GetJobRequest(job_id=number),
                    metadata=bearer(f"secret-{number}"),
                    timeout=WAIT_S,
                )
        text, _ = await asyncio.to_thread(scrape, metrics_of(manager))

    samples = [
        one for one in families(text)["syndicate_manager_denials"].samples if one.name.endswith("total")
    ]
    assert [one.value for one in samples] == [5]
    assert "secret-" not in text


async def test_log_bytes_are_counted(start: Start) -> None:
    """What came, and what the limit took before it came."""
    async with (
        start(metrics_listen="127.0.0.1:0") as manager,
        manager.volunteer().attached() as volunteer,
    ):
        await manager.submit()
        await volunteer.until(lambda: len(volunteer.commands("start")) == 1)
        piece = common.LogPiece(offset=7, data=b"hello", dropped_before=7, read_at=stamp())
        volunteer.say(log=registry.LogChunk(task=volunteer.task("master"), piece=piece))
        await volunteer.until(lambda: any(m.HasField("log_ack") for m in volunteer.told))
        found = await seen(manager)

    assert value(found, "syndicate_manager_log_bytes_total", outcome="received") == 5
    assert value(found, "syndicate_manager_log_bytes_total", outcome="dropped") == 7


async def test_names_labels_and_texts_keep_to_the_conventions(start: Start) -> None:
    """All of them, as a job has left them."""
    async with (
        start(metrics_listen="127.0.0.1:0") as manager,
        manager.volunteer(exit_at_start=True).attached(),
    ):
        job_id = await manager.submit()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED, common.JOB_STATE_FAILED)
        found = await seen(manager)

    assert len(found) > 20
    assert offences(found.values()) == []


async def test_the_form_is_what_the_scraper_takes(start: Start) -> None:
    """OpenMetrics where it is asked for, Prometheus's own text otherwise."""
    async with start(metrics_listen="127.0.0.1:0") as manager:
        address = metrics_of(manager)
        open_text, open_type = await asyncio.to_thread(scrape, address)
        plain_text, plain_type = await asyncio.to_thread(scrape, address, "*/*")

    assert open_type.startswith("application/openmetrics-text; version=1.0.0")
    assert open_text.endswith("# EOF\n")
    assert plain_type.startswith("text/plain") and "# EOF" not in plain_text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_scrape_is_refused(start: Start, sent: bytes, status: bytes) -> None:
    """With the status that says why, and the next scrape is served."""
    async with start(metrics_listen="127.0.0.1:0") as manager:
        host, port = metrics_of(manager).split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        async with asyncio.timeout(WAIT_S):
            line = await reader.readline()
        writer.close()
        found = await seen(manager)

    assert line.split()[1] == status
    assert found


async def test_beyond_a_few_at_once_scrapes_are_put_off(start: Start, monkeypatch: Any) -> None:
    """The answer is 503, until one of the others has gone."""
    monkeypatch.setattr("syndicate.manager.metrics.exposition.DEADLINE_S", WAIT_S)
    async with start(metrics_listen="127.0.0.1:0") as manager:
        address = metrics_of(manager)
        host, port = address.split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(scrape, address)
        refused.value.close()
        for _, writer in silent:
            writer.close()

        async def served() -> Any:
            try:
                return await seen(manager)
            except urllib.error.HTTPError as error:  # it has not seen yet that they are gone
                error.close()
                return None

        assert await until(served)

    assert refused.value.code == 503


async def test_those_who_say_nothing_keep_nobody_out_for_long(start: Start, monkeypatch: Any) -> None:
    """Those that are silent are ended, and others are served."""
    async with start(metrics_listen="127.0.0.1:0") as manager:
        host, port = metrics_of(manager).split(":")
        with monkeypatch.context() as quick:
            quick.setattr("syndicate.manager.metrics.exposition.DEADLINE_S", 0.1)
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
            async with asyncio.timeout(WAIT_S):
                for reader, writer in silent:
                    assert await reader.read() == b""
                    writer.close()
        assert await seen(manager)


async def test_nothing_is_served_counted_or_loaded_unless_it_is_asked_for(manager: Running) -> None:
    """The default: no listener, no address in the ready file."""
    assert "metrics" not in json.loads((manager.state_dir / "manager.ready").read_text())


async def test_an_address_that_is_taken_is_told_in_one_line(start: Start) -> None:
    """It names the option."""
    async with start(metrics_listen="127.0.0.1:0") as manager:
        with pytest.raises(PortInUse, match="--metrics-listen"):
            async with start(
                metrics_listen=metrics_of(manager), state_dir=manager.state_dir.parent / "other"
            ):
                raise AssertionError("it started")


def test_manager_and_volunteer_serve_alike() -> None:
    """They share no module, so this one stands twice: word for word."""
    one, other = (
        ROOT / f"{part}/syndicate/{part}/metrics/exposition.py" for part in ("manager", "volunteer")
    )
    assert filecmp.cmp(one, other, shallow=False)


def test_without_metrics_the_library_is_not_loaded() -> None:
    """It would cost each daemon memory."""
    for part in ("manager", "volunteer"):
        code = f"import sys, syndicate.{part}.app; print('prometheus_client' in sys.modules)"
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert said.stdout.strip() == "False"
