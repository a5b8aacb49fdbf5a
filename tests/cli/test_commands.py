"""The commands, from their words to their output and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1.common_pb2 import JobState, Reason

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import (
    TOKEN,
    FakeManager,
    ended_job,
    fault,
    log,
    queued_job,
    running_job,
    stamp,
)


def failed_job() -> scheduler.Job:
    job = running_job(14)
    job.state = JobState.JOB_STATE_FAILED
    job.reason = Reason.REASON_NOTHING_RUN
    job.detail = (
        "master: make said “'master' is up to date” and ran nothing. A file or folder named `master` hides "
        "the target. Add to the Makefile:  .PHONY: master slave"
    )
    job.ended_at.CopyFrom(stamp(0.2))
    return job


def test_submit_prints_only_the_id_for_scripts(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """With no terminal, standard output is the job's id and nothing else."""
    ended = ctl("submit", str(lab), "-n", "3")
    assert (ended.code, ended.out) == (0, "12\n")
    assert "uploaded" in ended.err
    spec = manager.scheduler.submitted[0].spec
    assert (spec.name, spec.machines, spec.client_sha256) == ("lab4", 3, "")
    assert not spec.HasField("clients")


def test_submit_sends_its_own_client(ctl: Ctl, lab: Path, manager: FakeManager, tmp_path: Path) -> None:
    """--client uploads a second source and names it in the job."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "Makefile").write_text("client:\n\t./measure\n")
    ended = ctl(
        "submit", str(lab), "-n", "2", "--client", str(tmp_path / "c"), "--clients", "2",
        "--time-limit", "5m", "--name", "mine", "--json",
    )  # fmt: skip
    spec = manager.scheduler.submitted[0].spec
    assert ended.document["job_id"] == 12
    assert spec.client_sha256 in manager.scheduler.known
    assert (spec.clients, spec.time_limit_s, spec.name) == (2, 300.0, "mine")


def test_submit_of_a_known_source_sends_nothing(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """A source that the manager has is not sent again, and the line says so."""
    ctl("submit", str(lab))
    before = manager.scheduler.received_bytes
    ended = ctl("submit", str(lab))
    assert "(already known: nothing sent)" in ended.err
    assert manager.scheduler.received_bytes == before


def test_submit_without_a_target_is_refused_in_the_projects_words(
    ctl: Ctl, lab: Path, manager: FakeManager
) -> None:
    """A missing target names what a job needs and what was found, and nothing is submitted."""
    (lab / "Makefile").write_text("all: build\nbuild test master:\n\techo\n")
    ended = ctl("submit", str(lab), "-n", "2")
    assert ended.code == 65
    assert ended.err == (
        "error: lab4 has no Makefile target `slave`\n"
        "  A job needs the targets `master` and `slave`. Found: all, build, master, test.\n"
        "  Nothing was submitted.\n"
    )
    assert not manager.scheduler.submitted


def test_submit_of_more_than_the_cluster_names_the_largest(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """Too many machines: the answer says how many fit, and after which resume more would."""
    manager.scheduler.submit_error = (
        grpc.StatusCode.FAILED_PRECONDITION,
        "TOO_LARGE",
        "40 machines asked for, the cluster has 10 slots (2 of them drained)",
        {
            "largest_machines": "8",
            "hint": "At most -n 8 fits now, -n 10 after `syndicatectl node resume node-c`",
        },
    )
    ended = ctl("submit", str(lab), "-n", "40")
    assert ended.code == 65
    assert ended.err.splitlines()[1:] == [
        "error: 40 machines asked for, the cluster has 10 slots (2 of them drained)",
        "  At most -n 8 fits now, -n 10 after `syndicatectl node resume node-c`. Nothing was submitted.",
    ]


@pytest.mark.parametrize("machines", ["0", "-3"])
def test_submit_of_no_machine_is_refused_at_once(
    ctl: Ctl, lab: Path, machines: str, manager: FakeManager
) -> None:
    """0 and negative numbers of machines are refused with the largest possible, before anything is sent."""
    ended = ctl("submit", str(lab), "-n", machines)
    assert ended.code == 65
    assert "a job needs at least 1" in ended.err
    assert "At most -n 8 fits now" in ended.err
    assert not manager.scheduler.known


def test_submit_whose_upload_is_refused(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """The manager's refusal of a source is one clear line and exit code 65."""
    manager.scheduler.upload_error = (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SOURCE_TOO_LARGE",
        "too large: 1 MiB",
    )
    ended = ctl("submit", str(lab))
    assert ended.code == 65
    assert ended.err == (
        "error: the manager refuses the source: too large: 1 MiB\n  Nothing was submitted.\n"
    )


def test_clients_without_a_client_are_wrong_usage(ctl: Ctl, lab: Path) -> None:
    """--clients alone, with no default client, says what is missing."""
    ended = ctl("submit", str(lab), "--clients", "2")
    assert ended.code == 64
    assert "--client PATH" in ended.err


def test_follow_prints_the_story_and_ends_as_the_job(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """submit --follow: queue, start, members, faults and output on one time line, then the result."""
    fake = manager.scheduler
    fake.jobs[12] = ended_job()
    broken = running_job()
    broken.faults.extend(ended_job().faults[:2])
    fake.watches[12] = [[queued_job(), running_job(), broken, ended_job()]]
    fake.logs[12] = [
        [log("client-0", 0, b"3 writers, seed 4711\n", 0.0), log("slave-1", 0, b"leader\n", 5.31)]
    ]
    ended = ctl("submit", str(lab), "-n", "3", "-f")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == (
        "job 12     queued, place 2 of 3: waits for 2 of 4 slots (job 9 ends in ≤ 4 min 10 s)"
    )
    assert "job 12     reserved 4 slots, prepared, started in 19 ms" in lines
    assert any(line.startswith("           master 10.77.0.11 node-a   slave-0 10.77.0.12") for line in lines)
    assert "  0.00 s   client-0  | 3 writers, seed 4711" in lines
    assert any("cut       slave-1 from master, slave-0" in line for line in lines)
    assert any(line.startswith("  5.10 s   killed    slave-0 (4 processes)") for line in lines)
    assert any("revived   slave-0, disk kept, generation 2" in line for line in lines)
    assert sum("killed " in line for line in lines) == 1
    assert lines[-1] == "job 12     SUCCEEDED  pass  score 0.97   15.4 s   syndicatectl show 12"


def test_follow_in_json_is_json_lines(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """--follow --json: one document a line; the last one is the job as it ended."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [[log("client-0", 0, b"\x1b[31m\xff\n", 1.0)]]
    ended = ctl("submit", str(lab), "--follow", "--json")
    events = [document["event"] for document in ended.documents]
    assert events[0] == "submitted"
    assert events[-1] == "end"
    assert ended.documents[-1]["job"]["state"] == "succeeded"
    assert "\x1b" not in ended.out


def test_follow_goes_on_when_the_streams_break(ctl: Ctl, manager: FakeManager) -> None:
    """A manager that restarts in the middle costs no line and repeats none."""
    fake = manager.scheduler
    fake.jobs[12] = ended_job()
    fake.watches[12] = [[running_job(), None], [running_job(), ended_job()]]
    pieces = [log("master", 0, b"one\n", 1.0), log("master", 4, b"two\n", 2.0)]
    fake.logs[12] = [[*pieces, None], [*pieces, log("master", 8, b"three\n", 3.0)]]
    ended = ctl("follow", "12")
    assert ended.code == 0
    shown = [line.partition("| ")[2] for line in ended.out.splitlines() if "| " in line]
    assert shown == ["one", "two", "three"]


def test_follow_of_a_failed_job_says_first_what_to_mend(ctl: Ctl, manager: FakeManager) -> None:
    """A job that failed ends the command with 1, the reason and the remedy."""
    manager.scheduler.jobs[14] = failed_job()
    ended = ctl("follow", "14")
    assert ended.code == 1
    assert ended.out.splitlines()[-2:] == [
        "job 14     FAILED  NOTHING_RUN  master: make said “'master' is up to date” and ran nothing   200 ms"
        "   syndicatectl show 14",
        " " * 11
        + "A file or folder named `master` hides the target. Add to the Makefile:  .PHONY: master slave",
    ]


@pytest.mark.parametrize(
    ("state", "code"),
    [("SUCCEEDED", 0), ("FAILED", 1), ("UNKNOWN", 2), ("CANCELLED", 1), ("TIMED_OUT", 1), ("LOST", 1)],
)
def test_wait_ends_as_the_job_does(ctl: Ctl, manager: FakeManager, state: str, code: int) -> None:
    """The exit code of wait tells how the job ended."""
    job = ended_job()
    job.state = JobState.Value(f"JOB_STATE_{state}")
    manager.scheduler.jobs[12] = job
    ended = ctl("wait", "12")
    assert ended.code == code
    assert state in ended.out


def test_wait_gives_up_after_its_timeout(ctl: Ctl, manager: FakeManager) -> None:
    """A wait that runs out ends with 75, and the job goes on."""
    manager.scheduler.jobs[12] = running_job()
    ended = ctl("wait", "12", "--timeout", "0.2s")
    assert ended.code == 75
    assert "job 12 has not ended in 0.2 s (RUNNING)" in ended.err


def test_wait_in_json_is_the_job(ctl: Ctl, manager: FakeManager) -> None:
    """wait --json prints the ended job, whole numbers as numbers and enums as plain words."""
    manager.scheduler.jobs[12] = ended_job()
    job = ctl("wait", "12", "--json").document
    assert job["state"] == "succeeded"
    assert job["result"]["metrics"] == {"lost": 0.0, "operations": 42310.0}
    assert job["faults"][1]["kind"] == "kill"
    assert job["started_at"]["monotonic_ns"] == 1_000_000_000_000
    assert job["spec"]["clients"] == 1


@pytest.mark.parametrize(("outcome", "code"), [("PASS", 0), ("FAIL", 1), ("UNKNOWN", 2)])
def test_result_ends_with_the_outcome(ctl: Ctl, manager: FakeManager, outcome: str, code: int) -> None:
    """result: pass, fail and unknown are 0, 1 and 2."""
    job = ended_job()
    job.result.outcome = common.Outcome.Value(f"OUTCOME_{outcome}")
    manager.scheduler.jobs[12] = job
    ended = ctl("result", "12")
    assert ended.code == code
    assert ended.out.splitlines()[0] == f"outcome    {outcome.lower()}"
    assert "operations  42,310" in ended.out


def test_result_of_a_running_job_says_to_wait(ctl: Ctl, manager: FakeManager) -> None:
    """A job that goes on has no result: 75, and the command that waits."""
    manager.scheduler.jobs[12] = running_job()
    ended = ctl("result", "12")
    assert ended.code == 75
    assert "syndicatectl wait 12" in ended.err


def test_show_has_lanes_members_and_story(ctl: Ctl, manager: FakeManager) -> None:
    """show draws the time line, and tells who asked for each fault and when it held."""
    manager.scheduler.jobs[12] = ended_job()
    ended = ctl("show", "12")
    assert ended.code == 0
    assert ended.out.startswith("job 12  raft-kv  alice  SUCCEEDED (pass)   submitted ")
    assert "waited 3.1 s, ran 15.4 s, attempt 1" in ended.out
    assert "killed 5.10, revived 7.00 (disk kept)" in ended.out
    assert (
        "5.100 s   slave-0    killed (4 processes)  by client-0, applied in 0.9 ms (at ± 0.2 ms)" in ended.out
    )
    assert "submitted by alice" in ended.out


def test_show_of_a_queued_job_says_what_it_waits_for(ctl: Ctl, manager: FakeManager) -> None:
    """A waiting job has its place and what it waits for."""
    manager.scheduler.jobs[12] = queued_job()
    ended = ctl("show", "12")
    assert "queued, place 2 of 3: waits for 2 of 4 slots" in ended.out


def test_show_of_an_unknown_job(ctl: Ctl) -> None:
    """An unknown job is 66 and says where to look."""
    ended = ctl("show", "99")
    assert ended.code == 66
    assert ended.err == "error: no job 99\n  Which are there?  syndicatectl jobs --all\n"


def test_jobs_is_a_table_of_all_pages(ctl: Ctl, manager: FakeManager) -> None:
    """jobs lists every page, newest first, aligned, without boxes."""
    for number in (3, 4, 5, 6, 7):
        manager.scheduler.jobs[number] = ended_job(number)
    manager.scheduler.jobs[8] = queued_job(8)
    ended = ctl("jobs")
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0][:4] == ["ID", "NAME", "OWNER", "STATE"]
    assert [row[0] for row in rows[1:]] == ["8", "7", "6", "5", "4", "3"]
    assert rows[2][3:7] == ["SUCCEEDED", "3+1", "pass", "0.97"]


def test_jobs_of_a_state_and_an_owner(ctl: Ctl, manager: FakeManager) -> None:
    """--state and --owner choose; a state that there is not names those that there are."""
    manager.scheduler.jobs = {7: ended_job(7), 8: queued_job(8)}
    assert [job["job_id"] for job in ctl("jobs", "--state", "queued,running", "--json").document["jobs"]] == [
        8
    ]
    assert ctl("jobs", "--owner", "bob").out == "no jobs\n"
    wrong = ctl("jobs", "--state", "done")
    assert wrong.code == 64
    assert "timed_out" in wrong.err


def test_jobs_shows_the_newest_unless_asked_for_all(ctl: Ctl, manager: FakeManager) -> None:
    """More than 20 jobs: the newest, with a word on how to see the rest."""
    manager.scheduler.jobs = {number: ended_job(number) for number in range(1, 26)}
    few = ctl("jobs")
    assert len(few.out.splitlines()) == 21
    assert "syndicatectl jobs --all" in few.err
    assert len(ctl("jobs", "--all").out.splitlines()) == 26


def test_logs_are_labelled_and_harmless(ctl: Ctl, manager: FakeManager) -> None:
    """Each line has its task; escapes, markup and bad bytes come out as text."""
    manager.scheduler.jobs[12] = ended_job()
    nasty = b"\x1b]0;owned\x07\x1b[2J[bold]hi[/bold] \xff \xe2\x80\xaeevil\r\n"
    manager.scheduler.logs[12] = [[log("master", 0, nasty, 1.0), log("slave-0", 0, b"no newline", 2.0)]]
    ended = ctl("logs", "12")
    assert ended.out.splitlines() == [
        r"master    | \x1b]0;owned\x07\x1b[2J[bold]hi[/bold] \xff \u202eevil",
        "slave-0   | no newline",
    ]


def test_logs_that_dropped_bytes_say_so(ctl: Ctl, manager: FakeManager) -> None:
    """A hole in a log is a line of its own."""
    manager.scheduler.jobs[12] = ended_job()
    pieces = [log("master", 0, b"begin\n", 1.0), log("master", 1_200_006, b"end\n", 2.0, dropped=1_200_000)]
    manager.scheduler.logs[12] = [pieces]
    assert ctl("logs", "12").out.splitlines()[1].startswith("master    | (1.2 MB of output dropped here")


def test_logs_of_some_tasks(ctl: Ctl, manager: FakeManager) -> None:
    """--task chooses; a task that the job does not have is named, with those that it has."""
    manager.scheduler.jobs[12] = ended_job()
    manager.scheduler.logs[12] = [[log("master", 0, b"a\n", 1.0), log("slave-0", 0, b"b\n", 1.0)]]
    assert ctl("logs", "12", "--task", "slave-0").out == "slave-0   | b\n"
    wrong = ctl("logs", "12", "--task", "slave-9")
    assert wrong.code == 66
    assert "Its tasks: master, slave-0, slave-1, client-0." in wrong.err


def test_cancel_ends_a_job_once(ctl: Ctl, manager: FakeManager) -> None:
    """cancel asks the manager; of a job that has ended it only says so."""
    manager.scheduler.jobs = {12: running_job(), 7: ended_job(7)}
    assert "STOPPING" in ctl("cancel", "12").out
    assert "had ended already: SUCCEEDED" in ctl("cancel", "7").out
    assert manager.scheduler.cancelled == [12]


def test_nodes_are_drained_and_resumed(ctl: Ctl, manager: FakeManager) -> None:
    """nodes shows slots and state; node drain and resume change it; an unknown node is 66."""
    assert "node-a   READY   8 of 8 free" in ctl("nodes").out
    assert "DRAINED" in ctl("node", "drain", "node-a").out
    assert ctl("nodes", "--json").document["nodes"][0]["state"] == "drained"
    assert "READY" in ctl("node", "resume", "node-a").out
    assert ctl("node", "drain", "node-z").code == 66


def test_cluster_in_numbers(ctl: Ctl) -> None:
    """cluster prints slots, jobs and limits."""
    assert "slots          6 of 8 free" in ctl("cluster").out
    assert ctl("cluster", "--json").document["epoch"] == 3


def test_a_manager_that_is_away(bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address: 69, who was tried, how long, and what to do."""
    monkeypatch.setattr("syndicate.cli.context.SchedulerClient", _impatient)
    ended = bare_ctl("--manager", "127.0.0.1:1", "jobs")
    assert ended.code == 69
    assert ended.err == (
        "error: no manager at 127.0.0.1:1 (connection refused, tried for 0 s)\n"
        "  Start one here:  syndicatectl up     Another one?  --manager HOST:PORT or SYNDICATE_MANAGER\n"
    )


def test_a_manager_of_up_that_is_away(bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where `up` left word of the manager that is away, what is left of it has to go first."""
    from syndicate.cli.context import Context, write_context

    monkeypatch.setattr("syndicate.cli.context.SchedulerClient", _impatient)
    (tmp_path / "t").write_text(TOKEN)
    write_context(
        tmp_path / "state" / "syndicate" / "context.toml",
        Context("127.0.0.1:1", str(tmp_path / "t"), str(tmp_path)),
    )
    assert "Start one here:  syndicatectl down && syndicatectl up " in bare_ctl("jobs").err


def test_a_manager_on_another_host_that_is_away() -> None:
    """Of another host's manager the command only knows the service."""
    from syndicate.cli.context import Target
    from syndicate.client_api import Unreachable

    error = Unreachable("10.0.0.5:7000", "connection refused", 5.0)
    assert "systemctl status syndicate-manager" in Target("10.0.0.5:7000", "").explain(error).text()


def _impatient(address: str, token: str, user: str) -> object:
    from syndicate.client_api import SchedulerClient

    return SchedulerClient(address, token, connect_for=0.2)


def test_a_wrong_token_is_not_shown(ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """A token that the manager does not know is 77, and is not repeated."""
    (tmp_path / "t").write_text("s3cr3t-and-wrong\n")
    ended = ctl("jobs", "--token-file", str(tmp_path / "t"))
    assert ended.code == 77
    assert "s3cr3t" not in ended.err
    assert ended.err == (
        f"error: the manager at {manager.address} does not know the token of --token-file {tmp_path}/t\n"
        "  Name the right one:  --token-file FILE or SYNDICATE_TOKEN_FILE or SYNDICATE_TOKEN\n"
    )


def test_no_token_is_told_as_such(bare_ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """Where no token was sent the error says so, and for whom the one that is there is."""
    from syndicate.cli.context import Context, write_context

    context = Context("127.0.0.1:1", str(tmp_path / "t"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", context)
    ended = bare_ctl("--manager", manager.address, "jobs")
    assert ended.code == 77
    assert ended.err.splitlines()[:2] == [
        f"error: the manager at {manager.address} asks for a token, and none was sent",
        "  The token that `syndicatectl up` left is for 127.0.0.1:1 only.",
    ]


def test_options_of_the_manager_stand_anywhere(bare_ctl: Ctl, manager: FakeManager) -> None:
    """--manager and --token work before the command and behind it."""
    words = ("--manager", manager.address, "--token", TOKEN)
    assert bare_ctl(*words, "nodes").code == 0
    assert bare_ctl("nodes", *words).code == 0


def test_commands_find_the_cluster_that_up_left(bare_ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """The context file gives manager and token where nothing else does."""
    from syndicate.cli.context import Context, write_context

    (tmp_path / "admin.token").write_text(TOKEN)
    context = Context(manager.address, str(tmp_path / "admin.token"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", context)
    assert bare_ctl("nodes").code == 0


def test_the_context_token_goes_to_its_own_manager_only(bare_ctl: Ctl, tmp_path: Path) -> None:
    """Another manager is never shown the token of the local one."""
    from syndicate.cli.context import Context, Given, resolve, write_context

    (tmp_path / "admin.token").write_text(TOKEN)
    context = Context("127.0.0.1:7000", str(tmp_path / "admin.token"), str(tmp_path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", context)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert resolve(Given(), environ).token == TOKEN
    assert resolve(Given(manager="elsewhere:7000"), environ).token == ""
    assert resolve(Given(manager="localhost:7000"), environ).token == TOKEN


def test_a_context_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's context is none; a damaged one is no matter where the options say everything."""
    from syndicate.cli.context import Given, resolve
    from syndicate.cli.failure import CliError

    path = tmp_path / "syndicate" / "context.toml"
    path.parent.mkdir()
    path.write_text("torn")
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert resolve(Given(manager="a:1", token="t"), environ).token == "t"
    with pytest.raises(CliError, match="cannot be read"):
        resolve(Given(manager="a:1"), environ)

    def refuse(self: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert resolve(Given(), environ).manager == "127.0.0.1:7000"


def test_wrong_usage(ctl: Ctl) -> None:
    """Unknown options and commands, and values that are none, are 64 and one line."""
    for words in (("jobs", "--nope"), ("frobnicate",), ("show", "x"), ("show",)):
        ended = ctl(*words)
        assert ended.code == 64, words
        assert ended.err.splitlines()[-2].startswith("error: ")
    assert ctl("submit", ".", "--time-limit", "soon").code == 64


@pytest.mark.parametrize("words", [(), ("node",)])
def test_no_command_is_answered_with_the_help(ctl: Ctl, words: tuple[str, ...]) -> None:
    """Without a command the help is printed as it is, and one line says what is missing."""
    ended = ctl(*words)
    assert ended.code == 64
    lines = ended.err.splitlines()
    assert lines[0].startswith("Usage: syndicatectl") and "Commands:" in lines
    assert lines[-1] == "error: no command given"
    assert ended.err.count("error:") == 1 and "\\x0a" not in ended.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("submit", ".", "-n", "abc"), "-n must be a whole number of at least 1"),
        (("up", "--slots", "0"), "--slots must be a whole number from 1 to 1000"),
        (("up", "--slots", "1001"), "--slots must be a whole number from 1 to 1000"),
        (("up", "--port", "70000"), "--port must be a whole number from 0 to 65535"),
        (("show", "x"), "JOB must be a whole number of at least 1"),
        (("submit", ".", "--time-limit", "0"), "--time-limit must be above 0"),
    ],
)
def test_numbers_that_cannot_be(ctl: Ctl, words: tuple[str, ...], says: str) -> None:
    """A number that is none, or out of its range, is answered with what it may be."""
    ended = ctl(*words)
    assert (ended.code, ended.err.splitlines()[0]) == (64, f"error: {says}")


def test_help_lists_the_exit_codes(ctl: Ctl) -> None:
    """--help holds the table of exit codes."""
    ended = ctl("--help")
    assert ended.code == 0
    assert "    69  the manager does not answer" in ended.out


def test_version(ctl: Ctl) -> None:
    """version needs no manager."""
    assert ctl("version").out.startswith("syndicatectl 0.")
    assert ctl("--version").out == ctl("version").out


def test_ctrl_c_says_that_the_job_goes_on(manager: FakeManager, tmp_path: Path) -> None:
    """Ctrl-C while following: 130, the job goes on, and how to end it."""
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.logs[12] = [[log("master", 0, b"hello\n", 1.0)]]
    process = subprocess.Popen(
        [sys.executable, "-m", "syndicate.cli", "follow", "12"],
        env={
            **os.environ,
            "SYNDICATE_MANAGER": manager.address,
            "SYNDICATE_TOKEN": TOKEN,
            "XDG_STATE_HOME": str(tmp_path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "hello" in line:
                break
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - started < 5
    assert "job 12 goes on" in err
    assert "syndicatectl cancel 12" in err


def test_a_reader_that_went_away_is_no_error(manager: FakeManager, tmp_path: Path) -> None:
    """`| head` ends the command quietly, and not with the code of a failed job."""
    manager.scheduler.jobs[12] = ended_job()
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "syndicate.cli", "show", "12"],
        env={
            **os.environ,
            "SYNDICATE_MANAGER": manager.address,
            "SYNDICATE_TOKEN": TOKEN,
            "XDG_STATE_HOME": str(tmp_path),
        },
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_fault_that_failed_is_told(ctl: Ctl, manager: FakeManager) -> None:
    """A fault that the volunteer could not apply stands in the story with its reason."""
    job = ended_job()
    job.faults.append(fault(5, common.FAULT_KIND_KILL, "master", 9.0, error="no such cgroup"))
    manager.scheduler.jobs[12] = job
    assert "could not be killed  by client-0: no such cgroup" in ctl("show", "12").out


def test_the_docs_hold_the_same_exit_codes() -> None:
    """The table of docs/cli.md is the one of --help."""
    from syndicate.cli.exit_codes import MEANINGS

    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in text
