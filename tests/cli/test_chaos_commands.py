"""``syndicatectl chaos``: members by name in, one line each out, and an exit code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from syndicate.cli import options
from syndicate.cli.terminal import this_terminal
from syndicate.client_api.testing import FakeJob
from syndicate.v1.common_pb2 import Stamp

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, running_job


@pytest.fixture
def job(manager: FakeManager) -> FakeJob:
    """Job 12 with a master, two slaves and a client."""
    manager.scheduler.jobs[12] = running_job()
    return manager.chaos.add(running_job())


def test_members_are_named_as_show_names_them(ctl: Ctl, job: FakeJob) -> None:
    """By name or by address, several at once; one line each."""
    ended = ctl("chaos", "kill", "12", "slave-0", "10.77.0.13")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "killed        slave-0    (2 processes)",
        "killed        slave-1    (2 processes)",
    ]
    assert len(job.calls) == 1
    assert (
        ctl("chaos", "revive", "12", "slave-0").out == "revived       slave-0    (generation 2, disk kept)\n"
    )
    assert ctl("chaos", "revive", "12", "slave-0").out == "revived       slave-0    (already so)\n"


def test_what_lasts_and_its_counterparts(ctl: Ctl, job: FakeJob) -> None:
    """Each says its line of the ledger; leases reach the manager."""
    for word in ("disconnect", "reset", "pause", "disk-full"):
        ended = ctl("chaos", word, "12", "slave-0", "--lease", "90s")
        assert ended.out.rstrip().endswith(f"(fault {len(job.faults)})")
    assert [fault.lease_s for fault in job.faults] == [90.0] * 4
    assert ctl("chaos", "resume", "12", "slave-0").out.startswith("resumed       slave-0")
    assert ctl("chaos", "reconnect", "12", "slave-0").out.startswith("reconnected   slave-0")
    assert [fault.kind for fault in job.faults if fault.in_force] == ["disk_full"]


def test_partitions(ctl: Ctl, job: FakeJob) -> None:
    """Groups of names, or a shape; the answer shows who is with whom."""
    assert ctl("chaos", "partition", "12", "master,slave-0", "slave-1").out.splitlines() == [
        "partitioned   master, slave-0  (fault 1)",
        "group         slave-1",
    ]
    shaped = ctl("chaos", "partition", "12", "--shape", "isolate-one", "--one", "slave-1", "--one-way")
    assert shaped.out.splitlines()[0] == "partitioned   slave-1  (fault 4)"
    assert job.calls[-1].request.one_way


def test_degradations(ctl: Ctl, job: FakeJob) -> None:
    """In the units of people, with peers by name."""
    words = "chaos degrade 12 slave-0 --loss 10% --delay 50ms --rate 1Mbit --peer slave-1 --one-way"
    assert ctl(*words.split()).code == 0
    how = job.faults[0].degradation
    assert how is not None
    assert (how.loss_percent, how.delay_ms, how.rate_bps) == (10.0, 50.0, 1_000_000)
    assert job.faults[0].peers == ("slave-1",)


def test_signals(ctl: Ctl, job: FakeJob) -> None:
    """By name."""
    assert ctl("chaos", "signal", "12", "QUIT", "slave-0").out == "signalled     slave-0    (1 process)\n"
    assert job.faults[0].signal == 3


def test_heal_and_the_ledger(ctl: Ctl, manager: FakeManager, job: FakeJob) -> None:
    """By line or all; the ledger says what became of each, and when since the job's start."""
    manager.scheduler.jobs[12].started_at.CopyFrom(Stamp(boot_id="fake-boot"))
    job.advance(1.5)
    ctl("chaos", "degrade", "12", "slave-0", "--loss", "10", "--peer", "slave-1", "--lease", "30")
    ctl("chaos", "pause", "12", "master")
    job.fail_at("Kill", "10.77.0.13", text="busy")
    assert ctl("chaos", "kill", "12", "slave-1").code == 70
    assert ctl("chaos", "heal", "12", "2").out == "healed        master  (1 fault)\n"
    assert ctl("chaos", "heal", "12", "2").out == "healed        (already so)\n"
    assert ctl("chaos", "faults", "12").out.splitlines() == [
        "ID   AT       FAULT     MEMBER    WHAT                                 BY      STATE",
        "1    2.50 s   degrade   slave-0   loss 10 % with slave-1, lease 30 s   alice   in force",
        "2    2.50 s   pause     master                                         alice   healed by alice",
        "3    2.50 s   kill      slave-1                                        alice   failed: busy",
        "4    2.50 s   heal      master    faults 2                             alice   applied",
    ]
    assert ctl("chaos", "faults", "12", "--in-force", "--json").document["faults"][0]["fault_id"] == 1
    manager.scheduler.jobs[12].started_at.boot_id = "another boot"
    assert ctl("chaos", "faults", "12", "--in-force").out.splitlines()[1].startswith("1    -    degrade")
    assert ctl("chaos", "heal", "12").out == "healed        slave-0  (1 fault)\n"
    assert ctl("chaos", "heal", "12").out == "healed        (nothing was in force)\n"
    assert ctl("chaos", "faults", "12", "--in-force").out == "no faults are in force\n"


def test_the_ledger_at_80_columns(
    ctl: Ctl, manager: FakeManager, job: FakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line fits and says when; who asked, which is mostly one and the same, goes first."""
    manager.scheduler.jobs[12].started_at.CopyFrom(Stamp(boot_id="fake-boot"))
    job.advance(1.5)
    ctl("chaos", "degrade", "12", "slave-0", "--loss", "10", "--peer", "slave-1", "--lease", "30")
    ctl("chaos", "heal", "12")
    monkeypatch.setattr(
        options, "this_terminal", lambda: replace(this_terminal(), width=80, out_is_terminal=True)
    )
    lines = ctl("chaos", "faults", "12").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:4] == ["ID", "AT", "FAULT", "MEMBER"]
    assert all("2.50 s" in line for line in lines[1:])


def test_a_revival_says_what_became_of_the_disk(ctl: Ctl, job: FakeJob) -> None:
    """In its answer, and in the ledger."""
    ctl("chaos", "kill", "12", "slave-0", "slave-1")
    assert ctl("chaos", "revive", "12", "slave-0").out.endswith("(generation 2, disk kept)\n")
    fresh = ctl("chaos", "revive", "12", "slave-1", "--without-disk")
    assert fresh.out.endswith("(generation 2, fresh disk)\n")
    told = [line for line in ctl("chaos", "faults", "12").out.splitlines() if "revive" in line]
    assert ["disk kept" in line for line in told] == [True, False]
    assert ["fresh disk" in line for line in told] == [False, True]


def test_json_has_all_of_it(ctl: Ctl, job: FakeJob) -> None:
    """One document, with the action and every member."""
    told = ctl("chaos", "kill", "12", "slave-0", "slave-1", "--json").document
    assert (told["action"], told["job_id"], told["processes"]) == ("kill", 12, 4)
    assert [member["ip"] for member in told["members"]] == ["10.77.0.12", "10.77.0.13"]
    assert ctl("chaos", "heal", "12", "--json").document["already"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("kill", "12", "slave-9"), 66, "Its members: master, slave-0, slave-1, client-0."),
        (("kill", "12", "10.9.9.9"), 66, "10.9.9.9 is no member"),
        (("kill", "13", "master"), 66, "no job"),
        (("heal", "12", "99"), 66, "no line 99"),
        (("kill", "12"), 64, "MEMBER"),
        (("pause", "12", "master", "--lease", "0"), 64, "lease is 0 s"),
        (("pause", "12", "master", "--lease", "soon"), 64, "a time is written"),
        (("degrade", "12", "master"), 64, "nothing is to be made worse"),
        (("degrade", "12", "master", "--loss", "200"), 64, "0 to 100"),
        (("degrade", "12", "master", "--rate", "fast"), 64, "a rate is written"),
        (("partition", "12"), 64, "groups, or a shape"),
        (("partition", "12", "master,slave-0", "slave-0"), 64, "named twice"),
        (("partition", "12", "--shape", "triangle"), 64, "no shape"),
        (("signal", "12", "QUTI", "master"), 64, "no signal"),
        (("signal", "12", "KILL", "master"), 64, "use Kill"),
        (("revive", "12", "master", "--without-disk"), 65, "kill it before"),
    ],
)  # fmt: skip
def test_refusals(ctl: Ctl, job: FakeJob, words: tuple[str, ...], code: int, said: str) -> None:
    """One clear line, and an exit code that says whose fault it is."""
    ended = ctl("chaos", *words)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert not any(fault.in_force for fault in job.faults)


@pytest.mark.parametrize(
    ("reason", "code", "timeout_s"),
    [
        ("VOLUNTEER_AWAY", 75, 0.3),  # these two are tried again until then
        ("NO_ANSWER", 75, 0.3),
        ("TOO_MANY_FAULTS", 75, 60.0),
        ("FAULT_FAILED", 70, 60.0),
        ("JOB_NOT_RUNNING", 65, 60.0),
    ],
)
def test_what_went_wrong_in_the_cluster(
    ctl: Ctl, job: FakeJob, monkeypatch: pytest.MonkeyPatch, reason: str, code: int, timeout_s: float
) -> None:
    """What can be tried again is told apart from what cannot."""
    monkeypatch.setattr("syndicate.cli.chaos_commands._TIMEOUT_S", timeout_s)
    for _ in range(50):
        job.fail_next("Kill", reason)
    assert ctl("chaos", "kill", "12", "slave-0").code == code


def test_what_a_machine_cannot_do(ctl: Ctl, job: FakeJob) -> None:
    """Refused, with the machine, the reason, and where to look."""
    job.cannot("delay", "this kernel has no netem", "10.77.0.12")
    ended = ctl("chaos", "degrade", "12", "slave-0", "--delay", "50ms")
    assert ended.code == 65
    assert "this kernel has no netem" in ended.err
    assert "syndicatectl nodes --wide" in ended.err
