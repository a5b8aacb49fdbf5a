"""Which of root's rights a keeper has: in a container, or a unit that takes some away, root may not do all.

What its children may have counts, too: bubblewrap is started as root and gets what the bounding set leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Capability:
    """One right: its number is the kernel's (capabilities(7)), `purpose` what the keeper does with it."""

    name: str
    number: int
    purpose: str
    needed: bool = True  # without it a keeper cannot work


CAPABILITIES = (
    Capability("chown", 0, "gives sockets to the volunteer"),
    Capability("dac_override", 1, "reads the volunteer's cache, and removes what tasks leave"),
    Capability("fowner", 3, "makes and removes what is in folders of tasks"),
    Capability("setgid", 6, "gives each slot a gid of its own"),
    Capability("setuid", 7, "gives each slot a uid of its own"),
    Capability("setpcap", 8, "takes all rights from tasks"),
    Capability("net_admin", 12, "makes networks and cuts them"),
    Capability("sys_chroot", 18, "enters the mounts of slots"),
    Capability("sys_admin", 21, "mounts disks, and makes namespaces"),
    Capability("mknod", 27, "makes the devices that tasks see"),
    Capability("kill", 5, "kills what cgroup.kill did not reach", needed=False),
    Capability("sys_ptrace", 19, "tells a task's programs from what waits for them", needed=False),
    Capability("sys_nice", 23, "sends delayed packets in time", needed=False),
    Capability("sys_resource", 24, "raises bounds that the machine sets lower", needed=False),
)


def held(status: Path = _STATUS) -> int:
    """The rights that this process has and may pass on, a bit for each number."""
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(fields["CapEff"], 16) & int(fields["CapBnd"], 16)


def has(capabilities: int, capability: Capability) -> bool:
    """Whether it is among them."""
    return bool(capabilities >> capability.number & 1)
