"""Users: they submit, sometimes the same thing twice, cancel, and take volunteers out of use and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from syndicate.manager.core import effects, errors, events, model, replay
from syndicate.manager.core.show import picture
from syndicate.manager.core.views import JobView

from .clock import MS, SECOND
from .link import Weather
from .manager_host import ManagerHost
from .profiles import Profile
from .rpc import Call, Failure, Outcome
from .scripts import Script, draw_client_script, draw_script
from .store import TERMINAL
from .world import Violation, World

DEADLINE_NS = 5 * SECOND
MOST_ORDERS = 60


@dataclass(frozen=True, slots=True)
class Order:
    """One job as its user means it."""

    request_id: str
    owner: str
    source: model.Source
    machines: int
    client: model.Source | None
    clients: int
    time_limit_s: float
    cancel_after_ns: int | None
    replays: int = 0


@dataclass(slots=True)
class Receipt:
    """What the user knows of an order. `job_id` is set once the Submit was acknowledged."""

    order: Order
    job_id: int | None = None
    refused: str = ""
    cancel_tried_at: int | None = None
    cancelled: bool = False


class Users:
    """All users of one manager."""

    def __init__(
        self, world: World, manager: ManagerHost, scripts: dict[str, Script], most_slots: int
    ) -> None:
        self.weather = Weather()
        self.receipts: list[Receipt] = []
        self.drained: dict[str, int] = {}
        self._world, self._manager, self._scripts = world, manager, scripts
        self._most_slots = most_slots
        self._orders = 0

    @property
    def settled(self) -> bool:
        """Whether every order was acknowledged or refused."""
        return all(receipt.job_id is not None or receipt.refused for receipt in self.receipts)

    def plan(self, jobs: int, within_ns: int, profile: Profile) -> None:
        """Draws orders and schedules them."""
        for _ in range(jobs):
            order = self._draw(profile)
            receipt = Receipt(order)
            self.receipts.append(receipt)
            when = self._world.random.randrange(within_ns)
            self._world.after(when, partial(self._submit, receipt))
            if self._world.chance(0.2):  # an impatient script sends it twice
                self._world.after(when + 3 * MS, partial(self._submit, receipt))
        for _ in range(profile.replays):
            self._world.after(self._world.random.randrange(within_ns // 2, within_ns * 3 // 2), self._replay)

    def _replay(self) -> None:
        """Replays one of the jobs that have ended with a fault; nothing where there is none."""
        store = self._manager.store
        known = [r for r in self.receipts if r.job_id is not None and store.jobs[r.job_id].state in TERMINAL]
        broken = [receipt for receipt in known if self._can_be_replayed(receipt.job_id or 0)]
        if broken:
            receipt = self._world.random.choice(broken)
            self._orders += 1
            request = f"{self._manager.name}-request-{self._orders}"
            order = replace(
                receipt.order, request_id=request, cancel_after_ns=None, replays=receipt.job_id or 0
            )
            again = Receipt(order)
            self.receipts.append(again)
            self._submit(again)

    def _can_be_replayed(self, job_id: int) -> bool:
        try:
            return bool(replay.plan(self._ledger(job_id), job_id))
        except errors.Refused:
            return False

    def _ledger(self, job_id: int) -> JobView:
        """A job with its ledger, as the store has it."""
        store = self._manager.store
        lines = [line for line in store.faults() if line.job_id == job_id]
        return picture(store.jobs[job_id], faults=lines)

    def _draw(self, profile: Profile) -> Order:
        random = self._world.random
        self._orders += 1
        name = self._manager.name
        clients = random.choice((1, 1, 2)) if self._world.chance(profile.with_clients) else 0
        most = max(1, self._most_slots - clients)
        machines = random.randint(1, min(2, most) if profile.patient else random.choice((min(3, most), most)))
        source = model.Source(f"{name}-source-{self._orders}", 1000)
        self._scripts[source.sha256] = draw_script(random, clients > 0, profile.patient)
        client = None
        if clients:
            client = model.Source(f"{name}-client-{self._orders}", 1000)
            self._scripts[client.sha256] = draw_client_script(random, profile.patient)
        return Order(
            request_id=f"{name}-request-{self._orders}",
            owner=random.choice(("alice", "bob", "carol")),
            source=source,
            machines=machines,
            client=client,
            clients=clients,
            time_limit_s=90.0 if profile.patient else random.choice((5.0, 20.0, 40.0, 40.0)),
            cancel_after_ns=random.randrange(30 * SECOND) if self._world.chance(profile.cancels) else None,
        )

    # ---- submit -----------------------------------------------------------------------------------------

    def _submit(self, receipt: Receipt) -> None:
        order = receipt.order

        def make(call: int) -> events.Event:
            return events.SubmitJob(
                call=call,
                request_id=order.request_id,
                owner=order.owner,
                name="job",
                source=order.source,
                machines=order.machines,
                client=order.client,
                clients=order.clients or None,
                time_limit_s=order.time_limit_s,
                keep_disks=order.machines == 2,
                replays=self._ledger(order.replays) if order.replays else None,
            )

        known = receipt.job_id is not None
        self._until_answered(make, lambda value: self._submitted(receipt, known, value))

    def _submitted(self, receipt: Receipt, known: bool, value: Outcome) -> None:
        if isinstance(value, errors.CoreError):
            if known:
                raise Violation(f"{receipt} was acknowledged, and its repeat refused: {value!r}")
            untold = receipt.job_id is None and not receipt.refused
            if isinstance(value, errors.Refused | errors.Exhausted) and untold:
                # No volunteer may be there yet: a user tries again later, as another order.
                receipt.refused = value.reason
                self._again(receipt.order)
            return
        assert isinstance(value, effects.SubmitReply)
        if receipt.job_id is None:
            receipt.job_id, receipt.refused = value.job_id, ""
            after = receipt.order.cancel_after_ns
            if after is not None:
                self._world.after(after, lambda: self._cancel(receipt))
        elif receipt.job_id != value.job_id:
            raise Violation(
                f"request {receipt.order.request_id} is job {receipt.job_id} and job {value.job_id}"
            )

    def _again(self, order: Order) -> None:
        if self._orders >= MOST_ORDERS:
            return
        self._orders += 1
        again = Receipt(replace(order, request_id=f"{self._manager.name}-request-{self._orders}"))
        self.receipts.append(again)
        self._world.after(3 * SECOND, lambda: self._submit(again))

    # ---- cancel, drain ----------------------------------------------------------------------------------

    def _cancel(self, receipt: Receipt) -> None:
        job_id = receipt.job_id
        assert job_id is not None
        receipt.cancel_tried_at = self._world.now

        def done(value: Outcome) -> None:
            long_over = self._manager.store.jobs[job_id].state in TERMINAL
            if isinstance(value, errors.NotFound) and long_over:
                return  # out of the machine's memory: the edge answers from the store
            if isinstance(value, errors.CoreError):
                raise Violation(f"cancel of job {job_id} was refused: {value!r}")
            receipt.cancelled = True

        request = f"cancel-{receipt.order.request_id}"
        self._until_answered(lambda call: events.CancelJob(call, request, job_id, receipt.order.owner), done)

    def drain(self, volunteer_id: str, draining: bool) -> None:
        """An operator takes a volunteer out of use, or back."""
        self._orders += 1
        turn, request = self._orders, f"{self._manager.name}-drain-{self._orders}"
        self.drained[volunteer_id] = self._orders

        def make(call: int) -> events.Event:
            return events.DrainNode(call, request, volunteer_id, draining)

        def superseded() -> bool:
            return self.drained[volunteer_id] != turn

        # What was asked before may be under way still: it must not arrive after this.
        self._world.after(10 * MS, lambda: self._until_answered(make, lambda value: None, superseded))

    def _until_answered(
        self,
        make: Callable[[int], events.Event],
        done: Callable[[Outcome], None],
        superseded: Callable[[], bool] = lambda: False,
    ) -> None:
        def answered(value: Outcome) -> None:
            if superseded():
                return
            if isinstance(value, Failure | errors.Away | errors.TooLate):
                self._world.after(self._world.between(20 * MS, 2 * SECOND), ask)
            else:
                done(value)

        def ask() -> None:
            if not superseded():
                Call(self._world, self.weather, self._manager, make, answered, DEADLINE_NS)

        ask()
