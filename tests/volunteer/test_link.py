"""The stream to a manager, where the call itself is stuck."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from syndicate.v1 import registry_pb2_grpc
from syndicate.volunteer.core import model
from syndicate.volunteer.link import LinkEdges, LinkSettings, ManagerLink
from syndicate.volunteer.way import ClearText
from volunteer.fakes import DEADLINE


class StuckCall:
    """A call that only a cancel ends; `error` is what its half-close raises, None where it hangs."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self.cancelled = asyncio.Event()

    def __aiter__(self) -> StuckCall:
        return self

    async def __anext__(self) -> Any:
        """Nothing comes until the end."""
        await self.cancelled.wait()
        raise StopAsyncIteration

    async def done_writing(self) -> None:
        """The half-close."""
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    def cancel(self) -> bool:
        """Ends the call."""
        self.cancelled.set()
        return True


@pytest.mark.parametrize("error", [None, asyncio.InvalidStateError("the call has ended")])
async def test_a_stop_ends_a_stream_whose_half_close_does_not_work(
    error: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs or fails: the stream is cancelled, and the link is done."""
    call = StuckCall(error)

    class Stub:
        """Opens the stuck call."""

        def __init__(self, channel: Any) -> None:
            self.channel = channel

        def Attach(self, metadata: Any) -> StuckCall:
            """The stream."""
            return call

    monkeypatch.setattr(registry_pb2_grpc, "RegistryStub", Stub)
    opened, stop = asyncio.Event(), asyncio.Event()
    edges = LinkEdges(
        lambda event: opened.set(),
        lambda: None,
        lambda ref, offset: None,
        lambda link, welcome: None,
        lambda link: None,
        lambda: model.Resources(),
    )
    (tmp_path / "token").write_text("the-token\n")
    link = ManagerLink(
        "127.0.0.1:1", ClearText(tmp_path / "token"), LinkSettings(goodbye_s=0.05), edges, Random(1)
    )
    running = asyncio.create_task(link.run(stop))
    await opened.wait()

    stop.set()
    ended, _ = await asyncio.wait({running}, timeout=DEADLINE)
    running.cancel()

    assert ended == {running}
    assert call.cancelled.is_set()
