"""``nodes``, ``node drain`` and ``resume``, ``cluster``."""

from __future__ import annotations

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager


def test_nodes_are_drained_and_resumed(ctl: Ctl, manager: FakeManager) -> None:
    """nodes shows slots and state; node drain and resume change it; an unknown node is 66."""
    assert "node-a   READY   8 of 8 free" in ctl("nodes").out
    assert "DRAINED" in ctl("node", "drain", "node-a").out
    assert ctl("nodes", "--json").document["nodes"][0]["state"] == "drained"
    assert "READY" in ctl("node", "resume", "node-a").out
    assert ctl("node", "drain", "node-z").code == 66


def test_cluster_in_numbers(ctl: Ctl) -> None:
    """cluster prints slots, jobs and limits."""
    assert "slots          6 of 8 free" in ctl("cluster").out
    assert ctl("cluster", "--json").document["epoch"] == 3


def test_drain_in_json(ctl: Ctl) -> None:
    """Each volunteer with its state now."""
    assert ctl("node", "drain", "node-a", "--json").document == {
        "nodes": [{"volunteer_id": "node-a", "state": "drained"}]
    }
    assert ctl("node", "resume", "node-a", "--json").document["nodes"][0]["state"] == "ready"


def test_drain_of_some_that_are_not_there_changes_nothing(ctl: Ctl) -> None:
    """All or none: a name that is not known is told with those that are."""
    refused = ctl("node", "drain", "node-a", "node-z")
    assert refused.code == 66
    assert refused.err == ("error: there is no volunteer node-z\n  Nothing was changed. There is: node-a.\n")
    assert ctl("nodes", "--json").document["nodes"][0]["state"] == "ready"
