"""One seed: builds a world, lets it be unkind for a while, then kind, and checks that it comes to rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from syndicate.manager.core import model
from syndicate.volunteer import local
from syndicate.volunteer.core import model as vmodel

from .clients import Book, ClientProcess, Reports
from .clock import MS, SECOND, Clock
from .invariants import check_faults, check_promises, check_replays, check_verdicts, unrest
from .keeper_model import Machine, MakeProcess, Process
from .manager_host import ManagerHost
from .nemesis import Nemesis
from .profiles import CALM, Profile, profile_of
from .scripts import Run, Script
from .store import TERMINAL
from .truth import Truth
from .users import Users
from .volunteer_host import VolunteerHost
from .world import Violation, World

WORST_PPB = 100_000  # clocks run at most 100 ppm off
MOST_KIND_NS = 1500 * SECOND
LOOK_EVERY_NS = 500 * MS


class PlainProcess(Process):
    """A master or slave."""

    def __init__(self, world: World, run: Run, ends: Callable[[int, bytes], None]) -> None:
        self._timer = (
            None if run.after_ns is None else world.after(run.after_ns, lambda: ends(run.status, run.says))
        )

    def kill(self) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()


class Simulation:
    """One world with everything in it."""

    def __init__(self, seed: int, whole_trace: bool = False, profile: Profile | None = None) -> None:
        self.seed = seed
        self.profile = profile or profile_of(seed)
        self.world = World(seed, whole_trace)
        self.truth = Truth(self.world, self._gang_size)
        self.scripts: dict[str, Script] = {}
        self.book: Book = defaultdict(Reports)
        self.managers: dict[str, ManagerHost] = {}
        self.links: dict[str, ManagerHost] = {}
        self.users: dict[str, Users] = {}
        self.volunteers: list[VolunteerHost] = []
        self.suffering = 0  # slots that were seen to suffer what the ledger says
        self.replayed = 0  # lines of replays that held
        self._build()

    # ---- what there is ----------------------------------------------------------------------------------

    def _build(self) -> None:
        random = self.world.random
        pace = random.choice((1.0, 0.4))
        for number in range(self.profile.managers):
            name = ("alpha", "beta")[number]
            manager = ManagerHost(
                self.world, name, self._config(name, number, pace), self._clock(name), self.profile.moves > 0
            )
            self.managers[name] = manager
            self.links.update(dict.fromkeys(manager.addresses, manager))
        machines = self._machines()
        for machine in machines:
            self.volunteers.append(self._volunteer(machine))
        rooms = [sum(m.slots for m in machines if m.domain == domain) for domain in ("lab", "annex")]
        for name, manager in self.managers.items():
            self.users[name] = Users(self.world, manager, self.scripts, max(rooms))

    def _machines(self) -> list[Machine]:
        """Two to four machines; sometimes in rooms that cannot reach each other, some with one network."""
        random = self.world.random
        two_rooms = self.world.chance(0.15)
        machines = []
        for number in range(random.randint(2, 4)):
            slots = random.choice((1, 1, 2, 3))
            room = "annex" if two_rooms and self.world.chance(0.5) else "lab"
            host = f"192.0.2.{number + 1}" if slots == 1 and self.world.chance(0.3) else ""
            machines.append(Machine(f"node-{number}", slots, room, host))
        return machines

    def _volunteer(self, machine: Machine) -> VolunteerHost:
        number = len(self.volunteers)
        config = vmodel.Config(
            volunteer_id=machine.name,
            reach_domain=machine.domain,
            prefix=f"10.90.{number}.0/28" if self.world.chance(0.2) else "",
        )
        clock = self._clock(machine.name)
        return VolunteerHost(self.world, self.truth, config, machine, clock, self.links, self._maker)

    def _config(self, name: str, number: int, pace: float) -> model.Config:
        return model.Config(
            cluster_id=name,
            epoch=1,
            boot_id="",
            heartbeat_interval_s=5.0 * pace,
            orphan_after_s=30.0 * pace,
            lost_after_s=34.0 * pace,
            stop_timeout_s=self.world.random.choice((4.0, 30.0)),
            prefixes=f"10.{77 + number}.0.0/16",
            keep_ended=self.world.random.choice((2, 1000)),
        )

    def _clock(self, name: str) -> Clock:
        random = self.world.random
        return Clock(
            f"{name}-boot-0",
            random.randrange(10**15),
            random.randint(-WORST_PPB, WORST_PPB),
            random.randint(-3600, 3600) * SECOND,
        )

    def _maker(self, host: VolunteerHost) -> MakeProcess:
        def make(
            prepared: local.Prepare, generation: int, ends: Callable[[int, bytes], None]
        ) -> tuple[Process, bool]:
            script = self.scripts[prepared.source]
            random = self.world.random
            if prepared.role is not local.Role.CLIENT:
                run = script.run(random, prepared.role)
                return PlainProcess(self.world, run, ends), run.good
            task = prepared.task
            members = tuple(member.task for member in prepared.members)
            reports = self.book[task.cluster_id, task.job_id, task.attempt]
            client = script.client(random, members)
            process = ClientProcess(self.world, self.truth, host, prepared, generation, client, reports, ends)
            return process, True

        return make

    def _gang_size(self, cluster: str, job_id: int) -> int:
        return self.managers[cluster].store.jobs[job_id].spec.slots

    @property
    def digest(self) -> str:
        """SHA-256 of the whole trace."""
        return self.world.trace.digest()

    # ---- what happens -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Plays the seed to its end. Raises Violation with everything that is needed to look into it."""
        try:
            self._play()
        except Exception as error:
            raise Violation(self._report(error)) from error

    def _play(self) -> None:
        random = self.world.random
        unkind = random.choice((120,) if self.profile.patient else (30, 60, 90)) * SECOND
        nemesis = Nemesis(self.world, self.truth, self.profile, self.managers, self.volunteers, self.users)
        for manager in self.managers.values():
            manager.start()
        for volunteer in self.volunteers:
            self.world.after(random.randrange(2 * SECOND), volunteer.start)
        for users in self.users.values():
            jobs = max(1, self.profile.jobs // len(self.users))
            users.plan(jobs, unkind * 2 // 3, self.profile)
        for volunteer in self.volunteers:
            volunteer.bad_sources.update(name for name, script in self.scripts.items() if script.bad_source)
        nemesis.plan(unkind)
        while self.world.now < unkind:
            self.world.run(min(self.world.now + LOOK_EVERY_NS, unkind))
            self.suffering += check_faults(self.managers, self.volunteers)
        nemesis.turn_kind()
        self._come_to_rest()
        calm = self.profile is CALM
        for name, manager in self.managers.items():
            check_promises(manager, self.users[name])
            self.replayed += check_replays(manager)
            check_verdicts(manager, self.users[name], self.truth, self.book, self.scripts, calm)

    def _come_to_rest(self) -> None:
        give_up = self.world.now + MOST_KIND_NS
        while why := unrest(self.managers.values(), self.users.values(), self.volunteers):
            if self.world.now >= give_up:
                raise Violation(f"the world was kind for {MOST_KIND_NS // SECOND} s and still {why}")
            self.world.run(self.world.now + LOOK_EVERY_NS)
            self.suffering += check_faults(self.managers, self.volunteers)

    # ---- what to show -----------------------------------------------------------------------------------

    def _report(self, error: Exception) -> str:
        lines = [
            f"seed {self.seed} (profile {self.profile.name}), true time {self.world.now / SECOND:.6f} s:",
            f"{type(error).__name__}: {error}",
            "",
            "the last steps:",
            self.world.trace.tail(60),
            "",
        ]
        for name, manager in self.managers.items():
            machine = manager.life.machine if manager.life is not None else None
            for job in list(manager.store.jobs.values()):
                if machine is not None and (job.state not in TERMINAL or f"job {job.job_id}" in str(error)):
                    lines.append(f"story of job {job.job_id} of {name}:")
                    lines.append(machine.story(job.job_id))
        lines.append(f"replay with the whole trace: python -m tests.world {self.seed}")
        return "\n".join(lines)


def simulate(seed: int, whole_trace: bool = False, profile: Profile | None = None) -> Simulation:
    """Plays one seed. Raises Violation."""
    simulation = Simulation(seed, whole_trace, profile)
    simulation.run()
    return simulation
