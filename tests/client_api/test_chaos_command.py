"""``syndicate-chaos``: words in, a line or a document out, and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.client_api import chaos_command
from syndicate.client_api.testing import FakeChaosServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChaosServer]:
    with FakeChaosServer(members=["10.77.0.11", "10.77.0.12"]) as fake:
        monkeypatch.setenv("SYNDICATE_CHAOS", fake.address)
        yield fake


def test_faults_are_one_line_each(server: FakeChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each fault prints what it did, or that it was so."""
    for words in ("kill", "kill", "revive", "disconnect", "reconnect"):
        assert chaos_command.run([words, "10.77.0.12"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "killed        10.77.0.12  2 processes",
        "killed        10.77.0.12  (already so)",
        "revived       10.77.0.12  generation 2",
        "disconnected  10.77.0.12",
        "reconnected   10.77.0.12",
    ]


def test_several_addresses_are_one_call_with_a_line_each(
    server: FakeChaosServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the fault, and whether it was so already."""
    assert chaos_command.run(["kill", "10.77.0.11"]) == 0
    for words in (["kill"], ["revive", "--with-disk"], ["disconnect"], ["reconnect"]):
        assert chaos_command.run([words[0], "10.77.0.11", "10.77.0.12", *words[1:]]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "killed        10.77.0.11  (already so)",
        "killed        10.77.0.12  2 processes",
        "revived       10.77.0.11  generation 2",
        "revived       10.77.0.12  generation 2",
        "disconnected  10.77.0.11",
        "disconnected  10.77.0.12",
        "reconnected   10.77.0.11",
        "reconnected   10.77.0.12",
    ]
    assert len(server.job.calls) == 5
    assert chaos_command.run(["kill", "10.77.0.11", "10.77.0.99"]) == 1


def test_json_has_every_field(server: FakeChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """--json, before or behind the command, prints the whole answer."""
    assert chaos_command.run(["--json", "kill", "10.77.0.12"]) == 0
    killed = json.loads(capsys.readouterr().out)
    assert killed["processes"] == 2
    assert killed["applied_at"]["boot_id"] == "fake-boot"
    assert [member["ip"] for member in killed["members"]] == ["10.77.0.12"]
    assert chaos_command.run(["members", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["members"][1]["state"] == "killed"


def test_with_and_without_disk(server: FakeChaosServer) -> None:
    """The disk options reach the wire; neither leaves it unset."""
    for words in ([], ["--with-disk"], ["--without-disk"]):
        chaos_command.run(["revive", "10.77.0.12", *words])
    disks = [
        call.request.with_disk if call.request.HasField("with_disk") else None for call in server.job.calls
    ]
    assert disks == [None, True, False]


def test_finish_says_all(server: FakeChaosServer) -> None:
    """Outcome, score, metrics and text are passed on."""
    words = [
        "finish",
        "--outcome",
        "fail",
        "--score",
        "0.5",
        "--metric",
        "a=1",
        "--metric",
        "b=2.5",
        "--text",
        "t",
    ]
    assert chaos_command.run(words) == 0
    result = server.job.results["client-0"]
    assert (result.score, dict(result.metrics), result.text) == (0.5, {"a": 1.0, "b": 2.5}, "t")


def test_a_refusal_is_exit_1(server: FakeChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """What the manager refuses is one line with its reason."""
    assert chaos_command.run(["kill", "1.2.3.4"]) == 1
    assert capsys.readouterr().err == "error: 1.2.3.4 is no member of this job (NO_SUCH_MEMBER)\n"


def test_nobody_there_is_exit_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A socket with nobody behind it is told apart from a refusal."""
    monkeypatch.setenv("SYNDICATE_CHAOS", "unix:/nonexistent/chaos.sock")
    assert chaos_command.run(["ping", "--timeout", "0.2"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_outside_of_a_job_is_exit_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without SYNDICATE_CHAOS it says so."""
    monkeypatch.delenv("SYNDICATE_CHAOS", raising=False)
    assert chaos_command.run(["members"]) == 4
    assert "SYNDICATE_CHAOS is not set" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["kill"], ["finish", "--metric", "a"], ["ping", "--timeout", "-1"]])
def test_wrong_usage_is_exit_2(words: list[str]) -> None:
    """argparse ends a wrong command line with 2."""
    with pytest.raises(SystemExit) as ended:
        chaos_command.run(words)
    assert ended.value.code == 2


def test_it_runs_as_a_process(server: FakeChaosServer) -> None:
    """The module is a command of its own, as a Makefile would call it."""
    ended = subprocess.run(
        [sys.executable, "-m", "syndicate.client_api.chaos_command", "members"],
        env={**os.environ, "SYNDICATE_CHAOS": server.address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0] == "master     10.77.0.11      running   generation 1"


def test_the_base_install_is_enough() -> None:
    """client_api imports nothing beyond grpcio, protobuf and the standard library."""
    code = (
        "import sys, syndicate.client_api, syndicate.client_api.testing, syndicate.client_api.chaos_command;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'grpc_status', 'typer', 'rich', 'structlog', 'pydantic', 'pyroute2', 'sqlalchemy'}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"


def test_every_fault_has_its_command(server: FakeChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints what it did; what is so already says so."""
    ip = "10.77.0.12"
    for words in (
        ["reset", ip, "--lease", "30"],
        ["pause", ip, "--lease", "500ms"],
        ["pause", ip],
        ["pause", ip],
        ["resume", ip],
        ["disk-full", ip],
        ["signal", "QUIT", ip],
        ["degrade", ip, "--loss", "10%", "--delay", "50ms", "--rate", "1Mbit", "--peer", "10.77.0.11"],
        ["partition", "10.77.0.11", ip, "--one-way", "--lease", "9"],
        ["partition", "--shape", "isolate-one", "--ip", ip, "--seed", "3"],
        ["heal", "1"],
        ["heal", "1"],
    ):
        assert chaos_command.run(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"reset         {ip}",
        f"paused        {ip}",
        f"paused        {ip}",
        f"paused        {ip}  (already so)",
        f"resumed       {ip}",
        f"disk full     {ip}",
        f"signalled     {ip}  1 process",
        f"degraded      {ip}",
        "group         10.77.0.11",
        f"group         {ip}",
        f"group         {ip}",
        "group         10.77.0.11",
        "healed        1",
        "healed        (already so)",
    ]
    assert [fault.lease_s for fault in server.job.faults][:2] == [30.0, 0.5]


def test_the_ledger_is_listed(server: FakeChaosServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, with what became of it; or only what is in force."""
    assert chaos_command.run(["faults"]) == 0
    for words in (["pause", "10.77.0.12"], ["degrade", "10.77.0.12", "--loss", "5"], ["heal", "1"]):
        chaos_command.run(words)
    capsys.readouterr()
    assert chaos_command.run(["faults"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["1", "slave-0", "pause", "by", "client-0", "healed", "by", "client-0"],
        ["2", "slave-0", "degrade", "loss", "5", "%", "by", "client-0", "in", "force"],
        ["3", "slave-0", "heal", "faults", "1", "by", "client-0"],
    ]
    assert chaos_command.run(["faults", "--in-force", "--json"]) == 0
    assert [fault["fault_id"] for fault in json.loads(capsys.readouterr().out)["faults"]] == [2]
    assert chaos_command.run(["members"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("generation 1  faults 2")


@pytest.mark.parametrize(
    "words",
    [
        ["pause", "10.77.0.12", "--lease", "0"],
        ["pause", "10.77.0.12", "--lease", "soon"],
        ["degrade", "10.77.0.12", "--loss", "much"],
        ["signal", "QUTI", "10.77.0.12"],
        ["partition"],
    ],
)
def test_arguments_that_are_none_are_exit_2(
    server: FakeChaosServer, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Told in one line, before anything is sent."""
    assert chaos_command.run(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert server.job.calls == []


def test_a_history_is_handed_over(
    server: FakeChaosServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By its file's name or another; a file that is not there is told by name."""
    history = tmp_path / "history.jsonl"
    history.write_bytes(b"what was done\n")
    assert chaos_command.run(["hand-over", str(history), "--more"]) == 0
    assert chaos_command.run(["--json", "hand-over", str(history), "--name", "again"]) == 0
    assert chaos_command.run(["hand-over", str(tmp_path / "none")]) == 2
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == "handed over   history  14 bytes"
    assert json.loads(told.out.splitlines()[1])["name"] == "again"
    assert told.err == f"error: {tmp_path / 'none'}: No such file or directory\n"
    assert server.job.history("client-0", "again") == b"what was done\n"
