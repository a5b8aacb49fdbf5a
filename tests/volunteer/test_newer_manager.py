"""A manager that was upgraded first says what this volunteer has never heard of, in fields and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from syndicate.v1 import registry_pb2 as pb
from volunteer.fakes import Stream, bench

# Field 1000, of three bytes: no message has one of this number.
UNKNOWN = b"\xc2\x3e\x03new"


def newer(message: Message) -> None:
    """Puts a field that this version does not know into a message, and into all that are in it."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in [value] if isinstance(value, Message) else value:
                newer(one)
    message.MergeFromString(UNKNOWN)


@pytest.fixture
def _newer_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    say = Stream.say

    def said(stream: Stream, **message: Any) -> None:
        for one in message.values():
            newer(one)
        say(stream, **message)

    monkeypatch.setattr(Stream, "say", said)


def test_unknown_fields_go_out() -> None:
    """What the tests below say is on the wire, in a message and in those that it has."""
    one = pb.Commands(commands=[pb.Command(command_id="c", prepare=pb.Prepare())])
    newer(one)
    assert pb.AttachResponse(commands=one).SerializeToString().count(UNKNOWN) == 3


@pytest.mark.usefixtures("_newer_manager")
async def test_what_it_does_not_know_changes_nothing(tmp_path: Path) -> None:
    """A task is brought up, suffers, ends and is released, by messages that say more than was asked."""
    async with bench(tmp_path) as world:
        await world.start()
        stream = await world.manager.attached()
        await world.manager.bring_up()
        answers = [
            await world.manager.ask(set_network=pb.SetNetwork(cut=["10.77.0.12"])),
            await world.manager.ask(kill=pb.Kill()),
            await world.manager.ask(generation=2, revive=pb.Revive(with_disk=True)),
            await world.manager.ask(generation=2, release=pb.Release()),
        ]
        beat = len(stream.of("heartbeat"))

    assert [answer.code for answer in answers] == [pb.ANSWER_CODE_DONE] * 4, answers
    assert beat > 0 and len(world.manager.streams) == 1


async def test_a_message_of_another_kind_ends_nothing(tmp_path: Path) -> None:
    """It means nothing here; the next one does."""
    async with bench(tmp_path) as world:
        await world.start()
        stream = await world.manager.attached()
        stream.out.put_nowait(pb.AttachResponse.FromString(UNKNOWN))
        await world.manager.bring_up()

        assert len(world.manager.streams) == 1 and not stream.ended.is_set()
