"""`syndicatectl` on a real cluster, as a user and as a script use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import BIN, JOBS, Cluster, ended, tree

pytestmark = pytest.mark.system


@contextmanager
def running(cluster: Cluster, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on; ended with the test whatever happens."""
    command = [str(BIN / "syndicatectl"), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=cluster.environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finishing(folder: Path, *words: str) -> Path:
    """A client that does nothing but report."""
    recipe = f"syndicate-chaos finish {' '.join(words)}" if words else "true"
    return tree(folder, {"Makefile": f".PHONY: client\nclient:\n\t@{recipe}\n"})


def test_all_reads_print_json(cluster: Cluster) -> None:
    """Each `--json` is one document, or one a line where things go on; all of it is ASCII."""
    job = cluster.run("disk", machines=2, client="disk-client")
    number = str(job.job_id)
    documents = {
        words[0]: json.loads(cluster.ctl(*words, "--json").stdout)
        for words in (
            ("jobs",),
            ("show", number),
            ("wait", number),
            ("result", number),
            ("nodes",),
            ("cluster",),
        )
    }
    assert job.job_id in [listed["job_id"] for listed in documents["jobs"]["jobs"]]
    assert documents["show"]["job_id"] == job.job_id and documents["show"]["state"] == "succeeded"
    assert (
        len(documents["show"]["faults"]) == 8 and documents["show"]["faults"][0]["applied_at"]["monotonic_ns"]
    )
    assert documents["result"]["result"]["outcome"] == "pass"
    assert documents["result"]["result"]["metrics"] == {"generations": 5}
    assert documents["cluster"]["slots"] == 10 and documents["nodes"]["nodes"][0]["volunteer_id"] == "local"
    for words in (("logs", number), ("follow", number)):
        text = cluster.ctl(*words, "--json").stdout
        assert text.isascii() and {json.loads(line)["event"] for line in text.splitlines()} >= {"log"}


def test_show_tells_each_fault_on_one_time_line(cluster: Cluster) -> None:
    """Lanes of all tasks, each fault in the story, the result."""
    job = cluster.run("disk", machines=2, client="disk-client")
    shown = cluster.ctl("show", str(job.job_id)).stdout
    for task in job.tasks:
        assert f"\n{task.ref.task:<9} " in shown and task.address in shown
    assert shown.count("killed") >= 4 and shown.count("revived") >= 4, shown
    assert "SUCCEEDED (pass)" in shown.splitlines()[0]


@pytest.mark.parametrize(
    ("report", "code", "state"),
    [
        (("--outcome", "pass"), 0, "SUCCEEDED"),
        (("--outcome", "fail"), 1, "FAILED"),
        (("--outcome", "unknown"), 2, "UNKNOWN"),
        ((), 2, "UNKNOWN"),
    ],
)
def test_a_command_ends_as_the_job_did(
    cluster: Cluster, tmp_path: Path, report: tuple[str, ...], code: int, state: str
) -> None:
    """`submit --follow`, `follow`, `wait` and `result` have one exit code for each end of a job."""
    client = str(finishing(tmp_path, *report))
    followed = cluster.ctl("submit", str(JOBS / "idle"), "--client", client, "--follow", "--json")
    job = str(json.loads(followed.stdout.splitlines()[-1])["job"]["job_id"])
    assert followed.returncode == code, followed
    for command in ("wait", "result", "follow"):
        answer = cluster.ctl(command, job)
        assert answer.returncode == code, (command, answer)
    assert state in cluster.ctl("wait", job).stdout


def test_a_job_that_has_not_ended_has_no_result_yet(cluster: Cluster) -> None:
    """`result` and `wait --timeout` say so with a code of their own, and the job goes on."""
    job = cluster.submit("idle", machines=1)
    cluster.until_running(job)
    result, waited = cluster.ctl("result", str(job)), cluster.ctl("wait", str(job), "--timeout", "1")
    assert (result.returncode, waited.returncode) == (75, 75), (result, waited)
    assert ended(cluster.users.job(job)) == "running"
    assert cluster.ctl("cancel", str(job)).returncode == 0
    assert ended(cluster.wait(job)) == "cancelled" and cluster.ctl("wait", str(job)).returncode == 1


def test_a_time_limit_ends_the_job(cluster: Cluster) -> None:
    """`--time-limit 1` ends a job that goes on for ever: TIMED_OUT, TIME_LIMIT, exit code 1."""
    words = ("submit", str(JOBS / "idle"), "-n", "2", "--time-limit", "1", "--follow", "--json")
    followed = cluster.ctl(*words)
    job = cluster.users.job(json.loads(followed.stdout.splitlines()[-1])["job"]["job_id"])
    assert followed.returncode == 1 and job.spec.time_limit_s == 1.0, followed
    assert ended(job) == "timed_out" and cluster.reason(job) == "time_limit"
    ran_ns = job.ended_at.monotonic_ns - job.started_at.monotonic_ns
    assert 0.9e9 < ran_ns < 30e9, ran_ns
    shown = cluster.ctl("show", str(job.job_id))
    assert "TIMED_OUT" in shown.stdout.splitlines()[0] and "TIME_LIMIT" in shown.stdout, shown.stdout


def test_submit_prints_its_id_alone_to_a_pipe(cluster: Cluster) -> None:
    """`id=$(syndicatectl submit PATH)` works."""
    done = cluster.ctl("submit", str(JOBS / "escapes"), "-n", "2", "--name", "by-script")
    job = cluster.wait(int(done.stdout))
    assert done.stdout == f"{job.job_id}\n" and job.spec.name == "by-script" and "uploaded" in done.stderr


def test_logs_are_followed_live(cluster: Cluster) -> None:
    """`logs -f` shows a line while the job still runs, labelled with its task; of one task if named."""
    job = cluster.submit("idle", machines=2)
    with running(cluster, "logs", str(job), "-f", "--task", "slave-0") as following:
        assert following.stdout is not None
        line = following.stdout.readline()
        assert line == "slave-0   | up\n"
        cluster.until_running(job)  # the line may be told before all members are known to have started
        cluster.users.cancel(job)
        assert following.stdout.read() == "" and following.wait(60) == 0
    cluster.wait(job)


def test_ctrl_c_ends_the_command_and_not_the_job(cluster: Cluster) -> None:
    """130 is the code; the line says that the job goes on, and how to follow and end it."""
    with running(cluster, "submit", str(JOBS / "idle"), "-n", "2", "--follow", "--json") as following:
        assert following.stdout is not None and following.stderr is not None
        job = int(json.loads(following.stdout.readline())["job_id"])
        cluster.until_running(job)
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130
        said = following.stderr.read()
    assert f"error: interrupted; job {job} goes on" in said and f"syndicatectl cancel {job}" in said
    assert ended(cluster.users.job(job)) == "running"
    assert cluster.ctl("cancel", str(job)).returncode == 0
    assert ended(cluster.wait(job)) == "cancelled"


def test_waiting_jobs_of_users_take_turns(cluster: Cluster) -> None:
    """Of three jobs of ada's and one of ben's that wait, ben's goes second."""
    blocker = cluster.submit("idle", machines=10)
    cluster.until_running(blocker)

    def submit(user: str) -> int:
        done = subprocess.run(
            [str(BIN / "syndicatectl"), "submit", str(JOBS / "idle"), "-n", "10"],
            env={**cluster.environment, "SYNDICATE_USER": user},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return int(done.stdout)

    ada = [submit("ada") for _ in range(3)]
    ben = submit("ben")
    places = {job: cluster.users.job(job).queue_place for job in (*ada, ben)}
    assert [job for job, _ in sorted(places.items(), key=lambda item: item[1])] == [ada[0], ben, *ada[1:]]
    assert cluster.users.job(ben).owner == "ben"
    cluster.users.cancel(blocker)
    for job in (ada[0], ben, *ada[1:]):
        others = [other for other in (*ada, ben) if other > 0 and ended(cluster.users.job(other)) == "queued"]
        cluster.until_running(job)
        assert all(ended(cluster.users.job(other)) == "queued" for other in others if other != job)
        cluster.users.cancel(job)
        cluster.wait(job)


def test_cancel_is_harmless_twice(cluster: Cluster) -> None:
    """A job that has ended is told as it is."""
    job = cluster.submit("idle", machines=1)
    assert cluster.ctl("cancel", str(job)).returncode == 0
    cluster.wait(job)
    again = cluster.ctl("cancel", str(job))
    assert again.returncode == 0 and "CANCELLED" in again.stdout


def test_the_command_needs_neither_daemon_nor_pyroute2() -> None:
    """It installs on other systems: nothing that only Linux has is imported."""
    python = str(BIN / "python")
    code = (
        "import sys, syndicate.cli.__main__ as m; m.run(['--help']);"
        "others = ('pyroute2', 'syndicate.manager', 'syndicate.volunteer');"
        "bad = [n for n in sys.modules if n.startswith(others)];"
        "sys.exit(str(bad) if bad else 0)"
    )
    environ = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        [python, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
