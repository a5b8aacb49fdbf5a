"""`client_api.sync`, and `syndicate-sync` as a command."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from syndicate.client_api import sync, sync_command, sync_ways

from tests.sync.clients import WAIT_S, cut_off, init, waiter
from tests.sync.daemon import Daemon, command, daemon, free_port

Answering = Callable[[bytes], str]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    """No server is named, whatever this machine has; the files that may name one."""
    files = tmp_path / "run", tmp_path / "emulab"
    monkeypatch.setattr(sync, "FILES", tuple(map(str, files)))
    monkeypatch.delenv(sync.VARIABLE, raising=False)
    return files


@pytest.fixture
def place(server: Daemon, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server, named by the variable."""
    named = f"127.0.0.1:{server.port}"
    monkeypatch.setenv(sync.VARIABLE, named)
    return named


@pytest.fixture
def answering() -> Answering:
    """Makes a server that answers one connection with these bytes; returns its name."""

    def made(data: bytes) -> str:
        listening = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with listening, listening.accept()[0] as peer:
                peer.recv(76)
                peer.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    return made


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command; what a test leaves of it is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command(*words), stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate(timeout=WAIT_S)


def test_wait_and_init_return_the_largest_error(place: str) -> None:
    """Of all who took part."""
    with ThreadPoolExecutor() as pool:
        first, second = pool.submit(sync.init, 2, error=3), pool.submit(sync.wait, error=9)
        assert sync.wait() == 9
        assert (first.result(WAIT_S), second.result(WAIT_S)) == (9, 9)


def test_init_without_waiting_returns_at_once(place: str) -> None:
    """And counts all the same."""
    assert sync.init(1, no_wait=True) == 0
    assert sync.wait() == 0


def test_a_time_out_is_the_servers_where_it_can_be(
    place: str, server: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nobody is released who has given up; a long name leaves it to the client."""
    monkeypatch.setattr(sync_ways, "_GRACE_S", WAIT_S)  # a server may stand still for a second
    for name, why in (("short", "timed out"), ("n" * 63, "closed")):
        begin = time.monotonic()
        with pytest.raises(sync.TimedOut):
            sync.wait(name, timeout=1.0)
        assert 1.0 <= time.monotonic() - begin < WAIT_S
        assert server.until("left")["why"] == why


@pytest.mark.parametrize(
    ("udp", "why"), [(False, "no connection in time: Connection refused"), (True, "no answer in time")]
)
def test_a_time_out_counts_from_the_call_on(udp: bool, why: str) -> None:
    """Also where nobody listens: which is told, since nobody who should come is to blame for it."""
    begin = time.monotonic()
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(sync.TimedOut, match=f"at {nobody}: {why}$"):
        sync.wait(timeout=1.0, udp=udp, server=nobody)
    assert 1.0 <= time.monotonic() - begin < WAIT_S


def test_a_server_that_comes_later_is_found() -> None:
    """Refused connections are tried again."""
    port = free_port()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sync.wait, "b", timeout=WAIT_S, server=f"127.0.0.1:{port}")
        with daemon(port=port) as server:
            assert init(server.port, 1).answer() == 0
            assert waiting.result(WAIT_S) == 0


def test_a_dropped_barrier_is_an_error_of_its_own(place: str, server: Daemon) -> None:
    """As is an abandoned one."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(sync.wait)
        server.until("came")
        server.ask("drop")
        with pytest.raises(sync.Dropped, match=f"^barrier 'barrier' at {place}: the server dropped it$"):
            waiting.result(WAIT_S)
        master = init(server.port, 2, name=b"barrier")
        waiting = pool.submit(sync.wait, abandon=True)
        server.until("came")
        master.close()
        with pytest.raises(sync.Abandoned, match=f"^barrier 'barrier' at {place}: who had initialised it"):
            waiting.result(WAIT_S)


@pytest.mark.parametrize("data", [b"", b"abc", b"abcde", struct.pack("=i", -1), struct.pack("=i", 255)])
def test_what_is_no_answer_is_told(answering: Answering, data: bytes) -> None:
    """Too short, too long, out of range; of which barrier, and by whom."""
    place = answering(data)
    with pytest.raises(sync.NoAnswer, match=f"^barrier 'start' at {place}: the server "):
        sync.wait("start", server=place)


def test_a_server_that_is_cut_off_keeps_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel answers no probe; here these come each second instead of after ten."""
    patient = sync_ways._keep_alive

    def impatient(peer: socket.socket) -> None:
        patient(peer)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)

    monkeypatch.setattr(sync_ways, "_keep_alive", impatient)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as pool:
        waiting = pool.submit(sync.wait, server=f"127.0.0.1:{listening.getsockname()[1]}")
        with listening.accept()[0] as peer:
            assert len(peer.recv(76)) == 76
            cut_off(peer)
            with pytest.raises(sync.NoAnswer, match="timed out"):
                waiting.result(WAIT_S)


@pytest.mark.parametrize(
    ("named", "found"),
    [("host", ("host", 16534)), ("1.2.3.4:99", ("1.2.3.4", 99))],
)
def test_a_server_is_named_with_or_without_a_port(named: str, found: tuple[str, int]) -> None:
    """The default is emulab's."""
    assert sync.find_server(named) == found


@pytest.mark.parametrize("named", [":99", "host:", "host:x", "host:0", "host:65536", "host:1:2"])
def test_a_name_that_is_none_is_unknown(named: str) -> None:
    """Before anything is asked."""
    with pytest.raises(sync.ServerUnknown, match="HOST"):
        sync.find_server(named)


def test_the_server_is_looked_for_in_this_order(
    nowhere: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given, variable, our file, emulab's file."""
    ours, emulabs = nowhere
    with pytest.raises(sync.ServerUnknown):
        sync.find_server()
    emulabs.write_text("fourth:4\n")
    assert sync.find_server() == ("fourth", 4)
    ours.write_text("third:3\nrest")
    assert sync.find_server() == ("third", 3)
    monkeypatch.setenv(sync.VARIABLE, "second:2")
    assert sync.find_server() == ("second", 2)
    assert sync.find_server("first") == ("first", 16534)
    assert sync.find_server("first:1", 77) == ("first", 77)


def test_whoami_tells_whether_the_server_is_here() -> None:
    """By its address, which only this machine can bind."""
    assert sync.whoami("127.0.0.1:5") == ("127.0.0.1:5", True)
    assert sync.whoami("192.0.2.1") == ("192.0.2.1", False)


def test_a_name_without_an_address_is_unknown() -> None:
    """Whatever the resolver says."""
    for name in ("no.such.name.invalid", "x" * 70, "a..b"):
        with pytest.raises(sync.ServerUnknown, match="address"):
            sync.wait(server=name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""}, {"name": "x" * 64}, {"name": "a\0b"}, {"error": -1}, {"error": 240},
        {"name": "x" * 48, "udp": True}, {"name": "x" * 48, "abandon": True}, {"timeout": 0.0},
        {"timeout": float("nan")},
    ],
)  # fmt: skip
def test_what_no_server_could_take_is_not_sent(wrong: dict[str, object]) -> None:
    """It is the caller's mistake."""
    with pytest.raises(ValueError, match=r"."):
        sync.wait(**wrong, server="127.0.0.1:1")  # type: ignore[arg-type]


# ---- the command ----------------------------------------------------------------------------------------


def test_the_command_ends_with_the_largest_error(start: Start, place: str, server: Daemon) -> None:
    """Each of those that took part; over TCP and UDP."""
    for way in ([], ["-u"]):
        one = start("-i", "2", *way)
        two = start("-e", "30", *way)
        three = start("-e", "7", "-s", place, *way)
        assert [each.wait(WAIT_S) for each in (one, two, three)] == [30, 30, 30]


def test_the_command_initialises_without_waiting(start: Start, place: str) -> None:
    """`-a`, and others pass."""
    assert start("-n", "x", "-i", "1", "-a").wait(WAIT_S) == 0
    assert start("-n", "x").wait(WAIT_S) == 0


def test_the_commands_time_out_has_a_status_of_its_own(start: Start, place: str) -> None:
    """241, among those that participants cannot give."""
    done = start("-t", "1")
    assert done.wait(WAIT_S) == 241
    assert done.communicate()[1] == f"error: barrier 'barrier' at {place}: not all came in time\n"


@pytest.mark.parametrize("way", [[], ["-u"]])
def test_an_error_of_the_command_names_the_barrier(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: list[str]
) -> None:
    """As the server tells it: a terminal is not steered by a name."""
    # Over UDP that is what is said only once the server has counted the request.
    monkeypatch.setattr(sync_ways, "_GRACE_S", WAIT_S)
    assert sync_command.run(["-t", "1", "-n", "a\x1b'ö", *way]) == 241
    said = f"error: barrier 'a\\x1b\\x27\\xc3\\xb6' at {place}: not all came in time\n"
    assert capsys.readouterr().err == said


def test_the_command_is_told_of_a_drop_and_of_an_abandon(start: Start, place: str, server: Daemon) -> None:
    """240 and 242."""
    waiting = start()
    server.until("came")
    server.signal(signal.SIGHUP)
    assert waiting.wait(WAIT_S) == 240
    assert waiting.communicate()[1] == f"error: barrier 'barrier' at {place}: the server dropped it\n"
    master, waiting = start("-i", "5", "--abandon"), start()
    server.next_of("came", "init")
    server.next_of("came", "init")
    master.kill()
    assert waiting.wait(WAIT_S) == 242
    master.wait(WAIT_S)


@pytest.mark.parametrize("way", [[], ["-u"]])
def test_an_interrupted_command_is_uncounted(
    start: Start, place: str, server: Daemon, way: list[str]
) -> None:
    """At once, over UDP as well, where it says that it leaves."""
    waiting = start(*way)
    server.until("came")
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(WAIT_S) == 130
    assert server.until("left")["why"] == "closed"
    assert waiting.communicate()[1] == ""


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "foo"], ["-p", "-1"], ["-p", "65536"], ["-i", "foo"], ["-i", "-1"], ["-i", "0"],
        ["-i", str(2**31)], ["-i", "9" * 5000], ["-n", ""], ["-n", "x" * 64], ["-e", "-1"], ["-e", "240"],
        ["-e", "x"], ["-a"], ["-t", "0"], ["-t", "x"], ["-t", "nan"], ["-t", "inf"], ["-s", ""], ["-x"],
        ["-n"], ["more"], ["-u", "-n", "x" * 48], ["-i", "1", "-a", "--abandon"],
    ],
)  # fmt: skip
def test_wrong_usage_is_64(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Said in one line; the usage follows. What goes before is checked first, whoever the server is."""
    assert sync_command.run(words) == 64
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and "usage: syndicate-sync" in said.err


def test_a_server_that_nobody_knows_is_68(capsys: pytest.CaptureFixture[str]) -> None:
    """None is named, or its name has no address."""
    assert sync_command.run([]) == 68
    assert sync_command.run(["-s", "no.such.name.invalid"]) == 68
    assert sync_command.run(["-m", "-s", "no.such.name.invalid"]) == 68
    assert (
        capsys.readouterr().err.splitlines()[1:]
        == ["error: the sync server 'no.such.name.invalid' has no address"] * 2
    )


def test_no_answer_is_76(answering: Answering, capsys: pytest.CaptureFixture[str]) -> None:
    """A failure of the protocol."""
    assert sync_command.run(["-s", answering(b"")]) == 76
    assert "ended the connection without an answer" in capsys.readouterr().err


def test_whoami_and_m(capsys: pytest.CaptureFixture[str]) -> None:
    """The line is tmcd's; -m says it by its status."""
    assert sync_command.run(["--whoami", "-s", "127.0.0.1:7"]) == 0
    assert sync_command.run(["--whoami", "-s", "192.0.2.1"]) == 0
    assert sync_command.run(["-m", "-s", "127.0.0.1"]) == 0
    assert sync_command.run(["-m", "-s", "192.0.2.1"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "SYNCSERVER SERVER='127.0.0.1:7' ISSERVER=1",
        "SYNCSERVER SERVER='192.0.2.1' ISSERVER=0",
    ]


def test_the_port_of_the_option_goes_before_the_servers(server: Daemon) -> None:
    """`-p` beside `-s HOST:PORT`."""
    client = waiter(server.port, name=b"barrier")
    assert sync_command.run(["-s", "127.0.0.1:1", "-p", str(server.port), "-i", "1"]) == 0
    assert client.answer() == 0


def test_debugging_is_told_on_stderr(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the server is, and what it answered."""
    assert sync_command.run(["-d", "-i", "1", "-a"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "address 127.0.0.1" in said.err and "answer 0" in said.err
    assert sync_command.run([]) == 0


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, with status 0."""
    assert (sync_command.run(["-h"]), sync_command.run(["-V"])) == (0, 0)
    said = capsys.readouterr().out
    assert said.startswith("usage: syndicate-sync [-n NAME]") and "protocol 2 of emulab-sync" in said


def test_the_command_needs_the_standard_library_alone() -> None:
    """A sandbox may load its files without the package that they lie in, which imports gRPC."""
    folder = Path(sync.__file__).parent
    program = (
        "import sys, types; package = types.ModuleType('syndicate.client_api'); "
        f"package.__path__ = [{str(folder)!r}]; sys.modules['syndicate'] = types.ModuleType('syndicate'); "
        "sys.modules['syndicate'].client_api = package; sys.modules['syndicate.client_api'] = package; "
        "from syndicate.client_api import sync_command; sys.exit(sync_command.run(['-V']))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "") and os.fsencode(done.stdout)
