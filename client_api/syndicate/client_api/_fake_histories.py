"""Histories that are handed over to a fake job, kept in memory by the manager's rules."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from syndicate.client_api._errors import ChaosError, SchedulerError
from syndicate.client_api._fake_checks import refusal
from syndicate.v1 import chaos_pb2

MOST_HISTORIES = 16
HISTORY_BYTES = 64 << 20
JOB_BYTES = 256 << 20
PIECE_BYTES = 192 << 10
LONGEST_WAIT_S = 60.0
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class _Held:
    data: bytes = b""
    sha256: str = ""


class FakeHistories:
    """What the clients of a fake job handed over. Everything raises ChaosError."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], _Held] = {}
        self._finals: dict[str, int] = {}

    def data(self, task: str, name: str = "history") -> bytes:
        """The bytes of a history, for a test to look at; empty where there is none."""
        found = self._held.get((task, name))
        return b"" if found is None else found.data

    def put(
        self, task: str, generation: int, request: chaos_pb2.PutHistoryRequest
    ) -> chaos_pb2.PutHistoryResponse:
        """Keeps a piece."""
        name = _checked(request)
        held = self._held.get((task, name), _Held())
        fresh = self._fresh(task, name, held, request)
        if fresh or (request.sha256 and not held.sha256) or (task, name) not in self._held:
            self._require_room(task, name, generation, held, fresh)
            data = held.data + fresh
            if request.sha256 and hashlib.sha256(data).hexdigest() != request.sha256:
                raise refusal("BAD_FIELD", "the digest is another one")
            self._held[task, name] = held = _Held(data, request.sha256)
        if request.final:
            self._finals[task] = max(generation, self._finals.get(task, 0))
        return chaos_pb2.PutHistoryResponse(size=len(held.data))

    def has_all_of(self, task: str, generation: int) -> bool:
        """Whether a client said that it hands nothing more over."""
        return self._finals.get(task, 0) >= generation

    def listed(self, missing: Collection[str]) -> chaos_pb2.GatherHistoriesResponse:
        """What there is."""
        infos = [
            chaos_pb2.HistoryInfo(task=task, name=name, size=len(held.data), sha256=held.sha256)
            for (task, name), held in sorted(self._held.items())
        ]
        return chaos_pb2.GatherHistoriesResponse(histories=infos, missing=missing)

    def read(self, request: chaos_pb2.ReadHistoryRequest) -> chaos_pb2.ReadHistoryResponse:
        """A piece of one."""
        found = self._held.get((request.task, request.name or "history"))
        if found is None:
            raise refusal("NO_SUCH_HISTORY", f"{request.task!r:.64} has handed no {request.name!r:.64} over")
        if request.offset < 0:
            raise refusal("BAD_FIELD", f"offset is {request.offset}")
        return chaos_pb2.ReadHistoryResponse(data=found.data[request.offset :][:PIECE_BYTES])

    def _fresh(self, task: str, name: str, held: _Held, request: chaos_pb2.PutHistoryRequest) -> bytes:
        size, end = len(held.data), request.offset + len(request.data)
        if request.offset > size:
            raise refusal(
                "BAD_FIELD", f"offset is {request.offset}, and {size} bytes are here", have=str(size)
            )
        again = request.data[: size - request.offset]
        if held.data[request.offset : request.offset + len(again)] != again:
            raise refusal("HISTORY_CLOSED", f"there is another history {name} of {task}", name=name)
        other = bool(request.sha256) and (request.sha256 != held.sha256 or end < size)
        if held.sha256 and (end > size or other):
            raise refusal("HISTORY_CLOSED", f"the history {name} of {task} is whole already", name=name)
        if request.sha256 and end < size:
            raise refusal("BAD_FIELD", f"the last piece ends before byte {size}", have=str(size))
        return request.data[len(again) :]

    def _require_room(self, task: str, name: str, generation: int, held: _Held, fresh: bytes) -> None:
        if self.has_all_of(task, generation):
            raise refusal("HISTORY_CLOSED", f"{task} has said that it hands nothing more over")
        if len(held.data) + len(fresh) > HISTORY_BYTES:
            raise _too_large("bytes in a history", HISTORY_BYTES)
        if sum(len(one.data) for one in self._held.values()) + len(fresh) > JOB_BYTES:
            raise _too_large("bytes of histories in a job", JOB_BYTES)
        named = sum(key[0] == task for key in self._held)
        if (task, name) not in self._held and named >= MOST_HISTORIES:
            raise _too_large("histories of a client", MOST_HISTORIES)


def _checked(request: chaos_pb2.PutHistoryRequest) -> str:
    name = request.name or "history"
    if _NAME.fullmatch(name) is None:
        raise refusal("BAD_FIELD", f"name is {name!r:.64}")
    if request.offset < 0 or len(request.data) > PIECE_BYTES:
        raise refusal("BAD_FIELD", f"offset is {request.offset}, and data has {len(request.data)} bytes")
    if request.sha256 and _DIGEST.fullmatch(request.sha256) is None:
        raise refusal("BAD_FIELD", "sha256 is not a SHA-256 of 64 lower-case hexadecimal digits")
    if request.final and not request.sha256:
        raise refusal("BAD_FIELD", "final comes with the last piece, and so with its sha256")
    return name


def _too_large(what: str, most: int) -> ChaosError | SchedulerError:
    return refusal("HISTORY_TOO_LARGE", f"there are at most {most:,} {what}", most=str(most))
