"""``submit``: what is checked, what is sent, what is said."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest
from syndicate.cli.sizes import parse_size
from syndicate.client_api import _upload
from syndicate.v1.common_pb2 import Limits

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager


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


def test_submit_of_a_known_source_sends_nothing(
    ctl: Ctl, lab: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that the manager has is not sent again, and the line says so."""
    ctl("submit", str(lab))
    monkeypatch.setattr(_upload, "_EARLY_ANSWER_S", 60.0)  # however long the manager takes to say so
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
    assert ended.err.splitlines() == [
        "error: 40 machines asked for, the cluster has 10 slots (2 of them drained)",
        "  At most -n 8 fits now, -n 10 after `syndicatectl node resume node-c`. Nothing was submitted.",
    ]


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (
            ("-n", "40"),
            (grpc.StatusCode.FAILED_PRECONDITION, "TOO_LARGE", "40 machines asked for", {}),
            "40 machines asked for",
        ),
        (
            ("--time-limit", "30d"),
            (
                grpc.StatusCode.INVALID_ARGUMENT,
                "BAD_FIELD",
                "time_limit_s must be above 0 and at most 86400, not 2592000",
                {"field": "time_limit_s"},
            ),
            "--time-limit must be above 0 and at most 86400, not 2592000",
        ),
    ],
)
def test_what_the_manager_refuses_is_known_before_the_upload(
    ctl: Ctl,
    lab: Path,
    manager: FakeManager,
    words: tuple[str, ...],
    error: tuple[grpc.StatusCode, str, str, dict[str, str]],
    says: str,
) -> None:
    """The manager is asked first: a job that it would refuse costs no upload."""
    manager.scheduler.submit_error = error
    ended = ctl("submit", str(lab), *words)
    assert ended.code in (64, 65)
    assert ended.err.splitlines() == [f"error: {says}", "  Nothing was submitted."]
    assert not manager.scheduler.known


def test_limits_are_asked_for_in_units_of_people(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """Sizes, shares of processors and numbers; what is not said is left to the manager."""
    ended = ctl(
        "submit", str(lab), "--memory", "2G", "--cpus", "0.5", "--pids", "99", "--disk", "1.5GiB",
        "--inodes", "5000", "--files", "128", "--file-size", "1000", "--log", "64k",
    )  # fmt: skip
    assert ended.code == 0
    assert manager.scheduler.submitted[0].spec.limits == Limits(
        memory_bytes=2 << 30,
        cpu_millis=500,
        pids=99,
        disk_bytes=3 << 29,
        disk_inodes=5000,
        open_files=128,
        file_bytes=1000,
        log_head_bytes=64 << 10,
    )
    ctl("submit", str(lab))
    assert manager.scheduler.submitted[-1].spec.limits == Limits()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1048576", 1 << 20),
        ("512M", 512 << 20),
        ("512mb", 512_000_000),
        ("512 MiB", 512 << 20),
        ("0.5k", 512),
        ("3t", 3 << 40),
        ("7b", 7),
    ],
)
def test_a_size_is_read_exactly(text: str, number: int) -> None:
    """K, KiB and KB as GNU's tools have them."""
    assert parse_size(text, "--disk") == number


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--memory", "much", "--memory 'much' is no size"),
        ("--memory", "1e9", "--memory '1e9' is no size"),
        ("--memory", "-1G", "--memory '-1G' is no size"),
        ("--disk", "0", "--disk must be above 0"),
        ("--disk", "9000000T", "--disk is too large"),
        ("--cpus", "nan", "--cpus nan is no number of processors"),
        ("--cpus", "0", "--cpus 0 is no number of processors"),
        ("--pids", "0", "--pids must be above 0"),
        ("--pids", "99999999999999999999", "--pids is too large"),
    ],
)
def test_a_limit_that_is_none_is_refused_at_once(
    bare_ctl: Ctl, lab: Path, option: str, value: str, says: str
) -> None:
    """Known without the manager, which is not asked."""
    ended = bare_ctl("submit", str(lab), option, value)
    assert (ended.code, ended.err.splitlines()[0]) == (64, f"error: {says}")


def test_a_limit_that_the_manager_refuses_is_told_with_the_way_out(
    ctl: Ctl, lab: Path, manager: FakeManager
) -> None:
    """The option's name for the field's, and the manager's hint."""
    manager.scheduler.submit_error = (
        grpc.StatusCode.INVALID_ARGUMENT,
        "BAD_FIELD",
        "limits.memory_bytes must be at most 8 GiB, not 16 GiB",
        {"field": "limits.memory_bytes", "hint": "Ask for at most 8 GiB"},
    )
    ended = ctl("submit", str(lab), "--memory", "16G")
    assert ended.code == 64
    assert ended.err.splitlines() == [
        "error: --memory must be at most 8 GiB, not 16 GiB",
        "  Ask for at most 8 GiB. Nothing was submitted.",
    ]


def test_a_name_that_is_none_is_refused_at_once(bare_ctl: Ctl, lab: Path) -> None:
    """The rule for names is known without the manager."""
    ended = bare_ctl("submit", str(lab), "--name", "Lab 4")
    assert ended.code == 64
    assert ended.err.splitlines() == [
        "error: --name 'Lab 4' is no name of a job",
        "  It is written with a-z, 0-9 and -, at most 63 of them. Nothing was submitted.",
    ]


def test_a_source_that_is_too_large_is_not_sent(ctl: Ctl, lab: Path, manager: FakeManager) -> None:
    """The manager's limit is asked for and held before anything goes out."""
    manager.scheduler.cluster.max_source_bytes = 1 << 16
    (lab / "noise").write_bytes(os.urandom(100_000))
    ended = ctl("submit", str(lab))
    assert ended.code == 65
    assert "the manager takes at most 0.0625 MiB" in ended.err
    assert manager.scheduler.received_bytes == 0


def test_what_stays_behind_is_told(ctl: Ctl, lab: Path) -> None:
    """Caches by name with the option that sends them, own patterns as a number."""
    for name in (".git/HEAD", "__pycache__/a", ".venv/x", "node_modules/y", "a.o", "b.o"):
        (lab / name).parent.mkdir(exist_ok=True)
        (lab / name).write_text("x")
    (lab / ".syndicateignore").write_text("*.o\n")
    assert ctl("submit", str(lab)).err.splitlines()[0] == (
        "left out   .git/, .venv/, __pycache__/ and 1 more of lab4 (--all sends them);"
        " 2 entries of lab4 (.syndicateignore)"
    )
    assert ctl("submit", str(lab), "--all").err.splitlines()[0] == (
        "left out   2 entries of lab4 (.syndicateignore)"
    )


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
