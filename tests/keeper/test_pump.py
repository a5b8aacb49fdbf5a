"""The thread that reads the tasks' output."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.volunteer.clock import Clock
from syndicate.volunteer.keeper.logs import LogStore
from syndicate.volunteer.keeper.pump import GATHER_NS, Capture, Pump
from syndicate.volunteer.local import LogPiece, LogStream, Stamp

SECONDS = 60.0


class CountingStore(LogStore):
    """A real store that keeps what it was given as well."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 1, "boot", 1 << 20, 0)
        self.given: list[LogPiece] = []
        self.grown = threading.Condition()

    def append(self, stream: LogStream, at: Stamp, data: bytes) -> None:
        """Take a piece, and tell who waits for it."""
        super().append(stream, at, data)
        with self.grown:
            self.given.append(LogPiece(0, stream, at, data))
            self.grown.notify_all()

    def wait_for(self, size: int) -> None:
        """Until so many bytes were given."""
        with self.grown:
            enough = self.grown.wait_for(lambda: self.size() >= size, SECONDS)
        assert enough

    def size(self) -> int:
        """Bytes given so far."""
        return sum(len(piece.data) for piece in self.given)


class Task:
    """What a task has of its pipes, and what became of its output."""

    def __init__(self, pump: Pump, folder: Path) -> None:
        self.store = CountingStore(folder)
        self.ended = threading.Event()
        readable, self.stdout = os.pipe()
        readable_too, self.stderr = os.pipe()
        self.capture = Capture(self.store, lambda: None, self.ended.set)
        pump.attach(self.capture, readable, readable_too)

    def close(self) -> None:
        """The task has ended."""
        os.close(self.stdout)
        os.close(self.stderr)


@pytest.fixture
def pump() -> Iterator[Pump]:
    """A pump that runs."""
    running = Pump(Clock())
    running.open()
    yield running
    running.close()


@pytest.fixture
def task(pump: Pump, tmp_path: Path) -> Iterator[Task]:
    """A task whose output the pump reads."""
    one = Task(pump, tmp_path)
    yield one
    pump.detach(one.capture)
    one.store.close()


def test_single_bytes_are_gathered(task: Task) -> None:
    """A task that writes byte by byte to both streams makes few pieces, and loses nothing."""
    began = time.monotonic_ns()
    for _ in range(20_000):
        os.write(task.stdout, b"o")
        os.write(task.stderr, b"e")
    task.store.wait_for(40_000)
    rounds = (time.monotonic_ns() - began) // GATHER_NS + 1
    task.close()

    assert task.ended.wait(SECONDS)
    # A round follows a look at both pipes; or, after a silence, a first piece and then a look at both.
    assert len(task.store.given) <= 3 * rounds + 4
    for stream, letter in ((LogStream.STDOUT, b"o"), (LogStream.STDERR, b"e")):
        assert b"".join(p.data for p in task.store.given if p.stream is stream) == letter * 20_000


def test_the_first_output_after_a_silence_is_not_held_back(task: Task) -> None:
    """A burst ends in the pump's waiting for the pipe, so what comes next is read when it is written."""
    for _ in range(100):
        os.write(task.stdout, b"x")
    task.store.wait_for(100)
    waits: list[int] = []
    deadline = time.monotonic() + SECONDS
    # On a busy machine it may be late; where it is held back it is late each time.
    while min(waits, default=GATHER_NS) >= GATHER_NS // 2 and time.monotonic() < deadline:
        threading.Event().wait(4 * GATHER_NS / 1e9)
        began = time.monotonic_ns()
        os.write(task.stdout, b"y")
        task.store.wait_for(101 + len(waits))
        waits.append(time.monotonic_ns() - began)
    task.close()

    assert min(waits) < GATHER_NS // 2
    assert task.ended.wait(SECONDS)


def test_a_task_that_ends_while_its_output_is_gathered_is_read_to_its_end(task: Task) -> None:
    """The last words and both pipes' ends are seen."""
    for _ in range(1000):
        os.write(task.stdout, b"x")
    os.write(task.stdout, b"last words")
    task.close()

    assert task.ended.wait(SECONDS)
    assert b"".join(piece.data for piece in task.store.given) == b"x" * 1000 + b"last words"


def test_what_is_there_is_taken_as_a_task_is_let_go(tmp_path: Path) -> None:
    """By a pump that had no turn: the last output of a task that has ended waits in its pipes."""
    idle = Pump(Clock())
    late = Task(idle, tmp_path)
    os.write(late.stdout, b"last words")
    os.write(late.stderr, b"and the reason")

    idle.detach(late.capture)

    assert {(piece.stream, piece.data) for piece in late.store.given} == {
        (LogStream.STDOUT, b"last words"),
        (LogStream.STDERR, b"and the reason"),
    }
    late.close()
    late.store.close()
    idle.open()
    idle.close()


def test_a_task_is_let_go_while_its_output_is_gathered(pump: Pump, tmp_path: Path) -> None:
    """Whenever a task is detached, the pump goes on with the others."""
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        gone = Task(pump, folder)
        for _ in range(50 * number):
            os.write(gone.stdout, b"x")
        pump.detach(gone.capture)
        gone.close()
        gone.store.close()
    (tmp_path / "other").mkdir()
    other = Task(pump, tmp_path / "other")
    os.write(other.stderr, b"still here")
    other.store.wait_for(10)
    other.close()

    assert other.ended.wait(SECONDS)
    other.store.close()
