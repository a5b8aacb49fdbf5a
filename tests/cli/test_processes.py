"""Daemons without rights: the launcher, and starts that fail or are interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from syndicate.cli import processes
from syndicate.cli.unprivileged import UNPRIVILEGED_UID, unprivileged_command


def test_the_launcher_drops_all_rights(tmp_path: Path) -> None:
    """Code under it is nobody, imports the software, writes its own folder and nothing else."""
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    (tmp_path / "secret").write_text("s")
    code = f"""
import json, os
import syndicate.v1.chaos_pb2, grpc
def tries(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
    return "written"
status = open("/proc/self/status").read()
print(json.dumps({{
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(),
    "caps": [status.partition(name)[2].split()[0] for name in ("CapEff:", "CapBnd:", "NoNewPrivs:")],
    "own": tries({str(own / "file")!r}), "beside": tries({str(tmp_path / "other")!r}),
    "usr": tries("/usr/x"), "etc": tries("/etc/x"), "tmp": tries({f"/tmp/{tmp_path.parent.name}-x"!r}),
    "secret": os.path.exists({str(tmp_path / "secret")!r}), "root": os.path.exists("/var"),
}}))
"""
    ended = subprocess.run(
        unprivileged_command([sys.executable, "-c", code], writable=[own]),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    seen = json.loads(ended.stdout)
    assert seen["uids"] == seen["gids"] == [UNPRIVILEGED_UID] * 3
    assert seen["groups"] == []
    assert seen["caps"] == ["0" * 16, "0" * 16, "1"]
    assert (seen["own"], seen["tmp"]) == ("written", "written")
    assert "written" not in (seen["beside"], seen["usr"], seen["etc"])
    assert (seen["secret"], seen["root"]) == (False, False)
    assert not Path(f"/tmp/{tmp_path.parent.name}-x").exists()


def test_a_launcher_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """When bubblewrap does not come to start its command, its processes are ended and the error names it."""
    script = f"sleep 600 & echo $! > {tmp_path}/child; exec >&3-; wait"
    child = tmp_path / "child"
    for deadline_s in (0.5, 5.0, 30.0):  # until the time was enough for sh to begin one
        with pytest.raises(processes.StartFailed, match="sh did not start daemon"):
            processes.start_wrapped(
                ["sh", "-c", script, "daemon"], tmp_path / "log", dict(os.environ), deadline_s
            )
        if child.exists() and child.read_text():
            break
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(int((tmp_path / "child").read_text()))
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)


def test_ctrl_c_while_a_launcher_starts_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C before the child is known ends the wrapper and what it has started."""
    script = f"sleep 600 & echo $! > {tmp_path}/child; kill -INT {os.getpid()}; wait"
    with pytest.raises(KeyboardInterrupt):
        processes.start_wrapped(["sh", "-c", script], tmp_path / "log", dict(os.environ), 60)
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(int((tmp_path / "child").read_text()))
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_at_the_moment_of_a_start_is_not_put_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came before it was let in: the launcher that may never tell its child is not waited for."""
    spawn, wrappers = processes._spawn, []

    def interrupted(*words: Any, **more: Any) -> int:
        wrappers.append(spawn(*words, **more))
        os.kill(os.getpid(), signal.SIGINT)
        return wrappers[-1]

    monkeypatch.setattr(processes, "_spawn", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        processes.start_wrapped(["sleep", "600"], tmp_path / "log", dict(os.environ), 100)
    assert time.monotonic() - started < 60
    assert not Path(f"/proc/{wrappers[0]}").exists()


def test_ctrl_c_waits_until_a_start_is_written_down() -> None:
    """Between a start and its record no signal comes in; it comes right after."""
    recorded = False

    def start_and_record() -> None:
        nonlocal recorded
        with processes.signals_held():
            os.kill(os.getpid(), signal.SIGINT)
            recorded = True

    with pytest.raises(KeyboardInterrupt):
        start_and_record()
    assert recorded


def test_a_daemon_gets_nothing_that_was_left_open(tmp_path: Path) -> None:
    """What `syndicatectl` was started with, a folder say, is closed in what it starts."""
    folder = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(folder, True)
    try:
        started = processes.start(["ls", "-l", "/proc/self/fd"], tmp_path / "log", dict(os.environ))
    finally:
        os.close(folder)
    os.waitpid(started.pid, 0)
    links = [line.split(" -> ")[1] for line in (tmp_path / "log").read_text().splitlines() if " -> " in line]
    assert str(tmp_path) not in links
    assert len(links) == 4  # in, out, error, and the listing's own
