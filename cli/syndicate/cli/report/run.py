"""A job's run as plain values: what every part of a report is made of.

Times are seconds since the job's start on the manager's clock; ``error_s`` is the half-width of what is known
of one. Texts are fit for display: nothing in them steers a terminal. They are anybody's all the same, and
each output escapes them in its own way.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """What one client said, or what stands for it."""

    task: str
    outcome: str
    """``pass``, ``fail``, ``unknown``; empty while it has said nothing."""
    score: float | None
    text: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the job ended."""

    state: str
    """``SUCCEEDED``, ``RUNNING``."""
    outcome: str
    """``pass``, ``fail``, ``unknown``; empty where nobody judged."""
    reason: str
    detail: str
    score: float | None
    text: tuple[str, ...]
    metrics: tuple[tuple[str, float], ...]
    clients: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskTime:
    """One generation of a task; ``end_s`` is None while it runs."""

    generation: int
    start_s: float
    end_s: float | None
    ending: str
    """``exited 0``, ``killed by a fault``; empty while it runs."""


@dataclass(frozen=True, slots=True)
class Suffering:
    """A time in which a task was cut off, frozen or the like; ``end_s`` is None where it lasted."""

    start_s: float
    end_s: float | None
    what: str
    """``cut``, ``paused``, ``degraded``, ``disk full``."""
    text: str


@dataclass(frozen=True, slots=True)
class TaskLane:
    """One task over the time of its job."""

    task: str
    address: str
    volunteer: str
    times: tuple[TaskTime, ...] = ()
    sufferings: tuple[Suffering, ...] = ()
    kills_s: tuple[float, ...] = ()
    revivals: tuple[tuple[float, str], ...] = ()
    """When, and ``disk kept`` or ``fresh disk``."""
    signals: tuple[tuple[float, str], ...] = ()
    ended_s: float | None = None
    """When it finished, or ended by itself."""
    ending: str = ""


@dataclass(frozen=True, slots=True)
class FaultLine:
    """One line of the ledger of faults."""

    fault_id: int
    call_id: int
    """The first line of the same call."""
    kind: str
    """``kill``, ``partition``: the enum's word."""
    what: str
    """What is in force: ``partition majority-ring``, ``loss 10 %``."""
    text: str
    """As `show` tells it: ``killed slave-0 (4 processes)``."""
    task: str
    by: str
    requested_s: float
    applied_s: float | None
    """When it held; None where it did not."""
    error_s: float
    duration_s: float
    healed_s: float | None
    """When it was taken back; None where it was not, or does not last."""
    healed_error_s: float
    healed_by: str
    failure: str
    """Why it failed; empty where it did not."""


@dataclass(frozen=True, slots=True)
class LogMark:
    """One line of a task's output."""

    at_s: float
    task: str
    text: str


@dataclass(frozen=True, slots=True)
class Logs:
    """A part of the output that fits on a page."""

    lines: tuple[LogMark, ...] = ()
    left_out: int = 0
    """Lines that are not among them."""


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a client; ``end_s`` is None where it was never answered."""

    begin_s: float
    end_s: float | None
    kind: str
    outcome: str
    """``ok``, ``fail``, ``info``."""
    process: str
    words: str
    """What it did: ``put x 5``."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What clients recorded of their operations, on the run's time line."""

    operations: tuple[Op, ...]
    """By their beginnings."""
    clocks: tuple[str, ...]
    """For each history how its clock stood to the manager's, in words."""
    bad: tuple[int, ...] = ()
    """Places in `operations` of those that the verdict's counterexample names."""


@dataclass(frozen=True, slots=True)
class Run:
    """A job, whole."""

    job_id: int
    name: str
    owner: str
    team: str
    attempt: int
    submitted: str
    """In UTC, for people."""
    submitted_utc_s: float
    waited_s: float
    length_s: float
    ended: bool
    verdict: Verdict
    lanes: tuple[TaskLane, ...] = ()
    faults: tuple[FaultLine, ...] = ()
    logs: Logs = Logs()
    recording: Recording | None = None
    lose_unsynced: bool = False
    """Whether a kill took away what was not synced."""
    replay_of: int = 0
    """The job whose faults it played again; 0 for none."""
