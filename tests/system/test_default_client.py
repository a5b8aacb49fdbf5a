"""A cluster whose manager has a default client: `up --client CLIENT.tgz --clients 2`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.client_api import JobIsGraded
from syndicate.v1 import scheduler_pb2

from tests.support.cluster import JOBS, Cluster, ended, eventually, output, tree
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system

DEFAULT = {
    "Makefile": ".PHONY: client\nclient:\n\t@echo default client; syndicate-chaos finish --score 0.5\n"
}
OWN = {"Makefile": ".PHONY: client\nclient:\n\t@echo own client; syndicate-chaos finish --score 0.75\n"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the unprivileged daemons can enter."""
    folder = tmp_path_factory.mktemp("default")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def module_cluster(folder: Path) -> Iterator[Cluster]:
    """Four slots and a manager with two default clients for each job."""
    archive = folder / "CLIENT.tgz"
    subprocess.run(
        ["tar", "-czf", str(archive), "-C", str(tree(folder, DEFAULT)), "."], check=True, timeout=30
    )
    with Cluster(folder, 4, "--client", str(archive), "--clients", "2") as cluster:
        yield cluster


@pytest.fixture
def cluster(module_cluster: Cluster) -> Iterator[Cluster]:
    """That cluster; nothing may be left on the host after the test."""
    yield module_cluster
    assert_nothing_is_left(module_cluster)


def test_the_clients_source_is_warm_before_any_job(cluster: Cluster) -> None:
    """At registration each volunteer fetches it: its cache holds the digest though nothing has run."""
    digest = cluster.users.cluster().default_client_sha256
    assert digest == hashlib.sha256((cluster.dir / "client.tgz").read_bytes()).hexdigest()
    cached = cluster.dir / "volunteer" / "cache" / digest
    eventually("the warmed source", cached.exists)
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == digest
    assert all(job.submitted_at.utc_ns > cached.stat().st_mtime_ns for job in cluster.users.jobs())


def test_a_job_that_names_no_client_gets_the_default_ones(cluster: Cluster) -> None:
    """As many as the manager says, beside its machines."""
    followed = cluster.ctl("submit", str(JOBS / "idle"), "-n", "2", "--follow", "--json")
    job = cluster.users.job(json.loads(followed.stdout.splitlines()[-1])["job"]["job_id"])
    assert ended(job) == "succeeded" and job.result.score == 0.5, followed
    assert sorted(task.ref.task for task in job.tasks) == ["client-0", "client-1", "master", "slave-0"]
    assert output(cluster, job).count("default client\n") == 2


def test_a_job_with_its_own_client_is_judged_by_that(cluster: Cluster, tmp_path: Path) -> None:
    """`--client PATH --clients K` goes before the manager's default."""
    own = str(tree(tmp_path, OWN))
    words = ("submit", str(JOBS / "idle"), "--client", own, "--clients", "1", "--follow", "--json")
    followed = cluster.ctl(*words)
    job = cluster.users.job(json.loads(followed.stdout.splitlines()[-1])["job"]["job_id"])
    assert ended(job) == "succeeded" and job.result.score == 0.75
    assert sorted(task.ref.task for task in job.tasks) == ["client-0", "master"]
    assert output(cluster, job, "client-0").startswith("own client\n")


def test_a_number_of_clients_alone_takes_the_default_source(cluster: Cluster) -> None:
    """`--clients 1` without a source is one of the manager's."""
    followed = cluster.ctl("submit", str(JOBS / "idle"), "--clients", "1", "--follow", "--json")
    job = cluster.users.job(json.loads(followed.stdout.splitlines()[-1])["job"]["job_id"])
    assert sorted(task.ref.task for task in job.tasks) == ["client-0", "master"]
    assert output(cluster, job, "client-0").startswith("default client\n")


def test_a_job_may_go_without(cluster: Cluster) -> None:
    """`--no-client` is a job of machines alone."""
    done = cluster.ctl("submit", str(JOBS / "escapes"), "-n", "2", "--no-client", "--follow", "--json")
    job = json.loads(done.stdout.splitlines()[-1])["job"]
    assert done.returncode == 0 and len(job["tasks"]) == 2


def test_default_clients_count_towards_what_is_possible(cluster: Cluster) -> None:
    """Three machines and two default clients do not fit into four slots."""
    done = cluster.ctl("submit", str(JOBS / "idle"), "-n", "3")
    assert done.returncode == 65 and "-n 2" in done.stderr, done


def test_a_student_may_not_break_a_job_that_is_graded(cluster: Cluster, tmp_path: Path) -> None:
    """What the default client finds is a grade: its owner is refused, staff are not."""
    added = cluster.ctl("user", "add", "graded-ann", "--with-token", "--json")
    with cluster.client(json.loads(added.stdout)["secret"]) as ann:
        spec = scheduler_pb2.JobSpec(source_sha256=cluster.upload("idle"), machines=2)
        job = ann.submit(spec)
        with ann.chaos(job) as chaos, pytest.raises(JobIsGraded):
            chaos.kill("10.77.0.1")
        assert not cluster.users.job(job).faults
    cluster.wait(job)
