"""Certificates, the register and join tokens, without a manager."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.pki import (
    Authority,
    BadInput,
    Damaged,
    Exists,
    JoinToken,
    Kind,
    Office,
    Register,
    TokenRefused,
    make_authority,
    read,
    renewal_due,
    requested_key,
)
from syndicate.manager.pki.register import Issued

from tests.manager.authorities import DAY, office, request

NOW = 1_800_000_000
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def at_work(tmp_path: Path) -> Office:
    """An authority with its folder."""
    return office(tmp_path / "state")


def authority() -> Authority:
    """One in memory, made from arguments alone."""
    made = make_authority("c1", KEY, 1, NOW)
    return Authority(made.certificate.pem, made.key)


def test_what_is_made_depends_on_arguments_alone() -> None:
    """Names, dates and serial number are those that were given: nothing is drawn, no clock is read."""
    one = authority().volunteer("node-a", ("10.0.0.7", "node-a.lan"), KEY.public_key(), 77, NOW)

    assert (one.kind, one.cluster, one.name, one.serial) == (Kind.VOLUNTEER, "c1", "node-a", "4d")
    assert (one.not_before, one.not_after) == (NOW - 600, NOW + 90 * DAY)
    assert one.addresses == ("node-a.lan", "10.0.0.7")


def test_a_volunteers_certificate_is_for_clients_and_the_managers_for_servers() -> None:
    """A machine that was broken into cannot play the manager to others."""
    uses = {}
    signer = authority()
    for one in (
        signer.volunteer("node-a", ("10.0.0.5",), KEY.public_key(), 2, NOW),
        signer.manager(("10.0.0.5",), KEY, 3, NOW).certificate,
    ):
        loaded = x509.load_pem_x509_certificate(one.pem)
        uses[one.kind] = list(loaded.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        assert loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert uses == {
        Kind.VOLUNTEER: [ExtendedKeyUsageOID.CLIENT_AUTH],
        Kind.MANAGER: [ExtendedKeyUsageOID.SERVER_AUTH],
    }


def test_nothing_outlives_the_authority() -> None:
    """A certificate ends with it at the latest, and one that has expired signs nothing."""
    made = make_authority("c1", KEY, 1, NOW, lifetime_s=10 * DAY)
    signer = Authority(made.certificate.pem, made.key)

    assert signer.volunteer("node-a", (), KEY.public_key(), 2, NOW).not_after == NOW + 10 * DAY
    with pytest.raises(BadInput, match="has expired"):
        signer.volunteer("node-a", (), KEY.public_key(), 2, NOW + 11 * DAY)


@pytest.mark.parametrize("name", ["", "Node", "a_b", "x" * 64, "a/b", "node-a\n", "ñ"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """It would become part of a URI, a file's name and a log line."""
    with pytest.raises(BadInput, match="no name of a volunteer"):
        authority().volunteer(name, (), KEY.public_key(), 2, NOW)


@pytest.mark.parametrize("address", ["", "a b", "*.lan", "10.0.0.0/8", "-x", "x" * 254, "a..b", "h\0st"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """Wildcards and prefixes too: a certificate is one machine's."""
    with pytest.raises(BadInput, match="neither a host's name nor an address"):
        authority().volunteer("node-a", (address,), KEY.public_key(), 2, NOW)


def test_the_key_of_another_authority_is_told() -> None:
    """Key and certificate are held to each other before anything is signed."""
    made = make_authority("c1", KEY, 1, NOW)
    other = make_authority("c1", ec.generate_private_key(ec.SECP256R1()), 1, NOW)
    with pytest.raises(Damaged, match="that of another certificate"):
        Authority(made.certificate.pem, other.key)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP192R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["rsa1024", "rsa2048", "p192", "secp256k1"],
)
def test_a_weak_or_strange_key_is_not_signed_for(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    """ECDSA on P-256 or P-384, nothing else: TLS 1.3 alone can be spoken with these."""
    with pytest.raises(BadInput, match="too weak or of another kind"):
        requested_key(request(key))


def test_a_request_that_another_key_signed_is_refused() -> None:
    """Who asks must hold the key: one bit of the signature is turned."""
    body = base64.b64decode(b"".join(request().splitlines()[1:-1]))
    turned = body[:-1] + bytes([body[-1] ^ 1])
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(turned)
    with pytest.raises(BadInput, match=r"not signed by its own key|cannot be read"):
        requested_key(pem + b"-----END CERTIFICATE REQUEST-----\n")


WHOLE = (request(KEY), make_authority("c1", KEY, 1, NOW).certificate.pem)


@pytest.mark.parametrize(
    ("work", "refused", "whole", "was", "turned"),
    [
        (requested_key, BadInput, WHOLE[0], b"\x02\x01\x00", b"\x02\x01\x0a"),
        (read, Damaged, WHOLE[1], b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a"),
        (read, Damaged, WHOLE[1], b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x0f"),
        (read, Damaged, WHOLE[1], b"\x86\x0esyndicate", b"\xa3\x0esyndicate"),
    ],
    ids=["request-version", "version", "extension-twice", "kind-of-name"],
)
def test_a_form_that_there_is_not_is_refused_in_words(
    work: Callable[[bytes], object], refused: type[Exception], whole: bytes, was: bytes, turned: bytes
) -> None:
    """A version, an extension or a name that no standard has: the library has an error for each."""
    head, *lines, tail = whole.splitlines()
    body = base64.b64decode(b"".join(lines))
    assert was in body
    pem = b"\n".join([head, base64.encodebytes(body.replace(was, turned, 1)).rstrip(), tail, b""])
    with pytest.raises(refused):
        work(pem)


# The library warns of some forms that it will refuse one day.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 800), st.integers(0, 255))), st.integers(0, 800)
)
def test_any_bytes_for_a_request_or_a_certificate_are_refused_in_words(
    whole: bytes, turned: list[tuple[int, int]], length: int
) -> None:
    """Torn, turned and foreign ones raise what is meant for them, and nothing else."""
    text = bytearray(whole)
    for at, value in turned:
        text[at % len(text)] = value
    for work, refused in ((requested_key, BadInput), (read, Damaged)):
        try:
            work(bytes(text[:length]))
        except refused as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said


def test_an_ed25519_key_is_not_signed_for() -> None:
    """gRPC cannot speak with it."""
    name = x509.Name([])
    built = x509.CertificateSigningRequestBuilder().subject_name(name)
    pem = built.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
    with pytest.raises(BadInput, match="too weak or of another kind"):
        requested_key(pem)


def test_the_register_survives_being_written() -> None:
    """What is read is what was written."""
    register = Register().with_issued(authority().certificate, NOW)
    assert Register.from_json(register.to_json()) == register


def test_a_renewal_is_due_in_the_last_third() -> None:
    """Of the whole life."""
    one = authority().volunteer("node-a", (), KEY.public_key(), 2, NOW)
    third = (one.not_after - one.not_before) // 3
    assert not renewal_due(one, one.not_after - third - 2)
    assert renewal_due(one, one.not_after - third + 2)
    assert renewal_due(one, one.not_before - 1)  # made by a clock that was far ahead


# ---- join tokens ------------------------------------------------------------------------------------------


def test_a_join_token_lets_in_as_many_machines_as_it_says(at_work: Office) -> None:
    """One that comes again counts once, and what it had before is revoked."""
    token, text = at_work.create_token(2, 3600)
    first = at_work.join(text, "node-a", request())
    again = at_work.join(text, "node-a", request())
    at_work.join(text, "node-b", request())
    with pytest.raises(TokenRefused, match="is used up: 2 joined by it"):
        at_work.join(text, "node-c", request())

    register = at_work.folder.register()
    assert [one.serial for one in register.live("node-a", 0)] == [again.serial] != [first.serial]
    assert {one.token_id for one in register.live("node-a", 0)} == {token.token_id}
    assert register.live("node-c", 0) == []


def test_of_one_name_the_oldest_of_very_many_are_forgotten(
    at_work: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And refused, as all that the register does not have; those of others stay."""
    most = 5  # each is synced to the disk several times
    monkeypatch.setattr("syndicate.manager.pki.register.MOST_OF_ONE", most)
    other = at_work.add("node-b", ()).certificate
    _, text = at_work.create_token(1, 3600)
    made = [at_work.join(text, "node-a", request()).serial for _ in range(most + 2)]

    register = at_work.folder.register()
    assert [one.serial for one in register.issued if one.name == "node-a"] == made[2:]
    assert register.find(made[0]) is None and register.live("node-b", 0)[0].serial == other.serial
    assert [one.serial for one in register.live("node-a", 0)] == made[-1:]


def test_a_join_token_cannot_take_the_name_of_a_machine_that_did_not_join_by_it(at_work: Office) -> None:
    """Else one token would be enough to speak for every machine."""
    at_work.add("node-a", ())
    _, text = at_work.create_token(5, 3600)
    _, other = at_work.create_token(5, 3600)
    at_work.join(other, "node-b", request())
    for name in ("node-a", "node-b"):
        with pytest.raises(Exists, match="has a certificate already"):
            at_work.join(text, name, request())
    assert at_work.folder.register().tokens[0].used_by == ()


def test_a_join_token_ends(at_work: Office) -> None:
    """By its time, by revocation; and its secret is not kept."""
    token, text = at_work.create_token(1, 3600)
    assert text.partition(".")[2] not in (at_work.folder.path / "register.json").read_text()
    later = Office(at_work.folder, lambda: token.expires_at)
    with pytest.raises(TokenRefused, match="expired on"):
        later.join(text, "node-a", request())
    at_work.revoke_token(token.token_id)
    with pytest.raises(TokenRefused, match="is revoked"):
        at_work.join(text, "node-a", request())


@pytest.mark.parametrize("uses", [0, -1, 10_001])
def test_a_token_for_nobody_or_everybody_is_refused(at_work: Office, uses: int) -> None:
    """From 1 to 10,000 machines."""
    with pytest.raises(BadInput, match="uses asked for"):
        at_work.create_token(uses, 3600)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_any_other_text_is_no_join_token(text: str) -> None:
    """Whatever it is, the answer is the same, and says nothing of what was wrong."""
    token = JoinToken("abcd1234", "0" * 64, 5, NOW, NOW + 3600)
    register = Register(tokens=(token,))
    for given_text in (text, f"abcd1234.{text}"):
        with pytest.raises(TokenRefused, match=r"^no such join token$"):
            register.joined(given_text, "node-a", NOW)


def test_the_end_of_each_volunteers_last_certificate_is_told_also_when_it_is_over() -> None:
    """By name; what was revoked has none, and the manager's own is not among them."""
    issued = (
        Issued("1", Kind.VOLUNTEER, "node-a", 0, 100),
        Issued("2", Kind.VOLUNTEER, "node-a", 50, 300),
        Issued("3", Kind.VOLUNTEER, "node-b", 0, 100),
        Issued("4", Kind.VOLUNTEER, "node-c", 0, 900, revoked_at=5),
        Issued("5", Kind.MANAGER, "manager", 0, 900),
    )
    register = Register(issued)

    assert register.ends() == {"node-a": 300, "node-b": 100}
