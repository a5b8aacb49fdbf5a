"""The Redis example's client, against real servers, and its reading of the protocol."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from redis_pair import Pair
from redischeck import plan as plan_of_redis
from redischeck.judge import judge
from redischeck.plan import Plan, UndecidedError
from redischeck.resp import ANSWER_S, Redis, RedisError, Reply, SilentError
from syndicate.client_api import Fault
from syndicate.client_api.checkers import Answer
from syndicate.client_api.history import History, read
from syndicate.client_api.testing import FakeChaos


def test_the_counterexample_is_the_stale_read_and_nothing_else(tmp_path: Path) -> None:
    """Old value, new value at the primary, old value again from the replica that was cut off."""
    said: list[str] = []
    with Pair(tmp_path, "127.78.1") as pair, History(tmp_path / "history.jsonl") as history:
        names = {pair.master: "master", pair.slaves[0]: "slave-0"}
        chaos = FakeChaos(job=pair)
        # The cut lasts half a millisecond here: of several answers the one that says most exactly when it is.
        history.set_clock(min((chaos.ping() for _ in range(20)), key=lambda pong: pong.clock.error_ns))
        plan = Plan(chaos, names, history, said.append)

        plan.run()

    recorded = read(history.path)
    verdict = judge(recorded.operations, plan.windows(chaos.faults(), recorded))
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
    assert verdict.parts["tested"].answer is Answer.TRUE

    # As in a replay whose cut came and went before the client asked for it: nothing was done under it.
    earlier = [shifted(fault, -60) for fault in chaos.faults()]
    verdict = judge(recorded.operations, plan.windows(earlier, recorded))
    assert verdict.parts["tested"].answer is Answer.UNKNOWN


def shifted(fault: Fault, seconds: int) -> Fault:
    """A line of the ledger at another time."""
    applied, healed = (
        stamp and replace(stamp, monotonic_ns=stamp.monotonic_ns + seconds * 10**9)
        for stamp in (fault.applied_at_manager, fault.healed_at_manager)
    )
    return replace(fault, applied_at_manager=applied, healed_at_manager=healed)


def test_a_call_that_the_replayed_job_had_not_is_undecided(tmp_path: Path) -> None:
    """With the manager's sentence, and no traceback."""
    chaos = FakeChaos(members=["127.78.4.1", "127.78.4.2"])
    text = "this job replays job 12, and there is no DISCONNECT of slave-0 left there: nothing was done"
    chaos.job.fail_next("Disconnect", "NOT_IN_REPLAY", text)
    with History(tmp_path / "history.jsonl") as history:
        plan = Plan(chaos, {"127.78.4.1": "master", "127.78.4.2": "slave-0"}, history, print, Obeying)
        with pytest.raises(UndecidedError, match=text):
            plan.run()


class Obeying(Redis):
    """A server that is linked and has all that was ever written."""

    kept: ClassVar[dict[str, str]] = {}

    def call(self, *words: str | int, seconds: float = 2.0) -> Reply:
        """PING, GET and SET."""
        if words[0] == "SET":
            self.kept[str(words[1])] = str(words[2])
        return self.kept.get(str(words[1])) if words[0] == "GET" else "PONG"

    def info(self, section: str, seconds: float = 2.0) -> dict[str, str]:
        """Of a replica that has everything."""
        return {"master_link_status": "up", "master_replid": "x", "slave_repl_offset": "0"} | {
            "master_repl_offset": "0"
        }


class Silent(Redis):
    """A server that takes commands and never tells what it has."""

    waits: ClassVar[list[float]] = []

    def call(self, *words: str | int, seconds: float = ANSWER_S) -> Reply:
        """No answer to INFO, in no time."""
        if words[0] == "INFO":
            self.waits.append(seconds)
            raise SilentError("no answer")
        return "PONG"


def test_a_silent_server_is_waited_for_until_the_deadline_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked again and again has a short time for its answer; after a standstill it is asked still."""
    monkeypatch.setattr(plan_of_redis, "DEADLINE_S", 0.0)  # as of a client that stood still meanwhile
    Silent.waits.clear()
    names = {"127.78.5.1": "master", "127.78.5.2": "slave-0"}
    with History(tmp_path / "history.jsonl") as history:
        plan = Plan(FakeChaos(members=list(names)), names, history, print, Silent)
        with pytest.raises(UndecidedError, match="waited for every replica to be linked"):
            plan.run()

    assert Silent.waits == [plan_of_redis.LOOK_S] * plan_of_redis.LEAST_TRIES
    assert plan_of_redis.LOOK_S < ANSWER_S / 10


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
            with sock, suppress(OSError):  # the client may have given up
                sock.recv(1 << 16)
                for byte in answer:
                    sock.sendall(bytes([byte]))
                sock.recv(1)  # until the client closes

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        client = Redis("127.78.3.1", listener.getsockname()[1])
        yield client
        client.close()
        thread.join(timeout=60)


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
        assert client.call("PING", seconds=60.0) == reply


def test_a_refusal_is_an_error_with_the_servers_text() -> None:
    """An error reply is raised with what the server said."""
    with _server(b"-READONLY You can't write\r\n") as client, pytest.raises(RedisError, match="READONLY"):
        client.call("SET", "a", 1, seconds=60.0)


def test_silence_ends_with_the_deadline() -> None:
    """A server that stops in the middle of a reply does not hold the client."""
    with _server(b"$5\r\nab") as client, pytest.raises(SilentError, match="timed out"):
        client.call("GET", "a", seconds=0.2)
