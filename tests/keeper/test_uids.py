"""The uids of slots: a range for each keeper, which nobody else has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from syndicate.volunteer.keeper import uids
from syndicate.volunteer.keeper.errors import KeeperError

_HOLD = """
import sys
from pathlib import Path
from syndicate.volunteer.keeper import uids
base = int(sys.argv[2]) if sys.argv[2] else None
claim = uids.claim(base, int(sys.argv[3]), Path(sys.argv[1]))
print(claim.base, flush=True)
sys.stdin.read()
"""


@contextmanager
def claimed(path: Path, base: str, slots: int) -> Iterator[int]:
    """Another process that holds a range, until it is killed."""
    command = [sys.executable, "-c", _HOLD, str(path), base, str(slots)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            yield int(holder.stdout.readline())
        finally:
            holder.kill()
            holder.wait(SECONDS)


def test_a_range_that_another_keeper_has_is_refused(tmp_path: Path) -> None:
    """Even where the two meet in a single uid; the line names what mends it."""
    with claimed(tmp_path / "u", "300000", 4), pytest.raises(KeeperError) as refused:
        uids.claim(300_003, 2, tmp_path / "u")

    assert "--uid-base" in refused.value.detail


def test_ranges_that_only_touch_are_two_keepers(tmp_path: Path) -> None:
    """The first uid after another's last is free."""
    with claimed(tmp_path / "u", "300000", 4):
        claim = uids.claim(300_004, 2, tmp_path / "u")
        claim.close()

    assert claim.base == 300_004


def test_a_keeper_that_names_none_finds_a_free_range(tmp_path: Path) -> None:
    """The first thousand that nobody has: keepers side by side share no uid."""
    with claimed(tmp_path / "u", "", 8) as first, claimed(tmp_path / "u", "", 8) as second:
        assert (first, second) == (200_000, 201_000)


def test_a_range_is_free_once_its_keeper_has_ended(tmp_path: Path) -> None:
    """Also where it was killed: the kernel lets go of the lock."""
    with claimed(tmp_path / "u", "300000", 4):
        pass

    claim = uids.claim(300_000, 4, tmp_path / "u")
    claim.close()

    assert claim.base == 300_000


def test_uids_of_the_hosts_users_are_passed_over(tmp_path: Path) -> None:
    """Those of passwd, and those that a user may use in user namespaces; a damaged line is none."""
    passwd, subuid = tmp_path / "passwd", tmp_path / "subuid"
    passwd.write_text("root:x:0:0:root:/root:/bin/sh\neve:x:232005:1::/:/bin/sh\nbad:x:y:1::/:/bin/sh\n")
    subuid.write_text("eve:165536:65536\n\n")

    claim = uids.claim(None, 8, tmp_path / "u", uids.reserved_of(passwd, subuid))
    claim.close()

    assert claim.base == 233_000


@given(st.integers(0, 50), st.integers(0, 9), st.integers(0, 50), st.integers(1, 9))
def test_ranges_meet_where_they_share_a_uid(start: int, count: int, other: int, many: int) -> None:
    """As sets do."""
    one, two = range(start, start + count), range(other, other + many)

    assert uids.Reserved(one, "x").meets(two) == bool(set(one) & set(two))


async def test_two_keepers_side_by_side_share_no_uid(folder: Path) -> None:
    """Tasks of the two, each on slot 0 of its keeper, run as different users."""
    instances = [f"{network_instance()[:5]}{letter}" for letter in "ab"]
    keepers = [KeeperProcess(folder / name, name, slots=1) for name in instances]
    said = []
    try:
        for keeper in keepers:
            keeper.start()
            async with linked(keeper) as link:
                _, output = await link.task({"Makefile": makefile("@id -u")}).run()
                said.append(int(output))
    finally:
        for keeper in keepers:
            keeper.stop()

    assert said[0] != said[1]


async def test_a_keeper_whose_uids_another_has_does_not_start(folder: Path) -> None:
    """It ends with a line that says so."""
    base = ("--uid-base", "310000")
    first = KeeperProcess(folder / "a", f"{network_instance()[:5]}a", slots=1, extra=base)
    second = KeeperProcess(folder / "b", f"{network_instance()[:5]}b", slots=1, extra=base)
    first.start()
    try:
        with pytest.raises(AssertionError, match="another keeper on this host has uids of 310000 to 310000"):
            second.start()
    finally:
        first.stop()
