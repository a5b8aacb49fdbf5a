"""``show``: everything about one job on one page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import tzinfo

from syndicate.cli.render import words
from syndicate.cli.render.fault_words import failed_word, fault_word
from syndicate.cli.render.faults import (
    applied_text,
    cut_peers,
    fault_text,
    told_members,
    without_repeats,
)
from syndicate.cli.render.fit import UNLIMITED, hung
from syndicate.cli.render.job_lines import (
    LABEL,
    detail_lines,
    labelled_text,
    member_lines,
    queue_text,
    replay_text,
    result_lines,
    state_word,
    time_of_day,
)
from syndicate.cli.render.lanes import UNICODE_GLYPHS, Glyphs, draw_lanes
from syndicate.cli.render.limits import limits_text
from syndicate.cli.render.neutralise import neutralise_lines, neutralise_text
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.quantities import duration_text, seconds_between
from syndicate.cli.render.timeline import fault_time, job_start, timeline
from syndicate.client_api import job_has_ended
from syndicate.v1.common_pb2 import Fault, FaultKind, JobState, Stamp
from syndicate.v1.scheduler_pb2 import Job, StoryLine

_LATE_S = 0.1
_MOST_ROWS = 1000
"""Of a story; beyond that its middle is left out."""

Row = tuple[float, str, str]
"""Seconds since the job's start, whom it is about, what happened."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page is drawn for."""

    width: int = 80
    """Columns that are drawn for."""
    room: int = UNLIMITED
    """Columns that text is broken for."""
    glyphs: Glyphs = UNICODE_GLYPHS
    palette: Palette = PLAIN
    zone: tzinfo | None = None
    """For times of day; None is this machine's zone."""


def show_job(job: Job, now: Stamp, page: Page) -> list[str]:
    """The headline, why it failed or what it waits for, its time line, its result, its story."""
    lines = _headline(job, now, page)
    if job.state == JobState.JOB_STATE_QUEUED:
        lines += labelled_text("", queue_text(job), page.room)
    lines += _why(job, page)
    if job.published:
        lines += labelled_text("published", "every user sees it, with its clients' output", page.room)
    if job.spec.replay_of:
        lines += labelled_text("replay", replay_text(job), page.room)
    drawn = timeline(job, now)
    if drawn is not None and drawn.lanes:
        lines += draw_lanes(drawn, page.width, page.glyphs)
        lines += ["", "members", *member_lines(job, page.width)]
    if job.HasField("result"):
        lines += ["", *result_lines(job, page.palette, page.room)]
    if job.spec.HasField("limits"):
        lines += ["", *labelled_text("limits", f"of each task: {limits_text(job.spec.limits)}", page.room)]
    if job.spec.lose_unsynced:
        lines += ["", *labelled_text("kills", "are losses of power: what was not synced is gone", page.room)]
    if job.spec.keep_disks:
        lines += ["", *labelled_text("disks", _disks_text(job), page.room)]
    story = story_lines(job, page.room)
    if story:
        lines += ["", "story", *story]
    return lines


def _disks_text(job: Job) -> str:
    if not job_has_ended(job.state):
        return "kept of each task when the job ends"
    if not job.HasField("reserved_at"):
        return "the job never ran: there are none"
    return f"with the manager:  syndicatectl fetch {job.job_id} DIR --disk"


def story_lines(job: Job, room: int = UNLIMITED) -> list[str]:
    """Every step of a job in order: seconds since its start, whom it is about, what happened."""
    zero = job_start(job) or job.submitted_at
    rows: list[Row] = []
    effects = _effects(job)
    for line, stamp in zip(job.story, _times(job), strict=True):
        if line.event.startswith("fault."):
            continue  # the ledger knows more about them
        if _is_effect(line, effects):
            continue
        attempt = f" (attempt {line.attempt})" if line.attempt and line.attempt != job.attempt else ""
        texts = neutralise_lines(_text_of(job, line)) or [_words_of(line.event)]
        who = neutralise_text(line.task) or "job"
        at = seconds_between(zero, stamp)
        rows.append((at, who, texts[0] + attempt))
        rows += [(at, "", text.strip()) for text in texts[1:] if text.strip()]
    rows += [
        row for fault in without_repeats(job.faults) if (row := _fault_row(job, fault, zero)) is not None
    ]
    rows.sort(key=lambda row: row[0])  # stable: what has one time keeps its order
    half, left_out = _MOST_ROWS // 2, len(rows) - _MOST_ROWS
    if left_out <= 0:
        return _drawn(rows, rows, room)
    told = f"... {left_out:,} lines are left out here; --json has all"
    first, last = rows[:half], rows[-half:]
    return [*_drawn(first, first + last, room), *hung("  ", told, room), *_drawn(last, first + last, room)]


def _drawn(rows: list[Row], beside: list[Row], room: int) -> list[str]:
    """Rows as lines, in columns that are wide enough for those `beside` them too."""
    label = max([LABEL, *(len(who) + 2 for _, who, _ in beside)])
    return [
        line
        for seconds, who, text in rows
        for line in hung(f"{round(seconds, 3) + 0.0:>9.3f} s   {who:<{label}}", text, room)
    ]


def _times(job: Job) -> list[Stamp]:
    """When each line of the story happened: for the most part when it was told.

    A start or an end that was told late, because its machine was away, stands where its run has it. Where it
    was told at once the telling is better: it cannot come before its cause, an estimate of another clock can.
    """
    runs = {task.ref.task: list(task.runs) for task in job.tasks}
    latest: Counter[str] = Counter()
    times = []
    for line in job.story:
        stamp = line.at
        started, ended = line.event == "task.started", line.event in ("task.exited", "task.killed")
        if (started or ended) and line.attempt == job.attempt:
            latest[line.task] += started
            known = runs.get(line.task, [])[: latest[line.task]]
            if known and known[-1].HasField("started_at" if started else "ended_at"):
                happened = known[-1].started_at if started else known[-1].ended_at
                if seconds_between(happened, line.at) > _LATE_S:
                    stamp = happened
        times.append(stamp)
    return times


def _effects(job: Job) -> Counter[tuple[str, str]]:
    """How many events each task's applied faults stand for: ends by a kill, starts of a generation."""
    held = [fault for fault in job.faults if fault_time(fault) is not None]
    effects: Counter[tuple[str, str]] = Counter()
    for fault in held:
        if fault.kind == FaultKind.FAULT_KIND_KILL:
            effects[fault.task, "task.killed"] += 1
        elif fault.kind == FaultKind.FAULT_KIND_REVIVE and fault.generation > 1:
            effects[fault.task, f"again, generation {fault.generation}"] = 1
    return effects


def _is_effect(line: StoryLine, effects: Counter[tuple[str, str]]) -> bool:
    """Whether a fault's own line says it already; takes it off what is to come."""
    what = line.event
    if what == "task.started":
        what = "again," + line.text.rpartition(" again,")[2]
    if not effects[line.task, what]:
        return False
    effects[line.task, what] -= 1
    return True


def _text_of(job: Job, line: StoryLine) -> str:
    """A line's text; the job's last one without the detail that the line of its stopping has."""
    tail = f": {job.detail}"
    if line.event == "job.ended" and job.detail:
        stopping = (other for other in job.story if other.event == "job.stopping")
        if any(other.attempt == line.attempt and other.text.endswith(tail) for other in stopping):
            return line.text.removesuffix(tail)
    return line.text


def _headline(job: Job, now: Stamp, page: Page) -> list[str]:
    outcome = words.outcome(job.result.outcome) if job.HasField("result") else ""
    state = words.job_state(job.state) + (f" ({outcome})" if outcome else "")
    facts = [f"submitted {time_of_day(job.submitted_at, page.zone)}"]
    start = job_start(job)
    if start is not None:
        facts.append(f"waited {duration_text(max(0.0, seconds_between(job.submitted_at, start)))}")
        end = job.ended_at if job.HasField("ended_at") else now
        ran = duration_text(max(0.0, seconds_between(start, end)))
        facts.append(f"{'ran' if job.HasField('ended_at') else 'runs for'} {ran}")
    elif not job.HasField("ended_at"):
        facts.append(f"waits for {duration_text(max(0.0, seconds_between(job.submitted_at, now)))}")
    facts.append(f"attempt {job.attempt}")
    name, owner = neutralise_text(job.spec.name), neutralise_text(job.owner)
    prefix, who = f"job {job.job_id}  ", f"{name}  {owner}  {state}"
    lines = [f"{prefix}{who}   {', '.join(facts)}"]
    if len(lines[0]) > page.room:
        lines = [*hung(prefix, who, page.room), *labelled_text("", ", ".join(facts), page.room)]
    word = words.job_state(job.state)
    return [line.replace(word, state_word(job, page.palette), 1) for line in lines]


def _why(job: Job, page: Page) -> list[str]:
    if job.state in (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_SUCCEEDED):
        return []
    details = detail_lines(job)
    reason = words.reason(job.reason)
    if not details and not reason:
        return []
    first = "  ".join(part for part in (reason, details[0] if details else "") if part)
    lines = labelled_text("reason", first, page.room)
    if reason:
        lines[0] = lines[0].replace(reason, page.palette.bad(reason), 1)
    return lines + [row for line in details[1:] for row in labelled_text("", line.strip(), page.room)]


def _fault_row(job: Job, fault: Fault, zero: Stamp) -> tuple[float, str, str] | None:
    by = f"by {neutralise_text(fault.requested_by)}" if fault.requested_by else ""
    text = fault_word(fault) + fault_text(fault, cut_peers(job, fault.task))
    whom = "job" if fault.kind == FaultKind.FAULT_KIND_PARTITION else fault.task
    if len(members := told_members(job, fault)) > 1:
        whom, text = "job", f"{fault_word(fault)} {', '.join(members)}"
    asked = seconds_between(zero, fault.requested_at)
    if fault.error:
        why = neutralise_text(fault.error)
        return asked, fault.task, f"could not be {failed_word(fault)}  {by}: {why}"
    at = fault_time(fault)
    if at is None:
        return asked, fault.task, f"to be {failed_word(fault)}  {by}, not applied yet"
    when = seconds_between(zero, at)
    error = fault.applied_error_ns / 1e9
    bound = f" (at ± {duration_text(error)})" if error else ""
    took = applied_text(fault) or "applied"
    return when, whom, f"{text}  {by}, {took}{bound}"


def _words_of(event: str) -> str:
    return neutralise_text(event.rpartition(".")[2].replace("_", " "))
