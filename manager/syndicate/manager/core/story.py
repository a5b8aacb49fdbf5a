"""A job's story: one line for each step, a constant word for programs and a sentence for people.

The line `job.queued` is not written: it follows from the job's row, and whoever shows a story begins with
`queued_line`. The faults have a ledger of their own and are not repeated here.
"""

from __future__ import annotations

from .records import JobRecord, StoryRecord
from .state import LiveJob
from .words import count, duration
from .world import World


def tell(world: World, job: LiveJob, event: str, text: str, task: str = "") -> None:
    """Writes the next line of the job's story."""
    record = job.record
    sequence = job.story[-1].sequence + 1 if job.story else 1
    world.save_story(job, StoryRecord(record.job_id, sequence, record.attempt, world.now, task, event, text))


def tell_once(world: World, job: LiveJob, event: str, text: str) -> None:
    """As `tell`, unless the last line has that word: a job may be refused for hours, by slot after slot."""
    if not job.story or job.story[-1].event != event:
        tell(world, job, event, text)


def queued_line(job: JobRecord) -> StoryRecord:
    """The line that opens every story, made from the job's row; its sequence is 0."""
    spec = job.spec
    needs = count(spec.machines, "machine")
    if spec.clients:
        needs += f" and {count(spec.clients, 'client')}"
    text = f"submitted by {job.owner or 'nobody'}: {needs}"
    if spec.replay_of:
        text += f", a replay of job {spec.replay_of}"
    return StoryRecord(job.job_id, 0, 1, job.submitted_at, "", "job.queued", text)


def retell(job: LiveJob) -> str:
    """The whole story as text, one line each, for a crash message or a failing test."""
    record = job.record
    lines = [
        f"job {record.job_id} {record.spec.name} {record.state.name}"
        + (f" → {record.verdict.name}" if record.verdict is not None else "")
        + f", attempt {record.attempt}, {record.reason.name} {record.detail}".rstrip()
    ]
    start = record.submitted_at
    for line in [queued_line(record), *job.story]:
        same_boot = line.at.boot_id == start.boot_id
        passed = line.at.monotonic_ns - start.monotonic_ns if same_boot else line.at.utc_ns - start.utc_ns
        lines.append(
            f"  {'+' + duration(max(passed, 0)):>12}  {line.attempt}  {line.event:<17} "
            f"{line.task:<9} {line.text}"
        )
    lines += [
        f"  {task.record.task:<9} {task.record.state.name} generation {task.record.generation} on "
        f"{task.record.volunteer_id}/{task.record.slot} {task.record.address}"
        for task in job.tasks.values()
    ]
    lines += [
        f"  fault {fault.fault_id} {fault.kind.name} {fault.task} by {fault.requested_by}: "
        + ("failed: " + fault.error if fault.error else "applied" if fault.applied_at else "under way")
        for fault in job.faults.values()
    ]
    return "\n".join(lines)
