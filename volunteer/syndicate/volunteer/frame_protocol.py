"""Frames of the local protocol on a socket: what both ends of it share.

Callbacks instead of streams: a frame is handled in the turn of the loop that reads its bytes, and the order
of the wire is the order of the calls.
"""

from __future__ import annotations

import asyncio
from typing import cast

from . import frames
from .local import MAX_FRAME_BYTES, Frame


class FrameProtocol(asyncio.Protocol):
    """One end of a connection. A subclass says what becomes of frames, in `took` and `malformed`."""

    def __init__(self) -> None:
        self.longest = MAX_FRAME_BYTES  # of the next frame, which is read whole before anything looks at it
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()  # at most a frame and a read: what is whole is taken, unless it is paused
        self._paused = False
        self._broken = False

    # ---- for subclasses

    def took(self, frame: Frame) -> None:
        """Handle a frame; what is raised ends the connection. A FrameError is told to `malformed`."""
        raise NotImplementedError

    def read_ended(self) -> None:
        """What one read brought was taken, as far as it was whole, or waits until `resume`."""

    def malformed(self, error: frames.FrameError) -> None:
        """What came is no frame; nothing that follows it is read."""
        raise NotImplementedError

    @property
    def transport(self) -> asyncio.Transport:
        """The connection's; there from `connection_made` on."""
        if self._transport is None:
            raise RuntimeError("not connected yet")
        return self._transport

    def pause(self) -> None:
        """Take no more frames until `resume`; what comes waits in the socket."""
        if not self._paused:
            self._paused = True
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def resume(self) -> None:
        """Take frames again, those that wait first."""
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
                asyncio.get_running_loop().call_soon(self._split)

    # ---- for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        prefix, waits = frames.PREFIX_BYTES, self._buffer or self._paused or self._broken
        length = len(data) - prefix
        if waits or not prefix < length <= self.longest or data[:prefix] != length.to_bytes(prefix, "big"):
            self._buffer += data
            self._split()
            return
        # Nearly every read is one whole frame, which needs no buffer.
        try:
            self.took(frames.decode(data[prefix:]))
        except frames.FrameError as error:
            self._refuse(error)
        self.read_ended()

    def _split(self) -> None:
        buffer, prefix = self._buffer, frames.PREFIX_BYTES
        try:
            while len(buffer) >= prefix and not (self._paused or self._broken or self.transport.is_closing()):
                end = prefix + frames.body_length(bytes(buffer[:prefix]), self.longest)
                if len(buffer) < end:
                    break
                body = bytes(memoryview(buffer)[prefix:end])
                del buffer[:end]
                self.took(frames.decode(body))
        except frames.FrameError as error:
            self._refuse(error)
        self.read_ended()

    def _refuse(self, error: frames.FrameError) -> None:
        # What follows a frame that is not understood cannot be trusted to be one.
        self._broken = True
        self._buffer.clear()
        self.malformed(error)


__all__ = ["FrameProtocol"]
