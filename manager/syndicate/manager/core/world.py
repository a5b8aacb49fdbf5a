"""Everything that the machine knows, and the step that the event at hand makes of it.

The modules of the core are functions over one `World`. A record that changes several times in one step is
saved once, as it is at the end; what a job's change leads to next is settled after the event (`touch`), so
that no handler depends on the order in which others see things.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from .access import Origin
from .bucket import Bucket
from .clock import on_manager_clock
from .effects import Answer, Changed, Effect, Reply, Step
from .errors import BadRequest, CoreError, InvariantError, NotFound
from .model import Config, JobState, Source, Stamp, TaskRef
from .pool import Pool
from .queue import Queue
from .records import (
    AuditRecord,
    EpochRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    PlanRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)
from .snapshot import Running
from .state import Asked, LiveJob, LiveTask, Node, Replay, Slot, key_of
from .timers import Timers
from .transitions import ACTIVE_JOB_STATES, JobCause, TaskCause, job_after, task_after
from .views import Wait

# Request ids of ended jobs that are remembered, so that a repeated Submit gets its first answer; those of
# live jobs always are.
REMEMBERED_SUBMITS = 100_000
# The same of CancelJob, DrainNode and their like, while the manager runs.
REMEMBERED_ANSWERS = 10_000
# Epochs count starts: a higher one than this is a mistake of whoever says it.
HIGHEST_EPOCH = 1 << 53
# Lines of submissions are written within so long, so many together at most.
AUDIT_WITHIN_NS = 100_000_000
AUDIT_AT_ONCE = 1000
# A time that no clock reaches.
NEVER = 1 << 61


def nanoseconds(seconds: float) -> int:
    """Seconds in nanoseconds; NEVER for infinity."""
    return int(min(seconds * 1e9, float(NEVER)))


@dataclass(slots=True)
class Looks:
    """What readers found between two steps, so that a page of jobs looks at the cluster once."""

    running: list[Running] | None = None
    waits: dict[int, Wait] = field(default_factory=dict)


class World:
    """The state of the machine."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.set_clock(Stamp(config.boot_id, 0, 0))
        self.jobs: dict[int, LiveJob] = {}
        self.active: dict[int, LiveJob] = {}
        # Jobs that have ended and are kept, oldest first; those of them that are whole, with what they weigh.
        self.ended: deque[int] = deque()
        self.whole: deque[tuple[int, int]] = deque()
        self.whole_bytes = 0
        # Job and owner of each request id that is remembered, and those among them whose jobs have ended.
        self.submits: dict[str, tuple[int, str]] = {}
        self.old_submits: deque[str] = deque()
        # What CancelJob, DrainNode and their like were asked and have answered, by request id.
        self.answers: dict[str, tuple[tuple[object, ...], Answer]] = {}
        self.users: dict[str, UserRecord] = {}
        self.teams: dict[str, TeamRecord] = {}
        self.tokens: dict[str, TokenRecord] = {}
        # What was submitted of late, by party (`quota.Party.key`).
        self.submissions: dict[str, Bucket] = {}
        self.audit_lines = 0
        # Submissions whose lines are not written yet; their jobs' rows have what is in them.
        self.audit_due: list[tuple[int, Stamp, tuple[str, str, str]]] = []
        self.nodes: dict[str, Node] = {}
        self.sessions: dict[str, str] = {}
        # Faults that are under way: by the calls that wait for them, and by number.
        self.calls: dict[int, Asked] = {}
        self.asked: dict[int, Asked] = {}
        # Calls that stand for planned ones of replays: job and number.
        self.stands: dict[int, tuple[int, int]] = {}
        self.pool = Pool()
        self.queue = Queue()
        self.timers = Timers()
        self.warm: tuple[Source, ...] = (config.default_client,) if config.default_client else ()
        self.next_job_id = 1
        self.commands_made = 0
        self.asked_made = 0
        self.capacity_known = False
        self.capacity: dict[str, tuple[int, int]] = {}
        # What placement has to look at: everything, or only jobs that were submitted since it last did.
        self.plan_all = False
        self.plan_new: list[int] = []
        self.touched: dict[int, None] = {}
        self.looks = Looks()
        self.highest_epoch = config.epoch
        self._unsaved: dict[tuple[object, ...], Record] = {}
        self._effects: list[Effect] = []
        self._changed: dict[int, None] = {}

    # ---- the step ------------------------------------------------------------------------------------------

    def set_clock(self, now: Stamp) -> None:
        """It is `now`, and on the manager's monotonic clock `ns`, until this is called again."""
        self.now: Stamp = now
        self.ns: int = now.monotonic_ns

    def take_step(self) -> Step:
        """What has come together since the last step."""
        effects = self._effects
        effects += [Changed(job_id) for job_id in self._changed]
        step = Step(list(self._unsaved.values()), effects)
        self._unsaved, self._effects, self._changed = {}, [], {}
        self.looks = Looks()
        return step

    def emit(self, effect: Effect) -> None:
        """The effect goes out with this step."""
        self._effects.append(effect)

    def reply(self, call: int, value: Answer | CoreError, before_commit: bool = False) -> None:
        """An RPC gets its answer with this step."""
        self._effects.append(Reply(call, value, before_commit))

    def first_answer(self, request_id: str, question: tuple[object, ...]) -> Answer | None:
        """What the request was answered first; None where it was not. Raises BadRequest (BAD_FIELD)."""
        first = self.answers.get(request_id)
        if first is not None and first[0] != question:
            raise BadRequest("BAD_FIELD", "request_id was used for another call", field="request_id")
        return None if first is None else first[1]

    def remember_answer(self, request_id: str, question: tuple[object, ...], answer: Answer) -> None:
        """A repeat of the request gets this answer, until enough others were answered."""
        if request_id:
            self.answers[request_id] = question, answer
        if len(self.answers) > REMEMBERED_ANSWERS:
            del self.answers[next(iter(self.answers))]

    def touch(self, job: LiveJob) -> None:
        """The job has changed: tell watchers, and see what follows from it once the event is handled."""
        self.touched[job.record.job_id] = None
        self._changed[job.record.job_id] = None

    # ---- records -------------------------------------------------------------------------------------------

    def save_job(self, job: LiveJob, record: JobRecord) -> None:
        """The job's row is this from now on."""
        job.record = record
        self._unsaved["job", record.job_id] = record
        self._changed[record.job_id] = None

    def move_job(self, job: LiveJob, cause: JobCause, **changes: object) -> None:
        """The job takes the cause; further fields of its row change with it."""
        state = job_after(job.record.state, cause)
        if state in ACTIVE_JOB_STATES:
            self.active[job.record.job_id] = job
        else:
            self.active.pop(job.record.job_id, None)
        self.save_job(job, replace(job.record, state=state, **changes))  # type: ignore[arg-type]  # fields by name

    def save_task(self, job: LiveJob, task: LiveTask, record: TaskRecord) -> None:
        """The task's row is this from now on. A mere reservation is kept in memory: it lapses by itself."""
        task.record = record
        self._changed[record.job_id] = None
        if job.record.state is not JobState.RESERVING:
            self._unsaved["task", record.job_id, record.attempt, record.task] = record

    def move_task(self, job: LiveJob, task: LiveTask, cause: TaskCause, **changes: object) -> None:
        """The task takes the cause; further fields of its row change with it."""
        state = task_after(task.record.state, cause)
        self.save_task(job, task, replace(task.record, state=state, **changes))  # type: ignore[arg-type]  # as above

    def save_run(self, task: LiveTask, run: RunRecord) -> None:
        """The row of one generation is this from now on."""
        task.runs[run.generation] = run
        self._unsaved["run", run.job_id, run.attempt, run.task, run.generation] = run

    def save_fault(self, job: LiveJob, fault: FaultRecord) -> None:
        """The ledger's line is this from now on."""
        job.faults[fault.fault_id] = fault
        self._unsaved["fault", fault.job_id, fault.fault_id] = fault
        self._changed[fault.job_id] = None

    def save_plan(self, replay: Replay, planned: PlanRecord) -> None:
        """The row of a call that a replay makes is this from now on."""
        replay.plan[planned.number] = planned
        self._unsaved["plan", planned.job_id, planned.number] = planned

    def save_story(self, job: LiveJob, line: StoryRecord) -> None:
        """The story has one more line."""
        if not job.whole:
            raise InvariantError(f"job {line.job_id} has ended, and its story was let go: {line}")
        job.story.append(line)
        self._unsaved["story", line.job_id, line.sequence] = line

    def save_epoch(self, epoch: int) -> None:
        """The next manager takes a higher epoch; what no number of starts can reach means nothing."""
        if self.highest_epoch < epoch <= HIGHEST_EPOCH:
            self.highest_epoch = epoch
            self._unsaved["epoch",] = EpochRecord(epoch)

    def save_node(self, node: Node, record: NodeRecord) -> None:
        """The volunteer's row is this from now on."""
        node.record = record
        self._unsaved["node", record.volunteer_id] = record
        self.capacity_known = False

    def save_stored(self, record: JobRecord) -> None:
        """The row of a job that has ended is this from now on; memory may have less of it."""
        self._unsaved["job", record.job_id] = record

    def save_user(self, user: UserRecord) -> None:
        """The user is this from now on."""
        self.users[user.name] = user
        self._unsaved["user", user.name] = user

    def save_team(self, team: TeamRecord) -> None:
        """The team is this from now on."""
        self.teams[team.name] = team
        self._unsaved["team", team.name] = team

    def save_token(self, token: TokenRecord) -> None:
        """The token is this from now on; gone where it is to be forgotten."""
        self.tokens[token.token_id] = token
        if token.forgotten:
            del self.tokens[token.token_id]
        self._unsaved["token", token.token_id] = token

    def audit(self, origin: Origin | None, method: str, subject: str, job_id: int = 0) -> None:
        """The audit log has a line: somebody changed something. Nothing where it is nobody's call."""
        if origin is not None:
            caller = origin.caller
            self.save_audit(caller.name, caller.token_id, origin.peer, method, subject, True, job_id=job_id)

    def audit_submit(self, record: JobRecord) -> None:
        """The audit log has a line of a submission soon: many together are cheaper by far.

        A crash before takes none away: the next start finds them in the rows of their jobs.
        """
        if record.submitter is None:
            return
        if not self.audit_due:
            self.timers.set(("audit",), self.ns + AUDIT_WITHIN_NS)
        self.audit_due.append((record.job_id, record.submitted_at, record.submitter))
        if len(self.audit_due) >= AUDIT_AT_ONCE:
            self.write_audit()

    def write_audit(self) -> None:
        """Writes the lines that are due."""
        due, self.audit_due = self.audit_due, []
        self.timers.cancel(("audit",))
        for job_id, at, (who, token_id, peer) in due:
            self._line(at, who, token_id, peer, "Submit", f"job {job_id}", True, "", job_id)

    def save_audit(
        self,
        who: str,
        token_id: str,
        peer: str,
        method: str,
        subject: str,
        allowed: bool,
        reason: str = "",
        job_id: int = 0,
    ) -> None:
        """The audit log has one more line, behind those that are due."""
        self.write_audit()
        self._line(self.now, who, token_id, peer, method, subject, allowed, reason, job_id)

    def _line(self, at: Stamp, *rest: Any) -> None:
        self.audit_lines = line = self.audit_lines + 1
        self._unsaved["audit", line] = AuditRecord(line, at, *rest)

    # ---- looking up ----------------------------------------------------------------------------------------

    def job(self, job_id: int) -> LiveJob:
        """A job that is in memory. Raises NotFound."""
        job = self.jobs.get(job_id)
        if job is None:
            raise NotFound("NO_SUCH_JOB", f"there is no job {job_id}")
        return job

    def find(self, ref: TaskRef) -> tuple[LiveJob, LiveTask] | None:
        """The live task of a ref, in its job's current attempt."""
        job = self.jobs.get(ref.job_id)
        if job is None or job.record.attempt != ref.attempt or ref.cluster_id != self.config.cluster_id:
            return None
        task = job.tasks.get(ref.task)
        return None if task is None else (job, task)

    def ref(self, task: LiveTask, generation: int | None = None) -> TaskRef:
        """The ref of a task, of its latest generation or of the one named."""
        record = task.record
        number = record.generation if generation is None else generation
        return TaskRef(self.config.cluster_id, record.job_id, record.attempt, record.task, number)

    def node_of_session(self, session: str) -> Node | None:
        """The volunteer that speaks through a stream; None where the stream was replaced or has ended."""
        volunteer_id = self.sessions.get(session)
        return None if volunteer_id is None else self.nodes[volunteer_id]

    def node_of(self, task: LiveTask) -> Node:
        """The volunteer that the task is placed on."""
        return self.nodes[task.record.volunteer_id]

    def barred(self, node: Node) -> bool:
        """Whether its isolation of tasks lacks something, and this manager does not allow that."""
        return bool(node.record.unsafe) and not self.config.allow_unsafe

    def usable(self, node: Node) -> bool:
        """Whether jobs may be placed on it now."""
        return node.session is not None and not node.record.drained and not self.barred(node)

    def holds(self, task: LiveTask) -> bool:
        """Whether the task's slot is still locked for it."""
        node = self.nodes.get(task.record.volunteer_id)  # None where the job has ended, and it was forgotten
        slot = None if node is None else node.slots.get(task.record.slot)
        return slot is not None and slot.ref is not None and key_of(slot.ref) == key_of(self.ref(task))

    def when(self, stamp: Stamp) -> int:
        """A manager's stamp on its monotonic clock of now; by the calendar where it is of another boot."""
        if stamp.boot_id == self.now.boot_id:
            return stamp.monotonic_ns
        return self.ns - max(self.now.utc_ns - stamp.utc_ns, 0)

    def on_clock(self, node: Node, stamp: Stamp | None, since_ns: int | None = None) -> tuple[Stamp, int]:
        """A volunteer's stamp on the manager's clock ± nanoseconds; see `clock.on_manager_clock`."""
        return on_manager_clock(stamp, node.clock, self.now, since_ns)

    # ---- slots ---------------------------------------------------------------------------------------------

    def lock(self, node: Node, slot: Slot, ref: TaskRef) -> None:
        """The slot is the task's."""
        if slot.ref is not None:
            raise InvariantError(f"slot {slot.number} of {node.record.volunteer_id} has {slot.ref} already")
        slot.ref = ref
        self.refresh(node, slot)

    def unlock(self, node: Node, slot: Slot) -> None:
        """The slot is nobody's."""
        slot.ref = None
        self.refresh(node, slot)

    def refresh(self, node: Node, slot: Slot) -> None:
        """Brings the pool up to date with one slot."""
        where = (node.record.reach_domain, node.record.volunteer_id, slot.number)
        if self.usable(node) and slot.offered and slot.ref is None and slot.back_at_ns <= self.ns:
            if self.pool.put(*where):
                self.plan_all = True
        else:
            self.pool.take(*where)
