"""The command: flags, exit status, and the one line that says what is wrong."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from syndicate.manager.core import model
from syndicate.manager.settings import BadSettings, Limits, MaxLimits, Settings, load

from tests.manager.scripted import tarball

WAIT_S = 60.0


def command(*arguments: object) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "syndicate.manager", *(str(a) for a in arguments)]


def manager(state: Path, *more: object) -> list[str]:
    """The command line of a manager on ports of its own."""
    anywhere = ("--listen-users", "127.0.0.1:0", "--listen-volunteers", "127.0.0.1:0")
    return command("--state-dir", state, "--insecure", *anywhere, *more)


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    return subprocess.run(line, capture_output=True, text=True, timeout=WAIT_S)


def test_help_names_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be a flag stands below, with what it is where nobody says; and how the command ends."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(command("--help"))
    assert (shown.returncode, shown.stderr) == (0, "")
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown.stdout or f"\n  {name} " in shown.stdout, name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):  # a flag is off
            assert f"; {field.default:.10g}\n" in shown.stdout, name
    usual, most = (part.split() for part in shown.stdout.partition("\n  limits ")[2].split("\n  max_limits "))
    for kind, said in ((Limits, usual), (MaxLimits, most)):
        for name, field in kind.model_fields.items():
            assert said[said.index(name) + 1].rstrip(",") == str(field.default), name
    assert "    75  another manager runs on it" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_it_starts_says_so_and_stops_when_told(tmp_path: Path) -> None:
    """One line on standard output, a ready file while it serves, a private token, exit 0 at SIGTERM."""
    state = tmp_path / "state"
    process = subprocess.Popen(
        manager(state, "--log-format", "json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], WAIT_S)[0]
    line = process.stdout.readline()
    ready = json.loads((state / "manager.ready").read_text())
    mode = stat.S_IMODE((state / "admin.token").stat().st_mode)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=WAIT_S)

    assert line == (
        f"ready users={ready['users']} volunteers={ready['volunteers']} "
        f"cluster={ready['cluster_id']} epoch={ready['epoch']}\n"
    )
    assert ready["pid"] == process.pid
    assert (mode, out, process.returncode) == (0o600, "", 0)
    assert not (state / "manager.ready").exists()
    assert all(json.loads(entry)["event"] for entry in err.splitlines())
    assert (state / "admin.token").read_text().strip() not in err


def test_clear_text_is_told(tmp_path: Path) -> None:
    """A warning in the log of a manager that serves it."""
    process = subprocess.Popen(
        manager(tmp_path / "state", "--log-format", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline().startswith("ready ")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=WAIT_S)
    (line,) = (told for told in map(json.loads, err.splitlines()) if told["event"] == "insecure")
    assert line["level"] == "warning" and "in clear text, on loopback only" in line["detail"]


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """The line names the address, how to find who has it, and the flag; the exit status is 69."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run(manager(tmp_path, "--listen-volunteers", address))

    (line,) = [text for text in ended.stderr.splitlines() if text.startswith("error:")]
    assert ended.returncode == 69
    assert address in line and "ss -ltnp" in line and "--listen-volunteers" in line


def test_a_second_manager_on_one_directory_is_refused(tmp_path: Path) -> None:
    """The state directory's lock is told with its holder; the exit status is 75."""
    import fcntl

    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, b"4711\n")
    try:
        ended = run(manager(tmp_path))
    finally:
        os.close(lock)

    assert ended.returncode == 75
    assert "pid 4711" in ended.stderr


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"not a tarball", "NOT_A_TAR"), (None, "cannot be read"), (tarball(readme="x"), "NO_MAKEFILE")],
)
def test_a_bad_default_client_stops_the_start(tmp_path: Path, content: bytes | None, word: str) -> None:
    """The client's tarball is checked as an upload is; the exit status is 65."""
    client = tmp_path / "client.tgz"
    if content is not None:
        client.write_bytes(content)
    ended = run(manager(tmp_path / "state", "--client", client))

    assert ended.returncode == 65
    assert word in ended.stderr and str(client) in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["--nonsense"], 64, "--nonsense"),
        (["--listen-users", "nowhere"], 78, "HOST:PORT"),
        (["--clients", "2"], 78, "--client"),
        (["--config", "/nonexistent.toml"], 78, "/nonexistent.toml"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: list[str], status: int, word: str) -> None:
    """Flags and settings that make no sense end the command at once, by name."""
    ended = run(command("--state-dir", tmp_path, *arguments))

    assert ended.returncode == status
    assert word in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broken_database_is_told(tmp_path: Path) -> None:
    """A file that is no database is named; the exit status is 74."""
    (tmp_path / "manager.db").write_bytes(b"no database at all" * 100)
    ended = run(manager(tmp_path))

    assert ended.returncode == 74
    assert "manager.db" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_version_is_told() -> None:
    """--version prints one line."""
    ended = run(command("--version"))

    assert ended.stdout.startswith("syndicate-manager 0.")
    assert ended.returncode == 0


# ---- settings -------------------------------------------------------------------------------------------


def test_flags_win_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting comes from the nearest source that has it."""
    file = tmp_path / "manager.toml"
    file.write_text("max_queued = 1\nkeep_ended = 2\nstop_grace_s = 3.5\n[limits]\npids = 7\n")
    monkeypatch.setenv("SYNDICATE_MANAGER_KEEP_ENDED", "20")
    monkeypatch.setenv("SYNDICATE_MANAGER_MAX_QUEUED", "10")

    settings = load({"state_dir": tmp_path, "max_queued": 100}, file)

    assert (settings.max_queued, settings.keep_ended, settings.stop_grace_s) == (100, 20, 3.5)
    assert settings.config("c", 1, "b", None).limits.pids == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"lost_after_s": 31.0},
        {"orphan_after_s": 10.0},
        {"prefixes": "10.0.0.1/16"},
        {"max_source_bytes": 0},
        {"unheard_of": 1},
        {"listen_users": "127.0.0.1:99999"},
        {"default_time_limit_s": 100_000.0},
        {"clients": 1000, "client": Path("client.tgz")},
        {"forget_after_s": 10.0},
        {"keep_jobs": 10},
        {"limits": {"disk_bytes": 0}},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    """What cannot work together, or means nothing, is told by its name."""
    with pytest.raises(BadSettings, match=next(iter(wrong))):
        load({"state_dir": tmp_path, **wrong}, None)


@pytest.mark.parametrize(
    ("limits", "most", "says"),
    [
        ({"pids": 5000}, {}, "limits.pids is 5,000: above max_limits.pids, which is 4,096"),
        ({"pids": 0}, {}, "limits.pids is 0, which is no bound: above max_limits.pids, which is 4,096"),
        ({}, {"memory_bytes": 256 << 20}, "limits.memory_bytes is 512 MiB: above max_limits.memory_bytes"),
        (
            {"disk_bytes": 512 << 20},
            {},
            "limits.disk_bytes is 512 MiB: it lies in memory, and with 64 MiB beside",
        ),
    ],
)
def test_default_limits_that_a_job_would_not_be_granted_are_refused(
    tmp_path: Path, limits: dict[str, int], most: dict[str, int], says: str
) -> None:
    """A job that asks for nothing must be one that may run."""
    with pytest.raises(BadSettings, match=re.escape(says)):
        load({"state_dir": tmp_path, "limits": limits, "max_limits": most}, None)


def test_without_maxima_a_default_may_be_no_bound(tmp_path: Path) -> None:
    """An operator who wants none says so twice."""
    none = {"memory_bytes": 0, "pids": 0}
    config = load({"state_dir": tmp_path, "limits": none, "max_limits": none}, None).config("c", 1, "b", None)
    assert (config.limits.memory_bytes, config.max_limits.pids) == (0, 0)


def test_the_core_has_the_same_defaults(tmp_path: Path) -> None:
    """What the help says is what the core's own tests try."""
    config = load({"state_dir": tmp_path}, None).config("c", 1, "b", None)
    assert (config.limits, config.max_limits) == (model.Limits(), model.MAX_LIMITS)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    """A configuration file that cannot be read is told by its name."""
    file = tmp_path / "manager.toml"
    file.write_text("state_dir = [")

    with pytest.raises(BadSettings, match=r"manager\.toml"):
        load({}, file)
