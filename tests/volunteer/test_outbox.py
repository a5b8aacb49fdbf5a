"""What waits to be written to a stream."""

from __future__ import annotations

import asyncio

import pytest
from syndicate.v1 import registry_pb2 as pb
from syndicate.volunteer.outbox import Outbox, OutboxFull
from volunteer.fakes import eventually


def answer(name: str) -> pb.AttachRequest:
    """A small message."""
    return pb.AttachRequest(answers=pb.Answers(answers=[pb.Answer(command_id=name)]))


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


async def test_answers_that_wait_together_go_in_one_message() -> None:
    """They keep their order, a message in between parts them, and one holds at most 32."""
    outbox = Outbox()
    for number in range(40):
        outbox.put(answer(f"a{number}"))
    outbox.put(pb.AttachRequest(heartbeat=pb.Heartbeat(sequence=1)))
    outbox.put(answer("last"))
    messages = [await outbox.get() for _ in range(4)]
    named = [[one.command_id for one in message.answers.answers] for message in messages]
    assert named == [[f"a{n}" for n in range(32)], [f"a{n}" for n in range(32, 40)], [], ["last"]]
