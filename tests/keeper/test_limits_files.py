"""Bounds and counters against trees of files like the kernel's, for the versions that this machine lacks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from syndicate.volunteer.keeper.cgroups import Cgroup
from syndicate.volunteer.keeper.counters import Counts, Meter
from syndicate.volunteer.keeper.limits import UNBOUNDED, Bounds, Controller, Limiter
from syndicate.volunteer.keeper.oom import OomWatch

_BOUNDS = Bounds(memory_bytes=64 << 20, pids=50, cpu_millis=1500)


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """An instance's folder on a version 2 mount with one slot."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    slot = tmp_path / "slot-0"
    slot.mkdir()
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"):
        (slot / name).write_text("")
    return tmp_path


def _said(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_version_2_bounds_memory_without_swap_and_ends_a_whole_slot(unified: Path) -> None:
    """Memory, swap, the group's common end, processes and processors, in the kernel's words."""
    limiter = Limiter.open(Cgroup(unified), 1)

    limiter.apply(0, _BOUNDS)

    assert limiter.names == ("memory", "pids", "cpu")
    assert (limiter.join(0), limiter.folders()) == ([], [])
    assert _said(unified / "slot-0") == {
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "50",
        "cpu.max": "150000 100000",
    }


def test_version_2_takes_bounds_back(unified: Path) -> None:
    """Nothing of a task's bounds is left for the next."""
    limiter = Limiter.open(Cgroup(unified), 1)
    limiter.apply(0, _BOUNDS)

    limiter.apply(0, UNBOUNDED)

    assert _said(unified / "slot-0") == {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.oom.group": "1",
        "pids.max": "max",
        "cpu.max": "max 100000",
    }


def test_version_1_brings_only_bounded_tasks_under_a_bound_of_processors(tmp_path: Path) -> None:
    """Memory and processes are joined at the start, processors by the keeper."""
    limiter = Limiter(tuple(Controller(name, tmp_path / name, unified=False) for name in ("pids", "cpu")))
    (tmp_path / "cpu" / "slot-0").mkdir(parents=True)

    limiter.adopt(0, [4711])

    assert limiter.join(0) == [str(tmp_path / "pids" / "slot-0" / "tasks")]
    assert (tmp_path / "cpu" / "slot-0" / "cgroup.procs").read_text() == "4711"


def test_version_2_without_swap_accounting_is_bounded_all_the_same(unified: Path) -> None:
    """A kernel that counts no swap has no file for it."""
    (unified / "slot-0" / "memory.swap.max").unlink()
    limiter = Limiter.open(Cgroup(unified), 1)

    limiter.apply(0, _BOUNDS)

    assert "memory.swap.max" not in _said(unified / "slot-0")
    assert (unified / "slot-0" / "memory.max").read_text() == str(64 << 20)


@pytest.mark.parametrize("before", [Bounds(32 << 20), Bounds(128 << 20), UNBOUNDED])
def test_version_1_never_bounds_both_below_memory_alone(tmp_path: Path, before: Bounds) -> None:
    """Raised or lowered, memory with swap is at every moment at least memory alone, else EINVAL."""
    writes: list[tuple[str, str]] = []
    memory = Controller("memory", tmp_path, unified=False)
    folder = memory.folder(0)
    folder.mkdir()
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        (folder / name).write_text("")
    held = {"memory.limit_in_bytes": -1, "memory.memsw.limit_in_bytes": -1}

    for bounds in (before, _BOUNDS):
        for name, value in memory.values(0, bounds):
            held[name] = int(value)
            alone, both = (limit if limit > 0 else 1 << 62 for limit in held.values())
            writes.append((name, value))
            assert both >= alone, writes

    assert set(held.values()) == {64 << 20}


def test_version_1_without_swap_accounting_swaps_nothing_it_can_help(tmp_path: Path) -> None:
    """Where memory with swap has no bound, the slot's swappiness is 0."""
    memory = Controller("memory", tmp_path, unified=False)
    memory.folder(0).mkdir()

    memory.set(0, _BOUNDS)

    assert _said(memory.folder(0)) == {"memory.limit_in_bytes": str(64 << 20), "memory.swappiness": "0"}


@pytest.mark.parametrize(("millis", "quota"), [(0, "-1"), (1, "1000"), (250, "25000"), (4000, "400000")])
def test_version_1_bounds_processors(tmp_path: Path, millis: int, quota: str) -> None:
    """Thousandths of a processor become microseconds of each tenth of a second, at least 1,000."""
    cpu = Controller("cpu", tmp_path, unified=False)
    cpu.folder(0).mkdir()

    cpu.set(0, Bounds(cpu_millis=millis))

    assert _said(cpu.folder(0)) == {"cpu.cfs_quota_us": quota}


@pytest.mark.parametrize(
    ("unified", "files"),
    [
        (
            True,
            {
                "memory.events": "low 0\nhigh 0\nmax 7\noom 9\noom_kill 3\noom_group_kill 1\n",
                "memory.events.local": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n",
            },
        ),
        (
            False,
            {
                "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
                "memory.limit_in_bytes": "67108864\n",
                "memory.max_usage_in_bytes": "67104768\n",
            },
        ),
        (
            False,
            {
                "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
                "memory.limit_in_bytes": "67108864\n",
                "memory.max_usage_in_bytes": "20000000\n",
                "memory.memsw.max_usage_in_bytes": "67108864\n",
            },
        ),
    ],
    ids=["version 2", "version 1", "version 1 with swap"],
)
def test_counters_are_read_of_either_version(tmp_path: Path, unified: bool, files: dict[str, str]) -> None:
    """Processes ended for memory, whether it was the slot's own bound, and processes denied."""
    memory, pids = Controller("memory", tmp_path, unified), Controller("pids", tmp_path, unified)
    memory.folder(0).mkdir()
    for file, text in files.items():
        (memory.folder(0) / file).write_text(text)
    (pids.folder(0) / "pids.events").write_text("max 5\n")

    meter = Meter.of(Limiter((memory, pids)), 0)

    assert meter.read() == Counts(oom_kills=3, bound_hits=1, pid_denials=5)


def test_kernel_that_counts_no_ends_for_memory_tells_none(tmp_path: Path) -> None:
    """A line that is not there is no count."""
    memory = Controller("memory", tmp_path, unified=False)
    memory.folder(0).mkdir()
    (memory.folder(0) / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    (memory.folder(0) / "memory.limit_in_bytes").write_text("67108864\n")
    (memory.folder(0) / "memory.max_usage_in_bytes").write_text("4096\n")

    assert Meter.of(Limiter((memory,)), 0).read() == Counts()


def test_version_1_begins_with_a_clean_peak(tmp_path: Path) -> None:
    """What the task before took at most is no sign that this one met its bound."""
    memory = Controller("memory", tmp_path, unified=False)
    folder = memory.folder(0)
    folder.mkdir()
    (folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    for name in ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes"):
        (folder / name).write_text(str(64 << 20))

    began = Meter.of(Limiter((memory,)), 0).begin()

    assert began == Counts(oom_kills=3)
    assert _said(folder)["memory.max_usage_in_bytes"] == "0"
    assert _said(folder)["memory.memsw.max_usage_in_bytes"] == "0"


def test_without_controllers_nothing_is_counted() -> None:
    """A machine that bounds nothing tells nothing."""
    assert Meter.of(Limiter(()), 0).read() == Counts()


async def test_version_2_needs_no_watch(unified: Path) -> None:
    """The kernel ends the whole slot there: nothing is opened, nothing told."""
    watch = OomWatch.open(Limiter.open(Cgroup(unified), 1), 0)
    told = asyncio.Event()
    watch.listen(told.set)

    assert (watch.take(), watch.is_own(), told.is_set()) == (False, False, False)
    assert watch.was_told  # the counters alone say it
    watch.rest()
    watch.close()


@pytest.mark.parametrize(("usage", "own"), [(64 << 20, True), (63 << 20, True), (20 << 20, False)])
def test_memory_of_a_cgroup_above_is_not_the_tasks(tmp_path: Path, usage: int, own: bool) -> None:
    """The kernel tells all below a cgroup that runs out; only who is at its own bound is to blame."""
    (tmp_path / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (tmp_path / "memory.limit_in_bytes").write_text(f"{64 << 20}\n")

    assert OomWatch(tmp_path, -1).is_own() is own
