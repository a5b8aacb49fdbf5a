"""`certs` and `join-token`, with the real `syndicate-manager certs` behind them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from syndicate.cli import certs_commands
from syndicate.cli.terminal import Terminal
from syndicate.manager.pki import Folder, Office

from tests.cli.conftest import Certs, Ctl
from tests.manager.authorities import request

KEY = "-----BEGIN PRIVATE KEY-----"


def test_init_tells_fingerprint_and_next_step(bare_ctl: Ctl, tmp_path: Path) -> None:
    """And no key."""
    ended = Certs(bare_ctl, tmp_path / "m")("certs", "init", "--address", "mgr.lan")
    assert ended.code == 0
    assert "fingerprint  sha256:" in ended.out and "mgr.lan" in ended.out and "certs add HOST" in ended.out
    assert KEY not in ended.out + ended.err


def test_a_second_init_is_refused(certs: Certs) -> None:
    """65, with the cluster that is there."""
    ended = certs("certs", "init")
    assert (ended.code, ended.out) == (65, "")
    assert "holds the authority of cluster lab already" in ended.err


def test_add_writes_a_folder_of_its_owners_alone(certs: Certs, tmp_path: Path) -> None:
    """Key and certificate 0600 in a folder 0700; the key is printed nowhere."""
    ended = certs("certs", "add", "node-a", "--out", str(tmp_path / "a"))
    assert ended.code == 0, ended.err
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()}
    assert modes == {"ca.pem": 0o644, "identity.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert KEY in (tmp_path / "a" / "identity.pem").read_text()
    assert KEY not in ended.out + ended.err


def test_a_host_added_twice_is_refused(certs: Certs, tmp_path: Path) -> None:
    """65, with what can be done; the first certificate stays."""
    certs("certs", "add", "node-a", "--out", str(tmp_path / "a"))
    ended = certs("certs", "add", "node-a", "--out", str(tmp_path / "b"))
    assert ended.code == 65
    assert "node-a has a certificate already" in ended.err and "certs renew node-a" in ended.err
    assert not (tmp_path / "b").exists()
    listed = certs("certs", "list", "--json").document
    assert [one["state"] for one in listed["certificates"] if one["name"] == "node-a"] == ["good"]


LATE = """
import os, signal, sys
from syndicate.manager import certs_command
deliver, mask = certs_command._deliver, signal.pthread_sigmask

def delivered(wish, bundle):
    status = deliver(wish, bundle)
    signal.pthread_sigmask = late
    return status

def late(how, signals):
    before = mask(how, signals)
    os.kill(os.getpid(), signal.SIGINT)
    return before

certs_command._deliver = delivered
sys.exit(certs_command.main(sys.argv[1:]))
"""


def test_ctrl_c_behind_the_handing_over_is_too_late(certs: Certs) -> None:
    """All is told: what it ends with and what is written down say the same."""
    words = ["add", f"--state-dir={certs.state}", "--bundle", "node-a"]
    command = [sys.executable, "-c", LATE, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["name"] == "node-a"
    assert [one["state"] for one in certs.volunteers()] == ["good"]


def test_a_folder_that_takes_no_key_leaves_nothing(certs: Certs, tmp_path: Path) -> None:
    """Neither half a file nor a certificate without its key."""
    (tmp_path / "file").touch()
    ended = certs("certs", "add", "node-a", "--out", str(tmp_path / "file" / "a"))
    assert ended.code == 71 and "Nothing was added." in ended.err
    assert certs("certs", "add", "node-a", "--out", str(tmp_path / "b")).code == 0


def test_a_manager_that_does_not_answer_is_told_and_nothing_is_added(certs: Certs, tmp_path: Path) -> None:
    """Its certificate would be refused by that manager; what is only taken away stays taken away."""
    certs("certs", "add", "node-a", "--out", str(tmp_path / "a"))
    with hanging_up(certs.state / "tls"):
        added = certs("certs", "add", "node-b", "--out", str(tmp_path / "b"))
        assert added.code == 70 and "does not read what is changed" in added.err
        assert "Nothing was added." in added.err and not (tmp_path / "b").exists()
        revoked = certs("certs", "revoke", "node-a")
        assert revoked.code == 70 and "it is written down, but the manager that runs" in revoked.err
    listed = certs("certs", "list", "--json").document["certificates"]
    assert {one["name"]: one["state"] for one in listed if one["kind"] == "volunteer"} == {
        "node-a": "revoked",
        "node-b": "revoked",
    }


@pytest.mark.parametrize("to", ["group", "command"])
@pytest.mark.parametrize("verb", ["add", "renew"])
def test_ctrl_c_leaves_no_certificate_without_its_key(
    certs: Certs, tmp_path: Path, verb: str, to: str
) -> None:
    """While the manager is waited for, it is signed already: nobody gets its key, so it is refused."""
    script = Path(sys.executable).with_name("syndicatectl")
    words = [
        str(script),
        "certs",
        verb,
        "node-a",
        "--out",
        str(tmp_path / "a"),
        "--state-dir",
        str(certs.state),
    ]
    with saying_nothing(certs.state / "tls") as asked:
        command = subprocess.Popen(
            words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert asked.wait(60), "the manager was asked"
        if to == "group":
            os.killpg(command.pid, signal.SIGINT)
        else:
            command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out) == (130, "") and "interrupted" in err and "Traceback" not in err
    listed = certs("certs", "list", "--json").document["certificates"]
    assert [one["state"] for one in listed if one["name"] == "node-a"] == ["revoked"]
    assert not (tmp_path / "a").exists()
    assert certs("certs", "add", "node-a", "--out", str(tmp_path / "b")).code == 0


def test_what_is_waited_for_is_told(certs: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, on standard error; what comes then is as it is without."""
    monkeypatch.setattr(certs_commands, "_QUIET_S", 0.001)
    ended = certs("certs", "list", "--json")
    assert ended.document["cluster"] == "lab"
    assert ended.err.count("waits for") == 1 and ended.err.count("\n") == 1


@contextmanager
def saying_nothing(folder: Path) -> Iterator[threading.Event]:
    """A manager's socket behind which everybody is let in and nobody answered."""
    asked, held = threading.Event(), list[socket.socket]()

    def hold(one: socket.socket) -> None:
        held.append(one)
        asked.set()

    try:
        with behind_the_socket(folder, hold):
            yield asked
    finally:
        for one in held:
            one.close()


@contextmanager
def hanging_up(folder: Path) -> Iterator[None]:
    """A manager's socket behind which everybody is let in and put out again."""
    with behind_the_socket(folder, socket.socket.close):
        yield


@contextmanager
def behind_the_socket(folder: Path, came: Callable[[socket.socket], None]) -> Iterator[None]:
    """Has each connection to the manager's socket dealt with so, in a thread."""

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):  # it is closed in the end
            while True:
                came(listening.accept()[0])

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(f"/proc/self/fd/{descriptor}/control")
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            (folder / "control").unlink()
            os.close(descriptor)


def test_a_revoked_machine_that_holds_a_token_is_told(certs: Certs, tmp_path: Path) -> None:
    """The token is good for others, and by another name for it too: how to end it is told."""
    made = certs("join-token", "create", "--uses", "3", "--json").document
    Office(Folder(certs.state / "tls")).join(made["token"], "node-j", request())
    ended = certs("certs", "revoke", "node-j")
    assert ended.code == 0
    assert f"syndicatectl join-token revoke {made['token_id']}" in ended.out and "2 more" in ended.out
    certs("certs", "add", "node-b", "--out", str(tmp_path / "b"))
    assert "join-token" not in certs("certs", "revoke", "node-b").out, "it came without one"


def test_revoke_and_renew(certs: Certs, tmp_path: Path) -> None:
    """A revoked host is listed as such; renew gives it another certificate."""
    certs("certs", "add", "node-a", "--out", str(tmp_path / "a"))
    assert "revoked; no manager runs here" in certs("certs", "revoke", "node-a").out
    assert certs("certs", "revoke", "node-a").code == 65 + 1
    assert certs("certs", "renew", "node-a", "--out", str(tmp_path / "b")).code == 0
    states = [one["state"] for one in certs("certs", "list", "--json").document["certificates"]]
    assert sorted(states) == ["good", "good", "revoked"]
    assert "10.0.0.5" in certs("certs", "renew", "--address", "mgr.lan").out


def test_renew_of_a_name_that_is_not_known_says_so(certs: Certs, tmp_path: Path) -> None:
    """It is made, and may be a slip of the pen."""
    certs("certs", "add", "node-a", "--out", str(tmp_path / "a"))
    slip = certs("certs", "renew", "nobody", "--out", str(tmp_path / "b"))
    assert slip.code == 0 and "nobody had no certificate before" in slip.out
    assert "syndicatectl certs revoke nobody" in slip.out
    for verb, name, first in (("renew", "nobody", False), ("renew", "node-x", True), ("add", "node-y", True)):
        words = ("--out", str(tmp_path / f"{name}{first}"), "--json")
        assert certs("certs", verb, name, *words).document["first"] is first
    certs("certs", "revoke", "node-a")
    for ended in (
        certs("certs", "renew", "node-a", "--out", str(tmp_path / "c")),
        certs("certs", "add", "node-z", "--out", str(tmp_path / "d")),
    ):
        assert ended.code == 0 and "before" not in ended.out


def test_a_second_revoke_tells_the_manager_all_the_same(certs: Certs, tmp_path: Path) -> None:
    """The first one may have been killed behind its write; it can be asked for by name or by token."""
    certs("certs", "add", "node-a", "--out", str(tmp_path / "a"))
    token_id = certs("join-token", "create", "--json").document["token_id"]
    words = ("certs", "revoke", "node-a"), ("join-token", "revoke", token_id)
    for each in words:
        assert certs(*each).code == 0 and certs(*each).code == 66
    with hanging_up(certs.state / "tls"):
        for each in words:
            ended = certs(*each)
            assert ended.code == 70 and "the manager that runs did not read it" in ended.err


@pytest.mark.parametrize(("damage", "says"), [("garbage", "not a certificate"), (None, "it is gone")])
def test_a_damaged_authority_stops_no_revocation(
    certs: Certs, tmp_path: Path, damage: str | None, says: str
) -> None:
    """Nor does one that is gone. What is wrong is told in one line, and again in JSON; a repeat is one."""
    for name in ("node-a", "node-b"):
        assert certs("certs", "add", name, "--out", str(tmp_path / name)).code == 0
    tokens = [certs("join-token", "create", "--json").document["token_id"] for _ in range(2)]
    ca = certs.state / "tls" / "ca.pem"
    ca.unlink()
    if damage is not None:
        ca.write_text(damage)
    for words in (("certs", "revoke", "node-a"), ("join-token", "revoke", tokens[0])):
        ended = certs(*words)
        assert (ended.code, ended.err) == (0, "") and "revoked" in ended.out
        (line,) = (line for line in ended.out.splitlines() if "Not as it should be" in line)
        assert str(ca) in line and says in line
        assert certs(*words).code == 66
    for words in (("certs", "revoke", "node-b"), ("join-token", "revoke", tokens[1])):
        trouble = certs(*words, "--json").document["trouble"]
        assert str(ca) in trouble and says in trouble
    register = Folder(certs.state / "tls").register()
    assert {one.name for one in register.issued if one.revoked_at} == {"node-a", "node-b"}
    assert all(one.revoked_at for one in register.tokens)


def test_no_authority_is_made_where_one_has_been(certs: Certs) -> None:
    """Who has lost ca.pem is told which file is gone, and not to make another authority."""
    (certs.state / "tls" / "ca.pem").unlink()
    for words in (("certs", "list"), ("certs", "add", "node-a"), ("join-token", "create")):
        ended = certs(*words)
        assert ended.code == 70 and "ca.pem: it is gone" in ended.err
        assert "Put the file back from a copy." in ended.err and "certs init" not in ended.err
    again = certs("certs", "init")
    assert again.code == 65 and "holds no authority (ca.pem)" in again.err


def test_a_lost_key_is_told(certs: Certs) -> None:
    """71, with what still works and what helps."""
    (certs.state / "tls" / "ca.key").unlink()
    ended = certs("certs", "add", "node-a")
    assert ended.code == 71 and "is gone: nothing can be signed" in ended.err
    assert not Path("syndicate-node-a").exists()
    assert "ca.key) is not here" in certs("certs", "list").out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("add", "Node A"), 65, "no name of a volunteer"),
        (("add", "node-a", "--address", "*.lan"), 65, "neither a host's name nor an address"),
        (("add", "node-a", "--days", "0"), 64, "--days must be a whole number of at least 1"),
        (("add", "node-a", "--out", "x", "--ssh", "y"), 64, "at once"),
        (("revoke", "node-x"), 66, "has no certificate here"),
    ],
)
def test_bad_input_changes_nothing(
    certs: Certs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    """Each with its code and one line."""
    monkeypatch.chdir(tmp_path)
    before = (certs.state / "tls" / "register.json").read_bytes()
    ended = certs("certs", *words)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert (certs.state / "tls" / "register.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [("--out", "x"), ("--ssh", "root@node-a"), ("--days", "5"), ("--ssh-folder", "/x")],
    ids=lambda w: w[0],
)
def test_renew_without_a_host_refuses_what_is_for_hosts(certs: Certs, words: tuple[str, ...]) -> None:
    """Whoever forgot the host is not given another certificate of the manager's."""
    before = (certs.state / "tls" / "manager.pem").read_bytes()
    ended = certs("certs", "renew", *words)
    assert (ended.code, ended.out) == (64, "")
    assert f"{words[0]} is for a volunteer's certificate" in ended.err and "certs renew HOST" in ended.err
    assert (certs.state / "tls" / "manager.pem").read_bytes() == before


def test_lists_fit_the_terminal(certs: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns nothing is broken, and what is needed is there; other outputs have all of it."""
    certs("certs", "add", "a" * 63, "--out", str(tmp_path / "a"))
    made = certs("join-token", "create", "--uses", "40", "--json").document
    for number in range(12):
        Office(Folder(certs.state / "tls")).join(made["token"], f"machine-{number}", request())
    listed = certs("certs", "list", "--json").document
    wide = certs("certs", "list").out
    assert all(one["serial"] in wide and one["name"] in wide for one in listed["certificates"])
    assert (
        "machine-0, " in certs("join-token", "list").out and "machine-11\n" in certs("join-token", "list").out
    )
    monkeypatch.setattr(Terminal, "room", property(lambda self: 80))
    for words in (("certs", "list"), ("join-token", "list")):
        lines = certs(*words).out.splitlines()
        assert max(map(len, lines)) <= 80, lines
        assert "EXPIRES" in " ".join(lines) and "good" in lines[-1]
    assert listed["fingerprint"] in certs("certs", "list").out, "whole, to be copied"


def test_without_an_authority_the_first_step_is_named(bare_ctl: Ctl, tmp_path: Path) -> None:
    """66."""
    ended = Certs(bare_ctl, tmp_path)("certs", "add", "node-a")
    assert ended.code == 66 and "syndicatectl certs init" in ended.err


def test_a_join_token_is_shown_once(certs: Certs) -> None:
    """With the fingerprint beside it; lists have its id alone."""
    made = certs("join-token", "create", "--uses", "3", "--ttl", "1h60m", "--json").document
    token_id, _, secret = made["token"].partition(".")
    assert made["ca_fingerprint"].startswith("sha256:") and made["uses"] == 3
    assert made["expires_at"] - made["made_at"] == 7200
    listed = certs("join-token", "list")
    assert token_id in listed.out and secret not in listed.out
    assert secret not in json.dumps(certs("join-token", "list", "--json").document)
    assert certs("join-token", "revoke", token_id).code == 0
    assert "revoked" in certs("join-token", "list").out
    assert [one["state"] for one in certs("join-token", "list", "--json").document["tokens"]] == ["revoked"]
    again = certs("join-token", "revoke", token_id)
    assert again.code == 66 and f"{token_id} is revoked already" in again.err


@pytest.mark.parametrize("name", ["-x", "-h", "--help", "--json", "--serial"])
def test_a_machine_whose_name_looks_like_an_option_is_revoked(
    certs: Certs, bare_ctl: Ctl, tmp_path: Path, name: str
) -> None:
    """A machine that joins chooses its name; with this one it stayed, and `-h` looked like done."""
    office = Office(Folder(certs.state / "tls"))
    _, token = office.create_token(1, 3600)
    office.join(token, name, request())

    ended = bare_ctl("certs", "revoke", "--state-dir", str(certs.state), "--", name)
    assert (ended.code, ended.out.split("   ")[0]) == (0, name), ended.err
    assert not office.folder.register().live(name, int(time.time()))


def test_add_and_renew_take_a_name_that_looks_like_an_option(
    certs: Certs, bare_ctl: Ctl, tmp_path: Path
) -> None:
    """As other commands do, behind `--`."""
    for verb in ("add", "renew"):
        place = str(tmp_path / verb)
        ended = bare_ctl("certs", verb, "--state-dir", str(certs.state), "--out", place, "--", "-h")
        assert ended.code == 0, ended.err
        assert (tmp_path / verb / "identity.pem").exists()


@pytest.mark.parametrize("kind", ["link", "open", *(["foreign"] if os.geteuid() == 0 else [])])
def test_no_key_goes_where_somebody_else_could_swap_the_authority(
    certs: Certs, tmp_path: Path, kind: str
) -> None:
    """A folder that another user laid in the way is refused; what it leads to stays, and nothing is added."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "ca.pem").write_text("precious")
    place = theirs
    if kind == "link":
        place = tmp_path / "node-a"
        place.symlink_to(theirs)
    elif kind == "open":
        theirs.chmod(0o777)
    else:
        os.chown(theirs, 65534, 65534)

    ended = certs("certs", "add", "node-a", "--out", str(place))
    assert ended.code in (65, 71) and "Nothing was added" in ended.err
    assert [(path.name, path.read_text()) for path in theirs.iterdir()] == [("ca.pem", "precious")]
    assert not Office(Folder(certs.state / "tls")).folder.register().live("node-a", int(time.time()))


def test_a_whole_join_token_is_taken_for_its_id_and_repeated_nowhere(certs: Certs) -> None:
    """Whoever has seen a token has all of it; also where it stands in a wrong place no error shows it."""
    made = certs("join-token", "create", "--json").document
    token_id, _, secret = made["token"].partition(".")
    ended = certs("join-token", "revoke", made["token"])
    assert (ended.code, ended.out) == (0, f"{token_id}   revoked\n")
    stranger = f"0123abcd.{secret}"
    for words in (
        ("join-token", "revoke", stranger),
        ("certs", "add", stranger),
        ("certs", "revoke", stranger),
    ):
        refused = certs(*words)
        assert refused.code in (65, 66) and "0123abcd" in refused.err
        assert secret not in refused.err + refused.out
