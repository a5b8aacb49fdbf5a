"""`syndicatectl chaos`: a job's owner and staff break it and mend it; nobody else can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import JOBS, Cluster
from tests.system.conftest import assert_nothing_is_left, end_what_runs
from tests.system.test_identity import Desk

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Place:
    """A running job of a student, and the desks of three people."""

    cluster: Cluster
    job: str
    owner: Desk
    stranger: Desk
    tutor: Desk


def desk(cluster: Cluster, folder: Path, name: str, role: str) -> Desk:
    """A new user, logged in."""
    added = cluster.ctl("user", "add", name, "--role", role, "--with-token", "--json")
    assert added.returncode == 0, added.stderr
    pin = ("--fingerprint", cluster.certs("list")["fingerprint"])
    found = Desk(cluster, folder / name)
    login = found("login", cluster.address, *pin, said=json.loads(added.stdout)["secret"] + "\n")
    assert login.returncode == 0, login.stderr
    return found


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The job has two members that do nothing."""
    roles = (("owner", "student"), ("stranger", "student"), ("tutor", "staff"))
    folder = tmp_path_factory.mktemp("desks")
    people = [desk(shared_cluster, folder, f"chaos-{name}", role) for name, role in roles]
    yield Place(shared_cluster, begun(shared_cluster, people[0]), *people)
    end_what_runs(shared_cluster)
    assert_nothing_is_left(shared_cluster)


def begun(cluster: Cluster, owner: Desk) -> str:
    """Submits the job, and waits until it runs."""
    submitted = owner("submit", str(JOBS / "idle"), "-n", "2", "--no-client")
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    cluster.until_running(int(job))
    return job


def test_owner_and_staff_break_and_mend_a_job(place: Place) -> None:
    """Members go by their names; the ledger says who asked, `show` and `logs` what was done."""
    cut = place.owner("chaos", "partition", place.job, "master", "slave-0", "--lease", "60s")
    assert (cut.returncode, cut.stdout) == (0, "partitioned   master  (fault 1)\ngroup         slave-0\n")
    paused = place.tutor("chaos", "pause", place.job, "master", "slave-0")
    assert paused.stdout == "paused        master     (fault 3)\npaused        slave-0    (fault 4)\n"
    listed = place.owner("chaos", "faults", place.job, "--in-force", "--json")
    faults = json.loads(listed.stdout)["faults"]
    by = [(fault["kind"], fault["requested_by"]) for fault in faults]
    assert by == [("partition", "user:chaos-owner")] * 2 + [("pause", "user:chaos-tutor")] * 2
    healed = place.owner("chaos", "heal", place.job)
    assert healed.stdout == "healed        master, slave-0  (4 faults)\n"
    killed = place.tutor("chaos", "kill", place.job, "slave-0")
    assert killed.returncode == 0 and killed.stdout.startswith("killed        slave-0    ("), killed
    assert place.owner("chaos", "revive", place.job, "slave-0").stdout.endswith("(generation 2, disk kept)\n")
    shown, lines = place.owner("show", place.job).stdout, place.owner("logs", place.job).stdout
    assert "paused" in shown and "by user:chaos-tutor" in shown
    assert "*         * partition master | slave-0" in lines and "killed slave-0" in lines


@pytest.mark.parametrize(
    ("who", "words", "status", "text"),
    [
        ("stranger", ("kill", "slave-0"), 66, "no job {job}"),
        ("stranger", ("faults",), 66, "no job {job}"),
        ("owner", ("kill", "slave-7"), 66, "no member `slave-7`"),
        ("owner", ("partition", "master,slave-0", "slave-0"), 64, "(slave-0) is in group 1 and in group 2"),
        ("owner", ("degrade", "master", "--loss", "120"), 64, "loss_percent is 120"),
        ("owner", ("pause", "master", "--lease", "0"), 64, "lease is 0 s"),
        ("owner", ("heal", "99"), 66, "line 99"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    place: Place, who: str, words: tuple[str, ...], status: int, text: str
) -> None:
    """One clear line, an exit status of its own, and nothing done."""
    before = len(place.cluster.users.job(int(place.job)).faults)
    done = getattr(place, who)("chaos", words[0], place.job, *words[1:])
    assert done.returncode == status and text.format(job=place.job) in done.stderr, done
    assert done.stdout == "" and len(place.cluster.users.job(int(place.job)).faults) == before


def test_a_job_that_is_over_takes_no_faults(place: Place) -> None:
    """Its ledger can be read all the same."""
    job = begun(place.cluster, place.owner)
    place.cluster.users.cancel(int(job))
    place.cluster.wait(int(job))
    over = place.owner("chaos", "kill", job, "slave-0")
    assert over.returncode == 65 and f"job {job}" in over.stderr, over
    assert place.owner("chaos", "faults", job).stdout == "no faults\n"
