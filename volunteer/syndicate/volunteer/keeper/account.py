"""What Synced tells of many slots, cut to what one frame can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import frames
from ..local import (
    MAX_FRAME_BYTES,
    WHOLE,
    Exit,
    GenerationInfo,
    NetworkState,
    ReplyFrame,
    SlotInfo,
    Synced,
)

_INFO_BYTES = 768  # of a generation in a frame besides its excerpts, amply
_ADDRESS_BYTES = 20
_LINK_BYTES = 512
_SPARE_BYTES = 4096  # for the number of the answer, among others


def within_a_frame(synced: Synced) -> Synced:
    """The same account, with as much of the slots' generations as one frame has room for.

    Each slot that holds a task has the same share. The newest generation comes first and is always told; its
    excerpts, and those of the ones before, are cut to what is left of the share, and the oldest go where even
    their bare records do not fit. Networks are not told (None) where those of all slots would take half
    of the frame. Raises FrameError if there is no room for the slots themselves.
    """
    if sum(_network_bytes(slot.network or WHOLE) for slot in synced.slots) > MAX_FRAME_BYTES // 2:
        synced = replace(synced, slots=tuple(replace(slot, network=None) for slot in synced.slots))
    bare = replace(synced, slots=tuple(replace(slot, generations=()) for slot in synced.slots))
    room = MAX_FRAME_BYTES - _SPARE_BYTES - len(frames.encode(ReplyFrame(0, bare)))
    share = room // max(sum(bool(slot.generations) for slot in synced.slots), 1)
    return replace(synced, slots=tuple(_cut(slot, share) for slot in synced.slots))


def _network_bytes(network: NetworkState) -> int:
    """In a frame, amply."""
    lists = (network.cut, network.cut_out, network.cut_in, network.reset)
    return sum(map(len, lists)) * _ADDRESS_BYTES + len(network.links) * _LINK_BYTES


def _cut(slot: SlotInfo, room: int) -> SlotInfo:
    return replace(slot, generations=_newest(slot.generations, room))


def _newest(generations: Sequence[GenerationInfo], room: int) -> tuple[GenerationInfo, ...]:
    told: list[GenerationInfo] = []
    for info in reversed(generations):
        if told and room < _INFO_BYTES:
            break
        room -= _INFO_BYTES
        record = info.exit and _excerpt(info.exit, max(room, 0))
        room -= len(record.head) + len(record.tail) if record else 0
        told.append(replace(info, exit=record))
    return tuple(reversed(told))


def _excerpt(record: Exit, room: int) -> Exit:
    """The record with at most `room` bytes of output: half of them the last ones, if it has both."""
    if len(record.head) + len(record.tail) <= room:
        return record
    tail = min(len(record.tail), room // 2)
    return replace(record, head=record.head[: room - tail], tail=record.tail[len(record.tail) - tail :])
