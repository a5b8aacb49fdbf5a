"""The table of conditions in docs/operating.md: each row has a test, and that test is there."""

from __future__ import annotations

import re

import pytest

from tests.support.cluster import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text()
ROWS = PAGE.partition("## Conditions")[2].strip().splitlines()[4:]
WANTED = (
    *(
        "cannot be reached",
        "another cluster's manager",
        "overlap",
        "small MTU",
        "FORWARD DROP",
        "kernel older",
    ),
    *("version 1, hybrid or 2", "disk is full", "no IPv6"),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_each_row_names_a_test_that_is_there(row: str) -> None:
    """A file, or one function of it."""
    *_, cell, _ = row.split("|")
    found = re.fullmatch(r" `(tests/[a-z_/]+\.py)(?:::(test_[a-z0-9_]+))?` ", cell)
    assert found is not None, cell
    text = (ROOT / found[1]).read_text()
    assert found[2] is None or f"def {found[2]}(" in text


@pytest.mark.parametrize("condition", WANTED)
def test_conditions_that_operators_meet_have_a_row(condition: str) -> None:
    """In the first column."""
    assert any(condition in row.split("|")[1] for row in ROWS)
