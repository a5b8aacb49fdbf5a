"""`certs add|renew --ssh`: what arrives on the other machine, what may have, and what is told of it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from syndicate.cli import certs_commands

from tests.cli.conftest import Certs

KEY = "-----BEGIN PRIVATE KEY-----"


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ssh` that runs the command here, and writes down with which words it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/ssh.words\n'
        'for last; do :; done\n[ -e "$0.broken" ] && { echo "no route to host" >&2; exit 255; }\n'
        '[ -e "$0.torn" ] && { head -c 1000 | sh -c "$last"; exit; }\n'
        '[ -e "$0.noisy" ] && printf "Welcome!"\n'
        '[ -e "$0.late" ] && { sh -c "$last"; echo "connection lost" >&2; exit 255; }\n'
        '[ -e "$0.deaf" ] && { sh -c "$last" >&2; echo "connection lost" >&2; exit 255; }\n'
        '[ -e "$0.mute" ] && { cat >/dev/null; exit 0; }\n'
        '[ -e "$0.killed" ] && { sh -c "$last" >&2; exit 137; }\n'
        '[ -e "$0.hangs" ] && { sh -c "$last" >&2; : >"$0.hung"; exec sleep 60; }\n'
        '[ -e "$0.lingers" ] && { sh -c "$last"; exec sleep 60; }\n'
        'exec sh -c "$last"\n'
    )
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "ssh"


def test_add_by_ssh_puts_the_files_there(certs: Certs, tmp_path: Path, ssh: Path) -> None:
    """Through standard input: no word of the command line has any of it."""
    there = tmp_path / "there" / "tls"
    ended = certs("certs", "add", "node-a", "--ssh", "root@node-a", "--ssh-folder", str(there))
    assert ended.code == 0, ended.err
    assert KEY in (there / "identity.pem").read_text()
    assert stat.S_IMODE((there / "identity.pem").stat().st_mode) == 0o600
    assert "PRIVATE KEY" not in (tmp_path / "ssh.words").read_text()
    assert f"root@node-a:{there}" in ended.out
    assert ended.err == "(copies key and certificate to root@node-a, by ssh)\n", "it may take a while"


def test_where_ssh_fails_nothing_is_added(certs: Certs, tmp_path: Path, ssh: Path) -> None:
    """What was signed is revoked, and the host can be added again."""
    broken = ssh.with_name("ssh.broken")
    broken.touch()
    ended = certs("certs", "add", "node-a", "--ssh", "node-a")
    assert ended.code == 71
    assert "no route to host" in ended.err
    assert "what arrived there is worth nothing, it is revoked" in ended.err
    broken.unlink()
    assert certs("certs", "add", "node-a", "--out", str(tmp_path / "a")).code == 0


def test_what_comes_in_part_changes_nothing_there(certs: Certs, tmp_path: Path, ssh: Path) -> None:
    """The connection breaks in the midst of it: key and certificate that were there stay."""
    there = tmp_path / "there" / "tls"
    words = ("--ssh", "node-a", "--ssh-folder", str(there))
    assert certs("certs", "add", "node-a", *words).code == 0
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    ssh.with_name("ssh.torn").touch()
    assert certs("certs", "renew", "node-a", *words).code == 71
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before
    states = [one["state"] for one in certs("certs", "list", "--json").document["certificates"]]
    assert sorted(states) == ["good", "good", "revoked"], "what did not arrive is refused"


@pytest.mark.parametrize("how", ["broken", "deaf", "mute", "killed", "hangs"])
@pytest.mark.parametrize("verb", ["add", "renew"])
def test_what_may_have_arrived_locks_no_machine_out(
    certs: Certs, tmp_path: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch, verb: str, how: str
) -> None:
    """A machine whose certificate is renewed may hold the new one alone; one that is added has none."""
    there = tmp_path / "there" / "tls"
    words = ("node-a", "--ssh", "m", "--ssh-folder", str(there))
    if verb == "renew":
        assert certs("certs", "add", *words).code == 0
    ssh.with_name(f"ssh.{how}").touch()
    if how == "hangs":
        monkeypatch.setattr(certs_commands, "_SSH_S", 1.0)
    ended = certs("certs", verb, *words)
    assert (ended.code, ended.out) == (71, "")
    states = [one["state"] for one in certs.volunteers()]
    if verb == "renew":
        assert states == ["good", "good"]
        assert "it is not known whether the new certificate arrived on m" in ended.err
        assert "It may have, so it stays good, until 2" in ended.err
        assert "Run the command again." in ended.err and "Nothing was added" not in ended.err
    else:
        assert states == ["revoked"]
        assert "Nothing was added: what arrived there is worth nothing, it is revoked." in ended.err


@pytest.mark.parametrize("how", ["late", "lingers", "noisy"])
@pytest.mark.parametrize("verb", ["add", "renew"])
def test_what_is_laid_has_arrived_whatever_ssh_says_then(
    certs: Certs, tmp_path: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch, verb: str, how: str
) -> None:
    """The script's own word for it came through."""
    there = tmp_path / "there" / "tls"
    ssh.with_name(f"ssh.{how}").touch()
    if how == "lingers":
        monkeypatch.setattr(certs_commands, "_SSH_S", 5.0)
    ended = certs("certs", verb, "node-a", "--ssh", "m", "--ssh-folder", str(there), "--json")
    assert ended.code == 0, ended.err
    (line,) = certs.volunteers()
    assert line["state"] == "good" and line["serial"] == ended.document["serial"]
    assert KEY in (there / "identity.pem").read_text()


def test_a_script_that_fails_has_laid_nothing(certs: Certs, tmp_path: Path, ssh: Path) -> None:
    """Up to its last step: what is refused never became the machine's."""
    there = tmp_path / "there" / "tls"
    (there / "identity.pem").mkdir(parents=True)  # cannot be replaced by a file
    for verb in ("add", "renew"):
        ended = certs("certs", verb, "node-a", "--ssh", "m", "--ssh-folder", str(there))
        assert ended.code == 71 and "nothing could be copied to m: " in ended.err
        assert "Nothing was added." in ended.err
    assert [one["state"] for one in certs.volunteers()] == ["revoked", "revoked"]
    assert sorted(one.name for one in there.iterdir()) == ["ca.pem", "identity.pem"]


@pytest.mark.parametrize("verb", ["add", "renew"])
def test_ctrl_c_while_it_is_copied(certs: Certs, tmp_path: Path, ssh: Path, verb: str) -> None:
    """130; whether it arrived is not known then."""
    ssh.with_name("ssh.hangs").touch()
    script = Path(sys.executable).with_name("syndicatectl")
    words = ["certs", verb, "node-a", "--ssh", "m", "--ssh-folder", str(tmp_path / "there" / "tls")]
    command = subprocess.Popen(
        [str(script), *words, "--state-dir", str(certs.state)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not ssh.with_name("ssh.hung").exists():
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.02)
    os.killpg(command.pid, signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (130, "") and "interrupted" in err and "Traceback" not in err
    says, state = {
        "add": ("what arrived there is worth nothing, it is revoked", "revoked"),
        "renew": ("it stays good, until 2", "good"),
    }[verb]
    assert says in err and [one["state"] for one in certs.volunteers()] == [state]
