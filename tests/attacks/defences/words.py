"""What keeps names and words from being more than that, and how it is switched off for a test."""

from __future__ import annotations

from tests.attacks.defence import Defence


def _any_name() -> None:
    from syndicate.manager.core import admission

    admission.is_name = lambda _: True


DEFENCES = {
    "names": Defence("manager", "a job's name is of a to z, 0 to 9 and `-`", _any_name),
}
