"""What the ledger of faults says, held against what the members suffer."""

from __future__ import annotations

from manager_core.harness import Cluster
from syndicate.manager.core import desired
from syndicate.manager.core import effects as fx
from syndicate.manager.core.model import JobState, Role, TaskState
from syndicate.manager.core.records import FaultRecord
from syndicate.manager.core.state import Plane


def check_faults(cluster: Cluster) -> None:
    """Each member suffers exactly what the ledger says, where nothing is under way and nothing is unsure."""
    world = cluster.machine._world
    for job in world.jobs.values():
        if job.record.state is not JobState.RUNNING:
            continue
        lines = [line for line in cluster.job(job.record.job_id).faults if in_force(line)]
        for task in job.tasks.values():
            volunteer = cluster.volunteers[task.record.volunteer_id]
            held = volunteer.held.get(task.record.slot)
            if task.ops or task.record.state is TaskState.LOST or held is None or not volunteer.session:
                continue
            mine = [line for line in lines if line.task == task.record.task]
            # Whatever is in the way from the manager to the volunteer has arrived before this is called.
            if Plane.NETWORK not in task.unsure:
                others = [
                    other.record.address
                    for other in job.tasks.values()
                    if other.record.role is not Role.CLIENT and other is not task
                ]
                wanted = desired.network(mine, others, lambda name, job=job: job.tasks[name].record.address)
                assert held.network == wanted, (job.record.job_id, task.record.task, mine)
            if Plane.TASK not in task.unsure and held.state is task.record.state:
                frozen = held.paused and held.state is TaskState.RUNNING
                assert fx.SetTask(frozen, held.disk_full) == desired.task(mine), (task.record, mine)


def in_force(line: FaultRecord) -> bool:
    """Whether a line of the ledger lasts, and was not taken back."""
    held = line.applied_at is not None and not line.error
    return held and line.kind in desired.LASTING and line.healed_at_manager is None
