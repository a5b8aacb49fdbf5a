"""A clock on which time goes by in pauses alone, for what a client does again after a while."""

from __future__ import annotations

import threading

import pytest
from syndicate.client_api._retrying import Retrying


class Pauses(threading.Event):
    """The pauses of a `Retrying`, each over at once, and its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def monotonic(self) -> float:
        """Instead of that of `time`."""
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        """Over at once."""
        self.now += timeout or 0.0
        return False

    def of(self, retrying: Retrying, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on these are its own."""
        monkeypatch.setattr("syndicate.client_api._retrying.time", self)
        monkeypatch.setattr(retrying, "_closed", self)
