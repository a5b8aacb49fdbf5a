"""What a job asks for with `submit` holds in its own tasks, and in nobody else's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, ended, output, tree

pytestmark = pytest.mark.system

_FORKS = """\
import subprocess
made = []
try:
    while len(made) < 100:
        made.append(subprocess.Popen(["sleep", "60"]))
    print("made all")
except BlockingIOError:
    print(f"stopped after {len(made)}")
for process in made:
    process.kill()
"""


def submit(cluster: Cluster, source: Path, *options: str) -> int:
    """Queues a job of one machine by the command, and returns its id."""
    done = cluster.ctl("submit", str(source), "--no-client", *options)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_jobs_own_limit_of_processes_holds(cluster: Cluster, tmp_path: Path) -> None:
    """The job that asked for 40 gets no more; one that asked for nothing has room for all it makes."""
    files = {"Makefile": ".PHONY: master\nmaster:\n\t@python3 forks.py\n", "forks.py": _FORKS}
    source = tree(tmp_path, files)
    bounded, free = submit(cluster, source, "--pids", "40"), submit(cluster, source)
    jobs = [cluster.wait(job) for job in (bounded, free)]
    said = [output(cluster, job, "master") for job in jobs]
    assert [ended(job) for job in jobs] == ["succeeded", "succeeded"], said
    stopped = re.search(r"stopped after (\d+)\n", said[0])
    assert stopped is not None and 20 <= int(stopped[1]) < 40, said[0]
    assert "made all\n" in said[1]
    assert "40 processes" in cluster.ctl("show", str(bounded)).stdout


def test_a_jobs_own_limit_of_its_disk_holds(cluster: Cluster, tmp_path: Path) -> None:
    """32 MiB take 16 and not 48; a disk that its memory cannot hold is refused with both figures."""
    makefile = """\
.PHONY: master
master:
\t@head -c 16M /dev/zero >fits; head -c 48M /dev/zero >more || true
"""
    source = tree(tmp_path, {"Makefile": makefile})
    job = cluster.wait(submit(cluster, source, "--disk", "32M"))
    assert ended(job) == "succeeded" and "No space left" in output(cluster, job, "master")
    refused = cluster.ctl("submit", str(source), "--disk", "512M")
    assert refused.returncode == 64 and not refused.stdout
    assert "--disk is 512 MiB" in refused.stderr and "512 MiB of memory" in refused.stderr
