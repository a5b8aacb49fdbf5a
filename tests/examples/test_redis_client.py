"""The Redis example's client, against real servers, and its reading of the protocol."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis_pair import Pair
from redischeck.judge import judge
from redischeck.plan import Plan, UndecidedError
from redischeck.resp import Redis, RedisError, SilentError
from syndicate.client_api.checkers import Answer
from syndicate.client_api.history import History, read
from syndicate.client_api.testing import FakeChaos


def test_the_counterexample_is_the_stale_read_and_nothing_else(tmp_path: Path) -> None:
    """Old value, new value at the primary, old value again from the replica that was cut off."""
    said: list[str] = []
    with Pair(tmp_path, "127.78.1") as pair, History(tmp_path / "history.jsonl") as history:
        names = {pair.master: "master", pair.slaves[0]: "slave-0"}
        plan = Plan(FakeChaos(job=pair), names, history, said.append)

        plan.run()

    verdict = judge(read(history.path).operations, plan.windows)
    assert verdict.answer is Answer.FALSE, said
    assert 'get stale returned "old" (process slave-0,' in verdict.reason
    assert 'after put stale "new" had been acknowledged' in verdict.reason
    shown = verdict.parts["linearizable"].counterexample
    assert [(one.process, one.kind, one.argument or one.result) for one in shown] == [
        ("master", "put", "old"),
        ("master", "put", "new"),
        ("slave-0", "get", "old"),
    ]
    assert verdict.metrics == {
        "operations": 7,
        "stale_reads": 1,
        "writes_lost_with_disk": 0,  # the append-only file has everything
        "lost_writes": 1,
    }


def test_without_a_replica_there_is_nothing_to_tell(tmp_path: Path) -> None:
    """A job of one machine is refused in one line that says what to do."""
    chaos = FakeChaos(members=["127.78.2.1"])

    with (
        History(tmp_path / "history.jsonl") as history,
        pytest.raises(UndecidedError, match="-n 2 or more"),
    ):
        Plan(chaos, {"127.78.2.1": "master"}, history, lambda _line: None)


@contextmanager
def _server(answer: bytes) -> Iterator[Redis]:
    """A server that answers whatever comes with the same bytes, one at a time, and then says nothing."""
    with socket.create_server(("127.78.3.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1 << 16)
                for byte in answer:
                    sock.sendall(bytes([byte]))
                sock.recv(1)  # until the client closes

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        client = Redis("127.78.3.1", listener.getsockname()[1])
        yield client
        client.close()
        thread.join(timeout=5)


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (b"+OK\r\n", "OK"),
        (b":42\r\n", 42),
        (b"$5\r\nhe\r\nx\r\n", "he\r\nx"),
        (b"$-1\r\n", None),
        (b"*2\r\n:1\r\n$1\r\na\r\n", [1, "a"]),
    ],
)
def test_replies_are_read(answer: bytes, reply: object) -> None:
    """Each kind of reply is understood, however it is cut into pieces."""
    with _server(answer) as client:
        assert client.call("PING") == reply


def test_a_refusal_is_an_error_with_the_servers_text() -> None:
    """An error reply is raised with what the server said."""
    with _server(b"-READONLY You can't write\r\n") as client, pytest.raises(RedisError, match="READONLY"):
        client.call("SET", "a", 1)


def test_silence_ends_with_the_deadline() -> None:
    """A server that stops in the middle of a reply does not hold the client."""
    with _server(b"$5\r\nab") as client, pytest.raises(SilentError, match="timed out"):
        client.call("GET", "a", seconds=0.2)
