"""A history outlives its client: killed, forked, or out of room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from syndicate.client_api.history import History, HistoryError, Outcome, read

from tests.client_api.history.made import script

# Four threads; the effect of an operation is a line in the pipe, and so is that its end was told.
CLIENT = """
import os, sys, threading
from syndicate.client_api.history import History
history = History(sys.argv[1])
def work(process):
    number = 0
    while True:
        operation = history.invoke(process, "put", argument=number)
        os.write(1, b"did %d %d\\n" % (process, number))
        operation.ok()
        os.write(1, b"told %d %d\\n" % (process, number))
        number += 1
for process in range(4):
    threading.Thread(target=work, args=(process,)).start()
"""


@pytest.mark.parametrize("lines", [1, 50, 3000, 20_000])
def test_a_kill_loses_nothing_that_was_told(tmp_path: Path, lines: int) -> None:
    """What took effect was invoked in the file, what was told to have ended has ended there."""
    path = tmp_path / "h"
    with subprocess.Popen([sys.executable, "-c", CLIENT, path], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        seen = [client.stdout.readline() for _ in range(lines)]
        client.send_signal(signal.SIGKILL)
        seen += [line for line in client.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        client.wait(60)
    recorded = read(path)
    by_name = {(one.process, one.argument): one for one in recorded.operations}
    events = [line.decode().split() for line in seen]
    assert len(events) >= lines
    for event, process, number in events:
        operation = by_name[int(process), int(number)]
        if event == "told":
            assert operation.outcome is Outcome.OK and operation.completed_ns is not None
    assert recorded.torn < 100


def test_what_a_killed_client_left_can_be_read_by_lines(tmp_path: Path) -> None:
    """All before the first NUL byte is whole lines, and what follows is less than a window."""
    text = """if True:
        import os, signal, sys
        from syndicate.client_api.history import History
        history = History(sys.argv[1])
        for number in range(10):
            history.invoke(0, "put", argument=number).ok()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert script(text, tmp_path / "h").returncode == -signal.SIGKILL
    lines, _, rest = (tmp_path / "h").read_bytes().partition(b"\0")
    assert lines.endswith(b"\n") and lines.count(b"\n") == 21
    assert not rest.strip(b"\0") and len(rest) < 256 * 1024
    assert read(tmp_path / "h").torn == 0


def test_a_fork_cannot_write_into_its_parents_history(tmp_path: Path) -> None:
    """It is told to open its own; closing does not cut the parent's file, which goes on."""
    text = """if True:
        import os, sys
        from syndicate.client_api.history import History, HistoryError
        history = History(sys.argv[1])
        mine = history.invoke(0, "put", argument="before")
        child = os.fork()
        if child == 0:
            for call in (mine.ok, lambda: history.invoke(1, "put")):
                try:
                    call()
                except HistoryError as error:
                    print(error)
            history.close()
            with History(sys.argv[1] + "-child") as own:
                own.invoke(1, "put", argument="in the child").ok()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        mine.ok()
        history.invoke(0, "put", argument="after").ok()
        history.close()
    """
    done = script(text, tmp_path / "h")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 and all("a fork opens a history of its own" in line for line in said)
    assert [one.argument for one in read(tmp_path / "h").operations] == ["before", "after"]
    assert [one.argument for one in read(tmp_path / "h-child").operations] == ["in the child"]


def test_a_fork_while_other_threads_record(tmp_path: Path) -> None:
    """No lock is left behind in the child that would hold it up, and the parent's file stays whole."""
    text = """if True:
        import os, sys, threading
        from syndicate.client_api.history import History, HistoryError
        history = History(sys.argv[1])
        def work(process):
            for number in range(4000):
                history.invoke(process, "put", argument="x" * 300).ok()
        workers = [threading.Thread(target=work, args=(process,)) for process in range(3)]
        for worker in workers:
            worker.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                try:
                    history.invoke(9, "put", argument="x" * 300_000)
                except HistoryError:
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
        for worker in workers:
            worker.join()
        history.close()
    """
    done = script(text, tmp_path / "h")
    assert done.returncode == 0, done.stderr
    operations = read(tmp_path / "h").operations
    assert len(operations) == 12_000 and all(one.outcome is Outcome.OK for one in operations)


FILL = """if True:
    import sys
    from syndicate.client_api.history import History, HistoryError, read
    history = History(sys.argv[1])
    count = 0
    try:
        while count < 100_000:
            history.invoke(0, "put", argument="x" * 200).ok()
            count += 1
    except HistoryError as error:
        print(count, error)
    try:
        history.invoke(1, "put", argument="x" * 100_000)
    except HistoryError as error:
        print(1, error)
    history.invoke(1, "put").ok() if len(sys.argv) > 2 else None
    history.close()
    print(len(read(sys.argv[1]).operations), read(sys.argv[1]).torn)
"""


def test_past_the_file_size_limit_recording_is_an_error(tmp_path: Path) -> None:
    """It names the file and how far it came, uses what the limit allows, and what was recorded is whole."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n{FILL}"
    done = script(limited, tmp_path / "h")
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.splitlines()
    count = int(first.split()[0])
    assert f"{tmp_path}/h: no room for more than " in first and "File too large" in first
    assert second.startswith(f"1 {tmp_path}/h: no room")
    assert (tmp_path / "h").stat().st_size > 990_000
    assert last in (f"{count} 0", f"{count + 1} 0")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, in a mount namespace of its own")
def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """Room is taken before it is written to, so there is no SIGBUS; what is in the file is whole."""
    mount = 'mount -t tmpfs -o size=1m syn-test-full "$0" && exec "$@"'
    line = ["unshare", "--mount", "sh", "-c", mount, tmp_path, sys.executable, "-c", FILL, tmp_path / "h"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.splitlines()
    count = int(first.split()[0])
    assert "no room for more than " in first and "No space left on device" in first
    assert second.startswith("1 ") and count > 3500
    assert last in (f"{count} 0", f"{count + 1} 0")


def test_a_first_line_without_room_leaves_no_file(tmp_path: Path) -> None:
    """There is nothing to read in it."""
    text = """if True:
        import resource, sys
        from syndicate.client_api.history import History, HistoryError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            History(sys.argv[1])
        except HistoryError as error:
            print(error)
    """
    done = script(text, tmp_path / "h")
    assert "no room for more than" in done.stdout, done.stderr
    assert not (tmp_path / "h").exists()


def test_a_path_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    """With its usual text."""
    with pytest.raises(FileNotFoundError, match="no-such-folder"):
        History(tmp_path / "no-such-folder" / "h")
    with pytest.raises(HistoryError, match="there is a file already"):
        History(tmp_path)


def test_nothing_is_held_open_afterwards(tmp_path: Path) -> None:
    """Neither a file nor a mapping."""
    with History(tmp_path / "h") as history:
        for number in range(20_000):
            history.invoke(0, "put", argument=number).ok()
        assert str(tmp_path) in Path("/proc/self/maps").read_text()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    targets = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert not [target for target in targets if str(tmp_path) in target]
