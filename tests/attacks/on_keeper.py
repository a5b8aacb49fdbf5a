"""Attacks on the keeper's socket: each is a `run` of an attack; what it saw is in its facts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from syndicate.volunteer import audit, frames, local
from syndicate.volunteer.keeper_client import KeeperClient, KeeperGone

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran
from tests.attacks.outside import MUCH, done, memory_of

_SOON_S = 20.0
_NOBODY = 65534


def keeper_garbage(arena: Arena, _attack: Attack) -> Ran:
    """Garbage as a stranger's first words, and as the volunteer's; then a frame that claims to be 4 GiB."""
    pid, dice = arena.cluster.daemons["keeper"].pid, random.Random(7)
    before, held = memory_of(pid), []
    sync = frames.encode(local.RequestFrame(1, local.Sync()))
    with _no_volunteer(arena):
        for words in _garbage(dice):
            for hello in (b"", sync):
                held.append(_say(arena, hello + words))
        most = max(_pour(arena, sync, pid, before), memory_of(pid) - before)
    for link in held:
        link.close()
    return done(arena, grown=most)


def _garbage(dice: random.Random) -> Iterator[bytes]:
    """Frames that are none."""
    length = struct.Struct(">I")
    yield from (dice.randbytes(size) for size in (1, 5, 300, 70_000))
    for body in (b"", b"\0", b"[" * 3_000, b'{"frame":"request"}', b'{"a":1e999,"a":NaN}', b"\xff" * 3_000):
        yield length.pack(len(body) + 4) + length.pack(len(body)) + body
        yield length.pack(len(body) + 4) + length.pack(0xFFFF_FFFF) + body
        yield length.pack(len(body) + 40) + length.pack(len(body)) + body  # the rest never comes
    yield length.pack(0) + length.pack(3) + length.pack((1 << 20) + 1)
    for fields in (
        '"slot":-1',
        '"slot":99999',
        '"slot":1.5',
        '"slot":true',
        '"slot":"0"',
        '"slot":1' + "0" * 400,
    ):
        for kind in ("Release", "Prepare", "Start", "ReadLog", "Nothing", "__class__"):
            head = f'{{"frame":"request","number":1,"kind":"{kind}","value":{{{fields}}}}}'.encode()
            yield length.pack(len(head) + 4) + length.pack(len(head)) + head


def _say(arena: Arena, words: bytes) -> socket.socket:
    """A connection on which this was said, as far as the keeper listened."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(20)
    link.connect(str(arena.cluster.run_dir / "keeper.sock"))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        link.sendall(words)
    return link


def _pour(arena: Arena, hello: bytes, pid: int, before: int) -> int:
    """By how much the keeper grows for one frame that is far too large."""
    link, most = _say(arena, hello + b"\xff\xff\xff\xfe"), 0
    with link, contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
        for _ in range(256):
            link.sendall(b"\0" * (1 << 20))
            most = max(most, memory_of(pid) - before)
            if most > MUCH:
                break
    return most


@contextlib.contextmanager
def _no_volunteer(arena: Arena) -> Iterator[None]:
    """While the volunteer, in whose place the attack speaks, does nothing."""
    volunteer = arena.cluster.daemons["volunteer"]
    volunteer.pause()
    try:
        yield
    finally:
        volunteer.resume()


def keeper_crowd(arena: Arena, _attack: Attack) -> Ran:
    """Connections that say nothing, more than there may be: is there a place for one that has a question?"""
    links = [_say(arena, b"\0\0") for _ in range(60)]
    try:
        answered = True
        try:
            asyncio.run(audit.ask(arena.cluster.run_dir / "keeper.sock"))
        except KeeperGone:
            answered = False
    finally:
        for link in links:
            link.close()
    return done(arena, answered=answered)


def keeper_stranger(arena: Arena, _attack: Attack) -> Ran:
    """Another user of the machine asks the keeper."""
    path = arena.cluster.run_dir / "keeper.sock"
    question = frames.encode(local.RequestFrame(1, local.Audit()))
    asks = (
        f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect({str(path)!r}); "
    )
    asks += f"s.sendall(bytes.fromhex({question.hex()!r})); sys.exit(not s.recv(4096))"
    # By a program: Python's own way to another user forks, which gRPC's threads do not bear.
    become = ["/usr/bin/setpriv", "--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups"]
    command = [*become, "/usr/bin/python3", "-c", asks]
    asked = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    refusals = ("PermissionError", "ConnectionReset")
    refused = asked.returncode == 1 and (not asked.stderr or any(name in asked.stderr for name in refusals))
    assert refused or asked.returncode == 0, asked
    return done(arena, answered=not refused)


def keeper_cache(arena: Arena, attack: Attack) -> Ran:
    """Pipes, links and folders under digests in the cache, then a Prepare of each, as the volunteer would."""
    cache = arena.cluster.dir / "volunteer" / "cache"
    taken = arena.facts()["bystander_slots"].values()
    slot = next(number for number in range(arena.cluster.slots) if number not in taken)
    secret = arena.bait / "bait"
    makers: tuple[Callable[[Path], object], ...] = (
        os.mkfifo,
        lambda path: path.symlink_to(secret),
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(b""),
    )
    said = []
    with _no_volunteer(arena):
        for number, make in enumerate(makers):
            path = cache / f"{number:064x}"
            make(path)
            try:
                said.append(asyncio.run(_prepare(arena, slot, path.name)))
            finally:
                if path.is_fifo():  # a keeper that waits for it is let go
                    with contextlib.suppress(OSError):
                        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    return done(arena, said=said)


async def _prepare(arena: Arena, slot: int, digest: str) -> str:
    """What the keeper says to a task with this source: the refusal, or how it failed to refuse."""
    cluster_id = arena.cluster.users.cluster().cluster_id
    task = local.TaskId(cluster_id, 999_999, 1, "master")
    async with await KeeperClient.connect(arena.cluster.run_dir / "keeper.sock") as client:
        synced = await client.request(local.Sync(), _SOON_S)
        assert isinstance(synced, local.Synced), synced
        member = local.Member("master", local.Role.MASTER, "10.77.255.250")
        request = local.Prepare(
            *(slot, task, synced.epochs[cluster_id], local.Role.MASTER, member.address, 16, (member,)),
            *(digest, "attack", local.Limits()),
        )
        try:
            answer = await client.request(request, _SOON_S)
        except TimeoutError:
            return "it hangs"
        if isinstance(answer, local.Refused):
            return f"refused: {answer.detail}"
        await client.request(local.Release(slot, task), _SOON_S)
        return "it was taken"
