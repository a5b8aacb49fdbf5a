"""A client in C that knows the documented protocol and nothing of ours."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syndicate.client_api import sync

from tests.sync.daemon import WAIT_S, Daemon

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, compiled."""
    target = tmp_path_factory.mktemp("original") / "original"
    source = Path(__file__).with_name("original.c")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", target, source], check=True, timeout=60)
    return target


@pytest.fixture
def start(program: Path, server: Daemon) -> Iterator[Start]:
    """Starts a client of the server; ends those that a test leaves."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        count: int = 0, error: int = 0, flags: int = 0, name: str = "barrier", way: str = "tcp"
    ) -> subprocess.Popen[bytes]:
        words = [str(server.port), way, name, str(count), str(error), str(flags)]
        started.append(subprocess.Popen([program, *words]))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(WAIT_S)


def statuses(*clients: subprocess.Popen[bytes]) -> list[int]:
    """The exit status of each."""
    return [client.wait(WAIT_S) for client in clients]


def test_init_and_wait_in_either_order(start: Start, server: Daemon) -> None:
    """The waiter first, and the init first."""
    early = start()
    server.until("came", remaining=-1)
    assert statuses(start(1), early) == [0, 0]
    first = start(1)
    server.until("init", remaining=1)
    assert statuses(start(), first) == [0, 0]


def test_init_without_waiting(start: Start, server: Daemon) -> None:
    """Waiters before and after it."""
    before = start()
    server.until("came")
    assert statuses(start(3, flags=1)) == [0]
    assert statuses(before, start(), start()) == [0, 0, 0]


def test_the_largest_error_is_everybodys_exit_status(start: Start) -> None:
    """From 0 to 239."""
    assert statuses(start(2, 10), start(0, 239), start()) == [239, 239, 239]


def test_hup_ends_all_with_240(start: Start, server: Daemon) -> None:
    """And the barrier works again afterwards."""
    clients = start(5), start(), start(0, 7, name="other")
    for _ in clients:
        server.next_of("came", "init")
    server.signal(signal.SIGHUP)
    assert statuses(*clients) == [240, 240, 240]
    assert statuses(start(1), start()) == [0, 0]


def test_a_killed_client_is_uncounted(start: Start, server: Daemon) -> None:
    """As if it had never called."""
    lost = start()
    server.until("came")
    lost.kill()
    server.until("left", remaining=0)
    assert statuses(start(1), start()) == [0, 0]


def test_a_request_that_is_refused_is_a_failure_of_the_protocol(start: Start) -> None:
    """76, as where the connection breaks."""
    assert statuses(start(-1), start(0, 240)) == [76, 76]


def test_its_udp_works_here(start: Start, server: Daemon) -> None:
    """With its own server it never did: that answers at a port of its own choice."""
    waiting = start(way="udp", error=3)
    server.until("came")
    assert statuses(start(1), waiting) == [3, 3]


def test_it_meets_our_own_client(start: Start, server: Daemon) -> None:
    """At one barrier, over both ways."""
    clients = start(3, name="mixed"), start(name="mixed")
    server.until("came", barrier="mixed")
    server.until_listed("mixed", remaining=2)
    place = f"127.0.0.1:{server.port}"
    other = start(name="mixed", error=5)
    assert sync.wait("mixed", server=place, udp=True) == 5
    assert statuses(*clients, other) == [5, 5, 5]
