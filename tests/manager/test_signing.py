"""Certificates by request and by command: each signed once, and each in the audit log."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from syndicate.manager.control import ManagerStuck
from syndicate.manager.pki import Office, day
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager import people
from tests.manager.authorities import Pair, of_bundle, office, request
from tests.manager.certified import Place, attach, running
from tests.manager.conftest import Running, Start
from tests.manager.scripted import WAIT_S, stamp, tarball, upload
from tests.manager.test_doors import knock_on

REGISTRY = registry.DESCRIPTOR.services_by_name["Registry"]


async def test_who_joined_and_who_was_denied_is_in_the_audit_log(start: Start, tmp_path: Path) -> None:
    """By name and address, without the token; a machine named as a user does not look like that user."""
    async with running(start, tmp_path) as place, place.users() as channel:
        _, text = place.office.create_token(1, 3600)
        for token, name in ((text, "admin"), (text, "node-k")):
            wish = registry.JoinRequest(
                request_id=str(uuid.uuid4()), token=token, volunteer_id=name,
                signing_request=request().decode(), sent_at=stamp(),
            )  # fmt: skip
            await knock_on(channel, f"/{REGISTRY.full_name}/Join", (), wish.SerializeToString())
        denied, signed = (line for line in await people.audit(place.manager) if line.method == "Join")
    assert (signed.who, signed.subject, signed.allowed, signed.peer) == (
        "node admin", "node admin", True, "127.0.0.1",
    )  # fmt: skip
    assert (denied.who, denied.subject, denied.allowed, denied.reason) == (
        "", "node node-k", False, "BAD_JOIN_TOKEN",
    )  # fmt: skip
    assert text not in f"{denied}{signed}"


async def test_who_renewed_and_who_was_denied_is_in_the_audit_log(start: Start, tmp_path: Path) -> None:
    """By the name in the certificate; a repeat of the request has no line of its own."""
    async with running(start, tmp_path) as place:
        pairs = {name: of_bundle(place.office.add(name, ()).identity) for name in ("node-a", "node-r")}
        place.office.revoke("node-r")
        await place.reload()
        wish = registry.RenewRequest(
            request_id=str(uuid.uuid4()), signing_request=request().decode(), sent_at=stamp()
        )
        for name in ("node-a", "node-a", "node-r"):
            async with place.volunteers(pairs[name]) as channel:
                path = f"/{REGISTRY.full_name}/Renew"
                await knock_on(channel, path, (), wish.SerializeToString())
        lines = [line for line in await people.audit(place.manager) if line.method == "Renew"]
    told = [(one.who, one.peer, one.allowed, one.reason) for one in lines]
    assert told == [
        ("node node-r", "127.0.0.1", False, "CERTIFICATE_REVOKED"),
        ("node node-a", "127.0.0.1", True, ""),
    ]


async def test_what_is_answered_is_in_the_audit_log_already(start: Start, tmp_path: Path) -> None:
    """On the disk: a manager that crashes right behind its answer has written down whom it let in."""
    lines = 0

    def more() -> list[str]:
        nonlocal lines
        with closing(sqlite3.connect(f"file:{tmp_path / 'state' / 'manager.db'}?mode=ro", uri=True)) as rows:
            found = [str(doc) for (doc,) in rows.execute("SELECT doc FROM audit ORDER BY line")][lines:]
        lines += len(found)
        return found

    async with running(start, tmp_path) as place, place.users() as channel:
        key = ec.generate_private_key(ec.SECP256R1())
        _, text = place.office.create_token(1, 3600)
        said: dict[str, Any] = {"signing_request": request(key).decode(), "sent_at": stamp()}
        wish = registry.JoinRequest(request_id=str(uuid.uuid4()), token=text, volunteer_id="node-j", **said)
        answer = await registry_grpc.RegistryStub(channel).Join(wish, timeout=WAIT_S)
        assert [doc for doc in more() if '"Join"' in doc]

        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        async with place.volunteers(Pair(answer.certificate.encode(), secret)) as own:
            again = registry.RenewRequest(request_id=str(uuid.uuid4()), **said)
            await registry_grpc.RegistryStub(own).Renew(again, timeout=WAIT_S)
        assert [doc for doc in more() if '"Renew"' in doc]

        await upload(place.manager.scheduler, tarball(), place.manager.token)
        assert [doc for doc in more() if '"UploadSource"' in doc]


async def test_a_request_that_comes_twice_at_once_is_signed_once(start: Start, tmp_path: Path) -> None:
    """Else the second would revoke what the first was given."""
    async with running(start, tmp_path) as place, place.users() as channel:
        _, text = place.office.create_token(1, 3600)
        stub: Any = registry_grpc.RegistryStub(channel)
        wish = registry.JoinRequest(
            request_id=str(uuid.uuid4()), token=text, volunteer_id="node-j",
            signing_request=request().decode(), sent_at=stamp(),
        )  # fmt: skip
        answers = await asyncio.gather(*(stub.Join(wish, timeout=WAIT_S) for _ in range(5)))
    assert len({answer.certificate for answer in answers}) == 1
    issued = [one for one in place.office.folder.register().issued if one.name == "node-j"]
    assert [one.revoked_at for one in issued] == [0]


async def test_who_gives_up_before_the_answer_changes_nothing(start: Start, tmp_path: Path) -> None:
    """What was signed meanwhile is known to the manager: the same request gets it, and it is good."""
    async with running(start, tmp_path) as place, place.users() as channel:
        _, text = place.office.create_token(1, 3600)
        stub: Any = registry_grpc.RegistryStub(channel)
        key = ec.generate_private_key(ec.SECP256R1())
        wish = registry.JoinRequest(
            request_id=str(uuid.uuid4()), token=text, volunteer_id="node-j",
            signing_request=request(key).decode(), sent_at=stamp(),
        )  # fmt: skip
        with place.office.folder.locked():
            hasty = stub.Join(wish, timeout=WAIT_S)
            await people.until(lambda: _is_signing(place))
            hasty.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hasty
        answer = await stub.Join(wish, timeout=WAIT_S)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        await attach(place, Pair(answer.certificate.encode(), secret), "node-j")
    assert len([one for one in place.office.folder.register().issued if one.name == "node-j"]) == 1


async def test_what_is_signed_while_the_manager_stops_is_not_answered(start: Start, tmp_path: Path) -> None:
    """Its audit log is closed by then: whoever asked asks the next manager, whose log has it."""
    state = tmp_path / "state"
    at_work = office(state)
    async with start(state_dir=state, insecure=False, stop_grace_s=WAIT_S) as manager:
        place = Place(manager, at_work)
        assert manager.serving is not None
        async with place.users() as channel:
            _, text = at_work.create_token(1, 3600)
            wish = registry.JoinRequest(
                request_id=str(uuid.uuid4()), token=text, volunteer_id="node-j",
                signing_request=request().decode(), sent_at=stamp(),
            )  # fmt: skip
            with at_work.folder.locked():
                asked = registry_grpc.RegistryStub(channel).Join(wish, timeout=WAIT_S)
                await people.until(lambda: _is_signing(place))
                os.kill(os.getpid(), signal.SIGTERM)
                await people.until(lambda: _is_stopping(manager))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asked
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        async with asyncio.timeout(WAIT_S):
            await manager.serving


async def _is_stopping(manager: Running) -> bool:
    """Whether it takes no more calls."""
    return not (manager.state_dir / "manager.ready").exists()


async def _is_signing(place: Place) -> bool:
    """Whether somebody waits for the folder's lock: one more than this process's own."""
    lock = (place.office.folder.path / "lock").stat().st_ino
    return [_inode(each) for each in os.listdir("/proc/self/fd")].count(lock) > 1


def _inode(descriptor: str) -> int:
    """Of what is open there; 0 where another thread has closed it meanwhile."""
    try:
        return os.stat(f"/proc/self/fd/{descriptor}").st_ino
    except FileNotFoundError:
        return 0


async def test_what_operators_do_is_in_the_audit_log(start: Start, tmp_path: Path) -> None:
    """Whether a manager runs at the time or starts later: who, what, from where; each once."""
    at_work = office(tmp_path / "state")
    by_hand = Office(at_work.folder, by="ann")
    by_hand.add("node-a", ())
    async with start(state_dir=tmp_path / "state", insecure=False) as manager:
        place = Place(manager, by_hand)
        token, _ = by_hand.create_token(1, 3600)
        by_hand.revoke("node-a")
        await place.reload()
        await place.reload()
        lines = [line for line in await people.audit(manager) if line.peer == "local"]
    told = [(one.who, one.method, one.subject, one.allowed) for one in reversed(lines)]
    assert told == [
        ("ann", "certs add", "node node-a", True),
        ("ann", "join-token create", f"join token {token.token_id}", True),
        ("ann", "certs revoke", "node node-a", True),
    ]
    assert by_hand.folder.register().deeds == ()


@pytest.mark.parametrize("who", ["Jörg.Doe", "uid 1000", "a" * 255])
async def test_what_an_operator_did_is_found_by_the_login(start: Start, tmp_path: Path, who: str) -> None:
    """Which need not be written as a user's name is."""
    Office(office(tmp_path / "state").folder, by=who).create_token(1, 3600)
    async with start(state_dir=tmp_path / "state", insecure=False) as manager:

        async def look() -> list[Any]:
            return await people.audit(manager, user=who)

        (line,) = await people.until(look)
    assert (line.who, line.method, line.peer) == (who, "join-token create", "local")


async def test_what_was_done_long_ago_is_told_with_its_time(start: Start, tmp_path: Path) -> None:
    """The line is as old as the manager; the deed is older."""
    at_work = office(tmp_path / "state")
    then = int(time.time()) - 300
    Office(at_work.folder, lambda: then, by="ann").create_token(1, 3600)
    async with start(state_dir=tmp_path / "state", insecure=False) as manager:

        async def look() -> list[Any]:
            return [line for line in await people.audit(manager) if line.peer == "local"]

        (line,) = await people.until(look)
    assert line.subject.endswith(f", on {day(then)}")


async def test_a_folder_that_cannot_be_read_is_told_to_who_asks(start: Start, tmp_path: Path) -> None:
    """The command says so; the manager serves on with what it read before."""
    async with running(start, tmp_path) as place:
        (place.office.folder.path / "register.json").write_text("{}")
        with pytest.raises(ManagerStuck, match="the register cannot be read"):
            await place.reload()
        assert (
            await place.manager.scheduler.WhoAmI(scheduler.WhoAmIRequest(), **place.manager.credentials)
        ).user
