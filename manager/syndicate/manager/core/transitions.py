"""The lives of a job and of a task: one table each, from which the diagrams of the documentation are drawn.

Rules that the tables rest on:

1.  A state changes only through `job_after` and `task_after`. A pair that is not in the table is a bug of the
    core, so it raises InvariantError; what the outside may do wrong is caught before and never reaches a
    table.
2.  A gang is whole or absent: RESERVING holds as many slots as the job has members, or the job is QUEUED and
    holds none. One slot that is busy, silent or gone takes the job back to QUEUED (REFUSED).
3.  Every return to QUEUED raises the attempt, a refused reservation too: whatever a volunteer still hears or
    holds of the old attempt can then never be taken for the new one. What is bounded is another thing: only
    failures after the reservation (REQUEUED) count towards `max_attempts`; a refused reservation costs the
    job nothing.
4.  Nothing is started before every member is prepared; masters, slaves, clients are started in this order,
    each group when the one before it is known to run. Only then is the job RUNNING.
5.  A job that has asked for slots ends through STOPPING alone, where its verdict is decided already: a
    terminal state, or QUEUED for another attempt. Only one verdict can be changed: QUEUED, by
    a cancellation, or to LOST where a machine that lives never says that the old attempt is gone.
6.  STOPPING ends when every slot is RELEASED or its machine is given up (LOST).
7.  A terminal state is final.
8.  A task's STARTED stands for its first start and for each revival; each has a new generation, and no
    generation is started twice. An end that is told before its start was acknowledged proves the start: both
    rows apply at once.
9.  KILLED is the end by a fault, EXITED the end by itself. They can be told in either order: a Kill that
    found processes makes an end by signal KILLED; a Kill that found none leaves KILLED open for the exit that
    was under way. Nothing else leads from one to the other.
10. RELEASED and LOST are final for a task, and every other state leads to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from .errors import InvariantError
from .model import JobState, TaskState


class JobCause(StrEnum):
    """What moves a job on."""

    PLACED = "slots are chosen"
    REFUSED = "a slot is busy, silent or gone"
    RESERVED = "every slot is ready"
    STARTED = "every member runs"
    STOP = "its verdict is known"
    REQUEUED = "released, the infrastructure failed"
    SUCCEEDED = "released, it passed"
    FAILED = "released, it failed"
    UNKNOWN = "released, nobody can tell"
    CANCELLED = "cancelled"
    TIMED_OUT = "released, it ran too long"
    LOST = "released, the infrastructure failed too often"


class TaskCause(StrEnum):
    """What moves a task on."""

    READY = "its slot is locked"
    PREPARE = "told to prepare"
    PREPARED = "disk and network stand"
    START = "told to start"
    STARTED = "make was exec'd"
    EXITED = "make ended"
    KILLED = "ended by a fault"
    RELEASED = "its slot is given back"
    LOST = "its machine is gone"


_J, _JC = JobState, JobCause

JOB_TRANSITIONS: Mapping[tuple[JobState, JobCause], JobState] = MappingProxyType(
    {
        (_J.QUEUED, _JC.PLACED): _J.RESERVING,
        (_J.QUEUED, _JC.CANCELLED): _J.CANCELLED,
        (_J.RESERVING, _JC.REFUSED): _J.QUEUED,
        (_J.RESERVING, _JC.RESERVED): _J.PREPARING,
        (_J.RESERVING, _JC.STOP): _J.STOPPING,
        (_J.PREPARING, _JC.STARTED): _J.RUNNING,
        (_J.PREPARING, _JC.STOP): _J.STOPPING,
        (_J.RUNNING, _JC.STOP): _J.STOPPING,
        (_J.STOPPING, _JC.REQUEUED): _J.QUEUED,
        (_J.STOPPING, _JC.SUCCEEDED): _J.SUCCEEDED,
        (_J.STOPPING, _JC.FAILED): _J.FAILED,
        (_J.STOPPING, _JC.UNKNOWN): _J.UNKNOWN,
        (_J.STOPPING, _JC.CANCELLED): _J.CANCELLED,
        (_J.STOPPING, _JC.TIMED_OUT): _J.TIMED_OUT,
        (_J.STOPPING, _JC.LOST): _J.LOST,
    }
)

_T, _TC = TaskState, TaskCause
FINAL_TASK_STATES = frozenset({_T.RELEASED, _T.LOST})

TASK_TRANSITIONS: Mapping[tuple[TaskState, TaskCause], TaskState] = MappingProxyType(
    {
        (_T.RESERVING, _TC.READY): _T.RESERVED,
        (_T.RESERVED, _TC.PREPARE): _T.PREPARING,
        (_T.PREPARING, _TC.PREPARED): _T.PREPARED,
        (_T.PREPARED, _TC.START): _T.STARTING,
        (_T.STARTING, _TC.STARTED): _T.RUNNING,
        (_T.RUNNING, _TC.EXITED): _T.EXITED,
        (_T.RUNNING, _TC.KILLED): _T.KILLED,
        (_T.KILLED, _TC.STARTED): _T.RUNNING,
        (_T.EXITED, _TC.STARTED): _T.RUNNING,
        (_T.KILLED, _TC.EXITED): _T.EXITED,
        (_T.EXITED, _TC.KILLED): _T.KILLED,
        **{(state, _TC.RELEASED): _T.RELEASED for state in _T if state not in FINAL_TASK_STATES},
        **{(state, _TC.LOST): _T.LOST for state in _T if state not in FINAL_TASK_STATES},
    }
)

TERMINAL_JOB_STATES = frozenset({_J.SUCCEEDED, _J.FAILED, _J.UNKNOWN, _J.CANCELLED, _J.TIMED_OUT, _J.LOST})
# States in which a job has slots, or asks for them.
ACTIVE_JOB_STATES = frozenset({_J.RESERVING, _J.PREPARING, _J.RUNNING, _J.STOPPING})

# The cause that ends STOPPING with each verdict.
VERDICT_CAUSES: Mapping[JobState, JobCause] = MappingProxyType(
    {
        _J.QUEUED: _JC.REQUEUED,
        _J.SUCCEEDED: _JC.SUCCEEDED,
        _J.FAILED: _JC.FAILED,
        _J.UNKNOWN: _JC.UNKNOWN,
        _J.CANCELLED: _JC.CANCELLED,
        _J.TIMED_OUT: _JC.TIMED_OUT,
        _J.LOST: _JC.LOST,
    }
)


def job_after(state: JobState, cause: JobCause) -> JobState:
    """The state that a cause leads to. Raises InvariantError where the table has no such row."""
    following = JOB_TRANSITIONS.get((state, cause))
    if following is None:
        raise InvariantError(f"a job that is {state.name} cannot take {cause.name}")
    return following


def task_after(state: TaskState, cause: TaskCause) -> TaskState:
    """The state that a cause leads to. Raises InvariantError where the table has no such row."""
    following = TASK_TRANSITIONS.get((state, cause))
    if following is None:
        raise InvariantError(f"a task that is {state.name} cannot take {cause.name}")
    return following
