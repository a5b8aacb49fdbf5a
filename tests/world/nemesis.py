"""Draws a plan of faults for the unkind time, and takes all of them back when the world turns kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .clock import MS, SECOND
from .keeper_model import Troubles
from .link import Weather
from .manager_host import ManagerHost, StoreTroubles
from .profiles import Profile
from .truth import Truth
from .users import Users
from .volunteer_host import HostTroubles, VolunteerHost
from .world import World


class Nemesis:
    """What goes wrong in one world."""

    def __init__(
        self,
        world: World,
        truth: Truth,
        profile: Profile,
        managers: Mapping[str, ManagerHost],
        volunteers: Sequence[VolunteerHost],
        users: Mapping[str, Users],
    ) -> None:
        self._world, self._truth, self._profile = world, truth, profile
        self._managers, self._volunteers, self._users = managers, volunteers, users
        self._until = 0

    def plan(self, unkind_ns: int) -> None:
        """Schedules every fault that will come before the world turns kind."""
        self._until = self._world.now + unkind_ns
        profile = self._profile
        for users in self._users.values():
            users.weather.drop = profile.lost_calls
        for mean, fault in (
            (profile.breaks, self._break),
            (profile.cuts, self._cut),
            (profile.storms, self._storm),
            (profile.volunteer_crashes, self._crash_volunteer),
            (profile.reboots, self._reboot),
            (profile.keeper_restarts, self._restart_keeper),
            (profile.pauses, self._pause_volunteer),
            (profile.machine_troubles, self._trouble_machine),
            (profile.manager_crashes, self._crash_manager),
            (profile.manager_pauses, self._pause_manager),
            (profile.crash_points, self._crash_points),
            (profile.moves, self._move_manager),
            (profile.doubles, self._double),
            (profile.drains, self._drain),
        ):
            for _ in range(self._how_many(mean)):
                self._world.after(self._world.random.randrange(unkind_ns), fault)

    def turn_kind(self) -> None:
        """Takes everything back; from here on the system must come to rest by itself."""
        self._world.note("nemesis", "kind")
        for volunteer in self._volunteers:
            for link in volunteer.weather:
                self._lift(volunteer, link)
            volunteer.troubles = HostTroubles()
            self._soothe(volunteer)
            if volunteer.paused:
                volunteer.resume()
            if volunteer.keeper.alive:
                volunteer.start()
        for manager in self._managers.values():
            manager.troubles, manager.ambush = StoreTroubles(), None
            if manager.paused:
                manager.resume()
            manager.start()
        for users in self._users.values():
            users.weather = Weather()
            for volunteer_id in sorted(users.drained):
                users.drain(volunteer_id, False)

    # ---- faults -----------------------------------------------------------------------------------------

    def _break(self) -> None:
        streams = [stream for volunteer in self._volunteers for stream in volunteer.streams()]
        if streams:
            self._world.note("nemesis", "break")
            self._world.random.choice(streams).break_()

    def _cut(self) -> None:
        volunteer, link = self._some_link()
        self._world.note("nemesis", "cut", f"{volunteer.name} from {link}")
        volunteer.weather[link].cut = True
        self._later(SECOND, 60 * SECOND, lambda: self._lift(volunteer, link))

    def _storm(self) -> None:
        volunteer, link = self._some_link()
        random = self._world.random
        weather = volunteer.weather[link]
        weather.slowest_ns = random.choice((5 * MS, 300 * MS, 3 * SECOND))
        weather.drop, weather.duplicate, weather.reorder = (random.choice((0.0, 0.02, 0.2)) for _ in range(3))
        self._world.note("nemesis", "storm", f"{volunteer.name} to {link}: {weather}")
        self._later(SECOND, 20 * SECOND, lambda: self._lift(volunteer, link))

    def _lift(self, volunteer: VolunteerHost, link: str) -> None:
        weather, calm = volunteer.weather[link], Weather()
        weather.slowest_ns, weather.cut = calm.slowest_ns, calm.cut
        weather.drop = weather.duplicate = weather.reorder = 0.0
        for stream in volunteer.streams():
            stream.lift()

    def _lift_all(self, link: str) -> None:
        for volunteer in self._volunteers:
            self._lift(volunteer, link)

    def _crash_volunteer(self) -> None:
        volunteer = self._some_volunteer()
        if volunteer.life is None:
            return
        volunteer.crash()
        self._later(10 * MS, 20 * SECOND, lambda: volunteer.start() if volunteer.keeper.alive else None)

    def _reboot(self) -> None:
        volunteer = self._some_volunteer()
        if volunteer.keeper.alive:
            volunteer.reboot(self._world.between(SECOND, 40 * SECOND))

    def _restart_keeper(self) -> None:
        self._some_volunteer().restart_keeper()

    def _pause_volunteer(self) -> None:
        volunteer = self._some_volunteer()
        self._world.note("nemesis", "pause", volunteer.name)
        volunteer.paused = True
        self._later(100 * MS, 40 * SECOND, volunteer.resume)

    def _trouble_machine(self) -> None:
        volunteer = self._some_volunteer()
        random = self._world.random
        fail, stall = random.choice((0.0, 0.1, 0.5, 1.0)), random.choice((0.0, 0.02, 0.3))
        volunteer.keeper.troubles = Troubles(fail, stall)
        volunteer.troubles = HostTroubles(random.choice((0.0, 0.1, 0.5)), random.choice((0.0, 0.5)))
        self._world.note(
            "nemesis", "trouble", f"{volunteer.name} {volunteer.keeper.troubles} {volunteer.troubles}"
        )
        self._later(SECOND, 60 * SECOND, lambda: self._soothe(volunteer))

    @staticmethod
    def _soothe(volunteer: VolunteerHost) -> None:
        volunteer.keeper.troubles = Troubles()
        volunteer.troubles = HostTroubles()

    def _crash_manager(self) -> None:
        manager = self._some_manager()
        manager.crash(reboot=self._world.chance(0.3))
        self._later(10 * MS, 40 * SECOND, manager.start)

    def _move_manager(self) -> None:
        """At its next commands the manager is cut off and lost; they arrive after its next life has begun."""
        manager = self._some_manager()

        def spring(send: Callable[[], None]) -> None:
            old = manager.address
            for volunteer in self._volunteers:
                volunteer.weather[old].cut = True
            send()
            manager.crash(moves=True)
            self._world.after(self._world.between(10 * MS, 300 * MS), manager.start)
            self._later(2500 * MS, 6 * SECOND, lambda: self._lift_all(old))

        manager.ambush = spring

    def _double(self) -> None:
        """One volunteer is cut off while another one, of the same gang if possible, loses its tasks."""
        spread = [machines for machines in self._truth.gangs() if len(machines) > 1]
        names = self._world.random.choice(spread) if spread else [each.name for each in self._volunteers]
        first, second = self._world.random.sample([v for v in self._volunteers if v.name in names], 2)
        link = self._world.random.choice(list(first.weather))
        self._world.note(
            "nemesis", "double", f"{first.name} is cut from {link}, {second.name} loses its tasks"
        )
        first.weather[link].cut = True
        self._later(5 * SECOND, 40 * SECOND, lambda: self._lift(first, link))
        second.restart_keeper()

    def _pause_manager(self) -> None:
        manager = self._some_manager()
        self._world.note("nemesis", "pause", manager.name)
        manager.paused = True
        self._later(100 * MS, 20 * SECOND, manager.resume)

    def _crash_points(self) -> None:
        manager = self._some_manager()
        manager.troubles = StoreTroubles(50 * MS, stall=0.02, crash=0.06)

        def over() -> None:
            manager.troubles = StoreTroubles()

        for _ in range(30):  # whoever watches over it starts it again
            self._world.after(self._world.random.randrange(15 * SECOND), manager.start)
        self._later(SECOND, 15 * SECOND, over)

    def _drain(self) -> None:
        users = self._world.random.choice(list(self._users.values()))
        volunteer = self._some_volunteer()
        users.drain(volunteer.name, True)
        self._later(SECOND, 30 * SECOND, lambda: users.drain(volunteer.name, False))

    # ---- lots -------------------------------------------------------------------------------------------

    def _how_many(self, mean: float) -> int:
        whole = int(2 * mean * self._world.random.random() + 0.5)
        return whole

    def _later(self, low_ns: int, high_ns: int, undo: Callable[[], None]) -> None:
        """Undoes a fault after a while, or leaves it to `turn_kind` if that comes first."""
        when = self._world.now + self._world.between(low_ns, high_ns)
        if when < self._until:
            self._world.at(when, undo)

    def _some_volunteer(self) -> VolunteerHost:
        return self._world.random.choice(self._volunteers)

    def _some_manager(self) -> ManagerHost:
        return self._world.random.choice(list(self._managers.values()))

    def _some_link(self) -> tuple[VolunteerHost, str]:
        volunteer = self._some_volunteer()
        return volunteer, self._world.random.choice(list(volunteer.weather))
