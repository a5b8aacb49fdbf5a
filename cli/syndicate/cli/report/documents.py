"""A run for programs: JSON, JUnit's XML, and Gradescope's results.json."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from xml.etree import ElementTree  # it only writes here: nothing of others is parsed

from syndicate.cli.report.numbers import QUANTILES, recoveries, rows
from syndicate.cli.report.recorded import counterexample
from syndicate.cli.report.run import Run, Said
from syndicate.cli.report.windows import windows

KILL_NOTE = (
    "Kill ends processes and keeps the page cache: writes that were not synced are not lost with it, as they"
    " would be when a machine loses its power."
)
POWER_NOTE = (
    "Kill is a loss of power here: what a task had not synced was gone when it was revived, but for what the"
    " kernel had written by itself."
)
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def kill_note(run: Run) -> str:
    """What a kill did to what was not synced."""
    return POWER_NOTE if run.lose_unsynced else KILL_NOTE


def replay_note(run: Run) -> str:
    """Of a replay that it is one; else nothing."""
    of = run.replay_of
    return (
        f"This is a replay of job {of}: a new run with its faults, not the one that is graded" if of else ""
    )


def first_bad(run: Run) -> str:
    """The operation that the verdict's counterexample ends with; empty where it names none."""
    named = [one for one in counterexample(run.verdict.text) if one[1] is not None]
    return max(named, key=lambda one: one[1] or 0.0)[3] if named else ""


def summary(run: Run) -> dict[str, Any]:
    """The numbers of a report as JSON values; times in seconds since the job's start."""
    found = windows(run)
    ops = run.recording.operations if run.recording is not None else ()
    return {
        "job_id": run.job_id,
        "name": run.name,
        "owner": run.owner,
        "attempt": run.attempt,
        "replay_of": run.replay_of or None,
        "state": run.verdict.state.lower(),
        "outcome": run.verdict.outcome or None,
        "score": _finite(run.verdict.score),
        "metrics": {name: _finite(value) for name, value in run.verdict.metrics},
        "text": list(run.verdict.text),
        "first_bad": first_bad(run) or None,
        "length_s": run.length_s,
        "waited_s": run.waited_s,
        "operations": len(ops),
        "windows": [
            {
                "number": window.number,
                "name": window.name,
                "family": window.family,
                "start_s": window.start_s,
                "end_s": window.end_s if window.healed else None,
                "healed_by": window.healed_by or None,
            }
            for window in found
        ],
        "latencies": [
            {
                "kind": row.kind,
                "where": row.where,
                "ok": row.ok,
                "fail": row.fail,
                "info": row.info,
                "quantiles_s": {
                    f"{share:g}": value for share, value in zip(QUANTILES, row.latencies_s, strict=False)
                },
            }
            for row in rows(ops, found)
        ],
        "recoveries": [
            {
                "window": one.window.number,
                "kind": one.kind,
                "ok": one.inside[0],
                "fail": one.inside[1],
                "info": one.inside[2],
                "recovered_s": one.after_s,
            }
            for one in recoveries(ops, found)
        ],
        "clocks": list(run.recording.clocks) if run.recording is not None else [],
        "notes": [kill_note(run)],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def gradescope(run: Run) -> dict[str, Any]:
    """Gradescope's results.json. Without a score of the client's own a pass is worth 1, all else 0.

    Of a replay its text says so first: it is not the run that is graded.
    """
    score = _finite(run.verdict.score)
    passed = run.verdict.outcome == "pass"
    output = [f"job {run.job_id}: {run.verdict.state}", *run.verdict.text]
    if run.verdict.detail:
        output.insert(1, run.verdict.detail)
    if run.replay_of:
        output.insert(0, f"{replay_note(run)}.")
    return {
        "score": float(passed) if score is None else score,
        "execution_time": math.ceil(run.length_s),
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "output_format": "text",
        "output": "\n".join(output),
        "tests": [_gradescope_test(name, outcome, told) for name, outcome, told in _cases(run)],
        "extra_data": {
            "job_id": run.job_id,
            "replay_of": run.replay_of or None,
            "first_bad": first_bad(run) or None,
            "notes": [kill_note(run)],
        },
    }


def _gradescope_test(name: str, outcome: str, told: str) -> dict[str, Any]:
    test = {"name": name, "output": told, "output_format": "text", "visibility": "visible"}
    # Gradescope knows no third word: neither is said of what nobody could tell.
    return test | ({"status": f"{outcome}ed"} if outcome in ("pass", "fail") else {})


def _cases(run: Run) -> list[tuple[str, str, str]]:
    """(name, outcome, text): one for each client, or for the job where it has none."""
    if run.verdict.clients:
        return [
            (said.task, said.outcome or "unknown", "\n".join(said.text) or _silence(said))
            for said in run.verdict.clients
        ]
    state = run.verdict.state
    outcome = {"SUCCEEDED": "pass", "FAILED": "fail", "TIMED_OUT": "fail"}.get(state, "unknown")
    return [(run.name or f"job {run.job_id}", outcome, run.verdict.detail or run.verdict.reason or state)]


def _silence(said: Said) -> str:
    """Of a client without a text: how it ended, where it never finished."""
    if said.outcome or not said.ending:
        return "finished without a text" if said.outcome else "ended without a result"
    return f"ended without a result: {said.ending}"


def junit(run: Run) -> bytes:
    """JUnit's XML: one test case for each client; what nobody could tell is an error, not a failure."""
    cases = _cases(run)
    outcomes = [outcome for _, outcome, _ in cases]
    counts = {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("fail")),
        "errors": str(len(cases) - outcomes.count("fail") - outcomes.count("pass")),
        "skipped": "0",
        "time": f"{run.length_s:.3f}",
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"job {run.job_id}", **counts})
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", {"name": "note", "value": kill_note(run)})
    if run.replay_of:
        ElementTree.SubElement(properties, "property", {"name": "replay_of", "value": str(run.replay_of)})
    for name, value in run.verdict.metrics:
        ElementTree.SubElement(properties, "property", {"name": _xml(name), "value": f"{value:.17g}"})
    for name, outcome, told in cases:
        about = {"classname": _xml(run.name or "job"), "name": _xml(name), "time": f"{run.length_s:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", about)
        if outcome != "pass":
            kind = "failure" if outcome == "fail" else "error"
            first = told.partition("\n")[0]
            found = ElementTree.SubElement(case, kind, {"type": outcome, "message": _xml(first)})
            found.text = _xml(told)
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(told)
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root) + b"\n"


def _xml(text: str) -> str:
    """Without the characters that XML cannot carry in any form."""
    return _NO_XML.sub("�", text)


def pretty(value: Any) -> bytes:
    """A JSON document for a file."""
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
