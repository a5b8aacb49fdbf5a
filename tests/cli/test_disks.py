"""`submit --keep-disks` and `fetch --disk`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from syndicate.client_api import NoDisks, SchedulerClient
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import TOKEN, FakeManager, ended_job, running_job


@pytest.fixture
def job(manager: FakeManager) -> FakeManager:
    """A manager that has job 12, ended, with the disk of its master, and none of its slave's."""
    done = ended_job()
    done.spec.keep_disks = True
    manager.scheduler.jobs[12] = done
    manager.scheduler.disks[12] = [script()]
    return manager


def script() -> list[scheduler.ReadDisksResponse | None]:
    """What a manager sends of two disks."""
    return [
        scheduler.ReadDisksResponse(task="master", size=10),
        scheduler.ReadDisksResponse(task="master", data=b"01234"),
        scheduler.ReadDisksResponse(task="master", data=b"56789"),
        scheduler.ReadDisksResponse(task="slave-0", missing="packed it is larger than 64 MiB"),
    ]


def laid(folder: Path) -> list[str]:
    """The files of disks in a store."""
    return sorted(path.name for path in (folder / "latest" / "disks").iterdir())


def test_fetch_lays_down_archives_and_why_others_are_missing(
    ctl: Ctl, job: FakeManager, tmp_path: Path
) -> None:
    """A file for each disk, as it came; of the others the reason, on the screen and in a file."""
    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk")

    assert ended.code == 0, ended.err
    assert laid(tmp_path / "store") == ["master.tar.gz", "missing.json"]
    disks = tmp_path / "store" / "latest" / "disks"
    assert (disks / "master.tar.gz").read_bytes() == b"0123456789"
    assert json.loads((disks / "missing.json").read_text()) == {"slave-0": "packed it is larger than 64 MiB"}
    assert "without the disk of slave-0: packed it is larger than 64 MiB" in ended.err


def test_fetch_without_disk_asks_for_none(ctl: Ctl, job: FakeManager, tmp_path: Path) -> None:
    """They may be large: only who asks gets them."""
    ended = ctl("fetch", "12", str(tmp_path / "store"))

    assert ended.code == 0, ended.err
    assert not (tmp_path / "store" / "latest" / "disks").exists()


def test_fetch_of_one_disk(ctl: Ctl, job: FakeManager, tmp_path: Path) -> None:
    """By the task's name."""
    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk-of", "master")

    assert ended.code == 0, ended.err
    assert laid(tmp_path / "store") == ["master.tar.gz"]


def test_a_stream_that_breaks_is_opened_again(ctl: Ctl, job: FakeManager, tmp_path: Path) -> None:
    """What came already is left out the second time."""
    job.scheduler.disks[12] = [[*script()[:2], None], script()]

    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk")

    assert ended.code == 0, ended.err
    assert (tmp_path / "store" / "latest" / "disks" / "master.tar.gz").read_bytes() == b"0123456789"


@pytest.mark.parametrize("name", ["../../evil", "client-9", "/etc/passwd"])
def test_a_task_that_the_job_has_not_names_no_file(
    ctl: Ctl, job: FakeManager, tmp_path: Path, name: str
) -> None:
    """Whatever a manager says, nothing is written outside the folder, and what was begun is taken away."""
    job.scheduler.disks[12] = [[scheduler.ReadDisksResponse(task=name, size=1, data=b"x")]]

    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk")

    assert ended.code == 70
    assert os.listdir(tmp_path / "store") == []


def test_a_disk_that_came_in_part_is_no_disk(ctl: Ctl, job: FakeManager, tmp_path: Path) -> None:
    """Its size was told first."""
    job.scheduler.disks[12] = [script()[:2]]

    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk")

    assert ended.code == 70
    assert "the disk of master came in part" in ended.err
    assert os.listdir(tmp_path / "store") == []


def test_a_job_that_kept_none_has_the_remedy_in_the_message(
    ctl: Ctl, job: FakeManager, tmp_path: Path
) -> None:
    """Before anything is written."""
    job.scheduler.jobs[12].spec.keep_disks = False

    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk")

    assert ended.code == 65
    assert "--keep-disks" in ended.err
    assert not (tmp_path / "store").exists()


def test_a_job_that_runs_is_to_be_waited_for(ctl: Ctl, job: FakeManager, tmp_path: Path) -> None:
    """Its disks are kept when it ends."""
    running = running_job()
    running.spec.keep_disks = True
    job.scheduler.jobs[12] = running

    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk")

    assert ended.code == 75
    assert "syndicatectl wait 12" in ended.err


def test_a_task_that_is_not_there_is_told_with_those_that_are(
    ctl: Ctl, job: FakeManager, tmp_path: Path
) -> None:
    """Before anything is asked for or written."""
    ended = ctl("fetch", "12", str(tmp_path / "store"), "--disk-of", "slave-9")

    assert ended.code == 66
    assert "Its tasks: master, slave-0" in ended.err
    assert not (tmp_path / "store").exists()


def test_submit_asks_for_them(ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """With the option, and not without."""
    (tmp_path / "Makefile").write_text("master:\n\ttrue\n")
    for words in (("--keep-disks",), ()):
        ended = ctl("submit", str(tmp_path), *words)
        assert ended.code == 0, ended.err

    asked = {request.request_id: request.spec.keep_disks for request in manager.scheduler.submitted}
    assert list(asked.values()) == [True, False]


def test_show_says_where_they_are(ctl: Ctl, job: FakeManager) -> None:
    """Of a job that keeps them."""
    shown = " ".join(ctl("show", "12").out.split())
    job.scheduler.jobs[12].spec.keep_disks = False
    without = ctl("show", "12").out

    assert "disks with the manager: syndicatectl fetch 12 DIR --disk" in shown
    assert "--disk" not in without


def test_the_client_has_an_error_for_it(job: FakeManager) -> None:
    """For programs that ask without looking at the job first."""
    job.scheduler.jobs[12].spec.keep_disks = False
    job.scheduler.jobs[12].state = common.JOB_STATE_FAILED
    with SchedulerClient(job.address, TOKEN, insecure=True) as client, pytest.raises(NoDisks):
        list(client.disks(12))


def test_show_says_that_kills_lose_what_was_not_synced(ctl: Ctl, job: FakeManager) -> None:
    """Of a job submitted with --lose-unsynced, and of no other."""
    without = ctl("show", "12").out
    job.scheduler.jobs[12].spec.lose_unsynced = True
    shown = ctl("show", "12").out

    assert "kills      are losses of power: what was not synced is gone" in shown
    assert "losses of power" not in without
