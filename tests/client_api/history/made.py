"""Histories that tests are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from syndicate.client_api.history import Operation, Outcome

# JSON as all shapes hold it: of numbers those that every notation writes alike.
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz-?!", min_size=1, max_size=8)


def operation(index: int, invoked_ns: int, completed_ns: int | None, **changes: Any) -> Operation:
    """A put of process 0 that went well, but for what is changed."""
    fields: dict[str, Any] = {
        "process": 0,
        "kind": "put",
        "key": None,
        "argument": index,
        "outcome": Outcome.OK,
        "result": None,
        "error": "",
    }
    return Operation(index=index, invoked_ns=invoked_ns, completed_ns=completed_ns, **(fields | changes))


@st.composite
def histories(
    draw: st.DrawFn,
    values: st.SearchStrategy[Any] = VALUES,
    processes: int = 3,
    most: int = 12,
) -> tuple[Operation, ...]:
    """What a few processes may have done, each one thing after the other, at moments that all differ."""
    now = draw(st.integers(0, 1000))
    open_: dict[int, Operation] = {}
    done: list[Operation] = []
    for _ in range(draw(st.integers(0, 2 * most))):
        now += draw(st.integers(1, 50))
        process = draw(st.integers(0, processes - 1))
        if process in open_:
            outcome = draw(st.sampled_from(Outcome))
            fields = (
                {"result": draw(values)} if outcome is Outcome.OK else {"error": draw(st.text(max_size=5))}
            )
            begun = open_.pop(process)
            done.append(
                operation(
                    begun.index,
                    begun.invoked_ns,
                    now,
                    process=process,
                    kind=begun.kind,
                    key=begun.key,
                    argument=begun.argument,
                    outcome=outcome,
                    **fields,
                )
            )
        elif len(done) + len(open_) < most:
            open_[process] = operation(
                len(done) + len(open_),
                now,
                None,
                process=process,
                kind=draw(NAMES),
                key=draw(values),
                argument=draw(values),
                outcome=Outcome.INFO,
            )
    return tuple(sorted([*done, *open_.values()], key=lambda one: one.index))


def script(text: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a program in an interpreter of its own and waits for it."""
    return subprocess.run(
        [sys.executable, "-c", text, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
