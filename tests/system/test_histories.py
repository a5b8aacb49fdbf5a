"""Histories of several clients on a whole cluster: collected by the manager, and checked together once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from syndicate.client_api.checkers import Answer, KeyValue, Linearizable
from syndicate.client_api.history import merge, read
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.support.cluster import JOBS, Cluster, ended, eventually
from tests.support.hosts import Hosts, nothing_is_left

pytestmark = pytest.mark.system

AHEAD_NS = 50_000_000
MOST_RUNS = 4


def clients(folder: Path, mode: str) -> Path:
    """The clients' source."""
    source = folder / "clients"
    shutil.copytree(JOBS / "register-clients", source)
    (source / "mode").write_text(mode)
    return source


def register(folder: Path, lag_s: float = 0.0) -> Path:
    """The store's source; one that lags answers with what was there so long ago."""
    source = folder / "register"
    shutil.copytree(JOBS / "register", source)
    if lag_s:
        (source / "lag").write_text(str(lag_s))
    return source


@pytest.fixture(scope="module")
def all_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Four machines, two of which have a clock of their own, 50 ms ahead."""
    folder = tmp_path_factory.mktemp("hosts")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    with Hosts(folder, "wxyz", {"w": AHEAD_NS, "x": AHEAD_NS}) as hosts:
        yield hosts


@pytest.fixture
def hosts(all_hosts: Hosts) -> Iterator[Hosts]:
    """Those machines; nothing may be left on any of them after the test."""
    yield all_hosts
    assert eventually("nothing left", lambda: not nothing_is_left(all_hosts))


def run(hosts: Hosts, folder: Path, lag_s: float = 0.0) -> dict[str, object]:
    """The job, with three clients on three machines."""
    words = ("--client", str(clients(folder, "plain")), "--clients", "3", "--follow", "--json")
    done = hosts.ctl("submit", str(register(folder, lag_s)), *words)
    job: dict[str, object] = json.loads(done.stdout.splitlines()[-1])["job"]
    return job


@pytest.mark.timeout(1800)  # up to four runs, each with the build of what it runs
def test_50_ms_between_clocks_do_not_make_a_correct_store_false(hosts: Hosts, tmp_path: Path) -> None:
    """The verdict is true, the report tells the bounds; without them the same history would be false.

    Not each history would: where one of the clients stood still at first, the others were done before that.
    """
    for number in range(MOST_RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        if is_true_by_its_bounds_alone(hosts, folder):
            return
    raise AssertionError(f"{MOST_RUNS} histories were right without the bounds of the clocks, too")


def is_true_by_its_bounds_alone(hosts: Hosts, folder: Path) -> bool:
    """Whether the history of a run would be false if its clocks were one; its verdict is true."""
    job = run(hosts, folder)
    text = job["result"]["text"]  # type: ignore[index]  # a result
    assert job["state"] == "succeeded", text
    assert text.count("widened by that") == 3 and "3 histories of 2 machines" in text

    fetched = hosts.ctl("fetch", str(job["job_id"]), str(folder / "store"))
    report = hosts.ctl("report", str(job["job_id"]), "--json")
    clocks = json.loads(report.stdout)["clocks"]
    assert fetched.returncode == 0, fetched.stderr
    assert len(clocks) == 3 and all(line in text for line in clocks)
    # Each with its bound, which is wider where this machine stood still.
    measured_ms = [[float(word) for word in re.findall(r"(\S+) ms", line)] for line in clocks]
    assert 1 <= sum(abs(offset - 50) < max(5, bound) for offset, bound in measured_ms) <= 2, clocks

    paths = sorted((folder / "store" / f"job-{job['job_id']}" / "history").glob("client-*/history.jsonl"))
    recorded = [read(path) for path in paths]
    as_if_one_clock = [
        replace(one, header=replace(one.header, boot_id="one", pid=number), clocks=())
        for number, one in enumerate(recorded)
    ]
    checker = Linearizable(KeyValue())
    return checker.check(merge(as_if_one_clock).operations).answer is Answer.FALSE


def test_a_store_that_is_wrong_by_more_than_the_bound_is_false(hosts: Hosts, tmp_path: Path) -> None:
    """Its reads lag by 300 ms, and the clocks' bounds are some ms."""
    job = run(hosts, tmp_path, lag_s=0.3)
    text = str(job["result"]["text"])  # type: ignore[index]  # a result
    assert job["state"] == "failed" and text.startswith("false: linearizable:"), text
    assert text.count("widened by that") == 3


def test_a_client_that_dies_before_it_hands_over_leaves_no_verdict(cluster: Cluster, tmp_path: Path) -> None:
    """Unknown, and it is named."""
    source = register(tmp_path)
    job = cluster.run(source, machines=1, client=clients(tmp_path, "dies"), clients=2)
    assert ended(job) == "unknown"
    judge = next(task for task in job.tasks if task.ref.task == "client-0")
    assert judge.result.outcome == common.OUTCOME_UNKNOWN
    assert judge.result.text == "unknown: not all histories were handed over: client-1"


@pytest.mark.parametrize(
    ("mode", "why"),
    [("untouched", "no fault took hold"), ("idles", "no get was tried during pause slave-0 (")],
)
def test_a_pass_that_says_nothing_is_unknown(cluster: Cluster, tmp_path: Path, mode: str, why: str) -> None:
    """Vacuous, with the reason, though all that was seen is right; and `result` ends with 2."""
    job = cluster.run(register(tmp_path), machines=2, client=clients(tmp_path, mode), clients=1)
    text = job.result.text
    assert (ended(job), job.result.outcome) == ("unknown", common.OUTCOME_UNKNOWN), text
    assert text.startswith("unknown: tested: vacuous: ") and why in text.splitlines()[0], text
    assert "  linearizable: true: " in text
    assert cluster.ctl("result", str(job.job_id)).returncode == 2


def test_histories_outlive_the_manager(own_cluster: Cluster, tmp_path: Path) -> None:
    """Killed between hand-over and gathering, and started again: the verdict is on all that was recorded."""
    source = register(tmp_path)
    job_id = own_cluster.submit(source, machines=2, client=clients(tmp_path, "waits"), clients=2)
    until_handed_over(own_cluster, job_id)
    manager = own_cluster.daemons["manager"]
    manager.kill()
    manager.restart()
    other = address_of(own_cluster.users.job(job_id), "client-1")
    own_cluster.users.chaos(job_id, timeout=60.0).signal(other, "USR1")
    job = own_cluster.wait(job_id)
    assert ended(job) == "succeeded", job.result.text
    assert "3 histories of 1 machine" in job.result.text
    assert "tested: true: every kind of operation succeeded during the faults" in job.result.text


def until_handed_over(cluster: Cluster, job_id: int) -> None:
    """Waits for what client-1 says."""
    assert next(cluster.log_lines(job_id, "client-1")) == "handed over"


def address_of(job: scheduler.Job, name: str) -> str:
    """Where a task is."""
    return next(task.address for task in job.tasks if task.ref.task == name)
