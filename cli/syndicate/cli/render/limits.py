"""The limits of a task in words."""

from __future__ import annotations

from syndicate.cli.render.quantities import binary_text, plural
from syndicate.v1.common_pb2 import Limits


def limits_text(limits: Limits) -> str:
    """``memory 512 MiB, 512 processes, disk 256 MiB …``: what is bounded, each bound once."""
    parts = []
    if limits.memory_bytes:
        parts.append(f"memory {binary_text(limits.memory_bytes)}")
    if limits.cpu_millis:
        noun = "processor" if limits.cpu_millis == 1000 else "processors"
        parts.append(f"{limits.cpu_millis / 1000:.10g} {noun}")
    if limits.pids:
        parts.append(plural(limits.pids, "process", "processes"))
    if limits.disk_bytes:
        parts.append(f"disk {binary_text(limits.disk_bytes)}")
    if limits.disk_inodes:
        parts.append(plural(limits.disk_inodes, "inode"))
    if limits.open_files:
        parts.append(plural(limits.open_files, "open file"))
    if limits.file_bytes:
        parts.append(f"a file {binary_text(limits.file_bytes)}")
    if limits.log_head_bytes or limits.log_tail_bytes:
        ends = [binary_text(size) for size in (limits.log_head_bytes, limits.log_tail_bytes)]
        parts.append(f"log {ends[0]} and the last {ends[1]}")
    return ", ".join(parts) or "none"
