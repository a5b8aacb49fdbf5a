"""The highest epoch seen of each cluster, kept over restarts, so that a deposed manager starts nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from .. import durable
from ..local import ErrorCode
from .errors import KeeperError, failed

_MAX_CLUSTERS = 1024


class Epochs:
    """Fencing tokens by cluster, in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._saved, self.seen = _read(path)

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
            durable.replace(self._path, text)
            self._saved = text


def _read(path: Path) -> tuple[str, dict[str, int]]:
    """The file's text and what it says; raises KeeperError for a damaged one: beginning anew would let in a
    deposed manager."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return "{}", {}
    except (OSError, UnicodeDecodeError) as error:
        raise failed(f"cannot read the epochs in {path}: {error}") from error
    try:
        seen = json.loads(text)
    except (ValueError, RecursionError):
        seen = None
    if not isinstance(seen, dict) or not all(type(epoch) is int for epoch in seen.values()):
        raise failed(f"{path} is damaged: restore it, or remove it once no deposed manager can be running")
    return text, seen
