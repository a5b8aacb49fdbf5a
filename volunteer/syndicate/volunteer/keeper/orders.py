"""What make is called with, and what stands in its environment."""

from __future__ import annotations

import resource

from ..local import Prepare, Role
from .sandbox import Layout, Orders, Unpacker

CHAOS_ADDRESS = "unix:/run/syndicate/chaos.sock"
_MOST_OPEN_FILES = 1 << 20  # the kernel's own bound, where nothing else says one


def orders_of(request: Prepare, unpacker: Unpacker, layout: Layout) -> Orders:
    """Orders for a generation of this task.

    A process has at most as many descriptors as the keeper itself may have, and a file is no larger than the
    task's disk, whatever the limits say.
    """
    addresses = {role: [member.address for member in request.members if member.role is role] for role in Role}
    master = ",".join(addresses[Role.MASTER])
    slaves = ",".join(addresses[Role.SLAVE])
    environment = {
        "HOME": layout.place,
        "SYNDICATE_JOB": str(request.task.job_id),
        "SYNDICATE_JOB_NAME": request.job_name,
        "SYNDICATE_ATTEMPT": str(request.task.attempt),
        "SYNDICATE_ROLE": request.role.value,
        "SYNDICATE_TASK": request.task.task,
        "SYNDICATE_ADDRESS": request.address,
        "SYNDICATE_MASTER": master,
        "SYNDICATE_SLAVES": slaves,
        "SYNDICATE_CLIENTS": ",".join(addresses[Role.CLIENT]),
    }
    if request.sync_server:
        environment["SYNDICATE_SYNC_SERVER"] = request.sync_server
    arguments = {
        Role.MASTER: ["master"],
        Role.SLAVE: [f"MASTER={master}", "slave"],
        Role.CLIENT: [f"MASTER={master}", f"SLAVES={slaves}", "client"],
    }
    if request.role is Role.CLIENT:
        environment["SYNDICATE_CHAOS"] = CHAOS_ADDRESS
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # which the sandbox inherited, and cannot raise
    most = _MOST_OPEN_FILES if most == resource.RLIM_INFINITY else most
    limits = request.limits
    open_files = min(limits.open_files or most, most)
    file_bytes = min(limits.file_bytes or limits.disk_bytes, limits.disk_bytes)
    return Orders(unpacker, layout, environment, arguments[request.role], open_files, file_bytes)
