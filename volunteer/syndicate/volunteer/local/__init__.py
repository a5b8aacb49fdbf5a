"""The narrow protocol that the volunteer and its keeper speak over a Unix socket, as values.

The volunteer asks, the keeper does and answers; the keeper also tells events unasked. Every request names the
slot and the task that it is about, so that a late request cannot touch the next task on the slot. Requests
say what should hold, not what to change: sent again after a reconnect they find it so and answer the same.

On the wire a frame is a 4-byte big-endian length, a 4-byte length of the JSON head, the head, and then raw
bytes (log and disk data only). `encode` and `decode` are in `frames`; they refuse what is not well-formed.
"""

from __future__ import annotations

from ._answers import (
    MAX_WHY,
    Audited,
    DiskRead,
    Done,
    Exit,
    GenerationInfo,
    Incapability,
    LogPiece,
    LogRead,
    Refused,
    Reply,
    SlotInfo,
    Synced,
)
from ._events import Event, Exited, LogGrew
from ._frames import MAX_FRAME_BYTES, EventFrame, Frame, ReplyFrame, RequestFrame
from ._requests import (
    MAX_LOG_READ_BYTES,
    Audit,
    Kill,
    Prepare,
    ReadDisk,
    ReadLog,
    Reboot,
    Release,
    Renew,
    Request,
    Revive,
    SetNetwork,
    SetTask,
    Signal,
    Start,
    Sync,
)
from ._values import (
    UNDEGRADED,
    WHOLE,
    Annotation,
    Degradation,
    ErrorCode,
    Limits,
    LinkState,
    LogStream,
    Member,
    NetworkState,
    Role,
    SlotState,
    Stamp,
    TaskId,
)

__all__ = [
    "MAX_FRAME_BYTES",
    "MAX_LOG_READ_BYTES",
    "MAX_WHY",
    "UNDEGRADED",
    "WHOLE",
    "Annotation",
    "Audit",
    "Audited",
    "Degradation",
    "DiskRead",
    "Done",
    "ErrorCode",
    "Event",
    "EventFrame",
    "Exit",
    "Exited",
    "Frame",
    "GenerationInfo",
    "Incapability",
    "Kill",
    "Limits",
    "LinkState",
    "LogGrew",
    "LogPiece",
    "LogRead",
    "LogStream",
    "Member",
    "NetworkState",
    "Prepare",
    "ReadDisk",
    "ReadLog",
    "Reboot",
    "Refused",
    "Release",
    "Renew",
    "Reply",
    "ReplyFrame",
    "Request",
    "RequestFrame",
    "Revive",
    "Role",
    "SetNetwork",
    "SetTask",
    "Signal",
    "SlotInfo",
    "SlotState",
    "Stamp",
    "Start",
    "Sync",
    "Synced",
    "TaskId",
]
