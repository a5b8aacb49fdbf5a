"""Sending a source: piece by piece, and no further than until the manager has answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from syndicate.client_api._pack import Source
from syndicate.v1 import scheduler_pb2

CHUNK_BYTES = 512 * 1024
_EARLY_ANSWER_S = 0.02


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A source is stored."""

    sha256: str
    size: int
    """Bytes."""
    already_known: bool
    """True when the manager had it before."""
    sent_bytes: int
    """How many of its bytes went out before the manager answered."""


class Upload:
    """The pieces of one upload, with a count of what went out."""

    def __init__(
        self,
        source: Source,
        header: scheduler_pb2.UploadHeader,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.sent = 0
        self.answered = threading.Event()
        self._source = source
        self._header = header
        self._progress = progress

    def requests(self) -> Iterator[scheduler_pb2.UploadSourceRequest]:
        """What goes out, until ``answered`` is set."""
        yield scheduler_pb2.UploadSourceRequest(header=self._header)
        # A manager that knows the source answers the header alone; a moment's patience saves the sending.
        if self.answered.wait(_EARLY_ANSWER_S):
            return
        for chunk in self._source.chunks(CHUNK_BYTES):
            if self.answered.is_set():
                return
            self.sent += len(chunk)
            yield scheduler_pb2.UploadSourceRequest(chunk=chunk)
            if self._progress is not None:
                self._progress(self.sent, self._source.size)
