"""The lifecycle of a slot: every transition stands in this one table."""

from __future__ import annotations

from enum import StrEnum

from ..local import SlotState


class Step(StrEnum):
    """What happens to a slot."""

    PREPARE = "prepare"  # the source lies there, the sandbox waits
    START = "start"  # generation 1 became make
    END = "end"  # no process of the generation is left
    REVIVE = "revive"  # a further generation became make
    RELEASE = "release"  # nothing of the task is left


NEXT: dict[tuple[SlotState, Step], SlotState] = {
    (SlotState.EMPTY, Step.PREPARE): SlotState.PREPARED,
    (SlotState.PREPARED, Step.START): SlotState.RUNNING,
    (SlotState.PREPARED, Step.END): SlotState.ENDED,
    (SlotState.RUNNING, Step.END): SlotState.ENDED,
    (SlotState.ENDED, Step.REVIVE): SlotState.RUNNING,
    (SlotState.ENDED, Step.RELEASE): SlotState.EMPTY,
}


def after(state: SlotState, step: Step) -> SlotState:
    """The state after `step`; a step that the table does not know is a broken invariant."""
    try:
        return NEXT[state, step]
    except KeyError:
        raise RuntimeError(f"a slot that is {state} cannot {step}") from None
