"""The highest epoch seen of each cluster, kept over restarts, so that a deposed manager starts nothing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from ..local import ErrorCode
from .errors import KeeperError

_MAX_CLUSTERS = 1024


class Epochs:
    """Fencing tokens by cluster, in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._saved = path.read_text() if path.exists() else "{}"
        self.seen: dict[str, int] = json.loads(self._saved)

    def admit(self, cluster: str, epoch: int) -> None:
        """Remember the epoch if it is the highest; raises KeeperError for an older one."""
        known = self.seen.get(cluster)
        if known is None and len(self.seen) >= _MAX_CLUSTERS:
            raise KeeperError(
                ErrorCode.FAILED, f"epochs of {_MAX_CLUSTERS} clusters are known: no room for another"
            )
        if known is not None and epoch < known:
            raise KeeperError(ErrorCode.WRONG_STATE, f"epoch {epoch} of {cluster} is over: {known} was seen")
        self.seen[cluster] = epoch

    def save(self) -> None:
        """Write the file if it changed; blocks, raises OSError."""
        with self._lock:
            text = json.dumps(dict(self.seen), sort_keys=True)
            if text == self._saved:
                return
            fresh = self._path.with_suffix(".new")
            fresh.write_text(text)
            os.replace(fresh, self._path)
            self._saved = text
