"""`syndicate-syncd` as a command: options, signals, log, background."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from syndicate.volunteer.sync.descriptors import raise_limit

from tests.sync.clients import Client, init, request, waiter
from tests.sync.daemon import WAIT_S, Daemon, daemon, free_port

LINE = [sys.executable, "-P", "-m", "syndicate.volunteer.sync"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The command until it ends."""
    return subprocess.run([*LINE, *words], capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_hup_drops_all_barriers_and_later_ones_work(server: Daemon) -> None:
    """Waiters and inits get 240, which is what emulab-sync ends with then."""
    one, two, three = waiter(server.port), init(server.port, 5), waiter(server.port, name=b"other")
    server.until("came", barrier="other")
    server.signal(signal.SIGHUP)
    assert [each.answer() for each in (one, two, three)] == [240, 240, 240]
    server.until("dropped", barrier="b")
    one, two = init(server.port, 1), waiter(server.port)
    assert (one.answer(), two.answer()) == (0, 0)


def test_usr1_and_usr2_turn_the_telling_on_and_off() -> None:
    """Without it the log has no barrier."""
    with daemon() as server:
        for name, number in ((b"first", None), (b"second", signal.SIGUSR1), (b"third", signal.SIGUSR2)):
            if number is not None:
                server.signal(number)
                server.until_logged(f"verbose on={number == signal.SIGUSR1}")
            one, two = init(server.port, 1, name=name), waiter(server.port, name=name)
            assert (one.answer(), two.answer()) == (0, 0)
        log = server.log()
    assert "opened barrier=second error=0 tasks=127.0.0.1:2" in log
    assert "barrier=first" not in log and "barrier=third" not in log


def test_what_peers_provoke_is_told_a_few_times_only() -> None:
    """And counted at the end, so that nobody fills the log."""
    with daemon() as server:
        for _ in range(50):
            assert Client(server.port, bytes(76)).answer() is None
        server.signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
        log = server.log()
    assert log.count(" refused ") == 20 and "log.held_back of=refused lines=30" in log


def test_term_ends_it_and_its_waiters() -> None:
    """With status 0, and without waiting for anybody."""
    with daemon() as server:
        client = waiter(server.port)
        server.until("came")
        server.signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
        assert client.answer() is None


def test_it_goes_to_the_background_once_it_listens(tmp_path: Path) -> None:
    """What was called ends then, says where and who, and the log is a file."""
    port, log = free_port(), tmp_path / "log"
    done = run("-p", str(port), "-v", "-l", str(log))
    said = re.fullmatch(
        rf"syndicate-syncd: port {port}, up to [\d,]+ waiters over TCP, process (\d+)\n", done.stdout
    )
    assert said is not None, done
    pid = int(said[1])
    try:
        assert os.getsid(pid) not in (os.getsid(0), pid)
        one, two = init(port, 1), waiter(port)
        assert (one.answer(), two.answer()) == (0, 0)
    finally:
        watch = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        gone(watch)
    assert "opened barrier=b" in log.read_text() and log.read_text().splitlines()[-1].endswith(" ended")


def gone(watch: int) -> None:
    """Wait for a process by its descriptor, and close that."""
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert poll.poll(WAIT_S * 1000)
    os.close(watch)


def test_the_background_may_have_no_log_file() -> None:
    """Then it is syslog's, whether there is one or not."""
    port = free_port()
    pid = int(run("-p", str(port)).stdout.split()[-1])
    watch = os.pidfd_open(pid)
    try:
        one, two = init(port, 1), waiter(port)
        assert (one.answer(), two.answer()) == (0, 0)
    finally:
        os.kill(pid, signal.SIGTERM)
        gone(watch)


def test_a_broken_server_ends_loudly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error that nobody expected, here in the machine, ends the process with 1; its owner hears why."""
    (tmp_path / "sitecustomize.py").write_text(
        "from syndicate.volunteer.sync.core import barriers\n"
        "def broken(self, event):\n    raise RuntimeError('it is broken')\n"
        "barriers.Barriers.handle = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with daemon() as server:
        assert waiter(server.port).answer() is None
        assert server.until("failed")["why"] == "RuntimeError('it is broken')"
        assert server.process.wait(WAIT_S) == 1
        assert "failed why=" in server.log() and "it is broken" in server.log()


def test_where_no_more_can_be_watched_the_newest_is_let_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel bounds what a user may watch: here it says so for the second connection."""
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, itertools, select, types\n"
        "from syndicate.volunteer.sync import tcp\n"
        "class Epoll:\n"
        "    def __init__(self):\n"
        "        self.real, self.times = select.epoll(), itertools.count()\n"
        "    def register(self, *what):\n"
        "        if next(self.times) == 1:\n"
        "            raise OSError(errno.ENOSPC, 'no space')\n"
        "        self.real.register(*what)\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(self.real, name)\n"
        "tcp.select = types.SimpleNamespace(**{**vars(select), 'epoll': Epoll})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with daemon() as server:
        first = waiter(server.port)
        server.until("came")
        assert waiter(server.port).answer() is None
        assert init(server.port, 1).answer() == first.answer() == 0


def test_in_the_foreground_it_tells_all_on_stderr() -> None:
    """With `-d`, where it stays."""
    port = free_port()
    process = subprocess.Popen([*LINE, "-d", "-p", str(port)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        client = waiter(port)
        assert "came barrier=b task=127.0.0.1 remaining=-1" in process.stderr.readline()
        client.close()
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and rest.splitlines()[-1].endswith(" ended")


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "foo"], ["-p", "-1"], ["-p", "0"], ["-p", "65536"], ["-p", "9" * 5000], ["-x"], ["more"],
        ["--address", "nowhere"], ["--keepalive", "0"], ["--owner", "x"], ["--member", "1.2.3.4"],
        ["--member", "x=y"], ["-p"], ["--open-files", "64"],
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_64(words: list[str]) -> None:
    """One line says what, the usage follows."""
    done = run("-d", *words)
    assert done.returncode == 64 and done.stderr.startswith("error: ") and "usage:" in done.stderr


@pytest.mark.parametrize(
    ("option", "says"), [("-h", "usage: syndicate-syncd"), ("-V", "syndicate-syncd: protocol")]
)
def test_help_and_version_are_told(option: str, says: str) -> None:
    """On standard output, with status 0."""
    done = run(option)
    assert done.returncode == 0 and done.stdout.startswith(says) and done.stderr == ""


def test_a_port_that_is_taken_is_told() -> None:
    """Before it goes to the background."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("-p", str(taken.getsockname()[1]))
    assert done.returncode == 71
    assert done.stderr.endswith("cannot be listened on: Address already in use\n")


def test_a_log_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """With its name."""
    done = run("-l", str(tmp_path / "no" / "log"))
    assert done.returncode == 73 and str(tmp_path) in done.stderr


def test_the_descriptor_limit_is_raised_and_told(running: Daemon) -> None:
    """As far as this process may; so many waiters fit, less what the server needs itself."""
    limit = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)[0]
    assert limit == running.ready["descriptors"] >= 10_064
    assert running.ready["waiters"] == limit - 64


def test_beyond_its_descriptors_the_server_turns_new_ones_away() -> None:
    """Without room for more than 36 it keeps those that wait, and lets go of the silent."""
    with daemon(open_files=100) as server:
        assert server.ready["waiters"] == 36
        silent = [Client(server.port) for _ in range(20)]
        waiting = [waiter(server.port) for _ in range(36)]
        for _ in waiting:
            server.until("came")
        assert all(each.answer() is None for each in silent)
        assert waiter(server.port).answer() is None
        waiting.pop().close()
        server.until("left")
        last = init(server.port, 35)
        assert [each.answer() for each in (last, *waiting)] == [0] * 36


def test_ten_thousand_wait_and_are_released() -> None:
    """Over TCP, each with a socket of its own."""
    assert raise_limit() > 10_100
    with daemon() as server:
        base = server.descriptors()
        clients = [Client(server.port, request()) for _ in range(10_000)]
        first = init(server.port, 10_001)
        server.until("init", remaining=1)
        assert server.descriptors() - base == 10_001
        assert waiter(server.port).answer() == 0 and first.answer() == 0
        assert all(each.answer() == 0 for each in clients)
        deadline = time.monotonic() + WAIT_S
        while server.descriptors() > base and time.monotonic() < deadline:
            server.listed()
        assert server.descriptors() == base
