"""The Raft example's client, against members that run: a sound store, and two with a bug each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from check import cluster as client
from check.__main__ import Completed, Run
from check.cluster import UndecidedError
from check.plan import ChaosCalls, Plan
from check.split import MissedError, Split
from check.workload import Workload
from raft_cluster import Cluster, LocalChaos
from syndicate.client_api.checkers import Answer, Verdict
from syndicate.client_api.history import History, Outcome, read
from syndicate.client_api.testing import FakeChaos

# A whole run in this process takes 20 s, and each thing in it is waited for for a minute.
pytestmark = pytest.mark.timeout(600)
PLAN_STEPS = 7  # before the split vote, each a fault and its heal


class Checked:
    """A cluster in this process, and what a whole run of the client says of it."""

    def __init__(self, folder: Path, net: str, seed: int, **bugs: bool) -> None:
        self.path = folder / "history.jsonl"
        with Cluster(folder, net, **bugs) as cluster, History(self.path) as history:
            self.chaos = LocalChaos(cluster)
            history.set_clock(self.chaos.ping())
            names = {member: f"n{number}" for number, member in enumerate(cluster.members)}
            run = Run(self.chaos, names, history, seed, successes=5, pace=0.01)
            self.verdict: Verdict = run.work()
            self.metrics: dict[str, float] = run.metrics()
            self.text = "\n".join([self.verdict.text(), *run.table()])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """A run on the store as it should be."""
    return Checked(tmp_path_factory.mktemp("sound"), "127.77.1", seed=1)


def test_a_sound_store_comes_out_true(sound: Checked) -> None:
    """Linearizable, available after each heal, and each kind of operation succeeded in each window."""
    assert sound.verdict.answer is Answer.TRUE, sound.text
    assert sorted(sound.verdict.parts) == ["available", "completed", "linearizable", "tested"]


def test_it_has_elections_isolated_leaders_and_windows(sound: Checked) -> None:
    """At least three elections and one leader cut off; one leader a term; eight windows of a second."""
    metrics = sound.metrics
    assert metrics["elections"] >= 3 and metrics["leaders_isolated"] >= 1, metrics
    assert metrics["terms_with_two_leaders"] == 0 and metrics["seed"] == 1, metrics
    assert metrics["fault_windows"] == PLAN_STEPS + 1, metrics


def test_each_fault_is_healed(sound: Checked) -> None:
    """Nobody is left cut off, apart from others, frozen or dead."""
    cut: set[str] = set()
    dead: set[str] = set()
    still: set[str] = set()
    partitions = 0
    for call in sound.chaos.job.calls:
        request: Any = call.request
        if call.rpc in ("Ping", "ListFaults"):
            continue
        if call.rpc in ("Partition", "Heal"):
            partitions += 1 if call.rpc == "Partition" else -1
            continue
        who = set(request.ips) | ({request.ip} if request.ip else set())
        if call.rpc == "Disconnect":
            cut |= who
        elif call.rpc == "Reconnect":
            cut -= who
        elif call.rpc == "Kill":
            dead |= who
        elif call.rpc == "Revive":
            dead -= who
        elif call.rpc == "Pause":
            still |= who
        elif call.rpc == "Resume":
            still -= who
    assert (cut, dead, still, partitions) == (set(), set(), set(), 0)
    assert {"Partition", "Pause"} <= {call.rpc for call in sound.chaos.job.calls}


def test_a_write_without_a_majority_is_recorded_as_unknown(sound: Checked) -> None:
    """The first candidate has no majority for its write: nobody knows what becomes of it."""
    operations = read(sound.path).operations
    early = [one for one in operations if one.kind == "append" and one.process == "at first"]
    # A try of the split vote that was broken off may have had one, too.
    assert {one.outcome for one in early} == {Outcome.INFO}


def test_stale_reads_are_found(tmp_path: Path) -> None:
    """With the bug STALE_READS a leader that was cut off answers with what is old."""
    checked = Checked(tmp_path, "127.77.2", seed=2, stale_reads=True)

    assert checked.verdict.answer is Answer.FALSE, checked.text
    assert checked.verdict.reason.startswith("linearizable: get ")


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """A run of the same seed as the sound one, on a store that forgets its votes."""
    return Checked(tmp_path_factory.mktemp("forgetful"), "127.77.3", seed=1, forget_vote=True)


def test_a_forgotten_vote_is_found(forgetful: Checked) -> None:
    """With the bug FORGET_VOTE one term has two leaders, and a write that was acknowledged is gone."""
    checked = forgetful

    assert checked.metrics["terms_with_two_leaders"] >= 1, checked.text
    assert checked.verdict.answer is Answer.FALSE, checked.text
    assert re.search(r'append split\d* "second"', checked.verdict.text())


def test_one_seed_breaks_the_same_things_in_the_same_order(sound: Checked, forgetful: Checked) -> None:
    """The kinds of faults and their order come from the seed alone, whoever leads."""
    assert split_once(sound) == split_once(forgetful)


def split_once(checked: Checked) -> list[str]:
    """What was called; of a split vote that was tried again, as on a busy machine, the last try."""
    calls = [call.rpc for call in checked.chaos.job.calls]
    split = ["Disconnect", "Kill", "Reconnect", "Disconnect", "Reconnect", "Revive", "Pause", "Reconnect"]
    split += ["Resume", "Reconnect"]
    assert calls[0] == "Ping" and calls[-1] == "ListFaults" and calls[-11:-1] == split
    return [*calls[: 1 + 2 * PLAN_STEPS], *calls[-11:]]


def test_a_call_that_the_replayed_job_had_not_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line with the manager's sentence, and in the verdict; what was seen is judged all the same."""
    text = "this job replays job 12, and there is no KILL of slave-0 left there: nothing was done"
    with Cluster(tmp_path, "127.77.4") as cluster, History(tmp_path / "history.jsonl") as history:
        chaos = LocalChaos(cluster)
        history.set_clock(chaos.ping())
        for rpc in ("Kill", "Pause", "Partition", "Disconnect"):
            chaos.job.fail_next(rpc, "NOT_IN_REPLAY", text)
        names = {member: f"n{number}" for number, member in enumerate(cluster.members)}

        verdict = Run(chaos, names, history, seed=1, successes=5, pace=0.01).work()

    assert (verdict.answer, verdict.reason) == (Answer.UNKNOWN, f"completed: {text}")
    assert verdict.parts["linearizable"].answer is Answer.TRUE
    said = capsys.readouterr().out.splitlines()
    assert [line.partition("  stopped: ")[2] for line in said if text in line] == [text]


def test_a_plan_that_stopped_is_no_pass() -> None:
    """What could not be done to its end is unknown, with the reason."""
    verdict = Completed(UndecidedError("waited for a leader for 60 s")).check([])

    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "waited for a leader for 60 s"


class Unlucky(Plan):
    """A plan whose split vote shows nothing, so many times."""

    def __init__(self, times: int, **parts: Any) -> None:
        super().__init__(**parts)
        self.outcomes = ["a leader was lost"] * times + [""]
        self.splits: list[int] = []
        self.served: list[int] = []  # the tries after which the store was seen to serve

    def _serve(self, name: str, successes: int) -> None:
        self.served.append(self.splits[-1])

    def _split_once(self, number: int) -> str:
        self.splits.append(number)
        return self.outcomes.pop(0)


def unlucky(folder: Path, missed: int) -> tuple[Unlucky, list[str]]:
    """Such a plan, and the list that it says its lines to."""
    cluster, said = client.Cluster({f"127.77.9.{number}": f"n{number}" for number in range(5)}), list[str]()
    cluster.close()  # nobody is asked
    with History(folder / "history.jsonl") as history:
        workload = Workload(cluster.members, history, 1, 0.01)
        plan = Unlucky(
            missed,
            chaos=cast(ChaosCalls, None),
            cluster=cluster,
            workload=workload,
            history=history,
            seed=1,
            say=said.append,
            successes=1,
        )
    return plan, said


@pytest.mark.parametrize(("missed", "splits"), [(0, [1]), (1, [1, 2]), (4, [1, 2, 3, 4, 5])])
def test_a_split_vote_that_showed_nothing_is_tried_again(
    tmp_path: Path, missed: int, splits: list[int]
) -> None:
    """A busy machine must not let a forgotten vote pass; before the next try the store serves again."""
    plan, said = unlucky(tmp_path, missed)

    plan._split_vote()

    assert plan.splits == splits
    assert said == ["a leader was lost, which shows nothing"] * missed
    assert plan.served == splits[:missed]


def test_a_split_vote_that_never_showed_anything_is_undecided(tmp_path: Path) -> None:
    """It is not tried for ever, and the store does not pass by that: with the reason of the last try."""
    plan, _ = unlucky(tmp_path, 9)

    with pytest.raises(UndecidedError, match="showed nothing in 5 tries: a leader was lost"):
        plan._split_vote()

    assert plan.splits == [1, 2, 3, 4, 5]


class Told(client.Cluster):
    """A cluster whose members say what is written down for them, one after the other, the last for ever."""

    def __init__(self, members: Sequence[str], **said: list[dict[str, Any]]) -> None:
        super().__init__({member: f"n{number}" for number, member in enumerate(members)})
        self.said = {member: said.get(f"n{number}", []) for number, member in enumerate(members)}

    def status(self, member: str) -> dict[str, Any]:
        """The next of it."""
        said = self.said[member]
        return said.pop(0) if len(said) > 1 else said[0]

    def stand(self, member: str, seconds: float) -> int:
        """In a term that is always the same."""
        return 7

    def until_all_vote(self) -> None:
        """At once."""


MEMBERS = [f"127.77.10.{number}" for number in range(5)]  # first, first_helper, voter, second, second_helper


def status(role: str, granted: Sequence[int] = (), refused: Sequence[int] = (), last: int = 3) -> Any:
    """What a member says of itself in term 7."""
    votes = {"granted": [MEMBERS[n] for n in granted], "refused": [MEMBERS[n] for n in refused]}
    return {"role": role, "term": 7, "last": last, **votes}


WINS = [status("candidate", [0]), status("candidate", [0, 2]), status("leader"), status("leader")]


@pytest.mark.parametrize(
    ("first", "second", "lost", "calls"),
    [
        ([status("candidate", [0], [2])], [], "n2 has heard of a later leader", ["Disconnect", "Reconnect"]),
        (
            [*WINS[:2], status("follower")],
            [],
            "n0 has lost term 7, waiting for the first candidate to lead",
            ["Disconnect", "Kill", "Reconnect", "Revive", "Reconnect"],
        ),
        (
            [*WINS, status("follower")],
            [],
            "n0 has lost term 7, waiting for its entry",
            ["Disconnect", "Kill", "Reconnect", "Revive", "Reconnect"],
        ),
        (
            [*WINS, status("leader", last=4)],
            [status("candidate", [3, 2]), status("follower")],
            "n3 has lost term 7, waiting for the second candidate to lead",
            [
                *("Disconnect", "Kill", "Reconnect", "Disconnect", "Reconnect", "Revive", "Pause"),
                *("Reconnect", "Resume", "Reconnect"),
            ],
        ),
    ],
)
def test_a_schedule_that_lost_its_leader_is_taken_back(
    tmp_path: Path, first: list[Any], second: list[Any], lost: str, calls: list[str]
) -> None:
    """Whoever should stand or lead does so no more: nobody is left cut off, frozen or dead."""
    cluster = Told(MEMBERS, n0=first, n3=second)
    chaos = FakeChaos(members=MEMBERS)
    with History(tmp_path / "history.jsonl") as history:
        split = Split(chaos, cluster, history, lambda _line: None, MEMBERS, "split")

        with pytest.raises(MissedError, match=lost):
            split.vote()
        split.mend()
    cluster.close()

    assert [call.rpc for call in chaos.job.calls] == calls
    assert not [fault for fault in chaos.faults() if fault.in_force]
