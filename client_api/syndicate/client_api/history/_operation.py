"""One operation of a client on the system under test, from its invocation to what is known of its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What is known of an operation's end."""

    OK = "ok"  # it happened, and `result` is what it gave
    FAIL = "fail"  # it did not happen, and never will
    INFO = "info"  # nobody knows whether it happened, or will: a time-out, a connection that broke


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. Values (`key`, `argument`, `result`) are JSON values.

    Attributes:
        index: its place among the invocations of its history, from 0.
        process: who did it: one logical thread, which has at most one operation open at a time.
        kind: what it does, in the model's words: `get`, `put`, `append`, `cas`, `enqueue`.
        key: which object it is about; None where there is only one.
        argument: what it was called with.
        outcome: see `Outcome`. One that was never completed is INFO.
        result: what it gave; None unless OK.
        invoked_ns: when it was invoked, in nanoseconds of the history's clock.
        completed_ns: when its end was known; None where it never was: it may take effect at any time later.
            Of INFO it is when the client gave up: it may take effect later all the same.
        error: what the client saw of a FAIL or INFO, for people.
    """

    index: int
    process: int | str
    kind: str
    key: Any
    argument: Any
    outcome: Outcome
    result: Any
    invoked_ns: int
    completed_ns: int | None
    error: str = ""
