"""What goes wrong with a history."""

from __future__ import annotations

from syndicate.client_api._errors import SyndicateError


class HistoryError(SyndicateError):
    """A history was recorded, read or merged wrongly; the text names the file and line, or the operation."""
