"""The words that people and scripts read for the enums of ``syndicate.v1``, and the remedies for reasons."""

from __future__ import annotations

from syndicate.v1 import common_pb2, scheduler_pb2
from syndicate.v1.common_pb2 import Annotation, JobState, Outcome, Reason, TaskExit

REMEDIES = {
    Reason.REASON_NOTHING_RUN: (
        "A file or folder of the target's name hides it. Add to the Makefile:  .PHONY: master slave client"
    ),
    Reason.REASON_NO_MAKEFILE: "A source needs a Makefile at its root.",
    Reason.REASON_NO_TARGET: (
        "A job's Makefile needs the targets `master` and `slave`, a client's the target `client`."
    ),
    Reason.REASON_BAD_SOURCE: "Pack the folder again, or submit the folder itself.",
    Reason.REASON_DISK_FULL: "Give it more with --disk or --inodes, or pack less.",
    Reason.REASON_TIME_LIMIT: "Give it longer with --time-limit, or let it end by itself.",
}


ANNOTATIONS = {
    Annotation.ANNOTATION_DISK_FULL: "its disk was full",
    Annotation.ANNOTATION_PIDS_LIMIT: "it was denied processes",
    Annotation.ANNOTATION_LOG_LIMIT: "the middle of its output was dropped",
}


def job_state(state: JobState.ValueType) -> str:
    """``RUNNING``."""
    return _name(common_pb2.JobState, state, "JOB_STATE_")


def task_state(state: common_pb2.TaskState.ValueType) -> str:
    """``RUNNING``."""
    return _name(common_pb2.TaskState, state, "TASK_STATE_")


def node_state(state: scheduler_pb2.NodeState.ValueType) -> str:
    """``READY``."""
    return _name(scheduler_pb2.NodeState, state, "NODE_STATE_")


def user_role(role: scheduler_pb2.UserRole.ValueType) -> str:
    """``student``."""
    return _name(scheduler_pb2.UserRole, role, "USER_ROLE_").lower()


def token_scope(scope: scheduler_pb2.TokenScope.ValueType) -> str:
    """``submit``."""
    return _name(scheduler_pb2.TokenScope, scope, "TOKEN_SCOPE_").lower()


def reason(value: Reason.ValueType) -> str:
    """``NOTHING_RUN``; empty for none."""
    return _name(common_pb2.Reason, value, "REASON_") if value else ""


def met(end: TaskExit) -> str:
    """The bounds that a task met: ``its disk was full, it was denied processes``; empty for none."""
    return ", ".join(ANNOTATIONS[each] for each in end.annotations if each in ANNOTATIONS)


def outcome(value: Outcome.ValueType) -> str:
    """``pass``; empty for none."""
    return _name(common_pb2.Outcome, value, "OUTCOME_").lower() if value else ""


def _name(enum: object, value: int, prefix: str) -> str:
    # A newer manager may know values that these stubs do not.
    try:
        name: str = enum.Name(value)  # type: ignore[attr-defined]  # the stubs give enums no common base
    except ValueError:
        return str(value)
    return name.removeprefix(prefix)
