"""The core's error tree.

CoreError
├── NotKnown              nobody is known by this credential      UNAUTHENTICATED
├── BadRequest            the caller's words are wrong            INVALID_ARGUMENT
├── NotFound              no such job, node, member               NOT_FOUND
├── Refused               not now, or not in this state           FAILED_PRECONDITION
├── NotAllowed            the caller may not                      PERMISSION_DENIED
├── Exhausted             a bound is reached                      RESOURCE_EXHAUSTED
├── Conflict              another one has it                      ALREADY_EXISTS
├── Away                  a volunteer is away: try again          UNAVAILABLE
├── TooLate               it is not known whether it holds        DEADLINE_EXCEEDED
├── Ended                 the attempt ended meanwhile             ABORTED
└── FaultFailed           the volunteer could not do it           INTERNAL

An error is a value: it goes out in a `Reply`. `reason` is an UPPER_SNAKE word for scripts, `detail` a line
for people, `metadata` strings for programs.
"""

from __future__ import annotations


class CoreError(Exception):
    """Something that the outside asked for and will not get."""

    # Whether the audit log has a line of it.
    denied = False

    def __init__(self, reason: str, detail: str, **metadata: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.metadata = metadata


class NotKnown(CoreError):
    """Nobody is known by this credential, or nobody who may call now."""

    denied = True
    # The token whose secret was right all the same; for the audit log alone.
    token_id = ""


class BadRequest(CoreError):
    """The caller's words are wrong."""


class NotFound(CoreError):
    """There is no such thing, as far as the caller may know."""


class Refused(CoreError):
    """Not in the state that things are in."""


class NotAllowed(CoreError):
    """The caller may not do this."""

    denied = True


class Exhausted(CoreError):
    """A bound is reached."""


class Conflict(CoreError):
    """Another one has it."""


class Away(CoreError):
    """Whoever should do it is away; the same request may be tried again."""


class TooLate(CoreError):
    """The time is over and it is not known whether it holds."""


class Ended(CoreError):
    """The attempt that the request was about has ended."""


class FaultFailed(CoreError):
    """The volunteer tried and could not."""


class InvariantError(AssertionError):
    """The core itself is wrong and does not go on; carries a job's story. Never goes out in a Reply."""
