"""Wrong usage, help, versions, exit codes, and readers that went away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from syndicate.cli.app import app
from syndicate.cli.contexts import ClusterContext, Contexts

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import TOKEN, FakeManager, ended_job


def test_wrong_usage(ctl: Ctl) -> None:
    """Unknown options and commands, and values that are none, are 64 and one line."""
    for words in (("jobs", "--nope"), ("frobnicate",), ("show", "x"), ("show",)):
        ended = ctl(*words)
        assert ended.code == 64, words
        assert ended.err.splitlines()[-2].startswith("error: ")
    assert ctl("submit", ".", "--time-limit", "soon").code == 64


@pytest.mark.parametrize("words", [(), ("node",)])
def test_no_command_is_answered_with_the_help(ctl: Ctl, words: tuple[str, ...]) -> None:
    """Without a command the help is printed as it is, and one line says what is missing."""
    ended = ctl(*words)
    assert ended.code == 64
    lines = ended.err.splitlines()
    assert lines[0].startswith("Usage: syndicatectl") and "Commands:" in lines
    assert lines[-1] == "error: no command given"
    assert ended.err.count("error:") == 1 and "\\x0a" not in ended.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("submit", ".", "-n", "abc"), "-n must be a whole number of at least 1"),
        (("up", "--slots", "0"), "--slots must be a whole number from 1 to 1000"),
        (("up", "--slots", "1001"), "--slots must be a whole number from 1 to 1000"),
        (("up", "--port", "70000"), "--port must be a whole number from 0 to 65535"),
        (("show", "x"), "JOB must be a whole number of at least 1"),
        (("submit", ".", "--time-limit", "0"), "--time-limit must be above 0"),
    ],
)
def test_numbers_that_cannot_be(ctl: Ctl, words: tuple[str, ...], says: str) -> None:
    """A number that is none, or out of its range, is answered with what it may be."""
    ended = ctl(*words)
    assert (ended.code, ended.err.splitlines()[0]) == (64, f"error: {says}")


@pytest.mark.parametrize(
    ("words", "usage", "argument"),
    [
        (("show",), "show [OPTIONS] JOB", "  JOB  The job's id."),
        (("chaos", "kill"), "chaos kill [OPTIONS] JOB MEMBER...", "  MEMBER...  master, slave-0"),
        (("chaos", "heal"), "chaos heal [OPTIONS] JOB [FAULT...]", "  FAULT...  Lines of the ledger"),
        (("chaos", "partition"), "chaos partition [OPTIONS] JOB [GROUP...]", "  GROUP...  Members with"),
        (("node", "drain"), "node drain [OPTIONS] ID...", "  ID...  The volunteers' ids."),
    ],
)  # fmt: skip
def test_help_calls_arguments_by_our_words(
    ctl: Ctl, words: tuple[str, ...], usage: str, argument: str
) -> None:
    """Without the types that Typer adds; those that take several end in dots."""
    told = ctl(*words, "--help").out
    assert told.splitlines()[0] == f"Usage: syndicatectl {usage}"
    assert any(line.startswith(argument) for line in told.splitlines())


def test_no_help_names_a_type(ctl: Ctl) -> None:
    """Of any command."""
    for name in leaves():
        told = ctl(*name.split(), "--help").out
        assert not re.search(r"<(int|str|list|float|bool|path)", told), name


def test_help_fits_a_narrow_terminal(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of it is broken within a word, and what a command does is told to its end."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("", *leaves()):
        for end in range(len(name.split()) + 1):
            told = ctl(*name.split()[:end], "--help").out.splitlines()
            assert [line for line in told if len(line) > 80] == [], name
            assert [line for line in told if line.endswith("...") and "Usage:" not in line] == [], name


def test_help_begins_with_what_students_need(ctl: Ctl) -> None:
    """What changes this machine comes after it."""
    listed = ctl("--help").out.partition("Commands:")[2].split()
    assert listed[0] == "submit" and listed.index("down") < listed.index("uninstall")


def test_help_lists_the_exit_codes(ctl: Ctl) -> None:
    """--help holds the table of exit codes."""
    ended = ctl("--help")
    assert ended.code == 0
    assert "    69  the manager does not answer" in ended.out


def test_version(ctl: Ctl) -> None:
    """version needs no manager."""
    assert ctl("version").out.startswith("syndicatectl 0.")
    assert ctl("--version").out == ctl("version").out
    assert ctl("version", "--json").document["version"] == ctl("version").out.split()[1]


def test_whatever_prints_data_takes_json() -> None:
    """Every command has --json, also those of groups."""
    without = [
        name
        for name, each in leaves().items()
        if not any("--json" in parameter.opts for parameter in each.params)
    ]
    assert without == []


def leaves() -> dict[str, Any]:
    """All commands by their words: `jobs`, `node drain`."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    found = {}
    for name, each in commands.items():
        inner = getattr(each, "commands", None)
        found |= {f"{name} {word}": leaf for word, leaf in inner.items()} if inner else {name: each}
    return found


def test_a_reader_that_went_away_is_no_error(manager: FakeManager, tmp_path: Path) -> None:
    """`| head` ends the command quietly, and not with the code of a failed job."""
    manager.scheduler.jobs[12] = ended_job()
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "syndicate.cli", "show", "12"],
        env={
            **os.environ,
            "SYNDICATE_MANAGER": manager.address,
            "SYNDICATE_TOKEN": TOKEN,
            "SYNDICATE_INSECURE": "1",
            "XDG_STATE_HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
        },
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_docs_hold_the_same_exit_codes() -> None:
    """The table of docs/cli.md is the one of --help."""
    from syndicate.cli.exit_codes import MEANINGS

    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in text


def test_the_codes_of_certs_are_in_the_table() -> None:
    """A lost key, a clock that is off, a certificate that there is not: each is told where people look."""
    from syndicate.cli.exit_codes import BAD_MACHINE, MEANINGS, NOT_FOUND, REFUSED

    assert "authority's key" in MEANINGS[BAD_MACHINE] and "clock" in MEANINGS[BAD_MACHINE]
    assert "certificate" in MEANINGS[NOT_FOUND] and "certificate" in MEANINGS[REFUSED]


def test_ctrl_c_while_the_command_is_being_loaded() -> None:
    """One line and 130, no traceback, however early it comes."""
    code = (
        "import os, signal, sys\n"
        "class Hit:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Hit())\n"
        "from syndicate.cli.__main__ import main\n"
        "main(['jobs'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, "error: interrupted\n")


def test_ctrl_c_in_a_command_is_told(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the version of Typer makes of it, it ends with one line and 130."""

    def interrupted(*words: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("syndicate.cli.node_commands.list_nodes", interrupted)
    ended = ctl("nodes")
    assert (ended.code, ended.err) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("syndicatectl tok", ["token"]),
        ("syndicatectl token ", ["create", "list", "revoke"]),
        ("syndicatectl user add eve --role st", ["student", "staff"]),
        ("syndicatectl context use ", ["lab", "uni", "local"]),
    ],
)
def test_the_shell_completes(tmp_path: Path, typed: str, offered: list[str]) -> None:
    """Commands, their own commands, and the values of what has few of them, without a manager."""
    contexts = Contexts({"XDG_CONFIG_HOME": str(tmp_path)})
    for name in ("uni", "lab"):
        contexts.put(name, ClusterContext(f"{name}:7000"))
    words = typed.split(" ")
    ended = subprocess.run(
        [sys.executable, "-m", "syndicate.cli"],
        env={
            **os.environ,
            "XDG_CONFIG_HOME": str(tmp_path),
            "_SYNDICATECTL_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.split() == offered
