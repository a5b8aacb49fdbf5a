"""A fault that the kernel refuses at one of several members: it is taken back at the others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from syndicate.client_api import Chaos, FaultFailed, FaultKind
from syndicate.volunteer.keeper.cgroups import find_mount

from tests.support.cluster import Cluster

pytestmark = pytest.mark.system


def frozen(cluster: Cluster) -> list[Path]:
    """The cgroups of tasks that stand still, as the kernel says."""
    mount = find_mount()
    assert mount is not None
    events = Path(mount, cluster.cgroup_name).glob("slot-*/g1/cgroup.events")
    return [file.parent for file in events if "frozen 1" in file.read_text()]


@contextmanager
def that_cannot_be_frozen(cluster: Cluster, cgroup: Path) -> Iterator[None]:
    """The kernel answers ENOSPC to the keeper, which sees the machine by a view of its own."""
    order = str(cgroup / "cgroup.freeze")
    view = ["nsenter", "--mount", f"--target={cluster.daemons['keeper'].pid}"]
    subprocess.run([*view, "mount", "--bind", "/dev/full", order], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run([*view, "umount", order], check=True, timeout=60)


def test_a_pause_that_fails_at_one_leaves_no_other_paused(cluster: Cluster) -> None:
    """The call fails and says where; the kernel shows the others running, the ledger a rollback."""
    job = cluster.submit("idle", machines=3)
    cluster.until_running(job)
    with cluster.users.chaos(job) as chaos:
        members = {member.task: member.address for member in chaos.members()}
        chaos.pause(members["slave-1"])
        (cgroup,) = frozen(cluster)
        chaos.resume(members["slave-1"])

        with that_cannot_be_frozen(cluster, cgroup), pytest.raises(FaultFailed) as failed:
            chaos.pause(list(members.values()), lease=60)

        assert frozen(cluster) == []
        said = str(failed.value)
        assert "PAUSE failed at slave-1: " in said and "No space left on device" in said, said
        assert "it was taken back at master, slave-0" in said, said
        assert_told(chaos, int(failed.value.metadata["call_id"]))
        assert not chaos.pause(list(members.values())).already
        assert len(frozen(cluster)) == 3
    cluster.users.cancel(job)
    cluster.wait(job)


def assert_told(chaos: Chaos, call: int) -> None:
    """The ledger has a line for each member, and nothing in force; the members' list says the same."""
    lines = [fault for fault in chaos.faults() if fault.call_id == call and fault.kind is FaultKind.PAUSE]
    assert [(line.task, line.healed_by, bool(line.error)) for line in lines] == [
        ("master", "rollback", False),
        ("slave-0", "rollback", False),
        ("slave-1", "", True),
    ]
    assert not any(fault.in_force for fault in chaos.faults())
    assert not any(member.paused for member in chaos.members())
