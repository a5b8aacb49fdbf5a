"""Jobs that prove what a user is promised, each on a real cluster of ten slots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from syndicate.v1 import common_pb2 as common

from tests.support.cluster import EXAMPLES, Cluster, ended, output, tree

pytestmark = pytest.mark.system


def test_each_member_runs_its_own_command_in_a_chroot_rooted_in_the_source(cluster: Cluster) -> None:
    """Master and slaves see their own command, environment, names, and nothing of the host."""
    job = cluster.run("looks", machines=3)
    assert ended(job) == "succeeded", output(cluster, job)
    text = output(cluster, job, "slave-0")
    address = {task.ref.task: task.address for task in job.tasks}
    assert f"command: slave MASTER={address['master']} SLAVES=\n" in text
    root = re.search("root: (.*)", text)
    assert (
        root and "Makefile" in root[1].split() and not {"root", "home", "srv", "boot"} & set(root[1].split())
    )
    assert "cwd: /  uid: 20" in text and "host: slave-0" in text
    assert "home: /  tmp: /tmp  locale: C.UTF-8" in text
    slaves = f"{address['slave-0']},{address['slave-1']}"
    assert (
        f"job: {job.job_id} role: slave task: slave-0 address: {address['slave-0']} "
        f"master: {address['master']} slaves: {slaves} clients: \n" in text
    )
    assert "chaos: []" in text and "No such file" in text
    assert re.search(rf"hosts: {re.escape(address['master'])}\s+master", text)
    assert "sh: kept" in text and "usr: read-only" in text and "python: imports" in text
    assert "stdin: 0" in text
    assert all(f"writable: {place}\n" in text for place in ("/", "/tmp", "/dev/shm"))
    assert "CapEff: 0000000000000000" in text and "NoNewPrivs: 1" in text
    assert "command: master MASTER= SLAVES=\n" in output(cluster, job, "master")


def test_a_client_gets_master_and_slaves_as_make_variables(cluster: Cluster, tmp_path: Path) -> None:
    """`make MASTER=<ip> SLAVES=<ip,ip> client` is what runs, in the client's own source."""
    client = tree(
        tmp_path,
        {
            "Makefile": '.PHONY: client\nclient:\n\t@echo "MASTER=$(MASTER) SLAVES=$(SLAVES) '
            '$$(ls) $$SYNDICATE_CHAOS"; '
            "syndicate-chaos finish --outcome pass --score 0.25\n"
        },
    )
    job = cluster.run("idle", machines=3, client=client)
    assert ended(job) == "succeeded"
    address = {task.ref.task: task.address for task in job.tasks}
    expected = f"MASTER={address['master']} SLAVES={address['slave-0']},{address['slave-1']} "
    text = output(cluster, job, "client-0")
    assert expected in text and "Makefile" in text and "unix:/run/syndicate/chaos.sock" in text
    assert job.result.score == 0.25


def test_slaves_is_empty_for_a_job_of_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    """A job of one machine is legal, and its client sees `SLAVES=` with nothing behind it."""
    client = tree(
        tmp_path,
        {
            "Makefile": '.PHONY: client\nclient:\n\t@echo "[$(SLAVES)] $(origin SLAVES)"; '
            "syndicate-chaos finish\n"
        },
    )
    job = cluster.run("idle", machines=1, client=client)
    assert ended(job) == "succeeded"
    assert "[] command line\n" in output(cluster, job, "client-0")


@pytest.mark.parametrize(
    ("source", "client", "machines"),
    [
        ("pair", "pair-client", 2),
        ("disk", "disk-client", 2),
        ("daemons", "daemons-client", 2),
        ("idle", "strangers-client", 2),
    ],
)
def test_a_client_breaks_its_job_and_finds_what_it_should(
    cluster: Cluster, source: str, client: str, machines: int
) -> None:
    """Cuts are silent and heal, disks survive Kill, daemons end, strangers are refused: clients see it."""
    job = cluster.run(source, machines=machines, client=client)
    assert ended(job) == "succeeded", output(cluster, job)


def test_every_fault_stands_in_the_ledger_with_its_stamps(cluster: Cluster) -> None:
    """Each fault has its intent before its effect, and its effect's stamp on the manager's clock."""
    job = cluster.run("disk", machines=2, client="disk-client")
    kinds = [fault.kind for fault in job.faults]
    assert kinds == [1, 2, 1, 2, 1, 2, 1, 2], "kill and revive in turn; what was so already is no fault"
    for fault in job.faults:
        assert fault.requested_by == "client-0" and fault.task == "slave-0" and not fault.error
        assert fault.applied_at.monotonic_ns > 0 and fault.duration_ns > 0
        assert (
            fault.requested_at.monotonic_ns <= fault.applied_at_manager.monotonic_ns + fault.applied_error_ns
        )


def test_own_tools_run_after_each_revival(cluster: Cluster) -> None:
    """A source that ships and builds its own bin/ starts again on its kept disk three times."""
    job = cluster.run("disk", machines=2, client="disk-client")
    text = output(cluster, job, "slave-0")
    assert text.count("own tool runs\n") == 5
    assert [f"tool of start {n}" in text for n in (1, 2, 3, 4)] == [True] * 4


def test_a_killed_client_counts_as_ended_and_leaves_its_result_unknown(cluster: Cluster) -> None:
    """One client kills the other and passes; the job ends, and its result is the worst of both."""
    job = cluster.run("idle", machines=2, client="two-clients", clients=2)
    assert ended(job) == "unknown", output(cluster, job)
    assert "client-1" in job.detail


def test_a_client_that_has_finished_may_break_nothing_more(cluster: Cluster) -> None:
    """Each fault and a second Finish are refused while another client still works; looking on is allowed."""
    job = cluster.run("idle", machines=2, client="finished-client", clients=2)
    text = output(cluster, job, "client-0")
    assert ended(job) == "succeeded", text + output(cluster, job, "client-1")
    refused = [line.split()[1] for line in text.splitlines() if line.startswith("refused: ")]
    assert refused == ["kill", "revive", "disconnect", "reconnect", "finish"] and "members: 4\n" in text
    assert not job.faults and cluster.reason(job) == "client_passed"


def test_a_client_on_bare_stubs_revives_with_the_disk_kept(cluster: Cluster) -> None:
    """An unset with_disk means with disk: the example on bare stubs says what it saw."""
    job = cluster.run(EXAMPLES / "counter", machines=2, client=EXAMPLES / "bare-stubs")
    assert ended(job) == "succeeded", output(cluster, job)


def test_a_client_over_asyncio_breaks_several_members_at_once(cluster: Cluster) -> None:
    """`AioChaos.from_env()` in a sandbox: calls side by side, their effects seen, errors typed."""
    job = cluster.run("idle", machines=3, client="aio-client")
    assert ended(job) == "succeeded", output(cluster, job)
    assert job.result.score == 0.75 and dict(job.result.metrics) == {"slaves": 2}
    assert job.result.text == "over asyncio"
    kinds = [common.FAULT_KIND_KILL, common.FAULT_KIND_REVIVE]
    kinds += [common.FAULT_KIND_DISCONNECT, common.FAULT_KIND_RECONNECT]
    assert [fault.kind for fault in job.faults] == [kind for kind in kinds for _ in range(2)]
    slaves = {"slave-0", "slave-1"}
    assert all(
        {one.task, two.task} == slaves for one, two in zip(job.faults[::2], job.faults[1::2], strict=True)
    )


def test_a_client_in_shell_drives_all_faults(cluster: Cluster) -> None:
    """`syndicate-chaos` serves clients of any language."""
    job = cluster.run(EXAMPLES / "counter", machines=2, client=EXAMPLES / "shell-client")
    assert ended(job) == "succeeded", output(cluster, job)


def test_three_jobs_run_side_by_side(cluster: Cluster) -> None:
    """Three gangs of three share ten slots at the same time, each with addresses of its own."""
    jobs = [cluster.submit("idle", machines=3) for _ in range(3)]
    running = [cluster.until_running(job) for job in jobs]
    addresses = [task.address for job in running for task in job.tasks]
    assert len(set(addresses)) == 9
    assert [ended(cluster.users.job(job)) for job in jobs] == ["running"] * 3
    assert cluster.users.cluster().free_slots == 1
    for job in jobs:
        cluster.users.cancel(job)
        assert ended(cluster.wait(job)) == "cancelled"


def test_a_job_that_does_not_fit_waits_and_says_for_what(cluster: Cluster) -> None:
    """The queue tells a job's place and what it waits for; it starts when the slots come back."""
    first = cluster.submit("idle", machines=8)
    cluster.until_running(first)
    second = cluster.submit(EXAMPLES / "hello", machines=4)
    waiting = cluster.users.job(second)
    assert waiting.queue_place == 1 and "2 of 4 slots" in waiting.waits_for, waiting
    cluster.users.cancel(first)
    assert ended(cluster.wait(second)) == "succeeded"


def test_a_job_past_its_time_limit_is_ended(cluster: Cluster) -> None:
    """TIMED_OUT is the state, TIME_LIMIT the reason."""
    job = cluster.run("idle", machines=1, time_limit_s=0.5)
    assert ended(job) == "timed_out" and cluster.reason(job) == "time_limit"


@pytest.mark.parametrize(
    ("makefile", "reason", "words"),
    [
        ("slave:\n\ttrue\nmaster:\n", "nothing_run", "PHONY"),
        ("include more.mk\nslave:\n\t@true\n", "no_target", "master"),
        (".PHONY: master\nslave:\n\t@true\nmaster:\n\t@exit 7\n", "exited_nonzero", "7"),
    ],
)
def test_what_the_student_can_mend_is_said_first(
    cluster: Cluster, tmp_path: Path, makefile: str, reason: str, words: str
) -> None:
    """make's own lies and failures come out as a reason with its remedy."""
    files = {"Makefile": makefile, "more.mk": ""} | (
        {"master": "hides the target\n"} if "PHONY" in words else {}
    )
    job = cluster.run(tree(tmp_path, files), machines=1)
    assert ended(job) == "failed"
    assert cluster.reason(job) == reason and words in job.detail, job.detail


def test_a_flood_of_output_is_bounded_and_the_drop_is_told(cluster: Cluster) -> None:
    """Head and tail are kept; what lies between is counted."""
    job = cluster.run("flood", machines=1)
    pieces = list(cluster.users.logs(job.job_id, tasks=["master"]))
    kept = sum(len(answer.piece.data) for answer in pieces)
    dropped = sum(answer.piece.dropped_before for answer in pieces)
    assert kept < 10 << 20 and kept + dropped == 30_000_000 + 299_999 + len("the-last-line\n")
    assert pieces[-1].piece.data.endswith(b"the-last-line\n")


def test_escapes_in_output_are_neutralised_on_display(cluster: Cluster) -> None:
    """Control bytes, bidi overrides and markup of a task reach no terminal, yet are stored raw."""
    job = cluster.run("escapes", machines=1)
    assert b"\x1b[31m" in b"".join(answer.piece.data for answer in cluster.users.logs(job.job_id))
    shown = cluster.ctl("logs", str(job.job_id)).stdout
    assert (
        "\x1b" not in shown
        and "\u202e" not in shown
        and "\x07" not in shown
        and "[bold]markup[/bold]" in shown
    )


@pytest.mark.timeout(1800)  # nothing of Go's library is built yet on a machine that is new
def test_a_job_in_go_with_a_client_in_go(cluster: Cluster, go_ping: tuple[Path, Path]) -> None:
    """A client from the protos alone, in another language, reaches ChaosControl."""
    room = common.Limits(memory_bytes=2 << 30, disk_bytes=1 << 30)  # newer Go builds its library in the task
    job = cluster.wait(cluster.submit(go_ping[0], machines=2, client=go_ping[1], limits=room), 600.0)
    assert ended(job) == "succeeded", output(cluster, job)
