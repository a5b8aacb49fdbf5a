"""`make demo`, as a newcomer runs it: to its end, and interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.report.chromium import Chromium
from tests.support.cluster import EXAMPLES, eventually, processes_in

# It takes less than a minute, on a slow or busy machine several: each thing in it has its own deadline.
DEADLINE_S = 1200.0
pytestmark = [pytest.mark.system, pytest.mark.timeout(DEADLINE_S + 600)]

# The names of the marks of which some are drawn.
DRAWN = """[...Bokeh.documents[0].all_models]
    .filter(model => model.name !== null && model.data_source !== undefined && model.data_source.length > 0)
    .map(model => model.name)"""


@pytest.fixture
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo writes its reports: a folder that is not there yet."""
    return tmp_path_factory.mktemp("reports") / "of-the-demo"


@pytest.fixture
def demo(tmp_path: Path, reports: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo in a session of its own, its temporary folder in a place that can be looked into."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    environ = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "demo.py"), "--reports", str(reports)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(120)


def assert_nothing_of_it_is_there(folder: Path, instances: set[str]) -> None:
    """No folder, process, cgroup, socket folder or mount of these instances is left."""
    assert list(folder.iterdir()) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    for name in instances:
        assert not Path("/run", name).exists(), name
        assert not processes_in(name, waiting=True), name
        assert not [str(path) for path in Path("/sys/fs/cgroup").glob(f"{name}")], name
        assert not [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}")], name
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                command = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            assert str(folder).encode() not in command, command


def run_dirs(folder: Path) -> set[str]:
    """The instances that have their state under a folder, by their own records."""
    found = set()
    for record in folder.glob("*/c/up.json"):
        try:
            text = record.read_text()
        except FileNotFoundError:  # the cluster has just been taken down
            continue
        match = re.search(r'"run_dir": "/run/([^"]+)"', text)
        found |= {match[1]} if match else set()
    return found


def assert_opens(page: Path, folder: Path) -> None:
    """A browser draws the operations and the faults of a report, and its console says nothing."""
    with Chromium(folder) as browser:
        browser.screen(1280, 900)
        browser.open(page)
        found = set(browser.value(DRAWN))
        assert {"latency-windows", "latency-ok-0", "throughput-ok"} <= found, (page.name, found)
        assert browser.messages == [], page.name
        assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}, page.name


def test_the_demo_runs_to_its_end(demo: subprocess.Popen[str], reports: Path, tmp_path: Path) -> None:
    """Both jobs run side by side and say what was expected; it ends with `demo: ok`.

    It has written a report of each, with its operations in it, that a browser opens without a complaint.
    """
    started = time.monotonic()
    assert demo.stdout is not None
    lines, instances = [], set()
    for line in demo.stdout:
        lines.append(line.rstrip())
        instances |= run_dirs(tmp_path)
        assert time.monotonic() - started < DEADLINE_S, lines[-20:]
    assert demo.wait(120) == 0, "\n".join(lines)
    assert lines[-1] == "demo: ok"
    text = "\n".join(lines)
    redis, raft = lines[-4:-2] if lines[-2].startswith("down:") else lines[-3:-1]
    stale = 'redis    as expected: false: linearizable: get stale returned "old" (process slave-0, '
    assert redis.startswith(stale) and 'after put stale "new" had been acknowledged' in redis, text
    assert raft == "raft-kv  as expected: true: all hold: linearizable, completed, available, tested"
    assert "syndicatectl" not in text, "advice about a cluster that is gone"
    first_of_raft = next(n for n, line in enumerate(lines) if line.startswith("raft-kv  "))
    last_of_redis = max(n for n, line in enumerate(lines) if line.startswith("redis  "))
    assert first_of_raft < last_of_redis, "they did not run side by side"
    assert "━" in text and "cut" in text and "killed" in text
    assert instances
    assert_nothing_of_it_is_there(tmp_path, instances)
    assert sorted(page.name for page in reports.iterdir()) == ["raft-kv.html", "redis.html"]
    for page in reports.iterdir():
        assert f"report: {page}" in text
        assert_opens(page, reports.parent)


@pytest.mark.parametrize(
    ("moment", "number"),
    [("starting", signal.SIGINT), ("running", signal.SIGINT), ("running", signal.SIGHUP)],
)
def test_an_interrupted_demo_leaves_nothing(
    demo: subprocess.Popen[str], tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    """Ctrl-C, to its whole process group, while the cluster comes up and while both jobs run; a hangup."""
    assert demo.stdout is not None
    if moment == "starting":
        eventually("the keeper's record", lambda: run_dirs(tmp_path))
    else:
        for line in demo.stdout:
            if " | " in line:
                break
    instances = run_dirs(tmp_path)
    os.killpg(demo.pid, number)
    said = demo.stdout.read()
    assert demo.wait(120) == 130, said
    assert "interrupted: taking the cluster down" in said and said.endswith("demo: not ok\n"), said
    assert "goes on" not in said, said
    assert instances
    assert_nothing_of_it_is_there(tmp_path, instances)
