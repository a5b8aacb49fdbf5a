"""Whatever is shown at the doors of a real manager: certificates, tokens and metadata of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from syndicate.manager.control import tell_manager
from syndicate.manager.pki import Office
from syndicate.v1 import chaos_pb2, registry_pb2, scheduler_pb2

from tests.manager.authorities import DAY, Pair, manager_process, of_bundle, office, signed, stranger
from tests.manager.scripted import WAIT_S, bearer
from tests.manager.test_doors import methods

USERS = methods(scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"])
CHAOS = methods(chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"])
FETCH = f"/{registry_pb2.DESCRIPTOR.services_by_name['Registry'].full_name}/FetchSource"
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
KEYS: tuple[Any, ...] = (
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    rsa.generate_private_key(65537, 1024),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP521R1()),
)
STRONG = 2  # of these, the first ones


@dataclass(frozen=True)
class Doors:
    """A manager in a process of its own, with its authority."""

    office: Office
    users: str
    volunteers: str
    token: str

    @property
    def ca(self) -> bytes:
        """The authority's certificate."""
        return (self.office.folder.path / "ca.pem").read_bytes()

    def ask(
        self, address: str, method: str, metadata: Any = (), pair: Pair | None = None, message: bytes = b""
    ) -> tuple[grpc.StatusCode, str]:
        """Calls a method, and returns how it ended."""
        credentials = pair.channel(self.ca) if pair else grpc.ssl_channel_credentials(self.ca)
        with grpc.secure_channel(address, credentials, options=OPTIONS) as channel:
            call = channel.unary_stream(method)(message, metadata=tuple(metadata), timeout=WAIT_S)
            with suppress(grpc.RpcError):  # how it ended is what is asked for
                list(call)
            reason = dict(call.trailing_metadata() or ()).get("syndicate-reason", "")
            return call.code(), str(reason)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """The manager."""
    state: Path = tmp_path_factory.mktemp("manager")
    at_work = office(state)
    with manager_process(state) as said:
        token = (state / "admin.token").read_text().strip()
        yield Doors(at_work, said["users"], said["volunteers"], token)


@pytest.fixture(scope="module")
def pair(doors: Doors) -> Pair:
    """A good certificate of a volunteer."""
    made = of_bundle(doors.office.add("node-z", ()).identity)
    tell_manager(doors.office.folder.path)
    return made


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["node-a", "node-b"]),
    st.fixed_dictionaries(
        {},
        optional={
            "begin": st.integers(-10 * DAY, 3 * DAY),
            "end": st.integers(-3 * DAY, 10 * DAY),
            "uri": st.sampled_from(
                [
                    "syndicate://c-test/volunteer/node-a",
                    "syndicate://c-test/volunteer/",
                    "syndicate://c-test/manager",
                    "syndicate://c-test",
                    "syndicate://c-other/volunteer/node-a",
                    "https://c-test/volunteer/node-a",
                    "",
                ]
            ),
            "usage": st.sampled_from([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
            "key": st.sampled_from(KEYS),
            "addresses": st.lists(st.sampled_from(["127.0.0.1", "10.0.0.7"]), max_size=2),
            "register": st.booleans(),
            "stranger": st.booleans(),
        },
    ),
)
@example("node-a", {})
@example("node-a", {"key": KEYS[-2]})
def test_a_certificate_opens_the_door_only_where_all_of_it_is_right(
    doors: Doors, name: str, shape: dict[str, Any]
) -> None:
    """Authority, dates, name, purpose, key, address and register, each of them right or wrong."""
    own = dict(shape)
    from_elsewhere = own.pop("stranger", False)
    uri = own.setdefault("uri", f"syndicate://c-test/volunteer/{name}")
    begin, end = own.setdefault("begin", -DAY), own.setdefault("end", DAY)
    if begin >= end:
        own["begin"] = begin = end - 3600
    is_ours = uri.startswith("syndicate://c-test/volunteer/n")
    own["register"] = own.get("register", True) and uri.startswith("syndicate://") and uri[-1] != "/"
    pair = stranger(uri) if from_elsewhere else signed(doors.office.folder, **own)
    assert tell_manager(doors.office.folder.path) is not None

    code, reason = doors.ask(doors.volunteers, FETCH, pair=pair, message=unknown_source())

    addresses = own.get("addresses", [])
    good = (
        not from_elsewhere
        and is_ours
        and begin < -60
        and end > 60
        and own.get("usage", ExtendedKeyUsageOID.CLIENT_AUTH) == ExtendedKeyUsageOID.CLIENT_AUTH
        and own["register"]
        and (not addresses or "127.0.0.1" in addresses)
        and own.get("key") in (None, *KEYS[:STRONG])
    )
    in_doubt = min(abs(begin), abs(end)) <= 60
    if good:
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_BLOB")
    elif not in_doubt:
        assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED), reason


def unknown_source() -> bytes:
    """A request that is right in itself, for a source that is not there."""
    return registry_pb2.FetchSourceRequest(sha256="0" * 64).SerializeToString()


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)
NAMES = st.sampled_from(["authorization", "syndicate-user", "syndicate-session", "syndicate-task", "x-y"])
METADATA = st.lists(
    st.one_of(
        st.tuples(NAMES, WORDS),
        st.tuples(NAMES.map(lambda name: f"{name}-bin"), st.binary(max_size=200)),
        st.tuples(
            st.just("authorization"),
            st.one_of(WORDS.map(lambda word: f"Bearer {word}"), WORDS.map(lambda word: f"Bearer syn_{word}")),
        ),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(USERS), METADATA)
def test_no_metadata_but_a_token_opens_the_users_door(doors: Doors, method: str, said: Any) -> None:
    """Whatever comes along: nobody is known by it, and the manager serves on."""
    code, reason = doors.ask(doors.users, method, said)
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.sampled_from("azAZ09_. "), st.booleans())
def test_a_token_that_differs_in_one_character_is_none(
    doors: Doors, at: int, letter: str, lengthened: bool
) -> None:
    """At any place, changed, or put in between."""
    token = doors.token
    at %= len(token)
    other = token[:at] + letter + token[at + (not lengthened) :]
    code, _ = doors.ask(doors.users, USERS[0].rpartition("/")[0] + "/WhoAmI", bearer(other))
    assert (code is grpc.StatusCode.OK) == (other == token)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CHAOS), METADATA)
def test_no_metadata_makes_a_client_of_a_volunteer(doors: Doors, pair: Pair, method: str, said: Any) -> None:
    """With a good certificate: a stream's name that is guessed attests nothing."""
    code, _ = doors.ask(doors.volunteers, method, said, pair)
    assert code in (
        grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT,
    )  # fmt: skip
