"""The harness itself: harm is noticed, or no attack's failure would say anything."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from pathlib import Path

import pytest

from tests.attacks.arena import TIMES_HELD_UP, Arena, Before
from tests.attacks.attack import Attack, Ran
from tests.attacks.bystander import Bystander, HeldUpError, pids_of
from tests.attacks.outside import done
from tests.attacks.weak import WeakArena
from tests.support.cluster import eventually

pytestmark = pytest.mark.system

_GAP_S = 20.0  # of tests about other harm: more than a machine stands still


@pytest.fixture
def before(arena: Arena) -> Iterator[Before]:
    """How all was before the harm; the bystander that suffered it serves no other test."""
    yield arena.before()
    arena.lay_bait()
    arena.clear()


def test_no_harm_is_none(arena: Arena, before: Before) -> None:
    """What merely goes on is not taken for harm."""
    arena.assert_unharmed(before, _GAP_S)


def test_a_signal_to_the_bystander_is_noticed(arena: Arena, before: Before) -> None:
    """As is anything else that it counts."""
    _signal_bystander(arena, signal.SIGUSR1)
    _until_counted(arena, before, "signals")
    with pytest.raises(AssertionError, match="signals: 1"):
        arena.assert_unharmed(before, _GAP_S)


def test_a_bystander_that_is_held_up_is_noticed(arena: Arena, before: Before) -> None:
    """By its own clock, though it goes on afterwards."""
    mark = arena.bystander.mark()
    _signal_bystander(arena, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="silent"):
        _hear_out(arena, mark)
    _signal_bystander(arena, signal.SIGCONT)
    assert "held up" in arena.bystander.harm(before.marks, 0.9)


@pytest.mark.parametrize("times", [1, TIMES_HELD_UP])
def test_what_holds_up_the_bystander_does_so_each_time(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A machine that stands still once is no attack; an attack is one however often it is run."""
    gaps = chain(repeat(6.0, times), repeat(0.0))
    monkeypatch.setattr(Bystander, "longest_gap", lambda _self, _mark: next(gaps))
    runs = count()
    attack = Attack("held-up", "", "", lambda _: "", ("done",), because="shown", run=_counting(runs))
    fails = pytest.raises(HeldUpError, match="held up for 6 s")
    with fails if times == TIMES_HELD_UP else contextlib.nullcontext():
        arena.assert_repelled(attack)
    assert next(runs) == min(times + 1, TIMES_HELD_UP)


def _counting(runs: Iterator[int]) -> Callable[[Arena, Attack], Ran]:
    """Does nothing but count how often it did."""
    return lambda arena, _attack: done(arena, run=next(runs))


def test_an_ended_bystander_is_noticed(arena: Arena, before: Before) -> None:
    """Its end is harm, whatever the reason."""
    job_id = arena.bystander.job_id
    arena.cluster.users.cancel(job_id)
    arena.cluster.wait(job_id)
    with pytest.raises(AssertionError, match="bystander has ended"):
        arena.assert_unharmed(before, _GAP_S)


def _touch_bait(arena: Arena) -> None:
    (arena.bait / "bait").write_text("eaten")


def _drop_core(arena: Arena) -> None:
    (arena.cluster.dir / "volunteer" / "core.1").write_text("")


def _stray_cgroup(arena: Arena) -> Path:
    mounts = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    own = next(found for mount in mounts if (found := mount / arena.cluster.cgroup_name).is_dir())
    return own / "synbad"


@pytest.mark.parametrize(
    ("harm", "undo", "said"),
    [
        (_touch_bait, Arena.lay_bait, "bait was changed"),
        (
            _drop_core,
            lambda arena: (arena.cluster.dir / "volunteer" / "core.1").unlink(),
            "cores: new",
        ),
        (
            lambda arena: _stray_cgroup(arena).mkdir(),
            lambda arena: _stray_cgroup(arena).rmdir(),
            "cgroup .*synbad",
        ),
    ],
)
def test_harm_to_the_host_is_noticed(
    arena: Arena,
    before: Before,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Arena], None],
    undo: Callable[[Arena], None],
    said: str,
) -> None:
    """Each part of what is looked at."""
    monkeypatch.setattr("tests.attacks.arena._SETTLES_WITHIN_S", 1.0)
    harm(arena)
    try:
        with pytest.raises(AssertionError, match=said):
            arena.assert_unharmed(before, _GAP_S)
    finally:
        undo(arena)


def test_a_strangers_datagram_is_noticed(arena: Arena, before: Before) -> None:
    """Sent within the bystander's own network namespace, which nobody else's packet reaches."""
    pid = pids_of(arena.cluster, arena.bystander.job)["master"][0]
    send = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'here', ('127.0.0.1', 4000))"
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", send]
    subprocess.run(enter, check=True, timeout=60)
    _until_counted(arena, before, "strangers")
    with pytest.raises(AssertionError, match="strangers: 1"):
        arena.assert_unharmed(before, _GAP_S)


def test_a_wait_for_too_long_tells_the_story(arena: Arena) -> None:
    """A test that hangs would be ended by its time limit, with nothing but stacks to show."""
    with pytest.raises(AssertionError, match=r"nothing within 0\.5 s(.|\n)*RUNNING(.|\n)*--- manager\.log"):
        arena.cluster.wait(arena.bystander.job_id, 0.5)
    with pytest.raises(AssertionError, match=r"nothing within 0\.5 s"):
        list(arena.cluster.log_lines(arena.bystander.job_id, "master", 0.5))


def test_a_weakened_daemon_may_hang_and_a_whole_one_may_not(weak_arena: WeakArena) -> None:
    """What an attack that succeeded left is started afresh; elsewhere a job that stays is a failure."""
    weak_arena.without("unpacking/file-size")
    with _hanging(weak_arena):
        assert not weak_arena.is_cleared()
    weak_arena.without("")
    with _hanging(weak_arena), pytest.raises(AssertionError, match="nothing within"):
        weak_arena.is_cleared()


@contextlib.contextmanager
def _hanging(weak_arena: WeakArena) -> Iterator[None]:
    """A job runs, the volunteer stands still, and nobody has much patience."""
    assert weak_arena.arena.bystander.is_well
    volunteer = weak_arena.arena.cluster.daemons["volunteer"]
    volunteer.pause()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tests.attacks.arena._CLEARED_WITHIN_S", 1.0)
            yield
    finally:
        volunteer.resume()


def test_weak_clusters_stand_behind_a_guard(weak_arena: WeakArena) -> None:
    """After a daemon was started again too: the attacks that succeed must not take the machine with them."""
    arena = weak_arena.without("unpacking/file-size")
    mounts = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
    found = [mount / arena.cluster.cgroup_name / "pids.max" for mount in mounts]
    assert [path.read_text().strip() for path in found if path.exists()] == ["1500"]


def _hear_out(arena: Arena, mark: dict[str, int]) -> None:
    """What it said before may still be on its way. Raises AssertionError once it is silent."""
    while True:
        arena.bystander.since(mark, deadline_s=1.0)


def _until_counted(arena: Arena, before: Before, kind: str) -> None:
    """What the bystander says passes through all of the cluster, and may be late."""
    eventually(kind, lambda: any(line[kind] for line in arena.bystander.since(before.marks)))


def _signal_bystander(arena: Arena, number: signal.Signals) -> None:
    """To the Python process of its master; make and bubblewrap hear nothing of it."""
    for pid in pids_of(arena.cluster, arena.bystander.job)["master"]:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            if command.read().startswith(b"python3\0"):
                os.kill(pid, number)
                return
    raise AssertionError("the bystander's master has no process")
