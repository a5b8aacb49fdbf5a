"""One cluster of ten slots for all tests that leave it whole; a fresh one for those that break it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.client_api import job_has_ended

from tests.support.cluster import EXAMPLES, ROOT, Cluster


def assert_nothing_is_left(cluster: Cluster) -> None:
    """After a job nothing of it may be on the host; asserted after every test."""
    audit = cluster.audit()
    assert audit.returncode == 0, f"left on the host:\n{audit.stdout}{audit.stderr}"
    assert cluster.users.cluster().free_slots == cluster.slots


def end_what_runs(cluster: Cluster) -> list[int]:
    """Cancels what a test that failed left running, so that those after it have the slots; gives its ids."""
    left = [job.job_id for job in cluster.users.jobs() if not job_has_ended(job.state)]
    for job_id in left:
        cluster.users.cancel(job_id)
    for job_id in left:
        cluster.wait(job_id)
    return left


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Ten slots, made once."""
    folder = tmp_path_factory.mktemp("cluster")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # the unprivileged daemons have their state in it
    with Cluster(folder) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster; nothing may be left on the host after the test."""
    yield shared_cluster
    left = end_what_runs(shared_cluster)
    assert_nothing_is_left(shared_cluster)
    assert left == [], "the test left jobs running"


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of four slots that the test may break."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    with Cluster(tmp_path, 4) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def go_ping(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the Go example, as its `prepare` script lays it: job and client."""
    folder = tmp_path_factory.mktemp("go") / "examples" / "go-ping"
    shutil.copytree(EXAMPLES / "go-ping", folder)
    (folder.parents[1] / "protos").symlink_to(ROOT / "protos")
    subprocess.run([str(folder / "prepare"), "--build"], check=True, timeout=900)
    return folder, folder / "client"
