"""The example of docs/histories.md does what the page says."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from syndicate.client_api import Chaos, checkers
from syndicate.client_api.history import History, Outcome, merge, read
from syndicate.client_api.testing import FakeChaos, FakeChaosServer

PAGE = Path(__file__).parents[3] / "docs" / "histories.md"


class Refused(Exception):
    """The store says for certain that it did not take it."""


class Store:
    """Takes most, refuses some, and is silent at the last."""

    def put(self, _: str, number: int) -> None:
        """Keeps nothing."""
        if number % 10 == 9 and number != 999:
            raise Refused
        if number == 999:
            raise TimeoutError


def programs() -> list[str]:
    """The page's programs."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def example() -> str:
    """The page's first program, in which a store that refuses does not end the client."""
    program, _ = programs()
    begins = "        with history.operation("
    assert begins in program
    return str(program.replace(begins, "        with suppress(Refused, TimeoutError), history.operation("))


@pytest.fixture
def cluster() -> Iterator[FakeChaosServer]:
    """What SYNDICATE_CHAOS names."""
    with FakeChaosServer(members=["10.77.0.11"]) as server, patch.dict(os.environ, server.environ):
        yield server


@pytest.mark.usefixtures("cluster")
def test_the_pages_program_records_its_history(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both readings of the clock, and each way an operation can end."""
    monkeypatch.chdir(tmp_path)
    exec(example, {"Refused": Refused, "store": Store(), "suppress": contextlib.suppress})
    recorded = read("history.jsonl")
    outcomes = Counter(one.outcome for one in recorded.operations)
    assert outcomes == {Outcome.OK: 900, Outcome.FAIL: 99, Outcome.INFO: 1}
    assert len(recorded.clocks) == 2 and recorded.clocks[0].manager_boot_id == "fake-boot"


@pytest.mark.parametrize("task", ["client-0", "client-1"])
def test_the_pages_other_program_judges_or_hands_over(
    cluster: FakeChaosServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """One client does the one, all others the other, and all of them finish."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNDICATE_TASK", task)
    _, program = programs()
    names = {name: getattr(checkers, name) for name in ("AvailableAgain", "KeyValue", "Linearizable")}
    exec(program, {"Chaos": Chaos, "History": History, "os": os, **names})
    result = cluster.job.results["client-0"]  # who calls is the server's to say
    assert cluster.job.history("client-0").startswith(b'{"syndicate_history":1,')
    assert ("clocks: true: 1 history" in result.text) == (task == "client-0")


def test_the_pages_lines_are_a_history(tmp_path: Path) -> None:
    """The file that it shows can be read, but for what it leaves out."""
    (shown,) = re.findall(r"```\n(\{.*?)```", PAGE.read_text(), re.DOTALL)
    lines = shown.replace('_ns":…', '_ns":5').splitlines()
    lines.insert(-1, '{"i":2,"t":990000,"p":4,"f":"put","k":"x","v":6}')
    (tmp_path / "h").write_text("\n".join(lines))
    recorded = read(tmp_path / "h")
    assert [one.outcome for one in recorded.operations] == [Outcome.OK, Outcome.OK, Outcome.INFO]
    assert recorded.clocks[0].offset_ns == -51000


def test_a_fake_cluster_has_a_clock_too(tmp_path: Path) -> None:
    """So that a client's own tests can run it with `FakeChaos`."""
    with History(tmp_path / "h") as history:
        for _ in range(2):
            history.set_clock(FakeChaos(members=["10.77.0.11"]).ping())
        history.invoke(0, "put").ok()
    assert len(merge([read(history.path)]).operations) == 1
