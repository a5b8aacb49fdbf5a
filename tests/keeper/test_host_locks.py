"""One name, one keeper: what is named after an instance in the kernel is no other keeper's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from syndicate.volunteer.keeper import host_locks
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.local import SlotState

_HOLD = """
import sys
from pathlib import Path
from syndicate.volunteer.keeper import host_locks
host_locks.claim_name(sys.argv[2], Path(sys.argv[1]))
print("has it", flush=True)
sys.stdin.read()
"""
_NAMES = st.text("abcxyz0129", min_size=1, max_size=6)


async def test_second_keeper_of_a_name_is_refused_and_harms_nothing(folder: Path) -> None:
    """With folders of its own it would end the first one's tasks; instead one line says what to do."""
    first = KeeperProcess(folder / "1", network_instance(), slots=1)
    second = KeeperProcess(folder / "2", network_instance(), slots=1)
    first.start()
    try:
        async with linked(first) as link:
            task = link.task({"Makefile": makefile("@echo up; exec sleep 1000")})
            await task.begin()

            with pytest.raises(AssertionError) as refused:
                second.start()

            name = first.instance
            assert f"another keeper on this host is named {name}: give this one another --instance" in str(
                refused.value
            )
            assert (await link.sync()).slots[0].state is SlotState.RUNNING
    finally:
        second.stop()
        assert first.stop() == 0
    second.start()
    assert second.stop() == 0


def test_name_is_free_again_however_its_keeper_ends(tmp_path: Path) -> None:
    """Killed, it holds it no longer; another name was free all the time."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "n"), "a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"
        with pytest.raises(KeeperError):
            host_locks.claim_name("a", tmp_path / "n")
        os.close(host_locks.claim_name("0a", tmp_path / "n"))
        holder.kill()
        holder.wait(SECONDS)

    os.close(host_locks.claim_name("a", tmp_path / "n"))


@settings(deadline=None)
@given(_NAMES, _NAMES)
def test_each_name_has_a_number_of_its_own(one: str, other: str) -> None:
    """Leading zeros and lengths included; all of them are offsets that a file may have."""
    first, second = host_locks._number(one), host_locks._number(other)

    assert (first == second) is (one == other)
    assert 0 < first < 1 << 62
