"""The table of a slot's life, and the numbers that the edges convert by."""

from __future__ import annotations

import ast
from enum import IntEnum
from pathlib import Path

import pytest
import syndicate.volunteer.core
from syndicate.v1 import common_pb2, registry_pb2
from syndicate.volunteer.core import model
from syndicate.volunteer.core.transitions import (
    SLOT_TRANSITIONS,
    TASK_STATES,
    IllegalTransition,
    SlotInput,
    SlotState,
    next_state,
)

_PROTO = {
    model.Role: (common_pb2.Role, "ROLE"),
    model.TaskState: (common_pb2.TaskState, "TASK_STATE"),
    model.Reason: (common_pb2.Reason, "REASON"),
    model.Annotation: (common_pb2.Annotation, "ANNOTATION"),
    model.AnswerCode: (registry_pb2.AnswerCode, "ANSWER_CODE"),
    model.Network: (registry_pb2.NetworkKind, "NETWORK_KIND"),
}


@pytest.mark.parametrize("enum", _PROTO, ids=lambda enum: enum.__name__)
def test_enums_have_the_numbers_of_the_protos(enum: type[IntEnum]) -> None:
    """The edges convert by number."""
    proto, prefix = _PROTO[enum]

    assert {f"{prefix}_{one.name}": int(one) for one in enum}.items() <= dict(proto.items()).items()


def test_every_state_has_a_line() -> None:
    """No state is left out of the table, and all can be left."""
    assert set(SLOT_TRANSITIONS) == set(SlotState)
    assert all(SLOT_TRANSITIONS.values())


def test_every_state_is_reached_from_free_and_leads_back() -> None:
    """A slot is never stuck."""
    reached = _closure({SlotState.FREE}, lambda s: set(SLOT_TRANSITIONS[s].values()))
    back = _closure(
        {SlotState.FREE},
        lambda s: {before for before, lines in SLOT_TRANSITIONS.items() if s in lines.values()},
    )

    assert reached == back == set(SlotState)


def test_only_a_release_frees_a_slot() -> None:
    """Nothing else unlocks it."""
    freeing = {
        line for lines in SLOT_TRANSITIONS.values() for line, to in lines.items() if to is SlotState.FREE
    }

    assert freeing == {SlotInput.RELEASE_DONE}


def test_what_the_table_lacks_is_refused() -> None:
    """A bug is loud."""
    with pytest.raises(IllegalTransition):
        next_state(SlotState.FREE, SlotInput.START)


def test_every_held_state_has_a_word_for_the_manager() -> None:
    """Hello can tell each of them."""
    assert set(TASK_STATES) == set(SlotState) - {SlotState.FREE}


def test_the_core_imports_nothing_impure() -> None:
    """Standard library and the local protocol only; no clock, no socket, no chance."""
    forbidden = {"grpc", "asyncio", "time", "random", "os", "socket", "threading", "secrets", "uuid"}
    found = set()
    for path in Path(syndicate.volunteer.core.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.append(node.module)
            found |= {
                name.split(".")[0] for name in names if "pb2" in name or name.split(".")[0] in forbidden
            }

    assert found == set()


def _closure(start: set[SlotState], following: object) -> set[SlotState]:
    seen, todo = set(start), list(start)
    while todo:
        for state in following(todo.pop()) - seen:  # type: ignore[operator]  # a function of one state
            seen.add(state)
            todo.append(state)
    return seen
