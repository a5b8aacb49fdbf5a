"""The attacks as a whole: each is told in docs/security.md, has a name of its own, and there are enough."""

from __future__ import annotations

from collections import Counter

from tests.attacks import table
from tests.attacks.defence import find


def test_the_page_tells_every_attack_and_no_other() -> None:
    """The table is the one that the attacks make: `make docs` draws it again."""
    page = table.PAGE.read_text()
    assert table.drawn(page) == page, "run: make docs"


def test_every_attack_has_a_name_of_its_own() -> None:
    """Two of one name would be one row."""
    names = Counter(attack.id for _, _, attacks in table.groups() for attack in attacks)
    assert [name for name, count in names.items() if count > 1] == []


def test_there_are_as_many_as_were_thought_of() -> None:
    """None goes missing by a file that is not collected."""
    assert sum(len(attacks) for _, _, attacks in table.groups()) >= 80


def test_every_defence_can_be_found() -> None:
    """A misspelt name shows here, before a cluster is started for it."""
    for _, _, attacks in table.groups():
        for attack in attacks:
            if attack.without:
                assert find(attack.without)
