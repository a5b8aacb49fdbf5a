"""The keeper's side of the launcher: whose process an answer names, and how the launcher ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from keeper.harness import SECONDS, network_instance
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.launch import Launcher
from syndicate.volunteer.keeper.mounts import unshare_mounts
from syndicate.volunteer.keeper.process import reap

_SLEEP = "/bin/sleep"


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A cgroup for what the test starts; it must be empty at the end."""
    mount = find_mount()
    assert mount is not None
    made = Cgroup.make(mount / f"syn-{network_instance()}")
    yield made
    made.kill()
    made.remove()


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    """A launcher that is not given up on."""
    made = Launcher.open(seconds=SECONDS)
    yield made
    made.close()


@contextmanager
def _impatient(launcher: Launcher) -> Iterator[None]:
    """While it is not waited for any longer than this."""
    launcher._seconds = 0.1
    try:
        yield
    finally:
        launcher._seconds = SECONDS


def _start(launcher: Launcher, cgroup: Cgroup, seconds: str) -> int:
    inside = cgroup.open()
    null = os.open("/dev/null", os.O_RDWR)
    mounts = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    try:
        return launcher.start([_SLEEP, seconds], inside, mounts, None, [null, null, null], [])
    finally:
        for descriptor in (inside, null, mounts):
            os.close(descriptor)


def test_late_answer_is_not_the_next_ones(launcher: Launcher, cgroup: Cgroup) -> None:
    """A process whose answer came too late is ended and reaped; each later start is told its own pid."""
    before = _children()
    late, *others = (cgroup.child(name) for name in ("late", "second", "third"))
    os.kill(launcher.pid, signal.SIGSTOP)
    with _impatient(launcher), pytest.raises(KeeperError, match="does not answer"):
        _start(launcher, late, "300")
    os.kill(launcher.pid, signal.SIGCONT)

    started = [_start(launcher, each, "301") for each in others]

    assert [each.pids() for each in others] == [[pid] for pid in started]
    assert late.pids() == []
    assert _children() - before == set(started)
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        assert reap(pid, SECONDS)


def test_launcher_stays_out_of_the_slots_mounts(launcher: Launcher, cgroup: Cgroup) -> None:
    """What is started has the mounts that it was given; the launcher is back in its own."""
    own = os.readlink(f"/proc/{launcher.pid}/ns/mnt")
    with ThreadPoolExecutor(1) as slot:
        slot.submit(unshare_mounts).result()
        given = slot.submit(os.readlink, "/proc/thread-self/ns/mnt").result()

        pid = slot.submit(_start, launcher, cgroup, "300").result()

        assert os.readlink(f"/proc/{pid}/ns/mnt") == given != own
        assert os.readlink(f"/proc/{launcher.pid}/ns/mnt") == own
    os.kill(pid, signal.SIGKILL)
    assert reap(pid, SECONDS)


def _children() -> set[int]:
    """Of this process, which other tests may have left some too."""
    me = os.getpid()
    return {int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()}


def _run(launcher: Launcher, cgroup: Cgroup, argv: list[str]) -> tuple[int, str]:
    """The exit status of a program and all that it wrote."""
    inside, (heard, said) = cgroup.open(), os.pipe()
    mounts = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    try:
        pid = launcher.start(argv, inside, mounts, None, [mounts, said, said], [])
    finally:
        for descriptor in (inside, said, mounts):
            os.close(descriptor)
    with open(heard) as output:
        text = output.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), text


def test_what_is_started_has_an_empty_environment_and_stands_behind_the_daemons(
    launcher: Launcher, cgroup: Cgroup
) -> None:
    """Nothing of the launcher's own environment is passed on; its niceness is a task's."""
    assert _run(launcher, cgroup, ["/usr/bin/env"]) == (0, "")
    assert _run(launcher, cgroup, ["/usr/bin/nice"]) == (0, f"{min(os.nice(0) + 10, 19)}\n")


def test_program_that_is_not_there_is_told(launcher: Launcher, cgroup: Cgroup) -> None:
    """An exec that fails shows as exit status 126, with the reason."""
    status, text = _run(launcher, cgroup, ["/nowhere/program"])

    assert status == 126
    assert text == "syndicate: cannot start: [Errno 2] No such file or directory: '/nowhere/program'\n"


def test_launcher_that_does_not_end_is_killed(launcher: Launcher, cgroup: Cgroup) -> None:
    """Closing one that is stopped returns, and leaves no process."""
    before = _children()
    extra = Launcher.open()
    os.kill(extra.pid, signal.SIGSTOP)

    extra.close()

    assert _children() <= before


def test_launcher_ends_quietly_when_its_keeper_goes_unanswered(
    launcher: Launcher, cgroup: Cgroup, capfd: pytest.CaptureFixture[str]
) -> None:
    """A keeper that goes away with a request unanswered leaves no launcher and no complaint."""
    extra = Launcher.open(seconds=SECONDS)
    os.kill(extra.pid, signal.SIGSTOP)
    with _impatient(extra), pytest.raises(KeeperError):
        _start(extra, cgroup, "300")
    os.kill(extra.pid, signal.SIGCONT)

    extra.close()

    assert capfd.readouterr().err == ""
    for pid in cgroup.pids():  # what it still started is its starter's to end
        os.kill(pid, signal.SIGKILL)
        assert reap(pid, SECONDS)


def test_child_that_lives_on_is_not_waited_for_long(launcher: Launcher, cgroup: Cgroup) -> None:
    """Reaping is bounded: a process that does not end is told so."""
    pid = _start(launcher, cgroup, "300")

    assert not reap(pid, 0.05)

    os.kill(pid, signal.SIGKILL)
    assert reap(pid, SECONDS)
