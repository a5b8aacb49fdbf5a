"""What is wrong with a history that was given to a checker.

::

    BadHistory(SyndicateError, ValueError)
    ├── UnknownKind            an operation of a kind that the checker does not know
    ├── OverlappingOperations  a process has two operations open at once
    └── BadOperation           an operation is malformed: its times, argument or result
"""

from __future__ import annotations

from syndicate.client_api._errors import SyndicateError
from syndicate.client_api.history._operation import Operation


class BadHistory(SyndicateError, ValueError):
    """A history that cannot be judged; ``operation`` is the one that is to blame."""

    def __init__(self, operation: Operation, text: str) -> None:
        super().__init__(f"operation {operation.index} of process {operation.process}: {text}")
        self.operation = operation


class UnknownKind(BadHistory):
    """The checker or its model does not know operations of this kind."""


class OverlappingOperations(BadHistory):
    """The process invoked this operation while one before it was open."""


class BadOperation(BadHistory):
    """Its times, its argument or its result cannot be."""
