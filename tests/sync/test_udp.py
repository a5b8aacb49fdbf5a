"""UDP with our own client, also through a network that loses, doubles and reorders."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from syndicate.client_api import sync, sync_ways, sync_wire
from syndicate.volunteer.sync.doors import Keepalive, opened
from syndicate.volunteer.sync.log import Log
from syndicate.volunteer.sync.notices import Document
from syndicate.volunteer.sync.owner import Owner
from syndicate.volunteer.sync.server import Bounds, Server

from tests.sync.clients import WAIT_S, init, request, waiter
from tests.sync.daemon import Daemon, daemon, free_port
from tests.sync.relay import Relay


def place(port: int) -> str:
    """A server on this machine."""
    return f"127.0.0.1:{port}"


def test_all_go_on_when_the_last_has_come(server: Daemon) -> None:
    """With the largest error, as over TCP."""
    with ThreadPoolExecutor() as pool:
        first = pool.submit(sync.wait, "u", error=4, udp=True, server=place(server.port))
        second = pool.submit(sync.init, 2, "u", udp=True, server=place(server.port))
        assert sync.wait("u", udp=True, server=place(server.port)) == 4
        assert (first.result(WAIT_S), second.result(WAIT_S)) == (4, 4)


def test_tcp_and_udp_meet_at_one_barrier(server: Daemon) -> None:
    """It is the same barrier."""
    client = init(server.port, 1)
    assert sync.wait("b", udp=True, server=place(server.port)) == 0
    assert client.answer() == 0


# A server of its own for each bad network: it goes on telling those whose acknowledgements were lost, for
# seconds, at ports that sockets of later tests may have.
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bad_network_loses_and_doubles_nobody(seed: int) -> None:
    """Three rounds of ten waiters; each is counted once, and all pass all rounds."""
    names = [f"round-{number}" for number in range(3)]
    with daemon() as server, Relay(server.port, seed, drop=0.3, double=0.3, hold_s=0.1) as relay:
        where = place(relay.port)

        def member(number: int) -> list[int]:
            if number:
                return [sync.wait(name, error=number, udp=True, server=where) for name in names]
            return [sync.init(10, name, udp=True, server=where) for name in names]

        with ThreadPoolExecutor(11) as pool:
            passed = list(pool.map(member, range(11), timeout=60))
        assert passed == [[10, 10, 10]] * 11
        assert relay.lost > 10 and relay.doubled > 10
        assert server.listed() == []
        counted = [each["event"] for each in server.events if each.get("barrier") in names]
    assert counted.count("came") == 30 and counted.count("opened") == 3 and counted.count("left") == 0


def test_no_wait_counts_once_over_a_bad_network() -> None:
    """An init that is answered at once, and asked again for."""
    with daemon() as server, Relay(server.port, 7, drop=0.4, double=0.4, hold_s=0.05) as relay:
        for _ in range(5):
            assert sync.init(1, "n", no_wait=True, udp=True, server=place(relay.port)) == 0
        assert server.listed()[0]["held"] == 5


def test_a_time_out_is_the_servers(server: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It un-counts the waiter, and says so."""
    monkeypatch.setattr(sync_ways, "_GRACE_S", WAIT_S)  # a server may stand still for a second
    with pytest.raises(sync.TimedOut):
        sync.wait("u", timeout=0.2, udp=True, server=place(server.port))
    assert server.until("left")["why"] == "timed out"


def test_a_time_out_without_a_server_is_the_clients() -> None:
    """A little later."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(sync.TimedOut):
            sync.wait("u", timeout=0.1, udp=True, server=place(silent.getsockname()[1]))


def test_a_server_that_comes_later_is_found(server: Daemon) -> None:
    """Requests to nobody are asked again for, also where the kernel says that nobody listens."""
    port = free_port()
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(sync.wait("u", timeout=WAIT_S, udp=True, server=place(port)))
    )
    thread.start()
    with socket.socket(type=socket.SOCK_DGRAM) as late:
        late.bind(("127.0.0.1", port))
        late.settimeout(WAIT_S)
        data, peer = late.recvfrom(256)
        _, _, _, request_id, _ = struct.unpack_from("=2sBBQI", data, 48)
        late.sendto(struct.pack("=2sBBQi", b"\xb5S", 1, 2, request_id, 9), peer)
        thread.join(WAIT_S)
    assert answers == [9]


def test_replies_about_something_else_are_ignored() -> None:
    """Other ids, other sizes, other bytes."""
    with socket.socket(type=socket.SOCK_DGRAM) as strange, ThreadPoolExecutor() as pool:
        strange.bind(("127.0.0.1", 0))
        strange.settimeout(WAIT_S)
        port: int = strange.getsockname()[1]
        waiting = pool.submit(sync.wait, "u", timeout=WAIT_S, udp=True, server=place(port))
        data, peer = strange.recvfrom(256)
        _, _, _, request_id, _ = struct.unpack_from("=2sBBQI", data, 48)
        for reply in (
            b"", b"x" * 16, struct.pack("=i", 3), struct.pack("=2sBBQi", b"\xb5S", 1, 2, request_id ^ 1, 5),
            struct.pack("=2sBBQi", b"\xb5S", 2, 2, request_id, 5),
            struct.pack("=2sBBQi", b"\xb5S", 1, 9, request_id, 5),
            struct.pack("=2sBBQi", b"\xb5S", 1, 2, request_id, 0),
        ):  # fmt: skip
            strange.sendto(reply, peer)
        assert waiting.result(WAIT_S) == 0


def test_the_original_client_is_answered_at_the_port_it_sent_from(server: Daemon) -> None:
    """Its server answered at the wrong one; a copy of its packet counts nothing."""
    with socket.socket(type=socket.SOCK_DGRAM) as plain:
        plain.settimeout(WAIT_S)
        plain.connect(server.address)
        plain.send(request())
        plain.send(request())
        server.until("came", remaining=-1)
        assert init(server.port, 1).answer() == 0
        assert plain.recv(64) == bytes(4)


def test_garbage_over_udp_is_told_and_counts_nothing(server: Daemon) -> None:
    """Of any size."""
    with socket.socket(type=socket.SOCK_DGRAM) as plain:
        plain.connect(server.address)
        for garbage in (b"", b"x", request() + b"x", bytes(60_000)):
            plain.send(garbage)
            assert "instead of 76" in server.until("refused")["why"]
    assert server.listed() == []


def test_a_refusal_is_told_over_udp(server: Daemon) -> None:
    """A count that overflows."""
    full = init(server.port, 2**31 - 1)
    server.until("init")
    with pytest.raises(sync.NoAnswer, match="refused"):
        sync.init(1, "b", udp=True, server=place(server.port))
    full.close()
    server.until("left")


def test_hup_reaches_those_who_wait_over_udp(server: Daemon) -> None:
    """As all others."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sync.wait, "u", udp=True, server=place(server.port))
        server.until("came")
        server.ask("drop")
        with pytest.raises(sync.Dropped):
            waiting.result(WAIT_S)


def test_waiters_over_udp_have_no_bound_of_descriptors(server: Daemon) -> None:
    """A thousand from one socket each take none of the server's."""
    base = server.descriptors()
    with socket.socket(type=socket.SOCK_DGRAM) as many:
        many.settimeout(WAIT_S)
        many.connect(server.address)
        for number in range(1_000):
            many.send(sync_wire.packed(sync.checked("m"), number, 0, None))
            assert len(many.recv(64)) == 16
        assert server.listed()[0]["remaining"] == -1_000 and server.descriptors() == base
        last = waiter(server.port, name=b"m")
        assert init(server.port, 1_001, name=b"m").answer() == last.answer() == 0
        # One socket has no room for a thousand answers at once: what is lost comes again.
        left = set(range(1_000))
        while left:
            *_, about, value = struct.unpack("=2sBBQi", many.recv(64))
            assert value == 0
            left.discard(about)
            many.send(sync_wire.packed(sync.checked("m"), about, sync_wire.ACKNOWLEDGE, None))


def test_two_who_are_silent_at_once_end_no_server() -> None:
    """One leaves, and the other, who is due in the same turn of the clock, is to be told of it."""
    told = asyncio.run(silent_together(("init", "came", "left", "abandoned", "left")))
    assert [each.get("why") for each in told] == [None, None, "lost", None, "abandoned"]


async def silent_together(events: tuple[str, ...]) -> list[Document]:
    """What a server in this process tells of two that ask in one moment and say no more.

    Raises what breaks the server.
    """
    loop = asyncio.get_running_loop()
    broken = loop.create_future()
    loop.set_exception_handler(lambda _, context: broken.set_exception(context["exception"]))
    doors = opened("127.0.0.1", 0, Keepalive())
    mine, theirs = socket.socketpair()
    server = Server(doors, Bounds(100, silence_s=0.2), Log(lambda _: None, verbose=False))
    owner = Owner(theirs, server.answer, lambda: None)
    server.tell(owner)
    reading, writing = await asyncio.open_connection(sock=mine)
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.connect(("127.0.0.1", doors.port))
            silent.send(sync_wire.packed(sync.checked("b", count=5), 1, sync_wire.ABANDON, None))
            silent.send(sync_wire.packed(sync.checked("b"), 2, 0, None))
            told: list[Document] = []
            async with asyncio.timeout(WAIT_S):
                for event in events:
                    line = asyncio.ensure_future(reading.readline())
                    await asyncio.wait([line, broken], return_when=asyncio.FIRST_COMPLETED)
                    if broken.done():
                        broken.result()
                    told.append(json.loads(await line))
                    assert told[-1]["event"] == event
            return told
    finally:
        server.stop()
        owner.stop()
        writing.close()
        doors.close()
