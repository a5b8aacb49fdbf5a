"""The slot's transition table, leases and epochs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from keeper.harness import SECONDS
from syndicate.volunteer.clock import Clock
from syndicate.volunteer.keeper.epochs import Epochs
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.lease import Leases
from syndicate.volunteer.keeper.states import NEXT, Step, after
from syndicate.volunteer.local import ErrorCode, SlotState


def test_every_state_can_be_left_and_reached() -> None:
    """No state of a slot is a dead end or out of reach."""
    assert {state for state, _ in NEXT} == set(SlotState) == set(NEXT.values())


def test_step_that_the_table_lacks_is_a_broken_invariant() -> None:
    """An empty slot cannot start: that is a bug, and crashes."""
    with pytest.raises(RuntimeError, match="cannot start"):
        after(SlotState.EMPTY, Step.START)


async def test_lease_lapses_once() -> None:
    """A lease that is renewed holds, and one that runs out is told once."""
    lapsed: list[str] = []
    told = asyncio.Event()

    def tell(cluster: str) -> None:
        lapsed.append(cluster)
        told.set()

    clock = Clock()
    leases = Leases(clock, tell)
    assert not leases.holds("a")
    for cluster in ("a", "b"):
        leases.renew(cluster, clock.now_ns() + 600_000_000_000)
    assert leases.holds("a")
    leases.renew("a", clock.now_ns() + 20_000_000)

    async with asyncio.timeout(SECONDS):
        await told.wait()

    assert lapsed == ["a"]
    assert not leases.holds("a")
    assert leases.holds("b")
    leases.close()


async def test_lease_in_the_past_lapses_at_once() -> None:
    """A renewal until an instant that is over ends the cluster's tasks."""
    lapsed: list[str] = []
    leases = Leases(Clock(), lapsed.append)

    leases.renew("a", time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 1)

    assert lapsed == ["a"]
    leases.close()


def test_epochs_outlive_the_keeper(tmp_path: Path) -> None:
    """A new keeper refuses what the last one had seen superseded."""
    epochs = Epochs(tmp_path / "epochs.json")
    epochs.admit("c1", 4)
    epochs.save()

    again = Epochs(tmp_path / "epochs.json")

    with pytest.raises(KeeperError) as caught:
        again.admit("c1", 3)
    assert caught.value.code is ErrorCode.WRONG_STATE
    again.admit("c1", 4)
    again.admit("c2", 1)


@pytest.mark.parametrize("text", ["", '{"c1": 4', "[]", '{"c1": "x"}'])
def test_damaged_epochs_are_refused(tmp_path: Path, text: str) -> None:
    """A torn file is told in one clear line, and never taken for an empty one."""
    path = tmp_path / "epochs.json"
    path.write_text(text)

    with pytest.raises(KeeperError, match="is damaged") as caught:
        Epochs(path)

    assert "\n" not in caught.value.detail
    assert path.read_text() == text


def test_epochs_are_on_disk_before_they_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it takes the place of the old one, and then the folder that names it."""
    done: list[str] = []
    sync, take = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append(f"sync {os.readlink(f'/proc/self/fd/{descriptor}')}")
        sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        done.append(f"rename {source}")
        take(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    epochs = Epochs(tmp_path / "epochs.json")
    epochs.admit("c1", 3)

    epochs.save()
    epochs.save()

    fresh = tmp_path / "epochs.json.new"
    assert done == [f"sync {fresh}", f"rename {fresh}", f"sync {tmp_path}"]
