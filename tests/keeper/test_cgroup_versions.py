"""Version 1, version 2 and both at once: what is mounted where, and what is written and read in each."""

from __future__ import annotations

from pathlib import Path

import pytest
from syndicate.volunteer.keeper import requirements
from syndicate.volunteer.keeper.cgroups import Cgroup, CgroupError, find_mount, own_folder
from syndicate.volunteer.keeper.counters import Counts, Meter
from syndicate.volunteer.keeper.limits import UNBOUNDED, Bounds, Controller, Limiter, find_version_1

_BOUNDS = Bounds(memory_bytes=64 << 20, pids=50, cpu_millis=500)

_UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
_VERSION_1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
_HYBRID = _VERSION_1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
# A container that was given the host's mount, of which it may see its own part only.
_PART = "30 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mounts", "unified", "memory", "cpu"),
    [
        (_UNIFIED, "/sys/fs/cgroup", None, None),
        (_VERSION_1, None, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"),
        (_HYBRID, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct"),
        (_PART, None, None, None),
        ("22 1 254:0 / / rw - ext4 /dev/vda rw\n", None, None, None),
    ],
    ids=["version 2", "version 1", "hybrid", "part of version 2", "none"],
)
def test_hierarchies_are_found(
    tmp_path: Path, mounts: str, unified: str | None, memory: str | None, cpu: str | None
) -> None:
    """By kind and by controller; what only looks like its name is not one."""
    file = tmp_path / "mountinfo"
    file.write_text(mounts)

    found = (find_mount(file), find_version_1("memory", file), find_version_1("cpu", file))

    assert found == tuple(each and Path(each) for each in (unified, memory, cpu))
    assert find_version_1("systemd", file) is None


def _slot(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).write_text("")
    return folder


def _said(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_hybrid_bounds_each_where_its_controller_is(tmp_path: Path) -> None:
    """Memory on version 1 and processes on version 2: each has its own file, and only one is joined."""
    old, new = tmp_path / "old", tmp_path / "new"
    memory = _slot(old / "slot-0", "memory.memsw.limit_in_bytes")
    pids = _slot(new / "slot-0")
    limiter = Limiter((Controller("memory", old, unified=False), Controller("pids", new, unified=True)))

    limiter.apply(0, _BOUNDS)

    assert _said(memory) == {
        "memory.memsw.limit_in_bytes": str(64 << 20),
        "memory.limit_in_bytes": str(64 << 20),
    }
    assert _said(pids) == {"pids.max": "50"}
    assert (limiter.join(0), limiter.folders()) == ([str(memory / "tasks")], [old])


def test_hybrid_counts_each_where_its_controller_is(tmp_path: Path) -> None:
    """Of two hierarchies one reading is made."""
    old, new = tmp_path / "old", tmp_path / "new"
    memory, pids = _slot(old / "slot-0"), _slot(new / "slot-0")
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (memory / "memory.limit_in_bytes").write_text(f"{64 << 20}\n")
    (memory / "memory.max_usage_in_bytes").write_text(f"{64 << 20}\n")
    (pids / "pids.events").write_text("max 7\n")
    limiter = Limiter((Controller("memory", old, unified=False), Controller("pids", new, unified=True)))

    assert Meter.of(limiter, 0).read() == Counts(oom_kills=2, bound_hits=1, pid_denials=7)


def test_version_1_takes_bounds_back(tmp_path: Path) -> None:
    """Nothing of a task's bounds is left for the next."""
    names = ("memory", "pids", "cpu")
    limiter = Limiter(tuple(Controller(name, tmp_path / name, unified=False) for name in names))
    folders = {name: _slot(tmp_path / name / "slot-0") for name in names}
    (folders["memory"] / "memory.memsw.limit_in_bytes").write_text("")
    limiter.apply(0, _BOUNDS)
    assert _said(folders["pids"]) == {"pids.max": "50"}

    limiter.apply(0, UNBOUNDED)

    assert _said(folders["memory"]) == {"memory.memsw.limit_in_bytes": "-1", "memory.limit_in_bytes": "-1"}
    assert _said(folders["pids"]) == {"pids.max": "max"}
    assert _said(folders["cpu"]) == {"cpu.cfs_quota_us": "-1"}


@pytest.mark.parametrize(("millis", "said"), [(0, "max 100000"), (1, "1000 100000"), (2500, "250000 100000")])
def test_version_2_bounds_processors(tmp_path: Path, millis: int, said: str) -> None:
    """Microseconds of each tenth of a second, at least 1,000; no bound is a word."""
    folder = _slot(tmp_path / "slot-0")

    Controller("cpu", tmp_path, unified=True).set(0, Bounds(cpu_millis=millis))

    assert _said(folder) == {"cpu.max": said}


def test_version_2_has_nothing_to_be_brought_under(tmp_path: Path) -> None:
    """There a sandbox starts in the one cgroup that bounds everything."""
    folder = _slot(tmp_path / "slot-0")

    Limiter((Controller("cpu", tmp_path, unified=True),)).adopt(0, [4711])

    assert _said(folder) == {}


@pytest.mark.parametrize("name", ["memory", "pids", "cpu"])
def test_version_2_passes_a_controller_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From the instance to its slots, by the file that says so; what is not there is left out."""
    (tmp_path / "cgroup.controllers").write_text(f"{name}\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr("syndicate.volunteer.keeper.limits.find_version_1", lambda _: None)

    limiter = Limiter.open(Cgroup(tmp_path), 1)

    assert limiter.names == (name,)
    assert limiter.get(name) == Controller(name, tmp_path, unified=True)
    assert (tmp_path / "cgroup.subtree_control").read_text() == f"+{name}"


def test_version_2_that_may_not_pass_a_controller_on_is_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lent without the right to use it, it is left out: who needs it says so."""
    (tmp_path / "cgroup.controllers").write_text("memory pids cpu\n")
    (tmp_path / "cgroup.subtree_control").mkdir()  # so that no write can succeed
    monkeypatch.setattr("syndicate.volunteer.keeper.limits.find_version_1", lambda _: None)

    limiter = Limiter.open(Cgroup(tmp_path), 1)

    assert (limiter.names, limiter.join(0), limiter.folders()) == ((), [], [])


@pytest.mark.parametrize(
    ("files", "level"),
    [
        ({}, "ok"),
        ({"cgroup.type": "domain\n", "cgroup.procs": ""}, "ok"),
        ({"cgroup.type": "domain\n", "cgroup.procs": "1\n"}, "missing"),
    ],
    ids=["the machine's top", "a container's, empty", "a container's, in use"],
)
def test_what_the_top_does_not_pass_on_yet_is_missing_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], level: str
) -> None:
    """As processors on a machine with systemd on which no unit bounds them: the keeper has them passed on."""
    controllers = {"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": "memory pids\n"}
    for name, text in (controllers | files).items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(requirements, "find_mount", lambda: tmp_path)
    monkeypatch.setattr(requirements, "find_version_1", lambda _: None)

    levels = {one.name: one.level for one in requirements.check() if one.name.startswith("cgroup-")}

    assert levels.pop("cgroup-namespace") == "ok"
    assert levels == {"cgroup-memory": "ok", "cgroup-pids": "ok", "cgroup-cpu": level}


def test_version_2_tells_own_shortage_from_that_above(tmp_path: Path) -> None:
    """What the slot's own bound caused is in the local file; the other counts it for all above, and below."""
    folder = _slot(tmp_path / "slot-0")
    (folder / "memory.events").write_text("max 0\noom 0\noom_kill 0\n")
    (folder / "memory.events.local").write_text("max 0\noom 0\noom_kill 0\n")
    meter = Meter.of(Limiter((Controller("memory", tmp_path, unified=True),)), 0)
    before = meter.begin()

    (folder / "memory.events").write_text("max 9\noom 1\noom_kill 1\n")
    above = meter.read().shortage_since(before)
    (folder / "memory.events.local").write_text("max 9\noom 1\noom_kill 0\n")
    own = meter.read().shortage_since(before)

    assert (above, own) == ("host-memory", "memory")


def test_a_keepers_own_cgroup(tmp_path: Path) -> None:
    """In each hierarchy the one that /proc/self/cgroup names; one without it is told."""
    listing = tmp_path / "cgroup"
    listing.write_text("8:cpu,cpuacct:/a.slice\n1:name=systemd:/s\n0::/a.slice/k.service\n")
    mount = Path("/m")
    assert own_folder(mount, "", listing) == mount / "a.slice/k.service"
    assert own_folder(mount, "cpu", listing) == mount / "a.slice"
    with pytest.raises(CgroupError, match="in no cgroup of memory"):
        own_folder(mount, "memory", listing)
