"""What an owner is told folded: one line a round, and a bounded account of any number of rounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from syndicate.client_api import sync
from syndicate.volunteer.sync.core.effects import (
    Abandoned,
    Came,
    Dropped,
    Initialised,
    Left,
    Opened,
    Refused,
    Room,
    TurnedAway,
)
from syndicate.volunteer.sync.core.events import Why
from syndicate.volunteer.sync.core.rounds import MOST_ROUNDS, MOST_TASKS, Account, RoundEnd, Rounds
from syndicate.volunteer.sync.doors import Keepalive, opened

from tests.sync.clients import init, waiter
from tests.sync.daemon import WAIT_S, Daemon, daemon

MASTER, SLAVE = "10.0.0.1", "10.0.0.2"


def a_round(rounds: Rounds, name: bytes, at_ns: int, error: int = 0) -> None:
    """An init by the master and one slave that comes."""
    rounds.take(Initialised(name, MASTER, 1, True, 1), at_ns)
    rounds.take(Came(name, SLAVE, 0), at_ns + 1)
    rounds.take(Opened(name, error, {MASTER: 1, SLAVE: 1}), at_ns + 1)


def test_a_round_is_one_line() -> None:
    """With when it began, who initialised it, and who was there when it opened."""
    rounds = Rounds()
    a_round(rounds, b"start", 10, error=3)
    (line,) = rounds.account(set(), 20).rounds
    assert (line.barrier, line.end, line.error) == (b"start", RoundEnd.OPENED, 3)
    assert (line.began_ns, line.ended_ns) == (10, 11)
    assert (line.inits, line.tasks) == ({MASTER: 1}, {MASTER: 1, SLAVE: 1})


def test_rounds_of_one_barrier_are_counted_in_one_line() -> None:
    """From the beginning of the first to the end of the last, with the largest error of all."""
    rounds = Rounds()
    for number in range(1000):
        a_round(rounds, b"b", 10 * number, error=number % 7)
    told = rounds.account(set(), 10_000)
    (line,) = told.rounds
    assert (line.rounds, line.began_ns, line.ended_ns, line.error) == (1000, 0, 9991, 6)
    assert (told.more, told.total) == (0, 1000)


def test_many_barriers_are_counted_without_a_line() -> None:
    """Beyond so many lines; the next account begins anew, the total goes on."""
    rounds = Rounds()
    for number in range(100):
        a_round(rounds, b"%d" % number, 0)
    told = rounds.account(set(), 1)
    assert (len(told.rounds), told.more, told.total) == (MOST_ROUNDS, 100 - MOST_ROUNDS, 100)
    assert rounds.account(set(), 2).rounds == ()
    assert rounds.account(set(), 2).total == 100


def test_so_many_tasks_are_named() -> None:
    """The others are counted."""
    rounds = Rounds()
    rounds.take(Opened(b"b", 0, {f"10.0.1.{number}": 2 for number in range(100)}), 1)
    (line,) = rounds.account(set(), 2).rounds
    assert (len(line.tasks), line.others) == (MOST_TASKS, 2 * (100 - MOST_TASKS))


def test_a_barrier_that_all_have_left_is_told() -> None:
    """Which no notice says: nothing is counted there any more."""
    rounds = Rounds()
    rounds.take(Came(b"b", SLAVE, -1), 1)
    assert rounds.account({b"b"}, 2).rounds == ()
    rounds.take(Left(b"b", SLAVE, Why.CLOSED, False, 0), 3)
    (line,) = rounds.account(set(), 4).rounds
    assert (line.end, line.tasks, line.left) == (RoundEnd.LEFT, {SLAVE: 1}, 1)


def test_an_abandoned_barrier_is_told_as_such() -> None:
    """Its init's owner left, and then those who waited."""
    rounds = Rounds()
    rounds.take(Initialised(b"b", MASTER, 2, True, 2), 1)
    rounds.take(Left(b"b", MASTER, Why.CLOSED, True, 0), 2)
    rounds.take(Abandoned(b"b", MASTER, 0), 2)
    (line,) = rounds.account(set(), 4).rounds
    assert line.end is RoundEnd.ABANDONED


def test_who_is_turned_away_from_an_abandoned_barrier_makes_no_round() -> None:
    """However often it comes: it was never counted, and there is nothing to tell."""
    rounds = Rounds()
    for _ in range(3):
        assert not rounds.take(TurnedAway(b"b", SLAVE), 1)
    assert rounds.account(set(), 2) == Account((), 0, 0)


def test_a_dropped_barrier_is_told_as_such() -> None:
    """With who waited."""
    rounds = Rounds()
    rounds.take(Came(b"b", SLAVE, -1), 1)
    rounds.take(Dropped(b"b", {SLAVE: 1}), 5)
    (line,) = rounds.account(set(), 6).rounds
    assert (line.end, line.tasks, line.began_ns, line.ended_ns) == (RoundEnd.DROPPED, {SLAVE: 1}, 1, 5)


def test_what_there_is_no_room_for_is_told_once() -> None:
    """Each kind; what is refused for another reason is none."""
    rounds = Rounds()
    for room in (Room.TCP, Room.UDP, None, Room.TCP):
        rounds.take(Refused(SLAVE, "many wait", room), 1)
    assert rounds.account(set(), 2).full == (Room.TCP, Room.UDP)
    rounds.take(Refused(SLAVE, "many wait", Room.TCP), 3)
    rounds.take(Refused(SLAVE, "many barriers", Room.BARRIERS), 3)
    assert rounds.account(set(), 4).full == (Room.BARRIERS,)


# ---- by a server ------------------------------------------------------------------------------------------


def handed(server: Daemon, **more: object) -> int:
    """The port at which a server that stood by serves now."""
    given = opened("127.0.0.1", 0, Keepalive())
    line = {"ask": "serve", "members": {"127.0.0.1": "master", "127.0.0.2": "slave-0"}, **more}
    server.hand_over(json.dumps(line).encode() + b"\n", given.tcp, given.udp)
    given.close()
    server.until("ready")
    return given.port


def test_a_server_tells_accounts_where_it_is_asked_to() -> None:
    """And no notices; what is open is in each account, with who is missing."""
    with daemon("--standby") as server:
        port = handed(server, fold_ms=20)
        waiting = waiter(port, name=b"start")
        told = server.until("rounds")
        assert [
            (each["barrier"], each["tasks"], each["missing"], each["remaining"]) for each in told["open"]
        ] == [("start", {"master": 1}, ["slave-0"], -1)]
        sync.init(1, "start", server=f"127.0.0.1:{port}")
        assert waiting.answer() == 0
        while not (told := server.until("rounds"))["rounds"]:
            pass
        (line,) = told["rounds"]
        assert (line["barrier"], line["end"], line["tasks"]) == ("start", "opened", {"master": 2})
        assert (told["open"], told["total"]) == ([], 1)
        assert {each["event"] for each in server.events} == {"ready", "rounds"}


def test_a_server_that_is_full_turns_the_next_one_away_and_tells_so() -> None:
    """As many may wait as it was told at its start; who waits stays."""
    with daemon("--standby", "--open-files", "66") as server:
        port = handed(server, fold_ms=20)
        assert (server.events[-1]["descriptors"], server.events[-1]["waiters"]) == (66, 2)
        waiting = [waiter(port) for _ in range(2)]
        while server.until("rounds")["open"][0]["remaining"] != -2:
            pass
        for _ in range(3):
            assert waiter(port).answer() is None
        while not (told := server.until("rounds"))["full"]:
            pass
        assert (told["full"], told["open"][0]["remaining"]) == (["tcp"], -2)
        waiting.pop().close()
        while server.until("rounds")["open"][0]["remaining"] != -1:
            pass
        assert sync.init(1, "b", server=f"127.0.0.1:{port}") == 0
        assert waiting.pop().answer() == 0
        assert sum(bool(event.get("full")) for event in server.events) == 1


def test_who_comes_to_an_abandoned_barrier_again_and_again_is_no_round() -> None:
    """It is told so each time, the round that was abandoned stays the only one."""
    with daemon("--standby") as server:
        port = handed(server, fold_ms=20)
        owner = init(port, 1)
        while not server.until("rounds")["open"]:
            pass
        owner.close()
        while not (told := server.until("rounds"))["rounds"]:
            pass
        assert [(each["end"], each["left"]) for each in told["rounds"]] == [("abandoned", 1)]
        for _ in range(3):
            with pytest.raises(sync.Abandoned):
                sync.wait("b", abandon=True, server=f"127.0.0.1:{port}")
        server.ask("rounds")
        told = server.until("rounds")
        assert (told["rounds"], told["total"], told["open"]) == ([], 1, [])


def test_an_account_comes_at_once_when_asked() -> None:
    """As before its end."""
    with daemon("--standby") as server:
        port = handed(server, fold_ms=60_000)
        waiting = waiter(port, name=b"b")
        sync.init(1, "b", server=f"127.0.0.1:{port}")
        assert waiting.answer() == 0
        server.ask("rounds")
        assert server.until("rounds")["total"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be shut in")
def test_a_server_that_is_shut_in_serves_and_reaches_nothing(tmp_path: Path) -> None:
    """Another user without a capability, in an empty root and a network of its own."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with daemon("--standby", "--shut-in", str(empty)) as server:
        port = handed(server, uid=54_321, fold_ms=20)
        waiting = waiter(port)
        assert sync.init(1, "b", server=f"127.0.0.1:{port}", udp=True, timeout=WAIT_S) == 0
        assert waiting.answer() == 0
        process = Path(f"/proc/{server.process.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        assert status["Uid"].split() == ["54321"] * 4 == status["Gid"].split()
        assert status["Groups"].strip() == ""
        assert (int(status["CapEff"], 16), int(status["CapPrm"], 16), status["NoNewPrivs"]) == (0, 0, "1")
        assert os.readlink(process / "root") == str(empty)
        assert os.readlink(process / "ns/net") != os.readlink("/proc/self/ns/net")
        assert "Max processes             0                    0" in (process / "limits").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be shut in")
@pytest.mark.parametrize("more", [{}, {"uid": 0}])
def test_a_server_that_is_shut_in_never_serves_as_root(tmp_path: Path, more: dict[str, int]) -> None:
    """A hand-over that names nobody else ends it."""
    with daemon("--standby", "--shut-in", str(tmp_path)) as server:
        given = opened("127.0.0.1", 0, Keepalive())
        line = json.dumps({"ask": "serve", "members": {}, **more}).encode() + b"\n"
        server.hand_over(line, given.tcp, given.udp)
        given.close()
        assert server.process.wait(WAIT_S) == 77
