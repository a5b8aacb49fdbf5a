"""Frames on a connection: however the bytes are cut into reads, the same frames are taken."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syndicate.volunteer import frames, local
from syndicate.volunteer.frame_protocol import FrameProtocol

_FRAMES = [
    local.RequestFrame(1, local.Sync()),
    local.ReplyFrame(2, local.DiskRead(b"\0" * 300, False)),
    local.RequestFrame(3, local.Renew("c1", 7)),
]
_BYTES = b"".join(map(frames.encode, _FRAMES))


class _Transport(asyncio.Transport):
    """Reads nothing by itself."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        """It reads nothing anyway."""

    def resume_reading(self) -> None:
        """It reads nothing anyway."""


class _End(FrameProtocol):
    """Keeps what it took, and pauses after `most` frames."""

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self.taken: list[local.Frame] = []
        self.errors: list[str] = []
        self._most = most
        self.connection_made(_Transport())

    def took(self, frame: local.Frame) -> None:
        self.taken.append(frame)
        if len(self.taken) == self._most:
            self.pause()

    def malformed(self, error: frames.FrameError) -> None:
        self.errors.append(str(error))


def _reads(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


_cuts = st.lists(st.integers(0, len(_BYTES)), max_size=8)


@given(_cuts)
def test_reads_may_be_cut_anywhere(cuts: list[int]) -> None:
    """Frames are taken in order, be they one in a read, several, or a part of one."""
    end = _End()

    for read in _reads(_BYTES, cuts):
        end.data_received(read)

    assert end.taken == _FRAMES
    assert not end.errors


@given(_cuts)
def test_what_comes_while_it_is_paused_waits(cuts: list[int]) -> None:
    """What is read during a pause is taken in the turn after it is resumed."""

    async def go() -> None:
        end = _End(most=1)
        for read in _reads(_BYTES, cuts):
            end.data_received(read)
        assert end.taken == _FRAMES[:1]

        end.resume()
        await asyncio.sleep(0)

        assert end.taken == _FRAMES

    asyncio.run(go())


@given(_cuts)
def test_nothing_is_taken_behind_what_is_no_frame(cuts: list[int]) -> None:
    """What cannot be understood is told once, and ends all that follows."""
    end = _End()

    for read in _reads(_BYTES + struct.pack(">II", 5, 1) + b"?" + _BYTES, cuts):
        end.data_received(read)
    end.data_received(_BYTES)
    end.data_received(frames.encode(_FRAMES[0]))

    assert end.taken == _FRAMES
    assert len(end.errors) == 1


@pytest.mark.parametrize("size", [1, 100])
def test_frame_beyond_the_bound_is_refused(size: int) -> None:
    """A frame that is longer than the next may be is refused, also where it came whole in one read."""
    end = _End()
    end.longest = len(frames.encode(_FRAMES[0])) - frames.PREFIX_BYTES
    end.data_received(frames.encode(_FRAMES[0]))

    for read in _reads(frames.encode(_FRAMES[1]), list(range(0, 300, size)) if size == 1 else []):
        end.data_received(read)

    assert end.taken == _FRAMES[:1]
    assert len(end.errors) == 1


def test_frame_that_holds_nothing_is_refused() -> None:
    """A length that leaves no room for a head is an error, not a frame that is waited for."""
    end = _End()

    end.data_received(struct.pack(">I", 0))

    assert len(end.errors) == 1


def test_error_of_what_takes_the_frame_ends_it_too() -> None:
    """A frame that a subclass refuses is told as one that is none."""

    class Refusing(_End):
        def took(self, frame: Any) -> None:
            raise frames.FrameError("not here")

    end = Refusing()

    end.data_received(frames.encode(_FRAMES[0]))
    end.data_received(frames.encode(_FRAMES[0]))

    assert end.errors == ["not here"]
