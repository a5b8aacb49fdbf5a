"""``login``, ``logout``, ``context``, and which manager and token a command uses."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from typing import TextIO

import pytest
from syndicate.cli.context import Context, Given, resolve, write_context
from syndicate.cli.contexts import ClusterContext, Contexts, name_for
from syndicate.cli.failure import CliError
from syndicate.cli.private_files import PrivateFolder

from tests.cli.conftest import Ctl
from tests.cli.fake_identity import stamp
from tests.cli.fake_scheduler import TOKEN, FakeManager


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where contexts stand."""
    return tmp_path / "config" / "syndicate"


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """One with a context `uni` in use, and what `up` left."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}
    store = Contexts(environ)
    store.put("uni", ClusterContext("uni:7000", store.put_token("uni", "of-uni"), "/ca.pem", "sha256:abab"))
    store.put("lab", ClusterContext("lab:7000", store.put_token("lab", "of-lab")))
    store.use("uni")
    (tmp_path / "up.token").write_text("of-up\n")
    up = Context("127.0.0.1:7000", str(tmp_path / "up.token"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", up)
    return {**environ, **more}


@pytest.mark.parametrize(
    ("given", "environ", "manager", "token"),
    [
        (Given(), {}, "uni:7000", "of-uni"),
        (Given(context="lab"), {}, "lab:7000", "of-lab"),
        (Given(context="local"), {}, "127.0.0.1:7000", "of-up"),
        (Given(), {"SYNDICATE_CONTEXT": "lab"}, "lab:7000", "of-lab"),
        (Given(context="uni"), {"SYNDICATE_CONTEXT": "lab"}, "uni:7000", "of-uni"),
        (Given(manager="x:1"), {}, "x:1", ""),
        (Given(manager="uni:7000"), {}, "uni:7000", "of-uni"),
        (Given(manager="localhost:7000"), {}, "localhost:7000", "of-up"),
        (Given(manager="x:1", context="lab"), {}, "x:1", ""),
        (Given(manager="x:1"), {"SYNDICATE_TOKEN": "e"}, "x:1", "e"),
        (Given(), {"SYNDICATE_MANAGER": "x:1"}, "x:1", ""),
        (Given(context="lab"), {"SYNDICATE_MANAGER": "x:1", "SYNDICATE_TOKEN": "e"}, "lab:7000", "of-lab"),
        (Given(), {"SYNDICATE_TOKEN": "e"}, "uni:7000", "e"),
        (Given(token="t"), {"SYNDICATE_TOKEN": "e"}, "uni:7000", "t"),
        (Given(), {"SYNDICATE_CONTEXT": "lab", "SYNDICATE_TOKEN": "e"}, "lab:7000", "e"),
    ],
)
def test_options_come_before_the_environment_before_contexts(
    tmp_path: Path, given: Given, environ: dict[str, str], manager: str, token: str
) -> None:
    """Each by itself, and a context's token goes to its own manager only."""
    target = resolve(given, environment(tmp_path, **environ))
    assert (target.manager, target.token) == (manager, token)


def test_without_a_context_in_use_it_is_what_up_left(tmp_path: Path) -> None:
    """`context use local`, and a context that is removed, lead there."""
    environ = environment(tmp_path)
    Contexts(environ).use("local")
    assert resolve(Given(), environ).token == "of-up"
    Contexts(environ).use("lab")
    Contexts(environ).delete("lab")
    assert resolve(Given(), environ).token == "of-up"


def test_the_ca_goes_with_its_manager(tmp_path: Path) -> None:
    """A context's CA vouches for its own manager only."""
    environ = environment(tmp_path)
    assert resolve(Given(), environ).ca_file == "/ca.pem"
    assert resolve(Given(manager="x:1"), environ).ca_file == ""


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    """Named, it is an error with those that are; in use, it is no hindrance where all is said otherwise."""
    environ = environment(tmp_path)
    with pytest.raises(CliError, match="there is no context moon") as caught:
        resolve(Given(context="moon"), environ)
    assert caught.value.code == 66 and "There are: lab, uni." in caught.value.lines
    (tmp_path / "config" / "syndicate" / "uni.toml").unlink()
    with pytest.raises(CliError, match="there is no context uni"):
        resolve(Given(), environ)
    assert resolve(Given(manager="x:1", token="t"), environ).token == "t"


def test_a_damaged_context_is_told(tmp_path: Path) -> None:
    """With the command that removes it."""
    environ = environment(tmp_path)
    for text in ("torn", "manager = 3\n", "user = 'x'\n"):
        Contexts(environ).folder.write("uni.toml", text)
        with pytest.raises(CliError, match="the context uni is damaged") as caught:
            resolve(Given(), environ)
        assert "syndicatectl context delete uni" in caught.value.text()


@pytest.mark.parametrize(
    ("manager", "name"),
    [
        ("cluster.example.org:7000", "cluster-example-org"),
        ("10.0.0.5:7100", "10-0-0-5-7100"),
        ("[::1]:7000", "1"),
        ("[::]:7000", "cluster-1"),
        ("local:7000", "local-1"),
        ("A" * 80 + ":7000", "a" * 63),
    ],
)
def test_a_context_is_named_after_its_manager(manager: str, name: str) -> None:
    """A name that a file may have, and none that means something else."""
    assert name_for(manager) == name


def test_login_keeps_a_token_that_works(
    bare_ctl: Ctl, manager: FakeManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From standard input; the folder is 0700, each file 0600; later commands need nothing."""
    os.umask(os.umask(0o022))
    type_in(monkeypatch, TOKEN + "\n")
    ended = bare_ctl("login", manager.address, "--context", "uni")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        f"logged in  root, admin, at {manager.address}",
        "token      t-1, scope all, never expires",
        "context    uni: commands use it from now on",
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"uni.toml", "uni.token", "current-context"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert TOKEN not in ended.out + ended.err + (folder / "uni.toml").read_text()
    assert f"{manager.address}, of the context uni" in bare_ctl("whoami").out


def test_login_from_a_file_and_again(
    bare_ctl: Ctl, manager: FakeManager, folder: Path, tmp_path: Path
) -> None:
    """A new token for the context in use needs no name of a manager; `-` is standard input."""
    (tmp_path / "t").write_text(TOKEN + "\n")
    assert bare_ctl("login", manager.address, "--token-file", str(tmp_path / "t")).code == 0
    name = name_for(manager.address)
    (tmp_path / "t").write_text(manager.scheduler.add_user("eve"))
    assert "eve, student" in bare_ctl("login", "--token-file", str(tmp_path / "t")).out
    assert (folder / f"{name}.token").read_text() == "secret-of-eve\n"
    document = bare_ctl("login", "--token-file", str(tmp_path / "t"), "--json").document
    assert (document["context"], document["user"]["name"]) == (name, "eve")


@pytest.mark.parametrize("text", ["sha256:00", "é" * 64, "0" * 63, "sha256:" + "g" * 64])
def test_a_fingerprint_that_is_none_is_told_with_who_knows_it(bare_ctl: Ctl, text: str) -> None:
    """Before anybody is asked, and before the token is."""
    ended = bare_ctl("login", "127.0.0.1:1", "--fingerprint", text)
    assert ended.code == 64 and "is no SHA-256 fingerprint" in ended.err
    assert "syndicatectl certs list" in ended.err


def test_a_login_by_fingerprint_without_a_manager_says_what_to_do(bare_ctl: Ctl) -> None:
    """As one without a fingerprint does."""
    ended = bare_ctl("login", "127.0.0.1:1", "--fingerprint", "ab" * 32)
    assert ended.code == 69 and ended.err.startswith("error: no manager at 127.0.0.1:1 (connection refused)")
    assert "--manager HOST:PORT" in ended.err and "Nothing was kept." in ended.err


@pytest.mark.parametrize("address", ["http://127.0.0.1:7000", "a/b:7000", "a b:7000"])
def test_an_address_that_is_none_is_refused_before_it_is_tried(bare_ctl: Ctl, address: str) -> None:
    """64, at once."""
    ended = bare_ctl("login", address, "--token-file", "t")
    assert ended.code == 64 and "It is written HOST:PORT." in ended.err


def test_ctrl_c_at_the_question_for_the_token_begins_a_line(
    bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error does not stand behind the question."""

    def interrupted(prompt: str, stream: TextIO) -> str:
        stream.write(prompt)
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", interrupted)
    ended = bare_ctl("login", "127.0.0.1:1")
    assert ended.code == 130 and ended.err.endswith("Token: \nerror: interrupted\n")


def test_a_login_that_fails_keeps_nothing(
    bare_ctl: Ctl, manager: FakeManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong token, an empty one, no manager, no address: each its own word, and no file."""
    type_in(monkeypatch, "wrong\n")
    refused = bare_ctl("login", manager.address)
    assert refused.code == 77 and "Nothing was kept." in refused.err and "wrong" not in refused.err
    type_in(monkeypatch, "")
    assert bare_ctl("login", manager.address).err.startswith("error: no token was given")
    (folder.parents[1] / "t").write_text("name,token\nann,wrong one\n")
    several = bare_ctl("login", manager.address, "--token-file", str(folder.parents[1] / "t"))
    assert several.code == 77 and "holds more than a token" in several.err
    assert bare_ctl("login").err.startswith("error: no manager is named")
    assert bare_ctl("login", "somewhere").code == 64
    assert bare_ctl("login", manager.address, "--context", "../x").code == 64
    assert bare_ctl("login", manager.address, "--context", "local").code == 64
    assert not folder.exists()


def test_a_context_is_of_one_manager(
    bare_ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is not taken over by another one in silence."""
    type_in(monkeypatch, TOKEN)
    assert bare_ctl("login", manager.address, "--context", "uni").code == 0
    ended = bare_ctl("login", "elsewhere:7000", "--context", "uni")
    assert ended.code == 64 and f"the context uni is for {manager.address}" in ended.err


def test_a_token_that_ends_soon_is_told_at_login(
    bare_ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is time to ask for another one."""
    type_in(monkeypatch, manager.scheduler.add_user("eve"))
    manager.scheduler.tokens["t-2"].expires_at.CopyFrom(stamp(20 + 86400 + 60))
    assert "the token expires in 1d" in bare_ctl("login", manager.address).err


def test_refusals_name_the_context(
    bare_ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that was revoked or has expired, with the command that logs in again."""
    type_in(monkeypatch, manager.scheduler.add_user("eve"))
    assert bare_ctl("login", manager.address, "--context", "uni").code == 0
    manager.scheduler.tokens["t-2"].expires_at.CopyFrom(stamp(1))
    expired = bare_ctl("jobs")
    assert expired.code == 77
    assert expired.err == (
        "error: the token of the context uni has expired\n"
        "  Ask the staff for a new one.\n"
        "  Log in again:  syndicatectl login --context uni\n"
    )
    manager.scheduler.tokens["t-2"].revoked_at.CopyFrom(stamp(1))
    assert "does not know the token of the context uni" in bare_ctl("jobs").err


@pytest.mark.parametrize("words", [(), ("--revoke",)])
def test_logout_removes_the_token(
    bare_ctl: Ctl, manager: FakeManager, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Here, and with --revoke at the manager too; the context stays."""
    type_in(monkeypatch, manager.scheduler.add_user("eve"))
    assert bare_ctl("login", manager.address, "--context", "uni").code == 0
    assert bare_ctl("logout", *words).code == 0
    assert manager.scheduler.tokens["t-2"].HasField("revoked_at") == bool(words)
    assert not (folder / "uni.token").exists()
    assert bare_ctl("logout").out == "context    uni has no token\n"
    out = bare_ctl("whoami")
    assert out.code == 77 and f"syndicatectl login {manager.address}" in out.err


def test_logout_without_a_context(bare_ctl: Ctl) -> None:
    """66, and which there are; the token of `up` is the cluster's own."""
    assert bare_ctl("logout").code == 66
    assert bare_ctl("logout", "--context", "local").code == 64


def test_contexts_are_listed_chosen_shown_and_deleted(bare_ctl: Ctl, tmp_path: Path, folder: Path) -> None:
    """A * marks the one in use; no output holds a token."""
    environment(tmp_path)
    listed = bare_ctl("context", "list").out.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["lab", "lab:7000", "-"], ["*", "uni", "uni:7000"], ["local", "127.0.0.1:7000", "-"],
    ]  # fmt: skip
    assert "127.0.0.1:7000" in bare_ctl("context", "use", "local").out
    assert bare_ctl("context", "list").out.splitlines()[3].startswith("*")
    assert bare_ctl("context", "use", "uni").code == 0
    shown = bare_ctl("context", "show", "uni").out
    assert f"token      {folder}/uni.token" in shown and "sha256:abab" in shown and "of-uni" not in shown
    assert bare_ctl("context", "show").out.splitlines()[:2] == [
        "manager    uni:7000, of the context uni", "token      of the context uni",
    ]  # fmt: skip
    assert bare_ctl("context", "delete", "uni").out.endswith("no context is in use now\n")
    assert {path.name for path in folder.iterdir()} == {"lab.toml", "lab.token"}
    assert bare_ctl("context", "use", "uni").code == 66
    assert bare_ctl("context", "delete", "uni").code == 66
    assert bare_ctl("context", "delete", "local").code == 64
    document = bare_ctl("context", "list", "--json").document
    assert [(each["name"], each["current"]) for each in document["contexts"]] == [
        ("lab", False), ("local", True),
    ]  # fmt: skip


def test_no_context_at_all(bare_ctl: Ctl) -> None:
    """Said as such, with the command that makes one."""
    assert "syndicatectl login MANAGER" in bare_ctl("context", "list").out
    assert bare_ctl("context", "show").out.splitlines() == [
        "manager    127.0.0.1:7000, of the default", "token      none",
        "authority  clear text, no certificate",
    ]  # fmt: skip


def test_a_variable_that_comes_before_is_told(
    bare_ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who chooses a context and has the environment set wonders otherwise."""
    environment(tmp_path)
    monkeypatch.setenv("SYNDICATE_MANAGER", "x:1")
    assert bare_ctl("context", "use", "lab").err == "(SYNDICATE_MANAGER is set, and comes before it)\n"


def test_a_token_that_others_can_read_is_refused(tmp_path: Path, folder: Path) -> None:
    """77, and what to do; it is not sent."""
    environ = environment(tmp_path)
    (folder / "uni.token").chmod(0o640)
    with pytest.raises(CliError, match="is open to others on this machine") as caught:
        resolve(Given(), environ)
    assert caught.value.code == 77 and "chmod 600" in caught.value.lines[0]


def test_links_are_never_written_through(tmp_path: Path) -> None:
    """A link in place of a file is replaced, one in place of the folder is refused; nothing else changes."""
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "precious").write_text("precious")
    private = PrivateFolder(tmp_path / "mine")
    private.write("a", "one")
    (tmp_path / "mine" / "b").symlink_to(other / "precious")
    private.write("b", "two")
    assert (private.read("b"), (other / "precious").read_text()) == ("two", "precious")
    (tmp_path / "mine" / "c").symlink_to(other / "precious")
    with pytest.raises(CliError, match="cannot be read"):
        private.read("c")
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(CliError, match="it is a symbolic link") as caught:
        PrivateFolder(tmp_path / "link").write("a", "one")
    assert caught.value.code == 73
    assert stat.S_IMODE(other.stat().st_mode) == 0o755
    assert {path.name for path in other.iterdir()} == {"precious"}


def test_a_folder_is_closed_to_others(tmp_path: Path) -> None:
    """One that was open is closed before anything is in it; another user's is refused."""
    (tmp_path / "mine").mkdir(mode=0o755)
    PrivateFolder(tmp_path / "mine").write("a", "one")
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o700
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(CliError, match="it belongs to another user, uid 12345"):
        PrivateFolder(tmp_path / "theirs").write("a", "one")


def test_a_write_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a file nor a leftover."""
    private = PrivateFolder(tmp_path / "mine")
    private.write("a", "one")

    def full(*words: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("syndicate.cli.private_files.os.rename", full)
    with pytest.raises(CliError, match="no space left on device"):
        private.write("a", "two")
    assert private.names() == ["a"] and private.read("a") == "one"


@pytest.mark.parametrize("kind", ["folder", "fifo", "large", "binary"])
def test_what_is_no_small_text_is_refused(tmp_path: Path, kind: str) -> None:
    """It is told, and not waited for."""
    private = PrivateFolder(tmp_path)
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir(mode=0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.write_bytes(b"x" * 70_000 if kind == "large" else b"\xff")
        path.chmod(0o600)
    with pytest.raises(CliError, match="cannot be read"):
        private.read("a")


def test_the_shell_completes_contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of those that are there, and `local`."""
    from syndicate.cli.options import context_names

    monkeypatch.setenv("XDG_CONFIG_HOME", environment(tmp_path)["XDG_CONFIG_HOME"])
    assert context_names() == ["lab", "uni", "local"]
    assert context_names("l") == ["lab", "local"]


def test_without_xdg_it_is_in_home(tmp_path: Path) -> None:
    """A path that is not absolute counts as none, as the rule says."""
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "here"}):
        assert Contexts(environ).folder.path == tmp_path / ".config" / "syndicate"


def test_a_uid_without_a_home_has_no_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found, and nothing fails."""

    def nobody(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    assert resolve(Given(), {}).manager == "127.0.0.1:7000"
    assert Contexts({}).names() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is let into anybody's file")
def test_a_context_that_another_user_laid_there_is_refused(tmp_path: Path, folder: Path) -> None:
    """It would say to whom root's token is sent; the files of the folder's owner are good for root, too."""
    environ = environment(tmp_path)
    os.chown(folder / "uni.toml", 65534, 65534)
    with pytest.raises(CliError, match="it belongs to another user, uid 65534"):
        Contexts(environ).get("uni")
    os.chown(folder, 65534, 65534)
    assert Contexts(environ).get("uni") is not None
