"""Makes the page: one file that needs nothing else. Imported only when a page is made."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.embed.util import standalone_docs_json_and_render_items
from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from syndicate.cli.render.quantities import duration_text
from syndicate.cli.report.canvas import Drawn
from syndicate.cli.report.documents import first_bad, kill_note, replay_note
from syndicate.cli.report.draw import draw
from syndicate.cli.report.run import Run
from syndicate.cli.report.tables import tables
from syndicate.cli.report.windows import windows


def page(run: Run) -> str:
    """The whole report as HTML. It loads nothing, and its policy forbids it to."""
    found = windows(run)
    drawn = draw(run, found)
    library = Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0]
    script = _text("page.js")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        _text("page.html")
    )
    return template.render(
        run=run,
        title=f"Job {run.job_id} {run.name}".strip(),
        facts=_facts(run),
        verdict_class=run.verdict.outcome or ("" if not run.ended else "unknown"),
        verdict_word=_word(run),
        verdict_rest=_rest(run),
        first_bad=first_bad(run),
        first_bad_at=_first_bad_at(run),
        figures=drawn,
        tables=tables(run, found),
        notes=_notes(run),
        data=in_script(_figures_data(drawn)),
        library=library,
        script=script,
        policy=_policy(library, script),
    )


def in_script(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or begins another."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figures_data(drawn: list[Drawn]) -> dict[str, Any]:
    if not drawn:
        return {"documents": {}, "items": [], "figures": []}
    document = Document()
    for one in drawn:
        document.add_root(one.figure)
    documents, (item,) = standalone_docs_json_and_render_items(document)
    roots = {one.figure.id: f"figure-{one.name}" for one in drawn}
    items = [{"docid": item.docid, "roots": roots, "root_ids": list(roots)}]
    return {"documents": documents, "items": items, "figures": [one.figure.name for one in drawn]}


def _policy(*scripts: str) -> str:
    """Only these scripts run; nothing is loaded from anywhere, nothing is sent."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _text(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _facts(run: Run) -> str:
    facts = [run.owner + (f" (team {run.team})" if run.team else ""), f"submitted {run.submitted}"]
    facts.append(f"waited {duration_text(run.waited_s)}")
    facts.append(
        f"ran {duration_text(run.length_s)}" if run.ended else f"runs for {duration_text(run.length_s)}"
    )
    facts.append(f"attempt {run.attempt}")
    if run.replay_of:
        facts.append(f"a replay of job {run.replay_of}")
    if run.recording is not None:
        facts.append(f"{len(run.recording.operations):,} operations")
    return ", ".join(fact for fact in facts if fact)


def _word(run: Run) -> str:
    return run.verdict.outcome or run.verdict.state.lower().replace("_", " ")


def _rest(run: Run) -> str:
    parts = [run.verdict.state] if run.verdict.outcome else []
    if run.verdict.reason:
        parts.append(run.verdict.reason)
    if run.verdict.score is not None:
        parts.append(f"score {run.verdict.score:g}")
    return ", ".join(parts)


def _first_bad_at(run: Run) -> str:
    """When the pictures show it: the verdict counts from the history's first operation."""
    ops = (
        [run.recording.operations[place] for place in run.recording.bad] if run.recording is not None else []
    )
    ended = [op for op in ops if op.end_s is not None]
    return f"{max(ended, key=lambda op: op.end_s or 0.0).begin_s:.3f} s" if ended else ""


def _notes(run: Run) -> list[str]:
    notes = [f"{replay_note(run)}."] if run.replay_of else []
    notes.append(kill_note(run))
    if run.recording is not None:
        notes += [f"Clock of {line}." for line in run.recording.clocks]
    errors = [fault.error_s for fault in run.faults if fault.applied_s is not None]
    if errors:
        notes.append(
            f"Faults are placed to within ± {max(errors) * 1e3:.1f} ms, by the measured bounds of the clocks."
        )
    return notes
