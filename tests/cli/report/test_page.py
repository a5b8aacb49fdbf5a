"""The page as a file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from syndicate.cli.report.documents import KILL_NOTE, POWER_NOTE
from syndicate.cli.report.page import in_script, page
from syndicate.cli.report.recorded import recording
from syndicate.client_api.history import History, read
from syndicate.v1.common_pb2 import Stamp

from tests.cli.report.samples import BARRIER, failed_run, fault, hostile_run, run

_MOST_BYTES = 3_000_000


class Seen(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_of_many_operations_is_small() -> None:
    """A run of 100,000 operations fits into 3 MB."""
    assert len(page(run(100_000, lines=1500)).encode()) <= _MOST_BYTES


def test_a_page_of_a_recorded_history_is_small(tmp_path: Path) -> None:
    """From 100,000 operations that a client recorded, with long values, and many that failed or timed out."""
    path, clock = tmp_path / "history.jsonl", count(1, 70_000)  # two looks an operation: 14 s in all
    with History(path, task="client-0", now_ns=clock.__next__) as history:
        for number in range(100_000):
            kind = ("put", "get", "append", "cas")[number % 4]
            one = history.invoke(f"thread {number % 50}", kind, f"key {number % 1000}", [number] * 20)
            if number % 5 == 0:
                one.fail("refused: " + "not the leader, " * 10)
            elif number % 5 == 1:
                one.info("timed out after 5 s")
            else:
                one.ok([number] * 20)
    recorded = read(path)
    start = Stamp(boot_id=recorded.header.boot_id, monotonic_ns=recorded.header.start_ns)
    found = recording([recorded], start)

    made = page(replace(run(0, lines=1500), recording=found))

    assert len(found.operations) == 100_000 and found.operations[-1].begin_s > 13
    assert len(made.encode()) <= _MOST_BYTES
    assert "100,000 operations" in made


def test_a_page_names_nothing_to_load() -> None:
    """No element has an address, and the policy lets none be."""
    seen = Seen(page(failed_run(50)))
    assert not [(tag, given) for tag, given in seen.elements if {"src", "href", "action"} & given.keys()]
    (policy,) = [given["content"] for _, given in seen.elements if "http-equiv" in given]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy


def test_a_page_says_what_a_reader_must_know() -> None:
    """Verdict, first bad operation, clocks, and that Kill keeps the page cache."""
    texts = "\n".join(Seen(page(failed_run(50))).texts)
    assert "First bad operation" in texts
    assert "820.100 ms – 822.000 ms" in texts
    assert "(◆ at 6.160 s in the pictures)" in texts
    assert "on the manager's own clock" in texts
    assert KILL_NOTE in texts
    assert "1,234 of 1,434 lines of output" in texts


def test_a_page_says_that_a_kill_was_a_loss_of_power() -> None:
    """Of a job whose kills were, and there it does not say the contrary."""
    texts = "\n".join(Seen(page(replace(failed_run(50), lose_unsynced=True))).texts)
    assert POWER_NOTE in texts
    assert KILL_NOTE not in texts


def test_a_page_of_a_replay_says_so() -> None:
    """Above and in the notes; that of another run does not."""
    texts = "\n".join(Seen(page(replace(failed_run(50), replay_of=9))).texts)
    assert "a replay of job 9" in texts
    assert "not the one that is graded" in texts
    assert "replay" not in "\n".join(Seen(page(failed_run(50))).texts)


def test_a_page_tells_of_barriers_among_the_lines() -> None:
    """A round that has ended stands between the lines of output, at its time."""
    texts = Seen(page(run(0))).texts
    place = texts.index(BARRIER[1])
    assert "1.500 s" in texts[:place]


def test_a_page_without_histories_says_so() -> None:
    """Lanes, faults and output stand without them."""
    made = page(run())
    assert "--history" in made
    assert 'id="figure-lanes"' in made
    assert 'id="figure-latency"' not in made


@pytest.mark.parametrize("lanes", [0, 1, 300])
def test_a_page_of_any_number_of_tasks(lanes: int) -> None:
    """None is too few, and many are not too tall."""
    one = run().lanes[0]
    many = tuple(replace(one, task=f"slave-{place}") for place in range(lanes))
    assert page(replace(run(), lanes=many))


def test_a_page_of_a_fault_that_held_as_the_job_ended() -> None:
    """Its window takes no time, and by the clocks' errors it may lie a moment behind the end."""
    made = page(replace(run(50), faults=(fault(1, "kill", "slave-0", 15.4002),)))
    assert "killed slave-0" in made


def test_a_page_of_very_many_faults_stays_small() -> None:
    """What is left out of pictures and tables is said."""
    faults = tuple(fault(place, "pause", "slave-2", place / 1000, 15.0) for place in range(1, 10_000))
    made = page(replace(run(1000), faults=faults))
    assert len(made.encode()) <= _MOST_BYTES
    assert "The last 9,599 faults are not drawn." in made
    assert "rows are left out" in made


def test_hostile_texts_are_texts() -> None:
    """Nothing that somebody else wrote becomes an element or ends a script."""
    seen = Seen(page(hostile_run(50)))
    assert not [tag for tag, _ in seen.elements if tag in ("img", "iframe", "object", "base", "a")]
    assert len([tag for tag, _ in seen.elements if tag == "script"]) == 3
    assert not [given for _, given in seen.elements if any(name.startswith("on") for name in given)]


@settings(deadline=None)
@given(
    st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
)
@example("</script ><!--<script ")
def test_json_in_a_script_is_the_same_value_and_ends_nothing(value: object) -> None:
    """Whatever texts are in it."""
    told = in_script(value)
    assert json.loads(told) == value
    assert not set("<>&\u2028\u2029") & set(told)


def test_other_commands_do_not_import_bokeh() -> None:
    """It costs half a second, which the page alone pays."""
    code = "import syndicate.cli.app, sys; print({'bokeh', 'numpy', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
