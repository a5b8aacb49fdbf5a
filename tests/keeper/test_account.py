"""What Synced tells of many slots fits one frame, the newest first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from syndicate.volunteer import frames
from syndicate.volunteer.keeper.account import within_a_frame
from syndicate.volunteer.local import (
    Exit,
    GenerationInfo,
    NetworkState,
    ReplyFrame,
    Role,
    SlotInfo,
    SlotState,
    Stamp,
    Synced,
    TaskId,
)

_LONG = (1 << 63) - 1
_AT = Stamp("b" * 36, _LONG, _LONG)
_KIB = 1024


def _synced(slots: int, generations: int) -> Synced:
    infos = tuple(
        GenerationInfo(
            number, _AT, Exit(number, 137, True, "release", _AT, b"h" * 4096, b"t" * 4096, _LONG), _LONG
        )
        for number in range(1, generations + 1)
    )
    held = tuple(
        SlotInfo(
            number,
            SlotState.ENDED,
            TaskId("c" * 63, _LONG, 1000, f"slave-{number}"),
            Role.SLAVE,
            "255.255.255.255",
            generations=infos,
        )
        for number in range(slots)
    )
    return Synced("a", "b" * 36, "fabric", "", (), {}, held)


@pytest.mark.parametrize(("slots", "generations"), [(1, 20), (26, 20), (64, 8), (500, 1), (1000, 20)])
def test_account_fits_a_frame(slots: int, generations: int) -> None:
    """However many slots and generations there are, the answer can be sent, and names each slot's newest."""
    account = within_a_frame(_synced(slots, generations))

    assert len(account.slots) == slots
    assert all(slot.generations[-1].generation == generations for slot in account.slots)
    frames.encode(ReplyFrame(_LONG, account))


def test_what_fits_is_told_whole() -> None:
    """Ten slots with twenty generations each are not cut."""
    synced = _synced(10, 20)

    assert within_a_frame(synced) == synced


def test_newest_keeps_its_excerpts_longest() -> None:
    """Where not all fits the newest generation is told whole, an older one with the ends of its output."""
    slot = within_a_frame(_synced(100, 20)).slots[0]

    newest, older = slot.generations[-1].exit, slot.generations[0].exit
    assert newest is not None and len(newest.head + newest.tail) == 8 * _KIB
    assert older is None or len(older.head + older.tail) < 8 * _KIB
    assert all(info.exit is not None and info.exit.status == 137 for info in slot.generations)


def test_networks_that_leave_no_room_are_not_told() -> None:
    """A thousand slots that are cut from each other can be told of all the same; ten are told as they are."""
    cut = NetworkState(cut=tuple(f"10.0.{number // 250}.{number % 250}" for number in range(999)))

    def account(slots: int) -> Synced:
        synced = _synced(slots, 1)
        return within_a_frame(
            replace(synced, slots=tuple(replace(each, network=cut) for each in synced.slots))
        )

    assert {slot.network for slot in account(10).slots} == {cut}
    many = account(1000)
    assert {slot.network for slot in many.slots} == {None}
    frames.encode(ReplyFrame(_LONG, many))
