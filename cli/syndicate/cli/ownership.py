"""Who may change what lies at a path: whoever may, may also put another thing in its place."""

from __future__ import annotations

import stat
from collections.abc import Container
from pathlib import Path


def who_else_may_change(path: Path, owners: Container[int], root: Path = Path("/")) -> str:
    """Why others than these users may; empty where nobody else may.

    ``path`` and all folders above it count, up to ``root``; what is not there yet is passed over. Of a link
    only that counts who may lay another one: where it leads is another path.
    """
    for place in (path, *path.parents):
        if not place.is_relative_to(root):
            break
        try:
            status = place.lstat()
        except FileNotFoundError:
            continue
        if status.st_uid not in owners:
            return f"{place} belongs to another user, uid {status.st_uid}"
        if stat.S_ISLNK(status.st_mode):  # has no mode of its own
            continue
        # In a folder like /tmp others make files, and change none but their own.
        shared = place != path and status.st_mode & stat.S_ISVTX
        by_group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
        if (by_group or status.st_mode & stat.S_IWOTH) and not shared:
            return f"{place} can be written by others"
    return ""
