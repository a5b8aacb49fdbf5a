"""SchedulerClient against a manager in this process."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from syndicate.client_api import (
    NoSuchJob,
    NoSuchNode,
    NotAuthenticated,
    SchedulerClient,
    Source,
    SourceRefused,
    TooLarge,
    Unreachable,
    _upload,
    pack,
)
from syndicate.client_api._presence import Presence
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.fake_scheduler import TOKEN, FakeManager, ended_job, log, queued_job, running_job
from tests.support.terminal import Valve


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    with FakeManager() as fake:
        yield fake


@pytest.fixture
def client(manager: FakeManager) -> Iterator[SchedulerClient]:
    with SchedulerClient(manager.address, TOKEN, connect_for=60.0, insecure=True) as connected:
        yield connected


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """About 3 MB that do not compress."""
    (tmp_path / "Makefile").write_text("master slave:\n")
    (tmp_path / "noise").write_bytes(os.urandom(3_000_000))
    with pack(tmp_path) as packed:
        yield packed


def test_a_source_is_sent_in_chunks(
    client: SchedulerClient, manager: FakeManager, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes arrive, the progress is told, and the second time nothing is sent."""
    told: list[tuple[int, int]] = []
    uploaded = client.upload(source, lambda sent, size: told.append((sent, size)))
    assert manager.scheduler.known[source.sha256] == b"".join(source.chunks(1 << 20))
    assert (uploaded.already_known, uploaded.sent_bytes) == (False, source.size)
    assert told[-1] == (source.size, source.size)
    monkeypatch.setattr(_upload, "_EARLY_ANSWER_S", 60.0)  # however long the manager takes to say so
    again = client.upload(source)
    assert (again.already_known, again.sent_bytes) == (True, 0)


def test_a_refused_upload_stops(client: SchedulerClient, manager: FakeManager, source: Source) -> None:
    """A refusal after the header ends the sending early."""
    manager.scheduler.upload_error = (grpc.StatusCode.RESOURCE_EXHAUSTED, "SOURCE_TOO_LARGE", "too large")
    told: list[int] = []
    with pytest.raises(SourceRefused) as caught:
        client.upload(source, lambda sent, size: told.append(sent))
    assert caught.value.reason == "SOURCE_TOO_LARGE"
    assert max(told, default=0) < source.size


def test_an_upload_that_is_refused_on_the_way_stops(
    client: SchedulerClient, manager: FakeManager, tmp_path: Path
) -> None:
    """A refusal in the middle of the stream ends the sending there, and is the error."""
    (tmp_path / "Makefile").write_text("master slave:\n")
    (tmp_path / "noise").write_bytes(os.urandom(40_000_000))
    manager.scheduler.upload_cap = 1_000_000
    told = [0]
    with pack(tmp_path, 1 << 30) as large, pytest.raises(SourceRefused, match="more than 1000000 bytes"):
        client.upload(large, lambda sent, size: told.append(sent))
    assert told[-1] < 30_000_000


def test_a_manager_that_starts_is_tried_again(client: SchedulerClient, manager: FakeManager) -> None:
    """UNAVAILABLE is tried again, a mutation under its request id."""
    manager.scheduler.unavailable = 2
    assert client.submit(scheduler.JobSpec(machines=1)) == 12
    assert len(manager.scheduler.submitted) == 1


def test_a_manager_that_is_not_there() -> None:
    """Nobody at the address: who, why and how long, after `connect_for` seconds."""
    with SchedulerClient("127.0.0.1:1", TOKEN, connect_for=0.3, insecure=True) as client:
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"no manager at 127\.0\.0\.1:1 \(connection refused") as caught:
            client.cluster()
        assert 0.2 < time.monotonic() - started < 20
    assert (caught.value.address, caught.value.cause) == ("127.0.0.1:1", "connection refused")


def test_a_host_that_there_is_not() -> None:
    """A name that leads nowhere is told as such."""
    with (
        SchedulerClient("no-such-host.invalid:7000", TOKEN, connect_for=0.1) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.cluster()
    assert caught.value.cause == "no such host"


def test_refusals_are_typed(client: SchedulerClient, manager: FakeManager) -> None:
    """Reasons become errors with the server's metadata."""
    with pytest.raises(NoSuchJob, match="no job 99"):
        client.job(99)
    with pytest.raises(NoSuchNode):
        client.drain("nobody")
    too_large = (grpc.StatusCode.FAILED_PRECONDITION, "TOO_LARGE", "no", {"largest_machines": "8"})
    manager.scheduler.submit_error = too_large
    with pytest.raises(TooLarge) as caught:
        client.submit(scheduler.JobSpec(machines=99))
    assert caught.value.metadata == {"largest_machines": "8"}


def test_a_wrong_token_and_none(manager: FakeManager) -> None:
    """Both are refused; one that cannot be sent is refused here."""
    for token in ("wrong", ""):
        with (
            SchedulerClient(manager.address, token, insecure=True) as client,
            pytest.raises(NotAuthenticated),
        ):
            client.cluster()
    with pytest.raises(NotAuthenticated):
        SchedulerClient(manager.address, "line\nbreak", insecure=True)


def test_lists_go_through_all_pages(client: SchedulerClient, manager: FakeManager) -> None:
    """A list is an iterator over all pages."""
    manager.scheduler.jobs = {number: ended_job(number) for number in range(1, 8)}
    assert [job.job_id for job in client.jobs()] == [7, 6, 5, 4, 3, 2, 1]
    assert [node.volunteer_id for node in client.nodes()] == ["node-a"]


def test_a_watch_survives_a_break(client: SchedulerClient, manager: FakeManager) -> None:
    """A watch that breaks is opened again and goes on until the job has ended."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.watches[12] = [[queued_job(), None], [None], [running_job(), ended_job()]]
    states = [answer.job.state for answer in client.watch(12)]
    assert states == [queued_job().state, running_job().state, ended_job().state]


def test_an_answer_may_be_larger_than_grpc_expects(client: SchedulerClient, manager: FakeManager) -> None:
    """A job with as many faults as its ledger takes can be shown."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.jobs[12].faults.extend([ended_job().faults[0]] * 100_000)
    assert len(client.job(12).faults) == 100_004


def test_a_log_is_resumed_without_repeats(client: SchedulerClient, manager: FakeManager) -> None:
    """After a break, known pieces are left out, also where they are cut otherwise the second time."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [
        [log("master", 0, b"aa", 1.0), log("slave-0", 0, b"xx", 1.1), log("master", 2, b"bb", 2.0), None],
        [log("master", 0, b"aabb", 2.0), log("slave-0", 0, b"xx", 1.1), log("slave-0", 2, b"yy", 3.0)],
    ]
    pieces = [(answer.task, answer.piece.data) for answer in client.logs(12, follow=True)]
    assert pieces == [("master", b"aa"), ("slave-0", b"xx"), ("master", b"bb"), ("slave-0", b"yy")]


def test_a_log_of_a_new_attempt_is_not_a_repeat(client: SchedulerClient, manager: FakeManager) -> None:
    """A job that was requeued during the break counts its output from 0 again, and all of it is given."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [
        [log("master", 0, b"first try\n", 1.0), None],
        [log("master", 0, b"again\n", 9.0)],
    ]
    assert [answer.piece.data for answer in client.logs(12, follow=True)] == [b"first try\n", b"again\n"]


def test_a_break_is_told_once_and_its_end_too(manager: FakeManager) -> None:
    """Two streams lose the manager: who listens hears of it at once, and once that it is back."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.watches[12] = [[running_job(), None], [running_job(), ended_job()]]
    told: list[str] = []
    with SchedulerClient(
        manager.address,
        TOKEN,
        on_away=lambda error, seconds: told.append(error.cause if error else "back"),
        insecure=True,
    ) as client:
        assert [answer.job.state for answer in client.watch(12)][-1] == ended_job().state
    assert told == ["connection lost", "back"]


def test_a_log_that_says_nothing_tells_that_the_manager_is_back(manager: FakeManager) -> None:
    """That a stream was taken again is known before its first answer."""
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.logs[12] = [[log("master", 0, b"a", 1.0), None]]
    manager.scheduler.quiet_logs = True
    told: list[str] = []
    back = threading.Event()

    def on_away(error: Unreachable | None, seconds: float) -> None:
        told.append("away" if error else "back")
        if error is None:
            back.set()

    client = SchedulerClient(manager.address, TOKEN, on_away=on_away, insecure=True)
    reader = threading.Thread(target=_read_all, args=(client,))
    reader.start()
    assert back.wait(60)
    client.close()
    reader.join(60)
    assert told == ["away", "back"]


def _read_all(client: SchedulerClient) -> None:
    with contextlib.suppress(Exception):  # how it ends is grpc's
        for _ in client.logs(12, follow=True):
            pass


def test_presence_is_told_once_for_several_calls() -> None:
    """The first call that misses the manager tells, the last that finds it; one that gave up is silent."""
    told: list[str] = []
    presence = Presence(lambda error, seconds: told.append("away" if error else "back"))
    error = Unreachable("a:1", "connection refused", 0.0)
    for call in ("watch", "logs", "gone"):
        presence.lost(call, error, 60.0)
    presence.found("watch")
    presence.gave_up("gone")
    assert told == ["away"]
    presence.found("logs")
    presence.found("logs")
    assert told == ["away", "back"]


def test_who_is_told_of_a_late_answer_may_call_meanwhile() -> None:
    """Also by the same client, from where it is told."""
    called = threading.Event()

    def tell(is_late: bool) -> None:
        presence.asks("another")
        presence.gave_up("another")
        called.set()

    presence = Presence(None, tell, late_s=0.01)
    presence.asks("one")
    assert called.wait(60)
    presence.close()


def test_a_late_answer_is_told_until_no_call_waits() -> None:
    """Once for several calls, from when they have waited for a while; what was quick is not told at all."""
    told: list[bool] = []
    late = threading.Event()

    def tell(is_late: bool) -> None:
        told.append(is_late)
        late.set()

    quick = Presence(None, tell, late_s=60.0)
    quick.asks("jobs")
    quick.gave_up("jobs")
    slow = Presence(None, tell, late_s=0.01)
    for call in ("watch", "logs"):
        slow.asks(call)
    assert late.wait(60)
    slow.found("watch")
    assert told == [True]
    slow.gave_up("logs")
    slow.found("logs")
    assert told == [True, False]


def test_closing_tells_that_no_call_waits(manager: FakeManager) -> None:
    """Also where a stream hangs in another thread, as after Ctrl-C: what comes next stands alone."""
    told: list[bool] = []
    late = threading.Event()

    def tell(is_late: bool) -> None:
        told.append(is_late)
        late.set()

    with Valve(manager.address, 0) as way:
        client = SchedulerClient(way.address, TOKEN, insecure=True, on_late=tell)
        reader = threading.Thread(target=_read_all, args=(client,))
        reader.start()
        assert late.wait(60)
        client.close()
        assert told == [True, False]
        reader.join(60)


def test_closing_ends_a_watch_in_another_thread(manager: FakeManager) -> None:
    """A client that is closed lets no thread hang."""
    manager.scheduler.jobs[12] = running_job()
    client = SchedulerClient(manager.address, TOKEN, insecure=True)
    seen = threading.Event()

    def watch() -> None:
        with contextlib.suppress(Exception):  # how it ends is grpc's; that it ends is the point
            for _ in client.watch(12):
                seen.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert seen.wait(60)
    client.close()
    thread.join(60)
    assert not thread.is_alive()
