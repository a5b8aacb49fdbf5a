"""`syndicatectl doctor`: this machine, and the manager for its users."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from syndicate.cli import debug_items
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, node


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks bubblewrap; what is really there is for the tests of the volunteer's doctor."""
    one = {"name": "bwrap", "level": "missing", "detail": "no", "remedy": "apt-get", "isolation": False}
    monkeypatch.setattr(debug_items, "doctor", lambda: json.dumps([one]))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the command line alone."""

    def left() -> str:
        raise debug_items.Left("syndicate-volunteer is not installed")

    monkeypatch.setattr(debug_items, "doctor", left)


def found(ctl: Ctl) -> dict[str, Any]:
    """What it says, by name."""
    return {one["name"]: one for one in ctl("doctor", "--json").document}


@pytest.mark.usefixtures("bare")
def test_all_is_well(ctl: Ctl, manager: FakeManager) -> None:
    """The manager, its clock and its volunteers; a machine without the volunteer's software lacks nothing."""
    manager.scheduler.true_clock = True
    told = ctl("doctor", "--json")
    levels = {one["name"]: one["level"] for one in told.document}
    assert (told.code, set(levels.values())) == (0, {"ok"})
    assert list(levels) == ["volunteer", "users", "users-clock", "volunteers"]


@pytest.mark.usefixtures("lacking")
def test_what_is_missing_is_told_with_what_mends_it(ctl: Ctl) -> None:
    """As on the volunteer's own command; the status says that something is."""
    told = ctl("doctor")
    assert told.code == 71
    assert "missing   bwrap        no\n" in told.out and "mend it:  apt-get" in told.out


@pytest.mark.usefixtures("bare")
def test_a_manager_that_is_away_is_a_finding(bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address that was tried."""
    monkeypatch.setenv("SYNDICATE_MANAGER", "127.0.0.1:1")
    users = found(bare_ctl)["users"]
    assert users["level"] == "missing" and "127.0.0.1:1" in users["detail"] and users["remedy"]


@pytest.mark.usefixtures("bare")
def test_a_token_that_is_not_known_is_a_finding(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager answers, and not to this user."""
    monkeypatch.setenv("SYNDICATE_TOKEN", "syn_nobody_nothing")
    users = found(ctl)["users"]
    assert users["level"] == "missing" and "does not know the token" in users["detail"]


@pytest.mark.usefixtures("bare")
def test_a_clock_that_is_off_is_told(ctl: Ctl, manager: FakeManager) -> None:
    """With how far, and with what sets it."""
    manager.scheduler.cluster.now.utc_ns = time.time_ns() - 90 * 10**9
    clock = found(ctl)["users-clock"]
    assert clock["level"] == "degraded" and "ahead of" in clock["detail"]
    off = re.search(r"\b(\d+\.\d) s", clock["detail"])
    assert off is not None and 90 <= float(off[1]) < 150, clock["detail"]


@pytest.mark.usefixtures("bare")
def test_volunteers_that_are_away_are_named(ctl: Ctl, manager: FakeManager) -> None:
    """The cluster works on without them."""
    manager.scheduler.nodes.append(node("node-b", scheduler.NODE_STATE_AWAY, 1))
    volunteers = found(ctl)["volunteers"]
    assert (volunteers["level"], volunteers["detail"]) == ("degraded", "1 of 2 are away: node-b")
