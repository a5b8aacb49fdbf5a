"""Which thread of a program gets a signal that was sent while it stood still."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import SECONDS
from keeper.network_helpers import until
from syndicate.volunteer.keeper import signals
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.freezing import frozen

TIMES = 30
UNKNOWN_FLAG = 1 << 30  # the kernel's answer to it is that of one before 6.9 to the flag that names a thread
_PAUSE = {"x86_64": "34", "aarch64": "73"}  # the call's number; glibc's is ppoll() on the latter
_BUSY_THREADS = """
import signal, threading, time
signal.signal(signal.SIGUSR1, lambda *_: print("caught", flush=True))
for _ in range(3):
    threading.Thread(target=lambda: [time.sleep(0.002) for _ in iter(int, 1)], daemon=True).start()
print("up", flush=True)
while True:
    signal.pause()
"""
_FIRST_THREAD_BLOCKS = """
import signal, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def waits():
    while True:
        signal.sigwait([signal.SIGUSR1])
        print("caught", flush=True)
threading.Thread(target=waits, daemon=True).start()
print("up", flush=True)
threading.Event().wait()
"""


def _pauses(pid: int) -> bool:
    """Whether its first thread waits in pause(), and not for its turn."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] == _PAUSE[os.uname().machine]


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup as deep as a generation's, gone afterwards."""
    mount = find_mount()
    assert mount is not None
    made = [Cgroup.make(mount / f"syn-sig-{os.getpid()}")]
    made += [made[0].child("slot-0")]
    made += [made[1].child("g1")]
    yield made[2]
    made[2].kill()
    for one in reversed(made):
        one.path.rmdir()


@pytest.mark.parametrize("program", [_BUSY_THREADS, _FIRST_THREAD_BLOCKS], ids=["takes", "blocks"])
@pytest.mark.parametrize("flag", [1, UNKNOWN_FLAG], ids=["this kernel", "before 6.9"])
async def test_the_thread_that_handles_a_signal_gets_it(
    cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch, program: str, flag: int
) -> None:
    """Each time: the first thread where it takes the signal, as Python needs it, and else one that does."""
    monkeypatch.setattr(signals, "_TO_FIRST_THREAD", flag)
    task = subprocess.Popen(  # noqa: ASYNC220  # returns at once
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True
    )
    assert task.stdout is not None
    with task, task.stdout as said:
        assert said.readline() == "up\n"
        (cgroup.path / "cgroup.procs").write_text(str(task.pid))
        for _ in range(TIMES):
            if program == _BUSY_THREADS:
                # One that came right before its pause(), and not in it, would go unseen until the next.
                await asyncio.to_thread(until, "it pauses", lambda: _pauses(task.pid))
            cgroup.set_frozen(True)
            assert await frozen(cgroup, SECONDS, asyncio.Event())
            sent = signals.send(cgroup, signal.SIGUSR1, but=())
            cgroup.set_frozen(False)
            assert sent == 1
            caught = asyncio.to_thread(said.readline)
            try:
                async with asyncio.timeout(SECONDS):
                    assert await asyncio.shield(caught) == "caught\n"
            except TimeoutError:
                cgroup.kill()  # ends the reader, too
                raise AssertionError("no thread that handles it got the signal") from None
        cgroup.kill()
