"""What waits to be written to a stream."""

from __future__ import annotations

import asyncio

import pytest
from syndicate.v1 import registry_pb2 as pb
from syndicate.volunteer.outbox import Outbox, OutboxFull
from volunteer.fakes import eventually


def answer(name: str) -> pb.AttachRequest:
    """A small message."""
    return pb.AttachRequest(answer=pb.Answer(command_id=name))


LOG = pb.AttachRequest(log=pb.LogChunk())


async def test_answers_go_before_logs() -> None:
    """Whatever came first: a task that writes much cannot delay a fault."""
    outbox = Outbox()
    await outbox.put_log(LOG)
    outbox.put(answer("a"))

    assert [await outbox.get(), await outbox.get()] == [answer("a"), LOG]


async def test_logs_wait_for_room() -> None:
    """The lane has a bound; who is too fast waits."""
    outbox = Outbox(max_log_chunks=1)
    await outbox.put_log(LOG)
    waiting = asyncio.create_task(outbox.put_log(LOG))
    await asyncio.sleep(0)
    before = waiting.done()
    await outbox.get()

    assert await waiting
    assert not before


async def test_a_peer_that_reads_nothing_is_noticed() -> None:
    """The other lane has a bound too, and says so."""
    outbox = Outbox(max_waiting=1)
    outbox.put(answer("a"))

    with pytest.raises(OutboxFull, match="1 messages wait"):
        outbox.put(answer("b"))


async def test_closing_wakes_who_waits() -> None:
    """A log that found no room learns that the stream is gone."""
    outbox = Outbox(max_log_chunks=1)
    await outbox.put_log(LOG)
    waiting = asyncio.create_task(outbox.put_log(LOG))
    await asyncio.sleep(0)

    outbox.close()

    await eventually(waiting.done)
    assert waiting.result() is False
    outbox.put(answer("dropped in silence"))
