"""Unpacking: a source that nobody trusts is laid down by a slot that reaches nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from functools import partial

from keeper.harness import KeeperProcess, Link, makefile, tarball
from keeper.network_helpers import until
from keeper.ordeals import AMPLE, SLOW, pace
from syndicate.volunteer.keeper.network import in_namespace
from syndicate.volunteer.local import Done, Limits, Revive, Role

_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}
_ECHO = """
import socket

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 4000))
print("up", flush=True)
while True:
    s.sendto(*s.recvfrom(9))
"""
_STILL_SECONDS = 0.3  # in which an answer would have come


async def test_unpacking_has_no_network(keeper: KeeperProcess, link: Link) -> None:
    """While tar works nothing of the slot reaches its job, first and at a revival; then it does."""
    echo = link.task(
        {"Makefile": makefile("@python3 echo.py", "slave"), "echo.py": _ECHO}, Role.SLAVE, slot=1
    )
    await echo.begin()
    await echo.said("up")
    big = {**_WAITS, **{f"f{number}": "x" * 1000 for number in range(20_000)}}
    task = link.task_of(tarball(big))

    for generation in (1, 2):
        if generation == 1:
            limits = Limits(disk_bytes=256 << 20, cpu_millis=SLOW)
            laying = asyncio.create_task(link.ask(task.prepare_request(limits)))
        else:
            await task.kill()
            pace(keeper, SLOW)
            laying = asyncio.create_task(link.ask(Revive(0, task.id, 2, False)))
        tar, namespace = await _stopped_tar(link)
        pace(keeper, AMPLE)
        try:
            during = await asyncio.to_thread(_answers, namespace, echo.address)
            os.kill(tar, signal.SIGCONT)
            assert isinstance(await laying, Done)
            await asyncio.to_thread(until, "it answers", partial(_answers, namespace, echo.address))
        finally:
            os.close(namespace)
        assert not during
        if generation == 1:
            await task.start()
        await task.said("up", generation)


async def _stopped_tar(link: Link) -> tuple[int, int]:
    """The pid of tar on slot 0, a slow one, which is stopped in the middle; its network namespace held."""
    while True:
        found = [line.split() for line in (await link.audit()).in_use if line.endswith(" tar")]
        if found:
            pid = int(found[0][1])
            os.kill(pid, signal.SIGSTOP)
            return pid, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)


def _answers(namespace: int, address: str) -> bool:
    """Whether the echo answers a datagram from within the namespace."""
    with in_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.settimeout(_STILL_SECONDS)
        try:
            asking.sendto(b"x", (address, 4000))
            return asking.recv(9) == b"x"
        except OSError:
            return False
