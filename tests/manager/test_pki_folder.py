"""The authority's folder: what is done with certificates, what is kept of it, and what damage is told."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from syndicate.manager import certs_command
from syndicate.manager.pki import (
    BadInput,
    ClockOff,
    Damaged,
    Exists,
    Folder,
    KeyLost,
    Kind,
    Office,
    Register,
    Revoked,
    TokenRefused,
    Unknown,
)
from syndicate.manager.pki import folder as folder_module
from syndicate.manager.pki.register import MOST_DEEDS

from tests.manager.authorities import DAY, office, request

NOW = 1_800_000_000
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def at_work(tmp_path: Path) -> Office:
    """An authority with its folder."""
    return office(tmp_path / "state")


def test_keys_are_their_owners_alone(at_work: Office) -> None:
    """The folder 0700, every file in it 0600 but the authority's certificate."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in at_work.folder.path.iterdir()}
    assert stat.S_IMODE(at_work.folder.path.stat().st_mode) == 0o700
    assert modes.pop("ca.pem") == 0o644
    assert set(modes) == {"ca.key", "manager.pem", "register.json", "lock"} and set(modes.values()) == {0o600}


def test_a_second_init_is_refused_and_changes_nothing(at_work: Office) -> None:
    """The line says which authority is there."""
    before = {path.name: path.read_bytes() for path in at_work.folder.path.iterdir()}
    with pytest.raises(Exists, match="holds the authority of cluster c-test already"):
        at_work.init("c-other", ())
    assert {path.name: path.read_bytes() for path in at_work.folder.path.iterdir()} == before
    assert [path.name for path in at_work.folder.path.parent.iterdir()] == ["tls"]


def test_of_two_inits_at_once_one_is_refused_and_the_other_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one's certificate could lie there with the other's key, or with none."""
    first_writes, go_on = threading.Event(), threading.Event()
    write = Folder.write

    def slow(folder: Folder, name: str, data: bytes, mode: int = 0o600) -> None:
        if name == "ca.key" and not first_writes.is_set():
            first_writes.set()
            go_on.wait(60)
        write(folder, name, data, mode)

    monkeypatch.setattr(Folder, "write", slow)
    outcomes: list[str] = []

    def init(cluster: str) -> None:
        try:
            Office(Folder(tmp_path / "tls")).init(cluster, ())
            outcomes.append(cluster)
        except Exists:
            outcomes.append("refused")

    threads = [threading.Thread(target=init, args=(cluster,)) for cluster in ("c-one", "c-two")]
    threads[0].start()
    assert first_writes.wait(60)
    threads[1].start()
    threads[1].join(0.3)  # long enough to be done, where nothing keeps it
    go_on.set()
    for thread in threads:
        thread.join(60)
    folder = Folder(tmp_path / "tls")
    assert sorted(outcomes) == ["c-one", "refused"]
    assert folder.authority().certificate.cluster == folder.manager().cluster == "c-one"
    assert folder.register().find(folder.manager().serial) is not None


def test_an_init_with_a_bad_address_leaves_nothing(tmp_path: Path) -> None:
    """All is made before the first file is."""
    with pytest.raises(BadInput):
        Office(Folder(tmp_path / "tls")).init("c1", ("not an address",))
    assert list(tmp_path.iterdir()) == []


def test_a_host_added_twice_is_refused(at_work: Office) -> None:
    """The line names the remedies; after a revocation it can be added again."""
    at_work.add("node-a", ())
    with pytest.raises(Exists, match="node-a has a certificate already") as caught:
        at_work.add("node-a", ())
    assert any("certs renew node-a" in line for line in caught.value.lines)
    at_work.revoke("node-a")
    at_work.add("node-a", ())


def test_a_lost_key_is_told_and_nothing_is_half_done(at_work: Office) -> None:
    """What was issued stays good; nothing new is written down, and no join token is used up."""
    holder = at_work.add("node-a", ()).certificate
    _, text = at_work.create_token(1, 3600)
    before, files = at_work.folder.register(), at_work.folder.manager_pem()
    (at_work.folder.path / "ca.key").unlink()
    for work in (
        lambda: at_work.add("node-b", ()),
        lambda: at_work.renew("node-a", ()),
        lambda: at_work.renew_manager(),
        lambda: at_work.join(text, "node-j", request()),
        lambda: at_work.sign_again(holder, request()),
        lambda: at_work.create_token(1, 3600),  # nobody could join by it
    ):
        with pytest.raises(KeyLost, match="is gone: nothing can be signed"):
            work()
    assert at_work.folder.register() == before and at_work.folder.manager_pem() == files
    at_work.revoke("node-a")


def test_a_clock_before_the_authoritys_beginning_is_told_with_how_far_it_is_off(at_work: Office) -> None:
    """Nothing is signed by such a clock."""
    begin = at_work.folder.authority_certificate().not_before
    late = Office(at_work.folder, lambda: begin - 3 * 3600)
    with pytest.raises(ClockOff, match="the clock is at least 3 h behind"):
        late.add("node-a", ())
    assert late.folder.register().live("node-a", begin) == []


def test_a_clock_after_the_authoritys_end_is_told_with_how_far_it_is_off(at_work: Office) -> None:
    """Nobody can tell from here whether it is the clock; nothing is signed either way."""
    end = at_work.folder.authority_certificate().not_after
    early = Office(at_work.folder, lambda: end + 3 * 3600)
    for work in (lambda: early.add("node-a", ()), early.renew_manager):
        with pytest.raises(ClockOff, match="the clock is at least 3 h ahead"):
            work()
    assert early.folder.register().live("node-a", end - 1) == []


def test_what_was_revoked_stays_so_and_a_stranger_is_told(at_work: Office) -> None:
    """All certificates of a machine at once, also those that renewals made."""
    first, second = at_work.add("node-a", ()), at_work.renew("node-a", ())
    serials = {first.certificate.serial, second.certificate.serial}
    assert set(at_work.revoke("node-a")) == serials
    register = at_work.folder.register()
    assert all((line := register.find(serial)) is not None and line.revoked_at for serial in serials)
    for name, text in (("node-a", "is revoked already"), ("node-x", "has no certificate here")):
        with pytest.raises(Unknown, match=text):
            at_work.revoke(name)


def test_commands_at_the_same_time_lose_nothing(at_work: Office) -> None:
    """Ten machines added at once stand all in the register."""
    threads = [threading.Thread(target=at_work.add, args=(f"node-{n}", ())) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    names = {one.name for one in at_work.folder.register().issued if one.kind is Kind.VOLUNTEER}
    assert names == {f"node-{n}" for n in range(10)}


def test_a_damaged_register_lets_nobody_in(at_work: Office) -> None:
    """It is told, not taken for an empty one."""
    half = b'{"version": 1, "issued": [{}], "tokens": []}'
    for text in (b"", b"{}", b'{"version": 2}', half, b"\0", b"\xff"):
        (at_work.folder.path / "register.json").write_bytes(text)
        with pytest.raises(Damaged):
            at_work.folder.register()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("register.json", "{", r"/tls/register\.json: the register cannot be read"),
        ("ca.key", "garbage", r"/tls/ca\.key: it is no key \(PEM\)"),
        ("ca.key", None, r"/tls/ca\.key: the authority's key is that of another certificate"),
        ("ca.pem", "garbage", r"/tls/ca\.pem: not a certificate"),
    ],
)
def test_a_damaged_file_is_named_with_what_helps(
    at_work: Office, tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    """Nobody has to guess which file it is, or read a library's words."""
    other = Office(Folder(tmp_path / "other"))
    other.init("c-other", ())
    there = at_work.folder.path / name
    there.write_text((other.folder.path / name).read_text() if text is None else text)
    for work in (lambda: at_work.add("node-a", ()), at_work.renew_manager, at_work.folder.authority):
        if work == at_work.folder.authority and name == "register.json":
            continue  # it is not read for that
        with pytest.raises(Damaged, match=says) as caught:
            work()
        assert any("copy" in line for line in caught.value.lines)
        assert "cryptography.io" not in str(caught.value)


@pytest.mark.parametrize("name", ["register.json", "ca.pem", "ca.key", "manager.pem"])
@pytest.mark.parametrize("what", ["pipe", "socket", "folder", "device", "endless"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(
    at_work: Office, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    """The manager's user owns the folder: whoever reads there is not held up by what it lays."""
    there = at_work.folder.path / name
    there.unlink()
    if what == "pipe":
        os.mkfifo(there)
    elif what == "socket":
        descriptor = os.open(at_work.folder.path, os.O_RDONLY | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{descriptor}/{name}")
        os.close(descriptor)
    elif what == "folder":
        there.mkdir()
    elif what == "device":
        there.symlink_to("/dev/zero")
    else:
        monkeypatch.setattr(folder_module, "_MOST_BYTES", 1 << 20)
        there.write_bytes(b" " * ((1 << 20) + 1))
    reads: dict[str, Callable[[], object]] = {
        "register.json": at_work.folder.register,
        "ca.pem": at_work.folder.authority_certificate,
        "ca.key": at_work.folder.authority,
        "manager.pem": at_work.folder.manager,
    }
    says = "it is larger than 1 MiB" if what == "endless" else "it is no plain file"
    with pytest.raises(Damaged, match=rf"/tls/{name}: {says}"), no_longer_than(10):
        reads[name]()
    if name == "manager.pem":
        with pytest.raises(Damaged, match=rf"/tls/{name}: {says}"), no_longer_than(10):
            at_work.folder.manager_pem()
    if name == "ca.pem":
        with pytest.raises(Damaged, match=rf"/tls/{name}: {says}"), no_longer_than(10):
            at_work.folder.authority()


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """What waits in this thread is interrupted by a TimeoutError."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_the_manager_keeps_its_names_and_gets_new_ones(at_work: Office) -> None:
    """A renewal has another key, and the one before is not shown any more."""
    before = at_work.folder.manager_pem()
    made = at_work.renew_manager(("mgr.example.org",))
    assert {"localhost", "127.0.0.1", "mgr.example.org"} <= set(made.addresses)
    after = at_work.folder.manager_pem()
    keys = [load_pem_private_key(pem, None).public_key() for pem in (before, after)]
    assert keys[0] != keys[1] and at_work.folder.manager().serial == made.serial


def test_a_revoked_machine_does_not_come_back_by_its_join_token(at_work: Office) -> None:
    """It still holds the token; others may join by it."""
    _, text = at_work.create_token(3, 3600)
    at_work.join(text, "node-a", request())
    at_work.revoke("node-a")
    with pytest.raises(TokenRefused, match="node-a was revoked"):
        at_work.join(text, "node-a", request())
    at_work.join(text, "node-b", request())
    assert at_work.folder.register().live("node-a", 0) == []


def test_a_machine_whose_certificate_has_expired_can_be_revoked(at_work: Office) -> None:
    """Its join token may be good for longer; also once its certificate is forgotten."""
    _, text = at_work.create_token(3, 365 * DAY)
    at_work.join(text, "node-a", request())
    at_work.join(text, "node-b", request())
    now = at_work.now()
    later, long_after = (Office(at_work.folder, lambda at=at: now + at * DAY) for at in (100, 130))  # type: ignore[misc]
    later.revoke("node-a")
    later.add("node-c", ())
    for name in ("node-d", "node-e"):
        long_after.add(name, ())
    known = {one.name for one in at_work.folder.register().issued}
    assert known == {"manager", "node-c", "node-d", "node-e"}
    long_after.revoke("node-b")
    for name in ("node-a", "node-b"):
        with pytest.raises(TokenRefused, match=f"{name} was revoked"):
            long_after.join(text, name, request())
        with pytest.raises(Unknown):
            long_after.revoke(name)


def test_all_of_a_machines_certificates_are_revoked_together(at_work: Office) -> None:
    """Also one that has expired: a stream that began with it may stand, by the word of the newer one."""
    first = at_work.add("node-a", ()).certificate
    later = Office(at_work.folder, lambda: first.not_after + 5)
    second = Office(at_work.folder, lambda: first.not_after - 5).renew("node-a", ()).certificate
    assert later.revoke("node-a") == [first.serial, second.serial]


def test_a_clock_that_is_ahead_for_once_forgets_nothing(at_work: Office) -> None:
    """The manager renews its own certificate at a start with such a clock; all others are to stay known."""
    there = at_work.add("node-a", ()).certificate
    Office(at_work.folder, lambda: at_work.now() + 400 * DAY).renew_manager()
    at_work.renew_manager()
    assert at_work.folder.register().find(there.serial) is not None


def test_a_certificate_that_was_revoked_meanwhile_is_not_renewed(at_work: Office) -> None:
    """Who called was let in before the revocation: what it asks for comes too late."""
    holder = at_work.add("node-a", ()).certificate
    at_work.revoke("node-a")
    with pytest.raises(Revoked):
        at_work.sign_again(holder, request())
    assert at_work.folder.register().live("node-a", 0) == []


def test_what_an_operator_does_is_written_down_with_it(at_work: Office) -> None:
    """Who, what and when, in the same file as the change; what the manager does by itself is not."""
    then = at_work.folder.authority_certificate().not_before + DAY
    by_hand = Office(at_work.folder, lambda: then, by="ann")
    by_hand.add("node-a", ())
    by_hand.renew("node-a", ())
    by_hand.renew_manager()
    token, _ = by_hand.create_token(1, 3600)
    by_hand.revoke_token(token.token_id)
    by_hand.revoke("node-a")
    at_work.add("node-b", ())

    deeds = at_work.folder.register().deeds
    assert {(one.who, one.at) for one in deeds} == {("ann", then)}
    assert [(one.method, one.subject) for one in deeds] == [
        ("certs add", "node node-a"),
        ("certs renew", "node node-a"),
        ("certs renew", "manager"),
        ("join-token create", f"join token {token.token_id}"),
        ("join-token revoke", f"join token {token.token_id}"),
        ("certs revoke", "node node-a"),
    ]
    at_work.forget(deeds[:4])
    assert at_work.folder.register().deeds == deeds[4:]


def test_a_login_name_that_is_no_text_is_written_down_as_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager could not save it in its audit log, at no start until somebody mends the register."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "j\udcfcrg")

    assert certs_command._who() == "j\ufffdrg"


def test_what_waits_for_the_audit_log_is_bounded() -> None:
    """Of more than a thousand commands without a manager the oldest go."""
    register = Register()
    for at in range(MOST_DEEDS + 5):
        register = register.with_deed(at, "ann", "certs renew", "manager")
    assert [register.deeds[0].at, register.deeds[-1].at] == [5, MOST_DEEDS + 4]
