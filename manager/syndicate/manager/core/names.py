"""What may be the name of a volunteer, a user, a job or a task."""

from __future__ import annotations

import re

_NAME = re.compile(r"[a-z0-9-]{1,63}")


def is_name(text: str) -> bool:
    """Whether it is one: of `a-z`, `0-9` and `-`, so that paths, lines and host names may hold it."""
    return _NAME.fullmatch(text) is not None
