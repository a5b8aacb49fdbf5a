"""``nodes``, ``node drain`` and ``resume``, ``cluster``."""

from __future__ import annotations

from syndicate.cli.render.tables import cannot_lines
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1.common_pb2 import Limits

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import FakeManager, node


def test_nodes_are_drained_and_resumed(ctl: Ctl, manager: FakeManager) -> None:
    """nodes shows slots and state; node drain and resume change it; an unknown node is 66."""
    assert "node-a   READY   8 of 8 free" in ctl("nodes").out
    assert "DRAINED" in ctl("node", "drain", "node-a").out
    assert ctl("nodes", "--json").document["nodes"][0]["state"] == "drained"
    assert "READY" in ctl("node", "resume", "node-a").out
    assert ctl("node", "drain", "node-z").code == 66


def test_what_a_volunteer_lacks_stands_beside_it(ctl: Ctl, manager: FakeManager) -> None:
    """A column of its own, there only where a volunteer lacks something; in JSON always."""
    assert "UNSAFE" not in ctl("nodes").out
    assert ctl("nodes", "--json").document["nodes"][0]["unsafe"] == []
    manager.scheduler.nodes[0].unsafe.extend(["seccomp", "cgroup-pids"])
    manager.scheduler.nodes.append(node("node-b", scheduler.NODE_STATE_READY, 1))

    header, unsafe, safe = ctl("nodes").out.splitlines()

    assert header.endswith("UNSAFE")
    assert unsafe.endswith("seccomp, cgroup-pids")
    assert safe.endswith("-")
    assert ctl("nodes", "--json").document["nodes"][0]["unsafe"] == ["seccomp", "cgroup-pids"]


def test_cluster_in_numbers(ctl: Ctl) -> None:
    """cluster prints slots, jobs and limits."""
    assert "slots          6 of 8 free" in ctl("cluster").out
    assert ctl("cluster", "--json").document["epoch"] == 3
    assert "limits" not in ctl("cluster").out


def test_cluster_tells_what_a_task_may_use(ctl: Ctl, manager: FakeManager) -> None:
    """By default and at most; what has no bound is not named."""
    manager.scheduler.cluster.default_limits.CopyFrom(
        Limits(memory_bytes=512 << 20, pids=512, disk_bytes=256 << 20, open_files=4096)
    )
    manager.scheduler.cluster.max_limits.CopyFrom(Limits(memory_bytes=1088 << 20, cpu_millis=1500))

    lines = ctl("cluster").out.splitlines()

    assert "limits         of a task: memory 512 MiB, 512 processes, disk 256 MiB, 4,096 open files" in lines
    assert "               at most: memory 1,088 MiB, 1.5 processors" in lines
    assert ctl("cluster", "--json").document["max_limits"]["memory_bytes"] == 1088 << 20


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


def test_certificates_that_run_out_are_told(ctl: Ctl, manager: FakeManager) -> None:
    """A column where there are any; a line where one should have been renewed long ago."""
    assert "CERTIFICATE" not in ctl("nodes").out
    now_ns = ctl("cluster", "--json").document["now"]["utc_ns"]
    manager.scheduler.nodes.append(node("node-b", scheduler.NODE_STATE_READY, 1))
    for one, days in zip(manager.scheduler.nodes, (80, 13.4), strict=True):
        one.certificate_expires_at.utc_ns = now_ns + int(days * 86_400e9)

    header, good, soon, warning = ctl("nodes").out.splitlines()

    assert header.endswith("CERTIFICATE") and good.endswith("80 days") and soon.endswith("13 days")
    assert warning == "certificates that expire soon: node-b   syndicatectl certs renew HOST"


def test_what_a_volunteer_cannot_do_is_told(ctl: Ctl, manager: FakeManager) -> None:
    """A short column where one lacks something; the reasons on request, and in JSON always."""
    assert "CANNOT" not in ctl("nodes").out
    manager.scheduler.nodes.append(node("node-b", scheduler.NODE_STATE_READY, 1))
    for one in manager.scheduler.nodes:
        one.cannot.add(capability="delay", why="this kernel has no netem")
    manager.scheduler.nodes[1].cannot.add(capability="pause", why="no freezer")

    header, first, second = ctl("nodes").out.splitlines()
    wide = ctl("nodes", "--wide").out.splitlines()

    assert header.endswith("CANNOT") and first.endswith("delay") and second.endswith("delay, pause")
    assert wide[3:] == [
        "cannot delay   node-a, node-b: this kernel has no netem",
        "cannot pause   node-b: no freezer",
    ]
    told = ctl("nodes", "--json").document["nodes"][1]["cannot"]
    assert told[1] == {"capability": "pause", "why": "no freezer"}


def test_a_reason_is_told_once(ctl: Ctl, manager: FakeManager) -> None:
    """For all that the same volunteers cannot do by it, as for each fault that the host's network has not."""
    manager.scheduler.nodes.append(node("node-b", scheduler.NODE_STATE_READY, 1))
    for one in manager.scheduler.nodes:
        for capability in ("reset", "loss", "rate", "delay"):
            one.cannot.add(capability=capability, why=f"{capability}: not in the host's network")
        one.cannot.add(capability="pause", why="no freezer")
    manager.scheduler.nodes[1].cannot.add(capability="jitter", why="jitter: not in the host's network")

    wide = ctl("nodes", "--wide").out.splitlines()

    assert wide[3:] == [
        "cannot reset, loss, rate, delay   node-a, node-b: not in the host's network",
        "cannot pause   node-a, node-b: no freezer",
        "cannot jitter   node-b: not in the host's network",
    ]
    told = ctl("nodes", "--json").document["nodes"][0]["cannot"]
    assert [one["capability"] for one in told] == ["reset", "loss", "rate", "delay", "pause"]
    assert told[0]["why"] == "reset: not in the host's network"


def test_a_long_list_of_what_cannot_be_done_leaves_room_for_the_reason() -> None:
    """On a narrow terminal too: all of the line goes on below its beginning."""
    lacking = ("reset", "loss", "rate", "delay", "jitter", "duplicate", "corrupt", "reorder")
    one = node("node-a", scheduler.NODE_STATE_READY, 1)
    for capability in lacking:
        one.cannot.add(capability=capability, why="not in the host's network")

    assert cannot_lines([one], 78) == [
        f"cannot {', '.join(lacking)}   node-a:",
        "       not in the host's network",
    ]
