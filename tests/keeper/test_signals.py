"""A signal reaches a task's programs, once, and neither make nor a shell that waits."""

from __future__ import annotations

import signal

from keeper.harness import KeeperProcess, Link, makefile
from keeper.ordeals import FORKS, WAITS, begin, pids_of, python, send_signal, suffer
from syndicate.volunteer.local import ErrorCode, Signal

# Handlers run between two steps of Python: a signal that came right before a pause() would go unseen. They
# run in a print() too, once its bytes are out and the next signal may have been sent for them.
_CATCHES = """
import os, signal, sys

def caught(number, frame):
    os.write(1, b"caught %d\\n" % number)
    if number == signal.SIGTERM:
        sys.exit(0)

for each in (signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(each, caught)
came, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
print("up", flush=True)
while True:
    os.read(came, 1)
"""
_CAUGHT_UNDER_A_SHELL = {"Makefile": makefile("@python3 catch.py; echo after $$?"), "catch.py": _CATCHES}


async def test_signal_reaches_the_program_and_neither_make_nor_its_shell(link: Link) -> None:
    """Under make and a shell that waits for it one process is reached, and both see it go on."""
    task = link.task(_CAUGHT_UNDER_A_SHELL)
    await begin(task)

    quit_ = await send_signal(task, signal.SIGQUIT)
    await task.said("caught 3")
    ended = await send_signal(task, signal.SIGTERM)

    record = await task.exit()
    assert (quit_.processes, ended.processes) == (1, 1)
    assert (record.status, record.killed) == (0, False)
    assert await task.output() == "up\ncaught 3\ncaught 15\nafter 0\n"


async def test_shell_that_waits_for_nobody_gets_signals(link: Link) -> None:
    """A job may be a shell script: one that works itself is a program like any other."""
    task = link.task({"Makefile": makefile("@trap 'echo caught; exit 0' USR1; echo up; while :; do :; done")})
    await begin(task)

    sent = await send_signal(task, signal.SIGUSR1)

    assert sent.processes == 1
    assert (await task.exit()).status == 0


async def test_signal_that_nobody_handles_ends_the_programs(link: Link) -> None:
    """Its ends are the task's own: nobody killed it."""
    task = link.task(WAITS)
    await begin(task)

    sent = await send_signal(task, signal.SIGTERM)

    record = await task.exit()
    assert sent.processes == 2
    assert not record.killed
    assert record.status == 2


async def test_signal_of_one_request_is_sent_once(link: Link, keeper: KeeperProcess) -> None:
    """A repeat, also over another connection and after the task's end, gets the first answer."""
    task = link.task(_CAUGHT_UNDER_A_SHELL)
    await begin(task)
    first = await send_signal(task, signal.SIGUSR1, name="one")
    await task.said("caught 10")

    again = await send_signal(task, signal.SIGUSR1, name="one")
    await send_signal(task, signal.SIGTERM, name="two")
    await task.exit()
    after = await send_signal(task, signal.SIGTERM, name="two")

    assert (first.already, again.already, again.processes) == (False, True, 1)
    assert (after.already, after.processes) == (True, 1)
    assert (await task.output()).count("caught 10") == 1


async def test_signal_to_what_does_not_run_is_refused(link: Link) -> None:
    """A generation that was not started, has ended, or is not the last gets none."""
    task = link.task(WAITS)
    await task.prepare()
    early = await link.refused(Signal(0, task.id, 1, 3, "a"))
    await task.start()
    await task.said("up")
    other = await link.refused(Signal(0, task.id, 2, 3, "b"))
    await task.kill()

    late = await link.refused(Signal(0, task.id, 1, 3, "c"))

    assert {early.code, other.code, late.code} == {ErrorCode.WRONG_STATE}


async def test_paused_task_gets_its_signals_when_it_runs_again(link: Link, keeper: KeeperProcess) -> None:
    """Until then even one that would end it changes nothing; then they come in their order."""
    task = link.task(_CAUGHT_UNDER_A_SHELL)
    await begin(task)
    await suffer(task, paused=True)
    before = pids_of(keeper)

    sent = [await send_signal(task, number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    held = pids_of(keeper)
    await suffer(task)

    await task.exit()
    assert [each.processes for each in sent] == [1, 1]
    assert held == before
    assert "caught 15\n" in await task.output()


async def test_signal_without_a_handler_waits_for_a_paused_task(link: Link, keeper: KeeperProcess) -> None:
    """The kernel would end it at once, frozen or not: so it is held back."""
    task = link.task(WAITS)
    await begin(task)
    await suffer(task, paused=True)
    before = pids_of(keeper)

    await send_signal(task, signal.SIGTERM)
    held = pids_of(keeper)
    await suffer(task)

    assert held == before
    assert not (await task.exit()).killed


async def test_task_that_forks_gets_a_signal_whole(link: Link) -> None:
    """However quickly its processes come and go, those of one moment get it, and it ends of it."""
    task = link.task(python(FORKS))
    await begin(task)

    sent = await send_signal(task, signal.SIGKILL)

    assert sent.processes in (1, 2)
    assert (await task.exit()).status == 2
