"""What one frame carries: a request, its answer or an event."""

from __future__ import annotations

from dataclasses import dataclass

from ._answers import Reply
from ._events import Event
from ._requests import Request

MAX_FRAME_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """A request with the number that its answer will carry."""

    number: int
    request: Request


@dataclass(frozen=True, slots=True)
class ReplyFrame:
    """The answer to a request."""

    number: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class EventFrame:
    """Something unasked."""

    event: Event


Frame = RequestFrame | ReplyFrame | EventFrame
