"""``Nemesis``: breaks a job by a seeded schedule and always mends it; a thread, or a task of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

from syndicate.client_api import _units
from syndicate.client_api._aio_chaos import AioChaos
from syndicate.client_api._chaos import Chaos
from syndicate.client_api._errors import DeadlineExceeded, SyndicateError
from syndicate.client_api._nemesis_calls import default_targets, require_possible
from syndicate.client_api._nemesis_plan import MOST_SEED, Planned, Schedule, plan, to_json
from syndicate.client_api._nemesis_script import Actor, Refused, Script, Wait, Window, seconds_until
from syndicate.client_api._results import MemberState
from syndicate.client_api._units import Duration

DEFAULT_PATIENCE_S = 60.0
_SIGTERM_STATUS = 128 + signal.SIGTERM


class _Common:
    """What both kinds have: the schedule, and what became of it."""

    def __init__(
        self,
        chaos: Any,
        *,
        seed: int | None = None,
        faults: Sequence[Planned] = (),
        targets: Sequence[str | MemberState] | None = None,
        patience: Duration = DEFAULT_PATIENCE_S,
    ) -> None:
        self.seed = secrets.randbits(32) if seed is None else seed
        """What everything is drawn by; shown by ``metrics``."""
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed is {self.seed}: it must be 0 to {MOST_SEED}")
        self._faults = tuple(faults)
        self._targets: tuple[str, ...] | None = None
        if targets is not None:
            self._targets = tuple(one if isinstance(one, str) else one.task for one in targets)
        self._given: Schedule | None = None
        self._chaos = chaos
        self._actor = Actor(chaos._boot_id, _units.seconds(patience, "patience"))

    @classmethod
    def replaying(cls, chaos: Any, schedule: Schedule, *, patience: Duration = DEFAULT_PATIENCE_S) -> Self:
        """One that plays a schedule as it stands, for instance ``Schedule.from_json(recorded)``."""
        nemesis = cls(chaos, seed=schedule.seed, targets=schedule.targets, patience=patience)
        nemesis._given = schedule
        return nemesis

    def windows(self) -> tuple[Window, ...]:
        """When each fault held so far, in the order of the schedule; without an end while it is in force."""
        return tuple(window for _, window in sorted(self._actor.played.windows.items()))

    def refused(self) -> tuple[Refused, ...]:
        """Faults that did not take hold, and why."""
        return tuple(self._actor.played.refused)

    def unhealed(self) -> tuple[str, ...]:
        """What may still hold, since nobody could be told to take it back; empty when all is well."""
        return tuple(self._actor.played.unhealed)

    def metrics(self) -> dict[str, float]:
        """For ``finish``: the seed, and how many faults held, were refused, were not healed."""
        return {
            "nemesis_seed": float(self.seed),
            "nemesis_faults": float(len(self._actor.played.windows)),
            "nemesis_refused": float(len(self._actor.played.refused)),
            "nemesis_unhealed": float(len(self._actor.played.unhealed)),
        }

    def record(self) -> str:
        """What happened, as one line of JSON: windows in nanoseconds since the schedule's start."""
        zero = self._actor.played.started_ns
        windows = [
            {
                "number": window.number,
                "kind": window.kind,
                "targets": list(window.targets),
                "start_ns": window.start_ns - zero,
                "end_ns": None if window.end_ns is None else window.end_ns - zero,
                "error_ns": window.error_ns,
                "fault_ids": list(window.fault_ids),
                "certain": window.certain,
            }
            for window in self.windows()
        ]
        refused = [{"number": one.number, "why": one.why} for one in self.refused()]
        plain = {"seed": self.seed, "started_ns": zero, "windows": windows, "refused": refused}
        return to_json({**plain, "unhealed": list(self.unhealed())})

    def _plan(self, duration: Duration | None, members: Sequence[MemberState] | None) -> Schedule:
        if self._given is not None:
            return self._given
        if duration is None:
            raise ValueError("a duration is needed, unless a schedule is replayed")
        if self._targets is None and members is None:
            raise ValueError("targets are needed: without them a schedule is made once the members are known")
        targets = self._targets if self._targets is not None else default_targets(members or ())
        return plan(self.seed, self._faults, targets, round(_units.seconds(duration, "duration") * 1000))

    def _script(self, duration: Duration | None, members: Sequence[MemberState]) -> Script:
        """Raises ValueError for a plan that cannot be: before anything is done, not in the script."""
        schedule = self._plan(duration, members)
        require_possible(schedule, members)
        return self._actor.script(schedule, members)


class Nemesis(_Common):
    """Injects faults into the job by a seeded schedule, in a thread of its own, and heals them at its end.

    ``faults`` are those of ``syndicate.client_api.nemesis``. ``targets`` are members (names such as
    ``slave-0``, addresses, or what ``members`` said), else all masters and slaves; members of one order and
    name give the same schedule for the same ``seed``, byte for byte. Without a seed one is drawn: ``seed``
    and ``metrics()`` tell it. At the end, however it comes, what was done is taken back by its lines in the
    ledger and who was killed is revived, tried for ``patience`` while the manager is away; then
    ``NotHealed`` is raised and ``unhealed`` tells what may still hold. Faults have leases beyond their ends,
    for a client that is killed itself: only who is dead then stays so. The timing of the job's own processes
    is not reproduced by a seed.
    """

    _chaos: Chaos

    def __init__(
        self,
        chaos: Chaos,
        *,
        seed: int | None = None,
        faults: Sequence[Planned] = (),
        targets: Sequence[str | MemberState] | None = None,
        patience: Duration = DEFAULT_PATIENCE_S,
    ) -> None:
        super().__init__(chaos, seed=seed, faults=faults, targets=targets, patience=patience)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def schedule(self, duration: Duration | None = None) -> Schedule:
        """What it does in so long a time. Asks for the members once where no targets were given.

        Raises ValueError where a fault does not fit in.
        """
        if self._targets is None and self._given is None:
            self._targets = default_targets(self._chaos.members())
        return self._plan(duration, None)

    def run(self, duration: Duration | None = None) -> tuple[Window, ...]:
        """Plays the schedule to its end and returns when each fault held."""
        with self.running(duration):
            self._join()
        return self.windows()

    @contextlib.contextmanager
    def running(self, duration: Duration | None = None) -> Iterator[Self]:
        """Plays the schedule while the block runs; at its end, also by an exception, all is healed.

        In the main thread a SIGTERM ends the block too, unless the process has a handler of its own.
        """
        with _unwinding_on_sigterm():
            self.start(duration)
            try:
                yield self
            finally:
                self.stop()

    def start(self, duration: Duration | None = None) -> None:
        """Begins in a thread, once the members are known.

        Raises RuntimeError while it runs already, ValueError for a plan that cannot be, and ChaosError where
        nobody tells the members: nothing has been done then.
        """
        if self._thread is not None:
            raise RuntimeError("this nemesis runs already")
        script = self._script(duration, self._chaos.members())
        self._stop.clear()
        self._error = None
        self._thread = threading.Thread(target=self._drive, args=(script,), name="nemesis")
        self._thread.start()

    def stop(self) -> None:
        """Ends it early, waits until all is healed, and raises what it ended with."""
        self._stop.set()
        self._join()
        self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _drive(self, script: Script) -> None:
        try:
            step = next(script)
            while True:
                if isinstance(step, Wait):
                    step = script.send(self._wait(step))
                    continue
                try:
                    answer = self._chaos._run(step.call, step.timeout_s)
                except SyndicateError as error:
                    step = script.throw(error)
                else:
                    step = script.send(answer)
        except StopIteration:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for this one
            self._error = error

    def _wait(self, step: Wait) -> bool:
        # What is not stopped early waits for nothing that happens, but for its next try.
        waits_for = self._stop if step.stops else threading.Event()
        return waits_for.wait(seconds_until(step.until_ns))


class AioNemesis(_Common):
    """``Nemesis`` upon ``AioChaos``, as a task of the running loop. Cancelled, it heals before it ends."""

    _chaos: AioChaos

    def __init__(
        self,
        chaos: AioChaos,
        *,
        seed: int | None = None,
        faults: Sequence[Planned] = (),
        targets: Sequence[str | MemberState] | None = None,
        patience: Duration = DEFAULT_PATIENCE_S,
    ) -> None:
        super().__init__(chaos, seed=seed, faults=faults, targets=targets, patience=patience)
        self._stop = asyncio.Event()
        self._runs = False

    def schedule(self, duration: Duration | None = None) -> Schedule:
        """As ``Nemesis.schedule``; raises ValueError where no targets were given."""
        return self._plan(duration, None)

    async def run(self, duration: Duration | None = None) -> tuple[Window, ...]:
        """As ``Nemesis.run``."""
        task = await self._begin(duration)
        try:
            await asyncio.shield(task)
        finally:
            await self._finish(task)
        return self.windows()

    @contextlib.asynccontextmanager
    async def running(self, duration: Duration | None = None) -> AsyncIterator[Self]:
        """As ``Nemesis.running``."""
        with _unwinding_on_sigterm():
            task = await self._begin(duration)
            try:
                yield self
            finally:
                await self._finish(task)

    async def _begin(self, duration: Duration | None) -> asyncio.Task[None]:
        if self._runs:
            raise RuntimeError("this nemesis runs already")
        self._runs = True
        try:
            script = self._script(duration, await self._chaos.members())
        except BaseException:
            self._runs = False
            raise
        self._stop.clear()
        return asyncio.create_task(self._drive(script), name="nemesis")

    async def _finish(self, task: asyncio.Task[None]) -> None:
        """Waits until all is healed, whoever cancels meanwhile, and raises what it ended with."""
        self._stop.set()
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        self._runs = False
        if cancelled is not None:
            task.exception()  # taken note of; the cancellation comes first
            raise cancelled
        task.result()

    async def _drive(self, script: Script) -> None:
        """Cancelled, as all tasks are when their loop ends, it stops and goes on until all is healed."""
        try:
            step = next(script)
            while True:
                try:
                    if isinstance(step, Wait):
                        await self._wait(step)
                        answer: Any = self._stop.is_set()
                    else:
                        answer = await self._chaos._run(step.call, step.timeout_s)
                except SyndicateError as error:
                    step = script.throw(error)
                except asyncio.CancelledError:
                    self._stop.set()
                    unknown = DeadlineExceeded("cancelled before it was answered")
                    step = script.send(True) if isinstance(step, Wait) else script.throw(unknown)
                else:
                    step = script.send(answer)
        except StopIteration:
            return

    async def _wait(self, step: Wait) -> None:
        # What is not stopped early waits for nothing that happens, but for its next try.
        waits_for = self._stop if step.stops else asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waits_for.wait(), seconds_until(step.until_ns))


@contextlib.contextmanager
def _unwinding_on_sigterm() -> Iterator[None]:
    """Lets a SIGTERM unwind this process instead of ending it on the spot, where nobody else handles it."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_SIGTERM_STATUS))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
