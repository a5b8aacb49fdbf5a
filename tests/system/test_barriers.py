"""Barriers in a whole job: where the server is, what faults do to waiters, and what users are told."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.support.cluster import EXAMPLES, Cluster, ended, eventually, output, tree

pytestmark = pytest.mark.system

NO_ANSWER = "the sync server has not answered"  # within three seconds: what it dropped is not known
WAITS = ".PHONY: master slave\nmaster slave:\n\t@sleep 1000\n"


def job_of(folder: Path, master: str, slave: str) -> Path:
    """A source whose members do this."""
    lines = f".PHONY: master slave\nmaster:\n\t@{master}\nslave:\n\t@{slave}\n"
    return tree(folder, {"Makefile": lines})


def client_of(folder: Path, script: str) -> Path:
    """A client's source: a script of the shell, which ends at its first error."""
    return tree(folder, {"Makefile": "client:\n\t@sh -eu client.sh\n.PHONY: client\n", "client.sh": script})


def open_barriers(cluster: Cluster, job_id: int) -> dict[str, dict[str, Any]]:
    """By name, as `barriers --json` tells them."""
    done = cluster.ctl("barriers", str(job_id), "--json")
    assert done.returncode == 0, done.stderr
    return {one["barrier"]: one for one in json.loads(done.stdout)["barriers"]}


def until_open(cluster: Cluster, job_id: int, name: str, remaining: int) -> dict[str, Any]:
    """The barrier, once it has this count."""

    def look() -> dict[str, Any] | None:
        found = open_barriers(cluster, job_id).get(name)
        return found if found is not None and found["remaining"] == remaining else None

    return eventually(f"{name} waits for {remaining}", look)


def story(job: scheduler.Job) -> list[str]:
    """The texts of the lines about barriers."""
    return [line.text for line in job.story if line.event.startswith("barrier.")]


def drop(cluster: Cluster, job_id: int, barrier: str) -> None:
    """Drops one, which is there."""
    done = cluster.ctl("barriers", str(job_id), "--drop", barrier)
    if NO_ANSWER in done.stderr:
        again = asked_to_drop(cluster, job_id, "--drop", barrier)
        assert again.returncode == 0 or "has no barrier" in again.stderr, again.stderr
    else:
        assert done.returncode == 0, done.stderr


def asked_to_drop(cluster: Cluster, job_id: int, *words: str) -> subprocess.CompletedProcess[str]:
    """What the server says to that, as soon as it has the time to."""

    def ask() -> subprocess.CompletedProcess[str] | None:
        done = cluster.ctl("barriers", str(job_id), *words)
        return None if NO_ANSWER in done.stderr else done

    return eventually("an answer to a drop", ask)


def submit(cluster: Cluster, source: Path, machines: int, *words: str) -> int:
    """By the command line; the job's id."""
    done = cluster.ctl("submit", str(source), "-n", str(machines), *words)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_gang_meets_and_its_story_tells_of_it(cluster: Cluster, tmp_path: Path) -> None:
    """One line for the round, with who initialised it, who came, and the largest error."""
    source = job_of(
        tmp_path,
        "syndicate-sync -i 2 -n start -e 3 -t 30 || [ $$? = 3 ]",
        "syndicate-sync -n start -t 30 || [ $$? = 3 ]",
    )

    job = cluster.run(source, machines=3)

    assert ended(job) == "succeeded", output(cluster, job)
    (line,) = story(job)
    assert re.fullmatch(
        r"barrier 'start' opened after \d.*: master initialised it for 2; there were .*; error 3", line
    )
    assert {"master", "slave-0", "slave-1"} <= set(re.findall(r"[a-z]+(?:-\d)?", line))
    shown = cluster.ctl("show", str(job.job_id)).stdout
    assert "barrier 'start' opened" in shown


def test_who_is_missing_is_told_while_others_wait(cluster: Cluster, tmp_path: Path) -> None:
    """And a waiter that is killed is un-counted at once; an ended job has no barriers."""
    source = job_of(
        tmp_path,
        "syndicate-sync -i 2 -n start",
        "[ $$SYNDICATE_TASK = slave-0 ] && exec syndicate-sync -n start; sleep 1000",
    )
    job_id = submit(cluster, source, 3, "--no-client")
    found = until_open(cluster, job_id, "start", 1)
    assert [one["task"] for one in found["inits"]] == ["master"]
    assert [one["task"] for one in found["tasks"]] == ["slave-0"]
    assert found["missing"] == ["slave-1"]
    told = cluster.ctl("barriers", str(job_id)).stdout
    assert re.search(r"^start   1 missing   open for ", told, re.MULTILINE)
    assert "  not there    slave-1" in told

    cluster.ctl("chaos", "kill", str(job_id), "slave-0")

    assert set(until_open(cluster, job_id, "start", 2)["missing"]) == {"slave-0", "slave-1"}
    assert cluster.ctl("cancel", str(job_id)).returncode == 0
    cluster.wait(job_id)
    refused = cluster.ctl("barriers", str(job_id))
    assert refused.returncode != 0
    assert "CANCELLED" in refused.stderr


def test_who_waits_is_let_go_when_a_barrier_is_dropped(cluster: Cluster, tmp_path: Path) -> None:
    """With 240, and the job's story and the audit log tell of it."""
    source = job_of(tmp_path, "syndicate-sync -i 1 -n start; echo got $$?; exec sleep 1000", "true")
    job_id = submit(cluster, source, 1, "--no-client")
    until_open(cluster, job_id, "start", 1)

    drop(cluster, job_id, "start")

    assert "got 240" in cluster.log_lines(job_id, "master")
    gone = asked_to_drop(cluster, job_id, "--drop", "start")
    assert (gone.returncode, "has no barrier 'start'" in gone.stderr) == (66, True)
    assert asked_to_drop(cluster, job_id, "--drop-all").returncode == 0
    cluster.ctl("cancel", str(job_id))
    assert any("'start' was dropped after" in line for line in story(cluster.wait(job_id)))
    lines = cluster.users.audit(job_id=job_id)
    assert f"job {job_id}, barrier 'start'" in [line.subject for line in lines]


def test_the_server_outlives_the_kill_of_its_member(cluster: Cluster, tmp_path: Path) -> None:
    """Others wait on, and meet the member when it is revived."""
    source = job_of(
        tmp_path,
        "test -e been || { touch been; echo up; exec sleep 1000; }; exec syndicate-sync -i 1 -n start",
        "exec syndicate-sync -n start",
    )
    job_id = submit(cluster, source, 2, "--no-client", "--sync-server", "master")
    until_open(cluster, job_id, "start", -1)
    assert "up" in cluster.log_lines(job_id, "master")

    for what in ("kill", "revive"):
        done = cluster.ctl("chaos", what, str(job_id), "master")
        assert done.returncode == 0, done.stderr

    job = cluster.wait(job_id)
    assert ended(job) == "succeeded", output(cluster, job)
    assert any("opened" in line for line in story(job))


def test_an_owner_that_is_killed_ends_the_waiting_of_the_others(cluster: Cluster, tmp_path: Path) -> None:
    """With 242, and the story says that the barrier was abandoned."""
    source = job_of(
        tmp_path,
        "exec syndicate-sync -i 2 -n start --abandon",
        "syndicate-sync -n start; echo got $$?; sleep 1000",
    )
    job_id = submit(cluster, source, 2, "--no-client", "--sync-server", "slave-0")
    until_open(cluster, job_id, "start", 1)

    cluster.ctl("chaos", "kill", str(job_id), "master")

    assert "got 242" in cluster.log_lines(job_id, "slave-0")
    cluster.ctl("cancel", str(job_id))
    assert any("was abandoned" in line for line in story(cluster.wait(job_id)))


UNTIL_TOLD = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("up", flush=True)
signal.sigwait([signal.SIGUSR1])
"""


@pytest.mark.parametrize(
    ("fault", "where", "got"),
    [
        ("disconnect slave-1", "master", "241"),
        ("disconnect slave-1", "slave-0", "241"),
        ("disconnect slave-1", "client-0", "0"),
        ("partition master slave-1", "master", "241"),
        ("degrade slave-1 --loss 100", "master", "241"),
    ],
)
def test_a_cut_member_reaches_a_clients_server_alone(
    cluster: Cluster, tmp_path: Path, fault: str, where: str, got: str
) -> None:
    """Cut off from masters and slaves, it does not reach one of theirs; it comes back when that is healed."""
    patience = 60 if got == "0" else 3
    source = tree(
        tmp_path,
        {
            "Makefile": ".PHONY: master slave\nmaster:\n\t@exec sleep 1000\nslave:\n\t@sh slave.sh\n",
            "slave.sh": "[ $SYNDICATE_TASK = slave-1 ] || exec sleep 1000\n"
            "python3 -I until_told.py\n"
            f"syndicate-sync -n probe -t {patience}; echo got $?\n"
            "syndicate-sync -n whole; echo then $?\n"
            "exec sleep 1000\n",
            "until_told.py": UNTIL_TOLD,
        },
    )
    client = client_of(
        tmp_path,
        "syndicate-sync -i 1 -a -n probe\necho ready\nsyndicate-sync -i 1 -n whole\nexec sleep 1000\n",
    )
    job_id = submit(cluster, source, 3, "--client", str(client), "--sync-server", where)

    def chaos(verb: str, *words: str) -> None:
        done = cluster.ctl("chaos", verb, str(job_id), *words)
        assert done.returncode == 0, done.stderr

    assert "ready" in cluster.log_lines(job_id, "client-0")
    said = cluster.log_lines(job_id, "slave-1")
    assert "up" in said
    chaos(*fault.split())
    chaos("signal", "USR1", "slave-1")
    probed = next(line for line in said if line.startswith("got"))
    chaos("heal")
    whole = next(line for line in said if line.startswith("then"))
    cluster.ctl("cancel", str(job_id))
    cluster.wait(job_id)

    assert (probed, whole) == (f"got {got}", "then 0")


def test_barriers_work_over_udp_and_for_clients(cluster: Cluster, tmp_path: Path) -> None:
    """The server is the first client's; `--whoami` says so there alone."""
    source = job_of(tmp_path, "syndicate-sync --whoami; syndicate-sync -u -n a", "syndicate-sync -u -n a")
    client = client_of(
        tmp_path, "syndicate-sync --whoami\nsyndicate-sync -u -i 2 -n a\nsyndicate-chaos finish\n"
    )

    job = cluster.run(source, machines=2, client=client)

    assert ended(job) == "succeeded", output(cluster, job)
    assert job.spec.sync_server == "client-0"
    assert "ISSERVER=1" in output(cluster, job, "client-0")
    assert "ISSERVER=0" in output(cluster, job, "master")
    (line,) = story(job)
    assert "client-0 initialised it for 2" in line


def test_a_job_may_do_without(cluster: Cluster, tmp_path: Path) -> None:
    """`--sync-server none`: no address anywhere, and no barriers to list."""
    source = job_of(
        tmp_path, '[ -z "$$SYNDICATE_SYNC_SERVER" ]; syndicate-sync; echo got $$?; sleep 1000', "true"
    )
    job_id = submit(cluster, source, 1, "--no-client", "--sync-server", "none")

    assert next(iter(cluster.log_lines(job_id, "master"))).startswith("error: no sync server")
    refused = cluster.ctl("barriers", str(job_id))
    assert "without a sync server" in refused.stderr
    cluster.ctl("cancel", str(job_id))
    cluster.wait(job_id)


@pytest.mark.parametrize(
    ("where", "why"),
    [("slave-2", "is slave-2, and the job has 1 slave"), ("nobody", "must be master, slave-N")],
)
def test_a_member_that_there_is_not_cannot_serve(
    cluster: Cluster, tmp_path: Path, where: str, why: str
) -> None:
    """Refused before anything is sent."""
    source = tree(tmp_path, {"Makefile": WAITS})

    done = cluster.ctl("submit", str(source), "-n", "2", "--sync-server", where)

    assert done.returncode == 64
    assert f"--sync-server {why}" in done.stderr


def test_a_flood_of_rounds_leaves_a_story_that_can_be_read(cluster: Cluster, tmp_path: Path) -> None:
    """Thousands of rounds: few lines, and how many there were."""
    flood = (
        "import os, socket, struct\n"
        "host, port = os.environ['SYNDICATE_SYNC_SERVER'].split(':')\n"
        "def ask(kind, name):\n"
        "    with socket.create_connection((host, int(port))) as peer:\n"
        "        peer.sendall(struct.pack('=64shhii', name, kind, 1, 1, 0))\n"
        "        peer.recv(4)\n"
        "for number in range(3000):\n"
        "    ask(1, b'b%d' % number)\n"
        "    ask(2, b'b%d' % number)\n"
    )
    makefile = ".PHONY: master slave\nmaster:\n\t@python3 -I flood.py\n"
    source = tree(tmp_path, {"Makefile": makefile, "flood.py": flood})

    job = cluster.run(source, machines=1)

    assert ended(job) == "succeeded", output(cluster, job)
    lines = story(job)
    assert len(lines) <= 202
    assert lines[-1] == "3,000 rounds of barriers in all"


CROWD = """
import contextlib, os, socket, struct
host, port = os.environ["SYNDICATE_SYNC_SERVER"].split(":")
place, wait = (host, int(port)), struct.pack("=64shhii", b"crowd", 2, 0, 0, 0)
done, tell = os.pipe()
end, keep = os.pipe()
for _ in range(8):
    if not os.fork():
        os.close(keep)
        held = []
        for _ in range(2600):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(place))
                held[-1].sendall(wait)
        os.write(tell, b".")
        os.read(end, 1)
        os._exit(0)
for _ in range(8):
    os.read(done, 1)
last = socket.create_connection(place, 100)
with contextlib.suppress(ConnectionError):
    last.sendall(wait)
    assert last.recv(4) == b""
print("turned away", flush=True)
os.close(keep)
for _ in range(8):
    os.wait()
"""


def test_a_job_that_fills_its_server_is_told_and_loses_no_waiter(cluster: Cluster, tmp_path: Path) -> None:
    """20,800 come, for whom there is no room: who came before goes on, and so do other jobs."""
    other = submit(cluster, job_of(tmp_path, "syndicate-sync -n b -i 1", ""), 1, "--no-client")
    until_open(cluster, other, "b", 1)
    source = tree(
        tmp_path,
        {
            "Makefile": ".PHONY: master slave\n"
            "master:\n\t@syndicate-sync -n held -i 1; echo got $$?\n"
            "slave:\n\t@syndicate-sync -n go; python3 -I crowd.py && exec syndicate-sync -n held\n",
            "crowd.py": CROWD,
        },
    )
    job_id = submit(cluster, source, 2, "--no-client", "--sync-server", "master")
    until_open(cluster, job_id, "held", 1)
    until_open(cluster, job_id, "go", -1)

    drop(cluster, job_id, "go")
    job = cluster.wait(job_id, 400.0)  # of 20,800 connections, on a slow machine

    assert ended(job) == "succeeded", output(cluster, job)
    assert "turned away" in output(cluster, job, "slave-0")
    assert "got 0" in output(cluster, job, "master")
    full = "the sync server has no room for more who wait over TCP: they get 76 until somebody leaves"
    assert [line for line in story(job) if line.startswith("the sync server")] == [full]
    until_open(cluster, other, "b", 1)
    cluster.ctl("cancel", str(other))
    assert all(line.startswith("barrier 'b'") for line in story(cluster.wait(other)))
    assert cluster.audit().returncode == 0


def test_what_is_open_is_known_after_restarts(own_cluster: Cluster, tmp_path: Path) -> None:
    """Of the volunteer and of the manager: the server goes on, and is asked for what there is."""
    source = job_of(tmp_path, "exec syndicate-sync -i 2 -n start", "exec syndicate-sync -n start")
    job_id = submit(own_cluster, source, 2, "--no-client")
    until_open(own_cluster, job_id, "start", 1)

    for name in ("volunteer", "manager"):
        own_cluster.daemons[name].kill()
        own_cluster.daemons[name].restart()
        own_cluster.until_running(job_id)
        until_open(own_cluster, job_id, "start", 1)

    own_cluster.ctl("cancel", str(job_id))
    own_cluster.wait(job_id)


def test_the_measurement_starts_together(cluster: Cluster) -> None:
    """The example: master and slaves, round by round, and a client that says how far apart they were."""
    job = cluster.run(EXAMPLES / "barrier-bench", machines=5, client=EXAMPLES / "barrier-bench" / "client")

    text = output(cluster, job, "client-0")
    # How far apart they are is the machine's matter; the client has measured and said what it found.
    assert ended(job) in ("succeeded", "failed"), text
    assert re.search(r"20 rounds of 5: started within [\d.]+ ms \(median\), [\d.]+ ms \(most\)", text), text
