"""Leaves out the pieces of a log that were given already, when its stream is opened again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from syndicate.v1 import common_pb2, scheduler_pb2


@dataclass(slots=True)
class _Seen:
    end: int
    """All bytes below this offset were given."""
    last_read: common_pb2.Stamp
    """When the last piece was read on its volunteer."""


class LogResume:
    """Knows what was given, for each run of each task.

    A stream that is opened again begins anew. A piece is a repeat when it lies below what was given *and* was
    read no later than the last piece: a job that was requeued meanwhile counts its generations and offsets
    from the start again, and its pieces are new.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._openings = 0

    def reopened(self) -> None:
        """The stream begins, or begins anew."""
        self._openings += 1

    def fresh(self, answer: scheduler_pb2.ReadLogsResponse) -> scheduler_pb2.ReadLogsResponse | None:
        """The part of ``answer`` that was not given yet; None for nothing."""
        key = (answer.task, answer.generation)
        piece = answer.piece
        end = piece.offset + len(piece.data)
        seen = self._seen.get(key)
        repeat = (
            self._openings > 1
            and seen is not None
            and piece.offset < seen.end
            and piece.read_at.boot_id == seen.last_read.boot_id
            and piece.read_at.monotonic_ns <= seen.last_read.monotonic_ns
        )
        if not repeat or seen is None:
            self._seen[key] = _Seen(end, piece.read_at)
            return answer
        if end <= seen.end:
            return None
        fresh = scheduler_pb2.ReadLogsResponse()
        fresh.CopyFrom(answer)
        fresh.piece.data = piece.data[seen.end - piece.offset :]
        fresh.piece.offset = seen.end
        fresh.piece.dropped_before = 0
        self._seen[key] = _Seen(end, piece.read_at)
        return fresh
