"""One line a fact about a job: where it stands, what became of it, what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo

from syndicate.cli.render import words
from syndicate.cli.render.fit import UNLIMITED, hung, laid_out
from syndicate.cli.render.neutralise import neutralise_lines, neutralise_text
from syndicate.cli.render.palette import Palette
from syndicate.cli.render.quantities import duration_text, figure_text, plural, seconds_between
from syndicate.cli.render.timeline import in_order
from syndicate.v1.common_pb2 import JobState, Outcome, Reason, Result, Stamp
from syndicate.v1.scheduler_pb2 import Job

_HAS = re.compile(r"(team )?[a-z0-9-]+ has \d")
LABEL = 11
"""Columns of the first word of a line (``job 12     ``)."""
_GOOD = (JobState.JOB_STATE_SUCCEEDED,)
_BAD = (
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_TIMED_OUT,
    JobState.JOB_STATE_LOST,
    JobState.JOB_STATE_CANCELLED,
)
# Reasons that say no more than the state does.
_SAID_BY_STATE = frozenset(
    (
        Reason.REASON_UNSPECIFIED,
        Reason.REASON_EXITED_ZERO,
        Reason.REASON_CLIENT_PASSED,
        Reason.REASON_CLIENT_FAILED,
        Reason.REASON_CLIENT_UNKNOWN,
        Reason.REASON_CANCELLED,
    )
)


def labelled(label: str, text: str) -> str:
    """A line of its own label and text, aligned with its neighbours."""
    return f"{label:<{LABEL}}{text}".rstrip()


def labelled_text(label: str, text: str, room: int) -> list[str]:
    """The same for a long text: several lines, each below the text's beginning."""
    return hung(f"{label:<{LABEL}}", text, room)


def advice(text: str, room: int) -> list[str]:
    """What to do next, below the labels."""
    return laid_out(" " * LABEL, text, room)


def state_word(job: Job, palette: Palette) -> str:
    """The job's state, in colour when it has ended."""
    word = words.job_state(job.state)
    if job.state in _GOOD:
        return palette.good(word)
    if job.state in _BAD:
        return palette.bad(word)
    return palette.odd(word) if job.state == JobState.JOB_STATE_UNKNOWN else word


def queue_text(job: Job) -> str:
    """``queued, place 2 of 3: waits for 2 of 6 slots``."""
    text = "queued"
    if job.queue_place:
        text += f", place {job.queue_place} of {max(job.queue_place, job.queue_length)}"
    if not job.waits_for:
        return text
    # Of a quota that is used up the manager tells who has how much of it.
    told = job.waits_for.startswith("its slots are") or _HAS.match(job.waits_for)
    waits = "" if told else "waits for "
    return f"{text}: {waits}{neutralise_text(job.waits_for)}"


def replay_text(job: Job) -> str:
    """``of job 12: 7 of 8 faults applied, worst offset …``; what is to come while that is not known."""
    ends = (line for line in job.story if line.event == "replay.ended" and line.attempt == job.attempt)
    told = next((neutralise_text(line.text).removeprefix("replay ") for line in ends), "")
    return told or f"of job {job.spec.replay_of}: its faults at their times"


def started_text(job: Job) -> str:
    """``reserved 6 slots, prepared, started in 19 ms``."""
    text = f"reserved {plural(len(job.tasks), 'slot')}, prepared, started"
    return f"{text} in {duration_text(job.gang_start_ns / 1e9)}" if job.gang_start_ns else text


def member_lines(job: Job, width: int) -> list[str]:
    """Who has which address on which machine, as many on a line as fit."""
    places = [
        f"{task.ref.task} {task.address} {neutralise_text(task.volunteer_id)}".strip()
        for task in in_order(job.tasks)
    ]
    indent = " " * LABEL
    lines: list[str] = []
    for place in places:
        if lines and len(lines[-1]) + 3 + len(place) <= width:
            lines[-1] += "   " + place
        else:
            lines.append(indent + place)
    return lines


def detail_lines(job: Job) -> list[str]:
    """What the manager says about the job's end, then the remedy; the first line belongs behind the state."""
    lines = [line for line in neutralise_lines(job.detail) if line.strip()]
    remedy = words.REMEDIES.get(job.reason)
    if remedy and len(lines) < 2:
        # The manager's own remedy is its detail's second sentence, and knows more than the general one.
        said, _, own = (lines[0] if lines else "").partition(". ")
        lines = [said, own or remedy]
    return lines


def end_lines(job: Job, palette: Palette, hint: str = "", room: int = UNLIMITED) -> list[str]:
    """What became of a job that has ended; for one that failed, first what can be mended."""
    head = [words.job_state(job.state)]
    if job.reason not in _SAID_BY_STATE:
        head.append(words.reason(job.reason))
    # What a client that passed had to say stands in its result.
    details = detail_lines(job) if job.state != JobState.JOB_STATE_SUCCEEDED else []
    tail = [result_text(job.result)] if job.HasField("result") else []
    if tail and words.outcome(job.result.outcome).upper() == head[0]:  # UNKNOWN needs no `unknown`
        tail = [tail[0].partition("  ")[2]]
    if job.HasField("started_at") and job.HasField("ended_at"):
        tail.append(" " + duration_text(seconds_between(job.started_at, job.ended_at)))
    if hint:
        tail.append(" " + hint)
    first = labelled(f"job {job.job_id}", "  ".join([*head, *filter(None, details[:1]), *tail]))
    if len(first) > room:
        # What happened gets lines of its own, below what is needed most.
        first = labelled(f"job {job.job_id}", "  ".join([*head, *tail]))
    else:
        details = details[1:]
    lines = [first.replace(head[0], state_word(job, palette), 1)]
    return lines + [row for line in details if line for row in labelled_text("", line.strip(), room)]


def result_text(result: Result) -> str:
    """``pass  score 0.97``; empty where the clients said nothing."""
    parts = [words.outcome(result.outcome)] if result.outcome else []
    if result.HasField("score"):
        parts.append(f"score {result.score:g}")
    return "  ".join(parts)


def result_lines(job: Job, palette: Palette, room: int = UNLIMITED) -> list[str]:
    """Outcome, score, metrics and text of a job's clients, each in full."""
    result = job.result
    outcome = words.outcome(result.outcome) or "none"
    paint = {Outcome.OUTCOME_PASS: palette.good, Outcome.OUTCOME_FAIL: palette.bad}.get(
        result.outcome, palette.odd
    )
    lines = [labelled("outcome", paint(outcome)), labelled("job", state_word(job, palette))]
    if result.HasField("score"):
        lines.append(labelled("score", f"{result.score:g}"))
    names = sorted(result.metrics)
    longest = max(map(len, names), default=0)
    for index, name in enumerate(names):
        value = f"{neutralise_text(name):<{longest}}  {figure_text(result.metrics[name])}"
        lines.append(labelled("metrics" if index == 0 else "", value))
    for index, line in enumerate(neutralise_lines(result.text)):
        lines += labelled_text("text" if index == 0 else "", line, room)
    if not job.HasField("result"):
        lines += [row for line in detail_lines(job) if line for row in labelled_text("", line.strip(), room)]
    return lines


def time_of_day(stamp: Stamp, zone: tzinfo | None) -> str:
    """``14:02:11`` in a time zone; None stands for this machine's."""
    return datetime.fromtimestamp(stamp.utc_ns / 1e9, UTC).astimezone(zone).strftime("%H:%M:%S")
