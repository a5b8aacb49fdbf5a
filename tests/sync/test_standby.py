"""A server that stands by until its owner hands the sockets over."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from syndicate.client_api import sync
from syndicate.volunteer.keeper.network import in_namespace
from syndicate.volunteer.sync.doors import Doors, Keepalive, opened

from tests.sync.clients import WAIT_S, init, waiter
from tests.sync.daemon import daemon, free_port

SERVE = json.dumps({"ask": "serve", "members": {"127.0.0.1": "master"}}).encode() + b"\n"


def doors() -> Doors:
    """Sockets on loopback, made by the test."""
    return opened("127.0.0.1", 0, Keepalive())


def test_it_serves_at_the_sockets_that_it_is_given() -> None:
    """And names the tasks as it was told."""
    with daemon("--standby") as server:
        given = doors()
        server.hand_over(SERVE, given.tcp, given.udp)
        given.close()
        assert server.until("ready")["port"] == given.port
        one = waiter(given.port)
        assert server.until("came")["task"] == "master"
        assert sync.init(1, "b", udp=True, server=f"127.0.0.1:{given.port}") == 0
        assert one.answer() == 0


def test_it_serves_in_the_namespace_of_its_sockets() -> None:
    """Where nobody else reaches them; the process itself stays where it is."""
    line = ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        namespace = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        port = free_port()  # nobody listens there out here, nor is it given to a connection
        try:
            given = in_namespace(namespace, lambda: opened("127.0.0.1", port, Keepalive()))
            with daemon("--standby") as server:
                server.hand_over(SERVE, given.tcp, given.udp)
                given.close()
                server.until("ready")
                with pytest.raises(ConnectionRefusedError):
                    waiter(given.port)
                one, two = in_namespace(namespace, lambda: (waiter(given.port), init(given.port, 1)))
                assert (one.answer(), two.answer()) == (0, 0)
        finally:
            os.close(namespace)
            holder.kill()


def test_it_ends_with_its_owner() -> None:
    """Also while it stands by."""
    with daemon("--standby") as server:
        server.hang_up()
        assert server.process.wait(WAIT_S) == 0


@pytest.mark.parametrize(
    ("line", "sockets", "why"),
    [
        (b"x\n", 2, "no line of JSON came"),
        (b'{"ask": "drop"}\n', 2, "what came is no order to serve"),
        (SERVE, 1, "1 sockets came instead of two"),
        (SERVE, 0, "0 sockets came instead of two"),
    ],
)
def test_what_is_no_handover_ends_it(line: bytes, sockets: int, why: str) -> None:
    """With 76, and one line that says what came."""
    with daemon("--standby") as server:
        given = doors()
        server.hand_over(line, *(given.tcp, given.udp)[:sockets])
        given.close()
        assert server.process.wait(WAIT_S) == 76
        assert server.log() == f"error: {why}\n"


def test_standing_by_needs_an_owner() -> None:
    """Who else would hand anything over."""
    line = [sys.executable, "-P", "-m", "syndicate.volunteer.sync", "--standby"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 64 and "--owner" in done.stderr
