"""What the keeper tells unasked."""

from __future__ import annotations

from dataclasses import dataclass

from ._answers import Exit
from ._values import TaskId


@dataclass(frozen=True, slots=True)
class Exited:
    """A generation ended, by itself or by the keeper. Told once; Synced tells it again."""

    slot: int
    task: TaskId
    exit: Exit


@dataclass(frozen=True, slots=True)
class LogGrew:
    """There is output up to `log_bytes`. Told at most every few milliseconds for a task."""

    slot: int
    task: TaskId
    generation: int
    log_bytes: int


Event = Exited | LogGrew
