"""Random worlds: volunteers that come and go, a manager that dies, clients that break things.

Whatever happens: the machine's invariants hold after every event, no generation is started twice, no two
attempts of a job run at the same time, no call is answered twice; and once the world is kind, every job ends
and every slot is free again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from manager_core.harness import Cluster, Held, Volunteer, key_of
from manager_core.ledger_checks import check_faults
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.model import (
    AnswerCode,
    Degradation,
    JobState,
    Outcome,
    Reason,
    Result,
    Role,
    TaskExit,
    TaskRef,
    TaskState,
)
from syndicate.manager.core.transitions import TERMINAL_JOB_STATES

NAMES = ("node-a", "node-b", "node-c")
EXITS = st.sampled_from(
    [Reason.EXITED_ZERO, Reason.EXITED_NONZERO, Reason.SIGNALED, Reason.NO_TARGET, Reason.INFRASTRUCTURE]
)
CODES = st.sampled_from([AnswerCode.BUSY, AnswerCode.FAILED, AnswerCode.BAD_SOURCE, AnswerCode.STALE])
KINDS = ("Reserve", "Prepare", "Start", "Kill", "Revive", "SetNetwork", "SetTask", "Signal", "Release")
FAULTS = (
    *("kill", "revive", "disconnect", "reconnect", "reset", "degrade", "pause", "resume", "disk_full"),
    *("signal", "partition", "heal"),
)
LASTING = {"disconnect", "reset", "degrade", "pause", "disk_full", "partition"}
LEASES = (None, None, 0.05, 5.0, 20.0)
WORSE = (
    Degradation(loss_percent=10.0),
    Degradation(delay_ms=50.0, jitter_ms=5.0),
    Degradation(rate_bps=10**6),
)
names = st.sampled_from(NAMES)
picks = st.integers(0, 999)


class Worlds(RuleBasedStateMachine):
    """One manager, three volunteers, four owners."""

    rough = False

    @initialize(
        slots=st.tuples(*[st.integers(1, 3)] * 3),
        domains=st.tuples(*[st.sampled_from("xxy")] * 3),
        rough=st.booleans(),
    )
    def begin(self, slots: tuple[int, ...], domains: tuple[str, ...], rough: bool) -> None:
        """The volunteers attach. In a rough world machines die and lie, else clients break things."""
        self.rough = rough
        self.cluster = Cluster(stop_timeout_s=20.0)
        for name, number, domain in zip(NAMES, slots, domains, strict=True):
            volunteer = self.cluster.volunteer(name, number, domain=domain)
            volunteer.lease_s = self.cluster.config.orphan_after_s
        self.count = 0

    # ---- users -----------------------------------------------------------------------------------------

    @rule(
        machines=st.integers(1, 3),
        clients=st.sampled_from([0, 1, 1, 2]),
        owner=st.sampled_from("abcd"),
        limit=st.sampled_from([20.0, 120.0, 600.0]),
        quiet=st.integers(0, 3),
    )
    def submit(self, machines: int, clients: int, owner: str, limit: float, quiet: int) -> None:
        """Somebody submits; too large a job is refused. Mostly nothing comes between until it runs."""
        self.count += 1
        self.cluster.try_submit(
            machines, clients, owner=owner, time_limit_s=limit, request_id=f"r{self.count}"
        )
        if quiet:
            self.cluster.deliver()

    @rule(index=st.integers(0, 20))
    def cancel(self, index: int) -> None:
        """Somebody cancels a job, known or not."""
        self.cluster.call(lambda n: ev.CancelJob(n, "", index, "staff"))

    @precondition(lambda self: self.rough)
    @rule(name=names, draining=st.booleans())
    def drain(self, name: str, draining: bool) -> None:
        """Staff drains a volunteer, or resumes it."""
        self.cluster.call(lambda n: ev.DrainNode(n, "", name, draining))

    # ---- the net ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.cluster.inbox)
    @rule(number=st.integers(1, 6))
    def deliver_some(self, number: int) -> None:
        """Some commands arrive."""
        for _ in range(min(number, len(self.cluster.inbox))):
            self.cluster.deliver_one()

    @rule()
    def deliver_all(self) -> None:
        """Everything arrives."""
        self.cluster.deliver()

    @rule(name=names)
    def stream_ends(self, name: str) -> None:
        """A stream ends, and the manager sees it."""
        volunteer = self.cluster.volunteers[name]
        if volunteer.session:
            self.cluster.detach(volunteer)

    @precondition(lambda self: self.rough)
    @rule(name=names)
    def stream_dies(self, name: str) -> None:
        """A stream dies, and the manager does not see it."""
        self.cluster.volunteers[name].session = ""

    @rule(name=names)
    def attach(self, name: str) -> None:
        """A volunteer attaches, also while it is attached."""
        self.cluster.attach(self.cluster.volunteers[name])

    # ---- volunteers ------------------------------------------------------------------------------------

    @precondition(lambda self: self.rough)
    @rule(name=names)
    def reboot(self, name: str) -> None:
        """A machine is rebooted; it attaches later."""
        self.cluster.volunteers[name].reboot()

    @precondition(lambda self: self.rough)
    @rule(name=names, kind=st.sampled_from(["", "", *KINDS]))
    def mute(self, name: str, kind: str) -> None:
        """A volunteer's answers to one kind of command are lost from now on, or to none."""
        self.cluster.volunteers[name].mute = {kind}

    @precondition(lambda self: self.rough)
    @rule(name=names, code=CODES, kind=st.sampled_from(KINDS), times=st.integers(1, 3))
    def refuse(self, name: str, code: AnswerCode, kind: str, times: int) -> None:
        """A volunteer refuses the next few commands of one kind."""
        left = [None] * times

        def refuse(command: fx.Command) -> tuple[AnswerCode, str] | None:
            if type(command.action).__name__ != kind or not left:
                return None
            left.pop()
            # A volunteer does not say that it holds nothing while it does.
            return AnswerCode.FAILED if kind == "Release" else code, "no"

        self.cluster.volunteers[name].refuse = refuse

    @precondition(lambda self: self.rough)
    @rule(name=names)
    def another_manager(self, name: str) -> None:
        """Another cluster takes a free slot, or gives it back."""
        volunteer = self.cluster.volunteers[name]
        other = volunteer.held.get(0)
        if other is None:
            ref = TaskRef("other", 1, 1, "master", 1)
            volunteer.held[0] = Held(ref, TaskState.RUNNING, "192.0.2.1")
        elif other.ref.cluster_id == "other":
            del volunteer.held[0]

    @rule(pick=picks, reason=EXITS, told=st.booleans())
    def task_ends(self, pick: int, reason: Reason, told: bool) -> None:
        """A task ends by itself; the event arrives, or is kept for the next Hello."""
        alive = [(v, h) for v, h in self.held() if h.state is TaskState.RUNNING]
        if not alive:
            return
        volunteer, held = alive[pick % len(alive)]
        held.state, held.exit = TaskState.EXITED, TaskExit(reason)
        if told and volunteer.session:
            self.cluster.tell_exit(volunteer, held.ref, held.exit)

    @rule(name=names)
    def tell_again(self, name: str) -> None:
        """A volunteer tells every end that it knows again."""
        volunteer = self.cluster.volunteers[name]
        for held in list(volunteer.held.values()):
            if volunteer.session and held.exit is not None:
                self.cluster.tell_exit(volunteer, held.ref, held.exit)

    # ---- clients ---------------------------------------------------------------------------------------

    @rule(
        pick=picks,
        member=picks,
        kind=st.sampled_from(FAULTS),
        with_disk=st.booleans(),
        repeat=st.booleans(),
        quiet=st.booleans(),
        lease=st.sampled_from(LEASES),
        several=st.booleans(),
    )
    def fault(
        self,
        pick: int,
        member: int,
        kind: str,
        with_disk: bool,
        repeat: bool,
        quiet: bool,
        lease: float | None = None,
        several: bool = False,
    ) -> None:
        """A client breaks or mends a member of its job, or several."""
        caller = self.some_client(pick)
        if caller is None:
            return
        view = self.cluster.machine.job(caller.ref.job_id)
        assert view is not None
        ips = [task.address for task in view.tasks]
        ips = ips if several else [ips[member % len(ips)]]
        self.count += 1
        fields: dict[str, Any] = {"lease_s": lease} if kind in LASTING else {}
        match kind:
            case "revive":
                fields["with_disk"] = with_disk
            case "degrade":
                fields |= {"degradation": WORSE[member % len(WORSE)], "one_way": with_disk}
            case "signal":
                fields["signal"] = 3
            case "partition":
                fields |= {"shape": member % 5 + 1, "seed": pick}
        for _ in range(1 + repeat):
            request_id = f"f{self.count}"
            if kind == "partition":
                call = self.cluster.partition(request_id=request_id, caller=caller, **fields)
            elif kind == "heal":
                lines = [line.fault_id for line in view.faults] if with_disk else []
                call = self.cluster.heal(*lines[-2:], request_id=request_id, caller=caller)
            else:
                call = self.cluster.fault(kind, ips, request_id, caller=caller, **fields)
        if repeat:
            self.cluster.do(ev.CallGone(call))
        if quiet:
            self.cluster.deliver()
            check_faults(self.cluster)

    @rule(
        first=st.sampled_from(["kill", "disconnect", "pause"]),
        then=st.sampled_from(["revive", "reconnect", "kill", "resume"]),
    )
    def break_and_mend(self, first: str, then: str) -> None:
        """The first client that runs breaks every other member and mends it, all at once."""
        for caller in self.clients()[:1]:
            view = self.cluster.machine.job(caller.ref.job_id)
            assert view is not None
            for task in view.tasks:
                if task.task != caller.ref.task:
                    self.count += 1
                    self.cluster.fault(first, task.address, f"f{self.count}a", caller=caller)
                    self.cluster.fault(then, task.address, f"f{self.count}b", caller=caller)

    @rule(pick=picks, outcome=st.sampled_from(Outcome))
    def finish(self, pick: int, outcome: Outcome) -> None:
        """A client calls Finish."""
        caller = self.some_client(pick)
        if caller is not None:
            self.cluster.ask(lambda n: ev.FinishRequested(n, f"r{n}", caller, Result(outcome)))

    # ---- time, and the manager -------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.1, 1.0, 6.0, 16.0, 35.0, 45.0]), deliver=st.booleans(), beats=st.booleans()
    )
    def time_passes(self, seconds: float, deliver: bool, beats: bool) -> None:
        """Time passes, with or without what is under way arriving."""
        if not self.rough:
            seconds, beats = min(seconds, 6.0), True
        self.cluster.advance(seconds, heartbeats=beats, deliver=deliver)

    @precondition(lambda self: self.rough)
    @rule()
    def manager_restarts(self) -> None:
        """The manager dies between two events."""
        self.cluster.restart()

    @precondition(lambda self: self.rough)
    @rule(name=names, saved=st.booleans())
    def manager_dies_in_a_step(self, name: str, saved: bool) -> None:
        """The manager dies after an event: before its commit, with only reservations out, or after it."""
        cluster, volunteer = self.cluster, self.cluster.volunteers[name]
        event: ev.Event = ev.Tick()
        if cluster.inbox and volunteer.session == cluster.inbox[0][0]:
            _, command = cluster.inbox.pop(0)
            answer = volunteer.carry_out(command, cluster.ns)
            event = ev.AnswerReceived(volunteer.session, command.command_id, **answer)
        step = cluster.machine.handle(event, cluster.now)
        for effect in step.effects:
            if isinstance(effect, fx.Send) and effect.before_commit:
                for one in cluster.volunteers.values():
                    if one.session == effect.session:
                        one.carry_out(effect.command, cluster.ns)
        if saved:
            for record in step.saves:
                cluster.store[key_of(record)] = record
        cluster.restart()

    # ---- what must hold --------------------------------------------------------------------------------

    @invariant()
    def nothing_is_started_twice(self) -> None:
        """No generation of a task, on whichever volunteer."""
        if hasattr(self, "cluster"):
            starts = Counter(start for v in self.cluster.volunteers.values() for start in v.starts)
            assert all(number == 1 for number in starts.values()), starts

    @invariant()
    def one_attempt_at_a_time(self) -> None:
        """Two attempts of one job never run at the same time."""
        if hasattr(self, "cluster"):
            alive = {(h.ref.job_id, h.ref.attempt) for _, h in self.held() if h.state is TaskState.RUNNING}
            jobs = Counter(job_id for job_id, _ in alive)
            assert all(number == 1 for number in jobs.values()), alive

    def teardown(self) -> None:
        """The world becomes kind: every job ends, every slot is free."""
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        for volunteer in cluster.volunteers.values():
            volunteer.mute, volunteer.refuse = set(), lambda command: None
            held = volunteer.held.get(0)
            if held is not None and held.ref.cluster_id == "other":
                del volunteer.held[0]
        cluster.advance(11, heartbeats=False)
        for name, volunteer in cluster.volunteers.items():
            cluster.attach(volunteer)
            cluster.call(lambda n, name=name: ev.DrainNode(n, "", name, False))  # type: ignore[misc]
        for _ in range(60):
            cluster.advance(12)
            check_faults(cluster)
            if self.all_ended():
                break
            self.everybody_ends()
        assert self.all_ended(), self.stories()
        cluster.advance(60)
        view = cluster.machine.cluster()
        assert view.free_slots == view.slots, (view, cluster.machine.nodes())
        assert not [held for _, held in self.held()]

    # ---- helpers ---------------------------------------------------------------------------------------

    def held(self) -> list[tuple[Volunteer, Held]]:
        """What the volunteers hold for this cluster."""
        return [
            (volunteer, held)
            for volunteer in self.cluster.volunteers.values()
            for held in volunteer.held.values()
            if held.ref.cluster_id == self.cluster.config.cluster_id
        ]

    def some_client(self, pick: int) -> ev.ChaosCaller | None:
        """A client that runs, as its volunteer attests it."""
        callers = self.clients()
        return callers[pick % len(callers)] if callers else None

    def clients(self) -> list[ev.ChaosCaller]:
        """The clients that run."""
        callers = [
            ev.ChaosCaller(volunteer.name, held.ref)
            for volunteer, held in self.held()
            if held.ref.task.startswith("client") and held.state is TaskState.RUNNING
        ]
        return [c for c in callers if (view := self.cluster.machine.job(c.ref.job_id)) and view.tasks]

    def everybody_ends(self) -> None:
        """Clients finish, machines exit."""
        for volunteer, held in self.held():
            if held.state is TaskState.RUNNING and volunteer.session:
                if held.ref.task.startswith(Role.CLIENT.name.lower()):
                    caller = ev.ChaosCaller(volunteer.name, held.ref)
                    result = Result(Outcome.PASS)
                    self.cluster.call(lambda n, c=caller, r=result: ev.FinishRequested(n, f"e{n}", c, r))  # type: ignore[misc]
                else:
                    held.state, held.exit = TaskState.EXITED, TaskExit(Reason.EXITED_ZERO)
                    self.cluster.tell_exit(volunteer, held.ref, held.exit)

    def all_ended(self) -> bool:
        """Whether every job has."""
        return all(view.job.state in TERMINAL_JOB_STATES for view in self.cluster.jobs())

    def stories(self) -> str:
        """The stories of those that have not ended."""
        live = [v.job for v in self.cluster.jobs() if v.job.state not in TERMINAL_JOB_STATES]
        assert all(job.state in JobState for job in live)
        return "\n".join(self.cluster.machine.story(job.job_id) for job in live)
