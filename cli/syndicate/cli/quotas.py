"""Quotas as people write them, on a command line or in a roster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.v1.scheduler_pb2 import Quota

QUOTAS = ("running_jobs", "queued_jobs", "submissions_per_day", "machines")
"""The parts of a quota: fields of the protocol, columns of a roster and, with dashes, options."""
DEFAULT = 0
NO_BOUND = -1
_MOST = 1_000_000
"""The largest bound that the manager takes."""
_WORDS = {"": DEFAULT, "default": DEFAULT, "none": NO_BOUND}


@dataclass(frozen=True, slots=True)
class QuotaWish:
    """What a command line says of a quota; None for what it leaves as it is."""

    running_jobs: str | None = None
    queued_jobs: str | None = None
    submissions_per_day: str | None = None
    machines: str | None = None

    def numbers(self) -> Mapping[str, int]:
        """The fields that are given, with their numbers. Raises CliError."""
        found = {}
        for name in QUOTAS:
            text = getattr(self, name)
            if text is None:
                continue
            try:
                found[name] = quota_number(text)
            except ValueError as error:
                option = "--" + name.replace("_", "-")
                raise CliError(f"{option}: {error}", code=exit_codes.USAGE) from None
        return found

    def fields(self) -> list[str]:
        """What is given, as paths of a field mask. Raises CliError."""
        return [field_of(name) for name in self.numbers()]

    def apply_to(self, quota: Quota) -> None:
        """Changes what is given. Raises CliError."""
        for name, number in self.numbers().items():
            setattr(quota, name, number)


def field_of(column: str) -> str:
    """A column of a roster as the path of its field in a user."""
    return f"quota.{column}" if column in QUOTAS else column


def quota_number(text: str) -> int:
    """``5``; ``none`` for no bound; ``default`` or nothing for the manager's. Raises ValueError."""
    clean = text.strip().lower()
    if clean in _WORDS:
        return _WORDS[clean]
    if clean.isascii() and clean.isdecimal() and 0 < int(clean[:11]) <= _MOST:
        return int(clean)
    raise ValueError(f"{text!r} is no bound: it is a number from 1 to {_MOST:,}, `none` or `default`")
