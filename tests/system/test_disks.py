"""Disks of tasks that are kept when their job ends, on real clusters."""

from __future__ import annotations

import contextlib
import json
import tarfile
from pathlib import Path

import pytest
from syndicate.client_api import job_has_ended
from syndicate.volunteer.keeper.cgroups import find_mount

from tests.support.cluster import Cluster, ended, eventually, tree

pytestmark = pytest.mark.system

_WRITES = (
    ".PHONY: master slave\n"
    "master:\n\t@echo $$SYNDICATE_TASK > state; echo scratch > /tmp/scratch\n"
    "slave:\n\t@echo $$SYNDICATE_TASK > state\n"
)
_LARGE = ".PHONY: master\nmaster:\n\t@head -c 50000000 /dev/urandom > noise\n"


def submitted(cluster: Cluster, source: Path, *words: str) -> int:
    """Queues a job whose disks are kept."""
    done = cluster.ctl("submit", str(source), "--no-client", "--keep-disks", *words)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def packers(cluster: Cluster) -> list[Path]:
    """The cgroups in which slots' disks are being packed."""
    mount = find_mount()
    assert mount is not None
    return list((mount / cluster.cgroup_name).glob("slot-*/packer"))


def until_packed(cluster: Cluster, folder: Path) -> int:
    """A job whose disk is being packed; where that was over before it was seen, the next one."""
    source = tree(folder, {"Makefile": _LARGE})
    for _ in range(5):
        job_id = submitted(cluster, source)
        eventually(
            "a packing", lambda job=job_id: packers(cluster) or job_has_ended(cluster.users.job(job).state)
        )
        if packers(cluster):
            return job_id
        cluster.wait(job_id)
    raise AssertionError("no packing was seen")


def until_packing_stands(cluster: Cluster, folder: Path) -> int:
    """A job the packing of whose disk has begun, and does not go on."""
    for _ in range(5):
        job_id = until_packed(cluster, folder)
        with contextlib.suppress(OSError):  # it is over already
            for packer in packers(cluster):
                (packer / "cgroup.freeze").write_text("1")
                if "populated 1" in (packer / "cgroup.events").read_text():
                    return job_id
        cluster.wait(job_id)
    raise AssertionError("each packing was over too soon")


def test_fetch_lays_down_the_disk_of_each_task(cluster: Cluster, tmp_path: Path) -> None:
    """What a task wrote is there after its job, with its source and its /tmp, in an archive of its own."""
    job_id = submitted(cluster, tree(tmp_path, {"Makefile": _WRITES}), "-n", "2")
    assert ended(cluster.wait(job_id)) == "succeeded"

    fetched = cluster.ctl("fetch", str(job_id), str(tmp_path / "store"), "--disk")

    assert fetched.returncode == 0, fetched.stderr
    disks = tmp_path / "store" / "latest" / "disks"
    assert sorted(path.name for path in disks.iterdir()) == ["master.tar.gz", "slave-0.tar.gz"]
    with tarfile.open(disks / "master.tar.gz") as archive:
        state, scratch = archive.extractfile("./state"), archive.extractfile("tmp/scratch")
        assert state is not None
        assert scratch is not None
        assert (state.read(), scratch.read()) == (b"master\n", b"scratch\n")
        assert "./Makefile" in archive.getnames()
    shown = cluster.ctl("show", str(job_id)).stdout
    assert f"syndicatectl fetch {job_id} DIR --disk" in " ".join(shown.split())


def test_one_that_is_too_large_is_told_and_holds_nobody_up(cluster: Cluster, tmp_path: Path) -> None:
    """The job ends as it did, its slot is free, and fetch says why there is no disk."""
    makefile = _LARGE.replace("50000000", "80000000")
    job_id = submitted(cluster, tree(tmp_path, {"Makefile": makefile}))
    assert ended(cluster.wait(job_id)) == "succeeded"

    fetched = cluster.ctl("fetch", str(job_id), str(tmp_path / "store"), "--disk")

    assert fetched.returncode == 0, fetched.stderr
    assert "without the disk of master: packed it is larger than 64 MiB" in fetched.stderr
    missing = json.loads((tmp_path / "store" / "latest" / "disks" / "missing.json").read_text())
    assert missing == {"master": "packed it is larger than 64 MiB"}


def test_a_job_that_kept_none_says_how_it_would(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing is written, and the remedy is in the message."""
    job = cluster.run(tree(tmp_path, {"Makefile": _WRITES}), machines=1)

    fetched = cluster.ctl("fetch", str(job.job_id), str(tmp_path / "store"), "--disk")

    assert fetched.returncode != 0
    assert "--keep-disks" in fetched.stderr
    assert not (tmp_path / "store").exists()


def test_a_volunteer_killed_meanwhile_hands_it_over_when_it_is_back(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    """Whatever of the packing was lost with it is done again; the job ends, and nothing is left."""
    job_id = until_packed(own_cluster, tmp_path)

    own_cluster.daemons["volunteer"].kill()
    own_cluster.daemons["volunteer"].restart()

    assert ended(own_cluster.wait(job_id)) == "succeeded"
    fetched = own_cluster.ctl("fetch", str(job_id), str(tmp_path / "store"), "--disk")
    assert fetched.returncode == 0, fetched.stderr
    with tarfile.open(tmp_path / "store" / "latest" / "disks" / "master.tar.gz") as archive:
        assert archive.getmember("./noise").size == 50_000_000
    assert own_cluster.audit().returncode == 0


def test_a_manager_killed_meanwhile_has_it_when_it_is_back(own_cluster: Cluster, tmp_path: Path) -> None:
    """The disk comes to the new manager; what the old one had of it is gone."""
    job_id = until_packed(own_cluster, tmp_path)

    own_cluster.daemons["manager"].kill()
    own_cluster.daemons["manager"].restart()

    assert ended(own_cluster.wait(job_id)) == "succeeded"
    fetched = own_cluster.ctl("fetch", str(job_id), str(tmp_path / "store"), "--disk")
    assert fetched.returncode == 0, fetched.stderr
    with tarfile.open(tmp_path / "store" / "latest" / "disks" / "master.tar.gz") as archive:
        assert archive.getmember("./noise").size == 50_000_000
    assert list((own_cluster.dir / "manager" / "disks" / "incoming").iterdir()) == []


def test_a_keeper_killed_meanwhile_is_told(own_cluster: Cluster, tmp_path: Path) -> None:
    """The disk is gone with it: the job ends all the same, and the reason is there to read."""
    job_id = until_packing_stands(own_cluster, tmp_path)

    own_cluster.daemons["keeper"].kill()
    own_cluster.daemons["keeper"].restart()

    assert ended(own_cluster.wait(job_id)) == "succeeded"
    fetched = own_cluster.ctl("fetch", str(job_id), str(tmp_path / "store"), "--disk")
    assert fetched.returncode == 0, fetched.stderr
    disks = tmp_path / "store" / "latest" / "disks"
    assert [each.name for each in disks.iterdir()] == ["missing.json"], own_cluster.daemon_logs()
    assert "keeper" in json.loads((disks / "missing.json").read_text())["master"]
