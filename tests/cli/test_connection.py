"""Which manager, which token, and what is said when either does not answer."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import sys
from pathlib import Path

import pytest
from syndicate.cli.render.lanes import UNICODE_GLYPHS
from syndicate.cli.render.palette import PLAIN
from syndicate.cli.terminal import Terminal

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import TOKEN, FakeManager
from tests.support.terminal import Valve, on_terminal


def test_a_manager_that_is_away(bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address: 69, who was tried, how long, and what to do."""
    monkeypatch.setattr("syndicate.cli.context.SchedulerClient", _impatient)
    ended = bare_ctl("--manager", "127.0.0.1:1", "jobs")
    assert ended.code == 69
    assert re.sub(r"for \d+ s", "for 0 s", ended.err) == (
        "error: no manager at 127.0.0.1:1 (connection refused, tried for 0 s)\n"
        "  Start one here:  syndicatectl up     Another one?  --manager HOST:PORT or SYNDICATE_MANAGER\n"
    )


def test_a_manager_that_is_slow_is_waited_for_in_sight(manager: FakeManager, tmp_path: Path) -> None:
    """On a terminal a line says so after a second, and is gone when the answer is there."""
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    with Valve(manager.address, 0) as way:
        words = ["--manager", way.address, "--token", TOKEN, "--insecure", "nodes", "--json"]
        with on_terminal([sys.executable, "-m", "syndicate.cli", *words], environ) as shown:
            hint = shown.until(f"manager    waiting for {way.address}")[0]
            way.open()
            assert shown.to_its_end() == 0
    waited, erased, answer = shown.text.rpartition(f"\r{' ' * len(hint)}  \r")
    assert hint in waited and erased
    assert json.loads(answer)["nodes"]


@pytest.mark.parametrize("watched", [True, False])
def test_a_hint_stands_until_something_is_told(watched: bool) -> None:
    """It is taken back with blanks before the next line, and is not there at all where nobody looks."""
    out, err = io.StringIO(), io.StringIO()
    terminal = Terminal(out, err, 20, PLAIN, UNICODE_GLYPHS, out_is_terminal=False, err_is_terminal=watched)
    terminal.hint("one that is too long for it")
    terminal.hint("two")
    terminal.note("told")
    terminal.hint("")
    erased = "\r" + " " * 19 + "\r", "\r" + " " * 5 + "\r"
    assert err.getvalue() == (f"one that is too …{erased[0]}two{erased[1]}told\n" if watched else "told\n")


@pytest.mark.parametrize("background", [True, False])
def test_no_hint_is_written_over_what_is_typed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    """A command in the background has the terminal too, but not to itself."""

    class OwnTerminal(io.StringIO):
        def fileno(self) -> int:
            return 2

    monkeypatch.setattr(os, "tcgetpgrp", lambda number: os.getpgrp() + background)
    err = OwnTerminal()
    terminal = Terminal(
        io.StringIO(), err, 20, PLAIN, UNICODE_GLYPHS, out_is_terminal=False, err_is_terminal=True
    )
    terminal.hint("waiting")
    assert err.getvalue() == ("" if background else "waiting")


@pytest.mark.parametrize("words", [("faults", "3"), ("heal", "3", "--json"), ("kill", "3", "slave-0")])
def test_a_fault_is_not_asked_of_a_manager_that_is_away(
    bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Faults are tried for long; whether the manager is there is known before, with what to do."""
    monkeypatch.setattr("syndicate.cli.context.SchedulerClient", _impatient)
    ended = bare_ctl("--manager", "127.0.0.1:1", "chaos", *words)
    assert ended.code == 69
    assert "no manager at 127.0.0.1:1" in ended.err and "syndicatectl up" in ended.err


def test_a_manager_of_up_that_is_away(bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `up` left word of the manager that is away, the advice starts it again and keeps its jobs."""
    from syndicate.cli.context import Context, write_context

    monkeypatch.setattr("syndicate.cli.context.SchedulerClient", _impatient)
    (tmp_path / "t").write_text(TOKEN)
    write_context(
        tmp_path / "state" / "syndicate" / "context.toml",
        Context("127.0.0.1:1", str(tmp_path / "t"), str(tmp_path)),
    )
    where = f"--dir {tmp_path}"
    said = " ".join(bare_ctl("jobs").err.split())
    assert f": syndicatectl down --keep-state {where} && syndicatectl up {where} Another one?" in said


def test_a_manager_on_another_host_that_is_away() -> None:
    """Of another host's manager the command only knows the service."""
    from syndicate.cli.context import Target
    from syndicate.client_api import Unreachable

    error = Unreachable("10.0.0.5:7000", "connection refused", 5.0)
    assert "Does `syndicate-manager` run there?" in Target("10.0.0.5:7000", "").explain(error).text()


@pytest.mark.parametrize(("insecure", "says"), [(True, "without --insecure"), (False, "the users' port")])
def test_something_that_hangs_up_is_no_manager_that_is_away(insecure: bool, says: str) -> None:
    """Clear text to a manager with certificates, or the port for volunteers: nothing is to be started."""
    from syndicate.cli.context import Target
    from syndicate.client_api import Unreachable

    for manager in ("127.0.0.1:7001", "10.0.0.5:7001"):
        error = Unreachable(manager, "connection lost", 5.0)
        told = Target(manager, "", insecure=insecure).explain(error)
        assert told.code == 69 and "Something listens there" in told.text() and says in told.text()
        assert "syndicatectl up" not in told.text()


def _impatient(address: str, token: str, **_: object) -> object:
    from syndicate.client_api import SchedulerClient

    return SchedulerClient(address, token, connect_for=0.2, insecure=True)


def test_a_wrong_token_is_not_shown(ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """A token that the manager does not know is 77, and is not repeated."""
    (tmp_path / "t").write_text("s3cr3t-and-wrong\n")
    ended = ctl("jobs", "--token-file", str(tmp_path / "t"))
    assert ended.code == 77
    assert "s3cr3t" not in ended.err
    assert ended.err == (
        f"error: the manager at {manager.address} does not know the token of --token-file {tmp_path}/t\n"
        "  Name the right one:  --token-file FILE or SYNDICATE_TOKEN_FILE or SYNDICATE_TOKEN\n"
    )


def test_no_token_is_told_as_such(bare_ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """Where no token was sent the error says so, and for whom the one that is there is."""
    from syndicate.cli.context import Context, write_context

    context = Context("127.0.0.1:1", str(tmp_path / "t"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", context)
    ended = bare_ctl("--manager", manager.address, "jobs")
    assert ended.code == 77
    assert ended.err.splitlines()[:2] == [
        f"error: the manager at {manager.address} asks for a token, and none was sent",
        "  The token that `syndicatectl up` left is for 127.0.0.1:1 only.",
    ]


def test_options_of_the_manager_stand_anywhere(bare_ctl: Ctl, manager: FakeManager) -> None:
    """--manager and --token work before the command and behind it."""
    words = ("--manager", manager.address, "--token", TOKEN)
    assert bare_ctl(*words, "nodes").code == 0
    assert bare_ctl("nodes", *words).code == 0


def test_commands_find_the_cluster_that_up_left(bare_ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """The context file gives manager and token where nothing else does."""
    from syndicate.cli.context import Context, write_context

    (tmp_path / "admin.token").write_text(TOKEN)
    context = Context(manager.address, str(tmp_path / "admin.token"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", context)
    assert bare_ctl("nodes").code == 0


def test_the_context_token_goes_to_its_own_manager_only(bare_ctl: Ctl, tmp_path: Path) -> None:
    """Another manager is never shown the token of the local one."""
    from syndicate.cli.context import Context, Given, resolve, write_context

    (tmp_path / "admin.token").write_text(TOKEN)
    context = Context("127.0.0.1:7000", str(tmp_path / "admin.token"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", context)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert resolve(Given(), environ).token == TOKEN
    assert resolve(Given(manager="elsewhere:7000"), environ).token == ""
    assert resolve(Given(manager="localhost:7000"), environ).token == TOKEN


def test_a_context_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's context is none; a damaged one is no matter where the options say everything."""
    from syndicate.cli.context import Given, resolve
    from syndicate.cli.failure import CliError

    path = tmp_path / "syndicate" / "context.toml"
    path.parent.mkdir()
    path.write_text("torn")
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert resolve(Given(manager="a:1", token="t"), environ).token == "t"
    with pytest.raises(CliError, match="cannot be read"):
        resolve(Given(manager="a:1"), environ)

    def refuse(self: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert resolve(Given(), environ).manager == "127.0.0.1:7000"


def test_the_owner_with_the_token_of_up_is_the_login_name(tmp_path: Path) -> None:
    """What the environment says comes first; where it says nothing, the password file does."""
    from syndicate.cli.context import Context, Given, resolve, write_context

    (tmp_path / "t").write_text(TOKEN)
    context = Context("127.0.0.1:7000", str(tmp_path / "t"), str(tmp_path))
    write_context(tmp_path / "syndicate" / "context.toml", context)
    environ = {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    assert resolve(Given(), {**environ, "USER": "ada"}).user == "ada"
    assert resolve(Given(), environ).user == pwd.getpwuid(os.getuid()).pw_name
    assert resolve(Given(user="eve"), {**environ, "USER": "ada"}).user == "eve"


def test_the_owner_with_another_token_is_its_user() -> None:
    """Only who is named is named: an admin's jobs are not those of a login name that means nothing there."""
    from syndicate.cli.context import Given, resolve

    environ = {"XDG_STATE_HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent", "USER": "ada"}
    assert resolve(Given(token="t"), environ).user == ""
    assert resolve(Given(token="t"), {**environ, "SYNDICATE_USER": "eve"}).user == "eve"
