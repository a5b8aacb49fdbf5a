"""What systemd is told, and what it tells: by volunteer and keeper, and by the manager alike."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from syndicate.manager import notify as managers_notify
from syndicate.volunteer import notify as volunteers_notify

both = pytest.mark.parametrize("notify", [volunteers_notify, managers_notify], ids=["volunteer", "manager"])


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Systemd's end; no watchdog is asked for."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(60)
        ear.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield ear


@both
async def test_the_watchdog_hears_of_a_loop_that_turns(
    notify: ModuleType, heard: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times in its time, until the task is cancelled."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    task = asyncio.create_task(notify.keep_watchdog())
    assert [await asyncio.to_thread(heard.recv, 100) for _ in range(4)] == [b"WATCHDOG=1"] * 4
    task.cancel()
    await asyncio.wait([task])


@both
@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("0", ""), ("soon", ""), ("30000", "1")])
async def test_no_watchdog(
    notify: ModuleType, heard: socket.socket, monkeypatch: pytest.MonkeyPatch, usec: str, pid: str
) -> None:
    """Where none waits for this very process nothing is told."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    async with asyncio.timeout(60):
        await notify.keep_watchdog()
    assert notify.stopping() and heard.recv(100) == b"STOPPING=1"


@both
def test_a_status_is_one_line(notify: ModuleType, heard: socket.socket) -> None:
    """Or a text from elsewhere could tell systemd more than it should."""
    assert notify.status("a\nREADY=1  b") and heard.recv(100) == b"STATUS=a READY=1 b"


@both
def test_nobody_listens(notify: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, and nothing fails."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert not notify.ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify.ready()
