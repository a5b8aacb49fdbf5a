"""Random histories: repeats, reorderings, lost streams, restarts of volunteer and keeper."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from syndicate.volunteer import local
from syndicate.volunteer.core import Config, effects, events
from syndicate.volunteer.core.model import (
    Action,
    Answer,
    Kill,
    Memory,
    NetworkState,
    Release,
    Reserve,
    Revive,
    SetNetwork,
    SetTask,
    Signal,
    Start,
    TaskRef,
)
from volunteer_core.harness import LINK, Harness, prepare, ref

TASKS = st.sampled_from(["master", "slave-0", "client-0"])
SLOTS = st.integers(0, 1)
HOLDABLE = [
    effects.CallKeeper,
    effects.FetchSource,
    effects.OpenRelay,
    effects.DrainLogs,
    effects.SendDisk,
]


class Histories(RuleBasedStateMachine):
    """A manager that says anything in any order, and parts that fail."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Harness(Config("node-a", max_answers=50, max_waiting=4))
        self.bench.attach()
        self.epoch = 1
        self.sent: list[tuple[Action, TaskRef, int, int, str]] = []
        self.answers: dict[str, Answer] = {}
        self.life = 0
        self.seen = 0

    # ---- what a manager says ---------------------------------------------------------------------------

    def _send(self, action: Action, task: str, slot: int, generation: int = 1, attempt: int = 1) -> None:
        to = ref(task, generation, attempt=attempt)
        name = f"{self.life}-{len(self.sent)}"
        self.sent.append((action, to, slot, self.epoch, name))
        self.bench.send(action, to, slot=slot, epoch=self.epoch, command_id=name)

    @rule(task=TASKS, slot=SLOTS, attempt=st.integers(1, 2))
    def reserve(self, task: str, slot: int, attempt: int) -> None:
        self._send(Reserve(10_000), task, slot, attempt=attempt)

    @rule(task=TASKS, slot=SLOTS)
    def prepare(self, task: str, slot: int) -> None:
        self._send(prepare(task), task, slot)

    @rule(task=TASKS, slot=SLOTS)
    def bring_up(self, task: str, slot: int) -> None:
        self._send(Reserve(10_000), task, slot)
        self._send(prepare(task), task, slot)
        self._send(Start(), task, slot)

    @rule(task=TASKS, slot=SLOTS)
    def start(self, task: str, slot: int) -> None:
        self._send(Start(), task, slot)

    @rule(task=TASKS, slot=SLOTS, generation=st.integers(1, 3))
    def kill(self, task: str, slot: int, generation: int) -> None:
        self._send(Kill(), task, slot, generation)

    @rule(task=TASKS, slot=SLOTS, generation=st.integers(1, 4), disk=st.booleans())
    def revive(self, task: str, slot: int, generation: int, disk: bool) -> None:
        self._send(Revive(disk), task, slot, generation)

    @rule(task=TASKS, slot=SLOTS)
    def cut(self, task: str, slot: int) -> None:
        self._send(SetNetwork(NetworkState(cut=("10.77.0.9",))), task, slot)

    @rule(task=TASKS, slot=SLOTS, generation=st.integers(1, 2), paused=st.booleans(), full=st.booleans())
    def set_task(self, task: str, slot: int, generation: int, paused: bool, full: bool) -> None:
        self._send(SetTask(paused, full), task, slot, generation)

    @rule(task=TASKS, slot=SLOTS, generation=st.integers(1, 3), number=st.integers(1, 64))
    def signal(self, task: str, slot: int, generation: int, number: int) -> None:
        self._send(Signal(number), task, slot, generation)

    @rule(task=TASKS, slot=SLOTS, keep=st.booleans())
    def release(self, task: str, slot: int, keep: bool) -> None:
        self._send(Release(keep), task, slot)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        action, to, slot, epoch, name = data.draw(st.sampled_from(self.sent))
        self.bench.send(action, to, slot=slot, epoch=epoch, command_id=name)

    # ---- what happens ------------------------------------------------------------------------------------

    @rule(kinds=st.sets(st.sampled_from(HOLDABLE)))
    def hold(self, kinds: set[type]) -> None:
        self.bench.hold = kinds

    @rule(shuffle=st.randoms(use_true_random=False))
    def perform(self, shuffle: object) -> None:
        shuffle.shuffle(self.bench.held)  # type: ignore[attr-defined]  # a random.Random
        self.bench.perform_held()

    @rule(seconds=st.sampled_from([0.001, 0.5, 3.0, 13.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.bench.advance(seconds)

    @rule(slot=SLOTS, status=st.sampled_from([0, 2, 139]))
    def exit(self, slot: int, status: int) -> None:
        held = self.bench.keeper.slots[slot]
        if held.state == "running":
            self.bench.keeper.end(slot, status)
            self.bench.tell_keeper_events()

    @rule(raise_epoch=st.booleans())
    def reconnect(self, raise_epoch: bool) -> None:
        self.epoch += raise_epoch
        self.bench.tell(events.LinkLost(LINK))
        self.bench.connect(epoch=self.epoch)

    @rule(lost=st.booleans())
    def reconnect_keeper(self, lost: bool) -> None:
        self.bench.held = [e for e in self.bench.held if not isinstance(e, effects.CallKeeper)]
        self.bench.keeper.events.clear()
        if lost:
            self.bench.keeper.lose_all()
            self.bench.keeper.signals.clear()
            self.bench.keeper.starts.clear()  # another life of the keeper: its tasks were ended with it
        self.bench.tell(events.KeeperLost())
        self.bench.tell(events.KeeperSynced(self.bench.keeper.synced()))

    @rule()
    def restart_volunteer(self) -> None:
        remembered = self.bench.wanted(effects.Remember)
        memory = remembered[-1].memory if remembered else Memory()
        before = self.bench
        self.bench = Harness(Config("node-a", max_answers=50, max_waiting=4, memory=memory), before.keeper)
        self.bench.now_ns = before.now_ns + 1
        before.keeper.events.clear()
        self.bench.attach(epoch=self.epoch)
        self.life += 1
        self.answers.clear()
        self.seen = 0

    # ---- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def no_generation_starts_twice(self) -> None:
        assert self.bench.keeper.asked_twice == []
        # A task that was released may be reserved again from the beginning; its generations count anew then.
        counted = Counter(self.bench.keeper.starts)
        released = [r.task for r in self.bench.keeper.requests if isinstance(r, local.Release)]
        for (task, generation), times in counted.items():
            assert times <= 1 + released.count(task), f"{task} generation {generation} started {times} times"

    @invariant()
    def no_signal_is_sent_twice(self) -> None:
        # One that was released and is there again may be sent it again: the keeper has forgotten the last.
        released = [r.task for r in self.bench.keeper.requests if isinstance(r, local.Release)]
        for (task, name), times in Counter(self.bench.keeper.signals).items():
            assert times <= 1 + released.count(task), f"{task} was sent {name} {times} times"

    @invariant()
    def only_what_runs_stands_still(self) -> None:
        for number, held in self.bench.keeper.slots.items():
            assert not held.paused or held.state == "running", f"slot {number} stands still, {held.state}"

    @invariant()
    def answers_repeat_equal(self) -> None:
        fresh, self.seen = self.bench.done[self.seen :], len(self.bench.done)
        for effect in fresh:
            if isinstance(effect, effects.SendAnswer):
                name = effect.answer.command_id
                if len(self.sent) <= 50:  # beyond the bound of the book an answer may be made anew
                    assert self.answers.setdefault(name, effect.answer) == effect.answer

    def teardown(self) -> None:
        """Once all is performed and time has passed, every command was answered and every slot comes free."""
        self.bench.perform_held()
        self.bench.advance(60)
        self.bench.tell(events.LinkLost(LINK))
        self.bench.perform_held()
        self.bench.advance(200)
        assert self.bench.core.held() == ()


Histories.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
TestHistories.__doc__ = "No generation starts twice, repeats get equal answers, every slot comes free."
