"""Reports for programs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from syndicate.cli.report.documents import KILL_NOTE, POWER_NOTE, gradescope, junit, pretty, summary
from syndicate.cli.report.run import Said, Verdict

from tests.cli.report.samples import failed_run, hostile_run, run


def verdict(outcome: str, score: float | None = None) -> Verdict:
    """One of two clients."""
    said = (
        Said("client-0", "pass", None, ("fine",), 1.0),
        Said("client-1", outcome, None, ("\x00<b>",), 1.0),
    )
    return Verdict("FAILED", outcome, "", "", score, ("text",), (), said)


def test_summary_is_json_with_windows_latencies_and_recoveries() -> None:
    """All that the page says in numbers."""
    told = json.loads(pretty(summary(failed_run(300))))
    assert told["outcome"] == "fail"
    assert told["first_bad"].startswith("820.100 ms")
    assert [window["name"] for window in told["windows"]][:2] == ["cut slave-1", "killed slave-0"]
    assert {row["where"] for row in told["latencies"]} >= {"all of it", "no fault", "in a fault"}
    assert len(told["recoveries"]) == 15


def test_numbers_that_json_lacks_are_null() -> None:
    """A client may call its score infinite."""
    told = summary(replace(run(), verdict=verdict("pass", math.inf)))
    assert told["score"] is None


def test_junit_has_a_case_for_each_client() -> None:
    """A fail is a failure, and its text survives whatever it is."""
    root = ElementTree.fromstring(junit(replace(run(), verdict=verdict("fail"))))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    failure = root.find(".//testcase[@name='client-1']/failure")
    assert failure is not None
    assert failure.text == "�<b>"


def test_junit_tells_unknown_as_an_error() -> None:
    """Nobody failed where nobody could tell."""
    root = ElementTree.fromstring(junit(replace(run(), verdict=verdict("unknown"))))
    assert (root.get("failures"), root.get("errors")) == ("0", "1")


def test_junit_says_how_a_client_ended_that_never_finished() -> None:
    """What `show` knows of it; and of one that finished without a text no such thing."""
    said = (
        Said("client-0", "", None, (), 1.0, "make exited with status 0"),
        Said("client-1", "", None, (), 1.0),
        Said("client-2", "fail", None, (), 1.0),
    )
    told = replace(run(), verdict=replace(verdict("unknown"), clients=said))
    root = ElementTree.fromstring(junit(told))
    found = [one.get("message") for case in root.iter("testcase") for one in case]
    assert found == [
        "ended without a result: make exited with status 0",
        "ended without a result",
        "finished without a text",
    ]


def test_junit_of_a_job_without_clients_is_its_end() -> None:
    """One case: the job."""
    alone = replace(run(), verdict=replace(run().verdict, clients=(), state="TIMED_OUT"))
    root = ElementTree.fromstring(junit(alone))
    assert (root.get("tests"), root.get("failures")) == ("1", "1")


def test_gradescope_takes_the_clients_score() -> None:
    """The score as it was given, and a test for each client."""
    told = gradescope(run())
    assert (told["score"], told["execution_time"], told["visibility"]) == (0.97, 16, "visible")
    assert told["tests"][0]["status"] == "passed"


def test_gradescope_without_a_score_is_one_or_nothing() -> None:
    """A pass is worth 1; a fail and what nobody could tell 0, the latter without a word that it failed."""
    assert gradescope(replace(run(), verdict=verdict("pass")))["score"] == 1.0
    told = gradescope(replace(run(), verdict=verdict("unknown")))
    assert told["score"] == 0.0
    assert "status" not in told["tests"][1]


def test_every_form_says_that_a_run_is_a_replay() -> None:
    """Whoever takes grades leaves replays out; a run that is none says nothing of it."""
    again = replace(run(), replay_of=9)
    assert gradescope(again)["output"].startswith("This is a replay of job 9")
    assert summary(again)["replay_of"] == 9
    found = ElementTree.fromstring(junit(again)).find(".//property[@name='replay_of']")
    assert found is not None
    assert found.get("value") == "9"
    assert "replay" not in gradescope(run())["output"]
    assert summary(run())["replay_of"] is None


@pytest.mark.parametrize(("lose_unsynced", "note"), [(False, KILL_NOTE), (True, POWER_NOTE)])
def test_every_form_says_what_a_kill_keeps(lose_unsynced: bool, note: str) -> None:
    """The page cache, or, of a job whose kills were losses of power, nothing that was not synced."""
    made = replace(run(), lose_unsynced=lose_unsynced)
    assert summary(made)["notes"] == [note]
    assert gradescope(made)["extra_data"]["notes"] == [note]
    found = ElementTree.fromstring(junit(made)).findall(".//property[@name='note']")
    assert [one.get("value") for one in found] == [note]


def test_hostile_texts_stay_texts() -> None:
    """Both documents can be read again."""
    made = hostile_run(10)
    assert ElementTree.fromstring(junit(made)).get("tests") == "2"
    assert json.loads(pretty(gradescope(made)))["tests"]
