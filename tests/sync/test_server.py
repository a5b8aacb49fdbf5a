"""A server in a process of its own, over TCP."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.volunteer.sync import tcp
from syndicate.volunteer.sync.descriptors import raise_limit
from syndicate.volunteer.sync.doors import Keepalive, opened
from syndicate.volunteer.sync.log import Log
from syndicate.volunteer.sync.server import Bounds, Server
from syndicate.volunteer.sync.tcp import Connection, Tcp

from tests.sync.clients import INIT, WAIT, Client, cut_off, init, request, waiter
from tests.sync.daemon import WAIT_S, Daemon, daemon

# What fails here would only be printed, and the server be as impatient as ever.
_PATIENCE = f"""
import os, traceback
try:
    from syndicate.volunteer.sync import tcp
    assert tcp.READ_DEADLINE_S == 5.0
    tcp.READ_DEADLINE_S = {WAIT_S}
    from syndicate.volunteer.sync.server import Bounds
    assert Bounds(descriptors=100).read_deadline_s == {WAIT_S}
except BaseException:
    traceback.print_exc()
    os._exit(1)
"""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Daemon]:
    """A server that waits a minute for a request: whoever has connected may stand still before it asks."""
    (tmp_path / "sitecustomize.py").write_text(_PATIENCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with daemon() as made:
        yield made


def test_all_go_on_when_the_last_has_come(server: Daemon) -> None:
    """Each is answered the largest error, and its connection is ended."""
    one, two, three = init(server.port, 2, 10), waiter(server.port, 30), waiter(server.port)
    assert [each.answer() for each in (one, two, three)] == [30, 30, 30]


def test_an_init_that_does_not_wait_is_answered_at_once(server: Daemon) -> None:
    """The others open the barrier without it."""
    assert Client(server.port, request(INIT, 1, flags=1)).answer() == 0
    assert waiter(server.port).answer() == 0


def test_a_request_may_come_in_pieces(server: Daemon) -> None:
    """Byte by byte; what comes after it is nobody's."""
    piecemeal = Client(server.port)
    piecemeal.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in request(WAIT):
        piecemeal.socket.send(bytes([byte]))
    server.until("came")
    piecemeal.socket.sendall(b"and more")
    assert init(server.port, 1).answer() == 0 and piecemeal.answer() == 0


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_waiter_that_goes_away_is_uncounted(server: Daemon, how: str) -> None:
    """Whether it says so or not."""
    lost = waiter(server.port)
    server.until("came")
    getattr(lost, how)()
    left = server.until("left")
    assert (left["why"], left["remaining"]) == ("closed" if how == "close" else "lost", 0)
    one, two = init(server.port, 1), waiter(server.port)
    assert (one.answer(), two.answer()) == (0, 0)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_is_gone_before_the_next_one_comes_opens_nothing(server: Daemon, how: str) -> None:
    """Its request may be heard with its end, or after it: it is no member of what comes later."""
    for _ in range(50):
        getattr(waiter(server.port), how)()
    last = init(server.port, 1)
    server.until("init")
    assert server.listed()[0]["remaining"] == 1
    assert waiter(server.port).answer() == 0 and last.answer() == 0


def test_an_init_without_waiting_counts_though_its_client_is_gone(server: Daemon) -> None:
    """It has no owner who could leave: whether its end is heard with it or after it is chance."""
    for _ in range(50):
        Client(server.port, request(INIT, 1, flags=1)).close()
    for _ in range(50):
        server.until("init")
    assert server.listed()[0]["held"] == 50


def test_who_initialised_without_waiting_is_listed(server: Daemon) -> None:
    """By its task, with all that it added; it is not missing."""
    for count in (1, 3):
        assert Client(server.port, request(INIT, count, flags=1), "127.0.0.2").answer() == 0
    (listed,) = server.listed()
    assert (listed["held"], listed["holders"], listed["owners"]) == (4, {"slave-0": 4}, {})
    assert (listed["remaining"], listed["missing"]) == (4, ["slave-1"])


def test_a_client_may_end_its_side_where_it_does_not_wait(server: Daemon) -> None:
    """And is answered; one that waits is as gone, and so is half a request."""
    alone = request(name=b"alone")
    for data, answer in ((request(INIT, 1, flags=1), 0), (alone, None), (alone[:40], None)):
        client = Client(server.port, data)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer() == answer
    assert [(each["barrier"], each["remaining"]) for each in server.listed()] == [("b", 1)]


def test_a_waiter_that_is_cut_off_is_uncounted() -> None:
    """Its machine answers no probe: the server takes it for gone after a while, here two seconds."""
    with daemon("--keepalive", "1") as server:
        lost = waiter(server.port)
        server.until("came")
        cut_off(lost.socket)
        left = server.until("left")
        assert (left["why"], left["remaining"]) == ("lost", 0)
        lost.close()


def test_half_a_request_stalls_nobody_and_neither_do_a_thousand_silent(patient: Daemon) -> None:
    """Others are served all the while."""
    assert raise_limit() > 1_100
    base = patient.descriptors()
    half = Client(patient.port, request()[:40])
    silent = [Client(patient.port) for _ in range(1_000)]
    one, two = init(patient.port, 1), waiter(patient.port)
    assert (one.answer(), two.answer()) == (0, 0)
    assert patient.descriptors() - base == 1_001
    for each in (half, *silent):
        each.close()
    assert_descriptors(patient, base)


def test_who_does_not_ask_is_given_up(server: Daemon) -> None:
    """After five seconds, with half a request or nothing."""
    base = server.descriptors()
    begin = time.monotonic()
    half = Client(server.port, request()[:40])
    silent = [Client(server.port) for _ in range(100)]
    assert half.answer() is None
    assert 4 < time.monotonic() - begin < WAIT_S
    assert all(each.answer() is None for each in silent)
    assert_descriptors(server, base)


def test_requests_may_come_long_after_their_connections(patient: Daemon) -> None:
    """Two thousand connect first, and then ask: until its time is over nobody is too late."""
    assert raise_limit() > 2_100
    clients = [Client(patient.port) for _ in range(2_000)]
    first = init(patient.port, 2_000)
    for client in clients:
        client.socket.sendall(request())
    assert first.answer() == 0 and all(each.answer() == 0 for each in clients)


async def test_who_asked_in_time_is_heard_however_late_the_server_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after it had no processor for seconds: here its turns do not come to the requests before that."""
    monkeypatch.setattr(Tcp, "_turn", lambda _: 0)
    doors = opened("127.0.0.1", 0, Keepalive())
    one, two = init(doors.port, 1), waiter(doors.port)
    server = Server(doors, Bounds(100, read_deadline_s=0.1), Log(lambda _: None, verbose=False))
    try:
        answers = await asyncio.gather(asyncio.to_thread(one.answer), asyncio.to_thread(two.answer))
    finally:
        server.stop()
        doors.close()
    assert answers == [0, 0]


async def test_who_asked_and_left_before_the_server_looks_is_heard_with_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many they are: here five, and two of them in one turn."""
    monkeypatch.setattr(tcp, "_EVENTS", 2)
    doors = opened("127.0.0.1", 0, Keepalive())
    heard: list[bool] = []

    def arrived(connection: Connection, _: bytes, ended: bool) -> None:
        heard.append(ended)
        if ended:
            standing.close(connection)

    standing = Tcp(doors.tcp, 100, arrived, lambda *_: None, lambda _: None, read_deadline_s=WAIT_S)
    clients = [Client(doors.port) for _ in range(5)]
    try:
        # All of it in one turn of the loop.
        while len(standing) < len(clients):
            assert select.select([doors.tcp], [], [], WAIT_S)[0]
            standing._accept()
        for client in clients:
            client.socket.sendall(request())
            client.close()
        for connection in standing._standing.values():
            ends = select.poll()
            ends.register(connection.socket, select.POLLRDHUP)
            assert ends.poll(WAIT_S * 1000)
        standing._idle.update(dict.fromkeys(standing._idle, 0.0))
        standing._too_late()
    finally:
        standing.stop()
        doors.close()
    assert heard == [True] * 5


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n".ljust(76, b"x"), "neither init nor wait"),
        (b"\xff" * 1000, "neither init nor wait"),
        (request(INIT, 0), "an init of 0 waiters"),
        (request(INIT, -(2**31)), "an init of -2147483648 waiters"),
        (request(WAIT, error=240), "error 240"),
        (bytes(76), "neither init nor wait"),
    ],
)
def test_what_makes_no_sense_ends_without_an_answer(server: Daemon, data: bytes, why: str) -> None:
    """Which the original client takes for a failure of the protocol; the owner is told."""
    assert Client(server.port, data).answer() is None
    told = server.until("refused")
    assert why in told["why"] and told["task"] == "127.0.0.1"


def test_counts_that_overflow_are_refused(server: Daemon) -> None:
    """What stood stands."""
    first = init(server.port, 2**31 - 1)
    server.until("init")
    assert init(server.port, 1).answer() is None
    assert server.listed()[0]["remaining"] == 2**31 - 1
    first.close()


def test_a_name_of_64_bytes_without_a_nul_is_one_of_63(server: Daemon) -> None:
    """And a barrier like any other."""
    one, two = init(server.port, 1, name=b"n" * 64), waiter(server.port, name=b"n" * 63)
    assert (one.answer(), two.answer()) == (0, 0)


def test_a_waiter_that_never_stops_talking_is_ended(server: Daemon) -> None:
    """After 64 KiB that nobody asked for."""
    loud = waiter(server.port)
    with pytest.raises(ConnectionError):
        loud.socket.sendall(bytes(16 << 20))
    loud.close()
    assert server.until("left")["remaining"] == 0


def test_random_bytes_are_harmless(server: Daemon) -> None:
    """Of a seed that is told; connections end in any state."""
    seed = int.from_bytes(os.urandom(4), "little")
    chance = random.Random(seed)
    base = server.descriptors()
    for _ in range(300):
        client = Client(server.port, chance.randbytes(chance.randrange(200)))
        if chance.random() < 0.3:
            client.reset()
        else:
            client.close()
    one, two = init(server.port, 1, name=b"after"), waiter(server.port, name=b"after")
    assert (one.answer(), two.answer()) == (0, 0), f"seed {seed}"
    server.ask("drop")
    assert_descriptors(server, base)


def test_waiters_are_known_as_tasks_by_their_addresses(server: Daemon) -> None:
    """In all that is told, and in the list, which also says who is missing."""
    one = init(server.port, 2, source="127.0.0.1")
    server.until("init", task="127.0.0.1", count=2, waits=True)
    two = waiter(server.port, source="127.0.0.2")
    server.until("came", task="slave-0", remaining=1)
    assert server.listed() == [
        {
            "barrier": "b",
            "state": "counting",
            "remaining": 1,
            "held": 0,
            "holders": {},
            "owners": {"127.0.0.1": 2},
            "waiters": {"slave-0": 1},
            "missing": ["slave-1"],
        }
    ]
    three = waiter(server.port, error=3, source="127.0.0.3")
    opened = server.until("opened")
    assert (opened["error"], opened["tasks"]) == (3, {"127.0.0.1": 1, "slave-0": 1, "slave-1": 1})
    assert [each.answer() for each in (one, two, three)] == [3, 3, 3]


def test_the_owner_may_name_the_tasks_later() -> None:
    """A server may stand ready before its job is known."""
    with daemon() as server:
        server.say(b'{"ask": "members", "members": {"127.0.0.1": "master"}}\n')
        assert server.until("members")["members"] == {"127.0.0.1": "master"}
        with_name = waiter(server.port)
        assert server.until("came")["task"] == "master"
        with_name.close()


def test_an_owner_that_says_no_lines_is_none() -> None:
    """After 64 KiB without an end of line the server ends, as when the owner is gone."""
    with daemon() as server:
        client = waiter(server.port)
        server.until("came")
        server.say(b"x" * 70_000)
        assert server.process.wait(WAIT_S) == 0
        assert client.answer() is None


def test_what_is_told_carries_the_time_of_the_boot_clock(server: Daemon) -> None:
    """In nanoseconds, so that it stands on the job's time line."""
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    client = waiter(server.port)
    told = server.until("came")
    assert before < told["at_ns"] < time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    client.close()
    server.until("left")


def test_no_descriptor_is_left_behind(server: Daemon) -> None:
    """After connections that ended in every way."""
    base = server.descriptors()
    for number in range(20):
        opened = [init(server.port, 2), waiter(server.port), waiter(server.port)]
        assert [each.answer() for each in opened] == [0, 0, 0]
        Client(server.port, b"x" * number).close()
        waiter(server.port).reset()
        assert Client(server.port, bytes(76)).answer() is None
    assert_descriptors(server, base)


def assert_descriptors(server: Daemon, base: int) -> None:
    """The server has no more files open than before, soon."""
    deadline = time.monotonic() + WAIT_S
    while server.descriptors() > base and time.monotonic() < deadline:
        server.listed()  # its answer comes after all that it has heard before
    assert server.descriptors() == base


def test_what_the_owner_says_may_be_nonsense(server: Daemon) -> None:
    """It is told so."""
    for nonsense in (b"x\n", b"[]\n", b'{"ask": 1}\n', b'{"ask": "members", "members": 1}\n', b"\xff\n"):
        server.say(nonsense)
        server.until("not-understood")


def test_the_server_ends_with_its_owner() -> None:
    """Nobody else would end it."""
    with daemon() as server:
        client = waiter(server.port)
        server.until("came")
        server.hang_up()
        assert server.process.wait(WAIT_S) == 0
        assert client.answer() is None


def test_an_owner_that_does_not_read_stops_nobody() -> None:
    """What it missed is counted, and told when it reads again."""
    with daemon() as server:
        for _ in range(6_000):
            one, two = init(server.port, 1, name=b"x" * 63), waiter(server.port, name=b"x" * 63)
            assert (one.answer(), two.answer()) == (0, 0)
        assert server.until("lost")["lines"] > 0
        assert server.listed() == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a' opened", "a\\x27 opened"),
        (b"a\\xff", "a\\x5cxff"),
        (b"a\xff", "a\\xff"),
        ("größe".encode(), "gr\\xc3\\xb6\\xc3\\x9fe"),
        ("\U0001fae8".encode(), "\\xf0\\x9f\\xab\\xa8"),
        (b"\x1b[2J~", "\\x1b[2J~"),
    ],
)
def test_names_are_told_in_printable_ascii(server: Daemon, name: bytes, shown: str) -> None:
    """No two alike, none that ends where it is quoted, and none that another version of Python minds."""
    waiting = waiter(server.port, name=name)
    assert server.until("came")["barrier"] == shown
    server.say(json.dumps({"ask": "drop", "barrier": shown}).encode() + b"\n")
    assert waiting.answer() == 240


def test_the_owner_may_also_drop_a_barrier_by_the_name_that_its_members_use(server: Daemon) -> None:
    """Where none is shown so."""
    waiting = waiter(server.port, name="größe".encode())
    server.until("came")
    server.say(json.dumps({"ask": "drop", "barrier": "größe"}).encode() + b"\n")
    assert waiting.answer() == 240


@pytest.mark.parametrize(("ask", "dropped"), [({"barrier": "c"}, 0), ({"barrier": "b"}, 1), ({}, 2)])
def test_the_owner_is_told_how_many_were_dropped(server: Daemon, ask: dict[str, str], dropped: int) -> None:
    """After each of them was told, with the number of the question; none of that name is 0."""
    waiting = waiter(server.port), waiter(server.port, name=b"other")
    for _ in waiting:
        server.until("came")
    server.events.clear()
    server.say(json.dumps({"ask": "drop", "number": 7, **ask}).encode() + b"\n")
    done = server.until("drop")
    assert (done["number"], done["dropped"]) == (7, dropped)
    assert sum(told["event"] == "dropped" for told in server.events) == dropped
    for each in waiting:
        each.close()


def test_the_owner_drops_one_barrier_by_the_name_that_it_was_told(server: Daemon) -> None:
    """Also where that is no text; who waits elsewhere waits on."""
    one, other = waiter(server.port, name=b"a\xff"), waiter(server.port, name=b"other")
    server.until_listed("other", -1)
    assert [each["barrier"] for each in server.listed()] == ["a\\xff", "other"]
    server.say(json.dumps({"ask": "drop", "barrier": "a\\xff"}).encode() + b"\n")
    server.until("dropped", barrier="a\\xff")
    assert server.until("drop")["dropped"] == 1
    assert one.answer() == 240
    assert [each["barrier"] for each in server.listed()] == ["other"]
    other.close()
    server.until("left")
