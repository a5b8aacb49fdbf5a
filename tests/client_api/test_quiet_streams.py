"""Streams of SchedulerClient that say nothing for long: how their end is noticed, and what follows."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any, Self

import grpc
import pytest
from syndicate.client_api import SchedulerClient
from syndicate.client_api._retrying import Retrying
from syndicate.client_api._scheduler import _OPTIONS
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc

from tests.cli.fake_scheduler import ended_job, log, running_job

WAIT_S = 60.0


class Quiet(scheduler_pb2_grpc.SchedulerServicer):
    """A stream that is opened first says little or nothing until `over`, and breaks; the next ends well."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.openings = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.stop(None).wait(WAIT_S)

    def WatchJob(self, request: scheduler.WatchJobRequest, context: Any) -> Any:
        yield scheduler.WatchJobResponse(job=running_job())
        self._break_the_first(context)
        yield scheduler.WatchJobResponse(job=ended_job())

    def ReadLogs(self, request: scheduler.ReadLogsRequest, context: Any) -> Any:
        context.send_initial_metadata(())
        self._break_the_first(context)
        yield log("master", 0, b"a", 1.0)

    def _break_the_first(self, context: Any) -> None:
        self.openings += 1
        if self.openings == 1:
            self.over.wait(WAIT_S)
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


class Between:
    """Carries bytes between a client and a server; once dead, it keeps the connections and is silent."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._dead = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def die(self) -> None:
        """From here on nothing arrives, and nobody is told."""
        self._dead.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if not self._dead.is_set():
                    other.sendall(data)


@pytest.fixture
def quiet() -> Iterator[Quiet]:
    with Quiet() as served:
        yield served


@pytest.mark.parametrize("stream", ["watch", "logs"])
def test_a_stream_that_said_nothing_for_long_is_opened_again(
    quiet: Quiet, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to reconnect counts from the break, not from the last word before it."""
    opened, await_open = threading.Event(), Retrying._await_open

    def told_of(self: Retrying, key: object, call: Any) -> bool:
        stands = await_open(self, key, call)
        opened.set()
        return stands

    def break_it() -> None:
        opened.wait(WAIT_S)
        time.sleep(0.8)  # what there is to prove is that this is no matter
        quiet.over.set()

    # Broken before it stood, the stream would be one that could not be opened within the time.
    monkeypatch.setattr(Retrying, "_await_open", told_of)
    later = threading.Thread(target=break_it)
    later.start()
    with SchedulerClient(
        f"127.0.0.1:{quiet.port}", "", connect_for=0.4, reconnect_for=0.4, insecure=True
    ) as client:
        if stream == "watch":
            assert [answer.job.state for answer in client.watch(12)][-1] == ended_job().state
        else:
            assert [answer.piece.data for answer in client.logs(12, follow=True)] == [b"a"]
    later.join()
    assert quiet.openings == 2


def test_a_machine_that_died_is_noticed_behind_a_quiet_stream(
    quiet: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings go on while nothing is said, and one without an answer ends the stream: here 40 times sooner."""
    sooner = [
        (key, value // 40 if key.endswith(("keepalive_time_ms", "_timeout_ms")) else value)
        for key, value in _OPTIONS
    ]
    monkeypatch.setattr("syndicate.client_api._scheduler._OPTIONS", tuple(sooner))
    seen, lost = threading.Event(), threading.Event()
    with Between(quiet.port) as between:
        client = SchedulerClient(
            between.address, "", on_away=lambda error, seconds: lost.set(), insecure=True
        )

        def watch() -> None:
            with contextlib.suppress(Exception):  # how it ends is grpc's; that it does is the point
                for _ in client.watch(12):
                    seen.set()

        reader = threading.Thread(target=watch)
        reader.start()
        assert seen.wait(WAIT_S)
        between.die()
        noticed = lost.wait(WAIT_S)
        client.close()
        reader.join(WAIT_S)
    assert noticed
    assert not reader.is_alive()
