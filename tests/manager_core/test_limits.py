"""What each task of a job may use: defaults, maxima, and how disk and memory fit together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from manager_core.harness import Cluster
from syndicate.manager.core import effects as fx
from syndicate.manager.core.errors import BadRequest
from syndicate.manager.core.limits import LEAST, granted, shortfall
from syndicate.manager.core.model import MAX_LIMITS, NO_LIMITS, JobState, Limits

MIB = 1 << 20
DEFAULT = Limits()


def grant(default: Limits = DEFAULT, most: Limits = MAX_LIMITS, **wish: int) -> Limits:
    """What a job gets that asks for these."""
    return granted(replace(NO_LIMITS, **wish), default, most)


def refusal(default: Limits = DEFAULT, most: Limits = MAX_LIMITS, **wish: int) -> BadRequest:
    """What a job is told that asks for these."""
    with pytest.raises(BadRequest) as caught:
        grant(default, most, **wish)
    assert caught.value.reason == "BAD_FIELD"
    return caught.value


def test_what_is_not_asked_for_is_the_default() -> None:
    """All of them, or all but the one that is asked for."""
    assert grant() == DEFAULT
    assert grant(pids=40) == replace(DEFAULT, pids=40)


def test_the_defaults_are_granted_and_fit() -> None:
    """Half a gigabyte of memory holds the disk of every job that asks for nothing."""
    assert (DEFAULT.memory_bytes, DEFAULT.pids, DEFAULT.disk_bytes) == (512 * MIB, 512, 256 * MIB)
    assert shortfall(DEFAULT) <= 0


@pytest.mark.parametrize(
    ("wish", "text", "metadata"),
    [
        (
            {"memory_bytes": 16 << 30},
            "limits.memory_bytes must be at most 8 GiB, not 16 GiB",
            {"asked": str(16 << 30), "most": str(8 << 30)},
        ),
        (
            {"pids": 4097},
            "limits.pids must be at most 4,096, not 4,097",
            {"asked": "4097", "most": "4096"},
        ),
        (
            {"disk_bytes": (4 << 30) + 1},
            "limits.disk_bytes must be at most 4 GiB, not 4,294,967,297 bytes",
            {"most": str(4 << 30)},
        ),
        (
            {"pids": 1},
            "limits.pids must be at least 16, not 1",
            {"asked": "1", "least": "16"},
        ),
        (
            {"cpu_millis": -5},
            "limits.cpu_millis must be at least 50, not -5",
            {"least": "50"},
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_the_bound(
    wish: dict[str, int], text: str, metadata: dict[str, str]
) -> None:
    """Field, what was asked, the most or the least, and what to do."""
    error = refusal(**wish)
    assert error.detail == text
    assert error.metadata["field"] == text.partition(" ")[0]
    assert metadata.items() <= error.metadata.items()
    assert error.metadata["hint"].startswith("Ask for at ")


@pytest.mark.parametrize("name", ["cpu_millis", "memory_bytes", "file_bytes", "pids", "open_files"])
def test_without_a_maximum_what_no_kernel_takes_is_refused_still(name: str) -> None:
    """A limit that cannot be set would be taken for a failure of the machine."""
    wish: dict[str, Any] = {name: (1 << 63) - 1}
    assert refusal(most=NO_LIMITS, **wish).metadata["field"] == f"limits.{name}"


def test_an_operator_without_maxima_grants_what_is_asked() -> None:
    """0 among the maxima bounds nothing."""
    assert grant(most=NO_LIMITS, memory_bytes=64 << 30, pids=100_000).pids == 100_000


def test_a_default_above_what_the_disk_holds_follows_the_disk() -> None:
    """A job that asks for a small disk alone is not refused for a limit of files that it did not name."""
    default = replace(DEFAULT, file_bytes=128 * MIB)
    assert grant(default, disk_bytes=64 * MIB).file_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("wish", "field", "words"),
    [
        ({"disk_bytes": 512 * MIB}, "limits.disk_bytes", ["512 MiB", "64 MiB", "448 MiB", "576 MiB"]),
        ({"memory_bytes": 256 * MIB}, "limits.memory_bytes", ["256 MiB", "192 MiB", "320 MiB"]),
        ({"memory_bytes": 128 * MIB, "disk_bytes": 128 * MIB}, "limits.disk_bytes", ["128 MiB", "64 MiB"]),
    ],
)
def test_a_disk_that_does_not_fit_in_the_memory_is_refused(
    wish: dict[str, int], field: str, words: list[str]
) -> None:
    """Both figures are told, what was asked for is blamed, and each way out is named."""
    error = refusal(**wish)
    assert error.metadata["field"] == field
    told = f"{error.detail}\n{error.metadata['hint']}"
    assert [word for word in words if word not in told] == []


@pytest.mark.parametrize("missing", [0, 1])
def test_a_disk_fits_with_64_mib_to_spare_and_not_with_a_byte_less(missing: int) -> None:
    """The bound is exact."""
    wish = {"memory_bytes": 1 << 30, "disk_bytes": (1 << 30) - 64 * MIB + missing}
    if missing:
        assert refusal(**wish).metadata["most"] == str((1 << 30) - 64 * MIB)
    else:
        assert grant(**wish).disk_bytes == wish["disk_bytes"]


def test_where_memory_has_no_bound_any_disk_fits() -> None:
    """Only a bounded memory can be too small."""
    default, most = replace(DEFAULT, memory_bytes=0), replace(MAX_LIMITS, memory_bytes=0)
    assert grant(default, most, disk_bytes=4 << 30).disk_bytes == 4 << 30


def test_memory_that_no_job_may_have_is_not_advised() -> None:
    """The way out is within the operator's maxima."""
    hint = refusal(most=replace(MAX_LIMITS, memory_bytes=1 << 30), disk_bytes=2 << 30).metadata["hint"]
    assert hint == "The disk lies in memory: ask for a disk of at most 448 MiB"


def test_a_file_larger_than_the_disk_is_refused() -> None:
    """It could never be written."""
    error = refusal(file_bytes=257 * MIB)
    assert error.detail == "limits.file_bytes is 257 MiB, more than the disk's 256 MiB"


def test_the_least_of_everything_is_granted() -> None:
    """The floors do not contradict each other."""
    assert granted(LEAST, DEFAULT, MAX_LIMITS) == LEAST


def test_a_job_keeps_its_limits_and_its_tasks_get_them() -> None:
    """From Submit to each member's Prepare, and through a restart of a manager that grants less by now."""
    cluster = Cluster()
    volunteer = cluster.volunteer(slots=2)
    cluster.detach(volunteer)
    job = cluster.submit(2, limits=replace(NO_LIMITS, memory_bytes=1 << 30, pids=99))

    cluster.restart(max_limits=replace(MAX_LIMITS, memory_bytes=512 * MIB))
    cluster.attach(volunteer)
    cluster.deliver()

    expected = replace(DEFAULT, memory_bytes=1 << 30, pids=99)
    assert cluster.job(job).job.spec.limits == expected
    assert cluster.state(job) is JobState.RUNNING
    actions = [command.action for command in cluster.sent(fx.Prepare)]
    assert [action.limits for action in actions if isinstance(action, fx.Prepare)] == [expected, expected]


def test_a_refused_limit_queues_nothing() -> None:
    """BAD_FIELD comes before the job has an id."""
    cluster = Cluster()
    cluster.volunteer()
    assert isinstance(cluster.try_submit(limits=replace(NO_LIMITS, pids=1 << 20)), BadRequest)
    assert cluster.jobs() == []
