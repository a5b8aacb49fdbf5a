"""What volunteers tell of barriers, and what users are told."""

from __future__ import annotations

from typing import Any

import pytest
from syndicate.manager.core import model
from syndicate.manager.core.barriers import Barriers
from syndicate.manager.core.errors import BadRequest
from syndicate.manager.rpc.barriers import barriers_out, news_in
from syndicate.manager.rpc.viewing import hide_words
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import scheduler_pb2 as scheduler

STAMP = common.Stamp(boot_id="b", monotonic_ns=7, utc_ns=9)


def a_round(**fields: Any) -> common.BarrierRound:
    """One that opened."""
    found = common.BarrierRound(
        barrier="start",
        end=common.BARRIER_END_OPENED,
        began_at=STAMP,
        ended_at=STAMP,
        error=3,
        inits=[common.BarrierTask(task="master", count=2)],
        tasks=[common.BarrierTask(task="slave-0", count=1)],
        rounds=1,
    )
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def an_open_one(**fields: Any) -> common.OpenBarrier:
    """One that waits for one."""
    held = [common.BarrierTask(task="master", count=1)]
    found = common.OpenBarrier(barrier="b", since=STAMP, remaining=1, missing=["slave-1"], held=held)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def test_news_come_in_as_they_are() -> None:
    """Every field of a round, and of what is open."""
    news = news_in(
        registry.BarrierNews(rounds=[a_round()], total=5, open=[an_open_one()], more_open=2, last=True)
    )

    at = model.Stamp("b", 7, 9)
    assert news.rounds == (
        model.BarrierRound(
            "start", model.BarrierEnd.OPENED, at, at, 3, (("master", 2),), (("slave-0", 1),), 0, 0, 1
        ),
    )
    held = (("master", 1),)
    assert news.open == (model.OpenBarrier("b", at, 1, (), (), 0, ("slave-1",), 0, False, held),)
    assert (news.total, news.more_open, news.trouble, news.last) == (5, 2, "", True)


@pytest.mark.parametrize("end", [0, 99])
def test_an_end_that_is_none_is_refused(end: int) -> None:
    """It ends the stream: no volunteer of ours tells that."""
    with pytest.raises(BadRequest):
        news_in(registry.BarrierNews(rounds=[a_round(end=end)]))


def test_news_that_say_more_than_they_may_are_cut() -> None:
    """Tasks chose the names: a stream that ended for them would be ended by the same news for ever."""
    many = [common.BarrierTask(task=str(number), count=2) for number in range(66)]
    crowded = common.OpenBarrier(barrier="b", since=STAMP, tasks=many, missing=["slave-0"] * 65)

    found = news_in(
        registry.BarrierNews(
            rounds=[a_round(barrier="a\n\u0378b"), a_round(barrier="a" * 1025), *[a_round()] * 65],
            open=[crowded, *[an_open_one()] * 32],
            total=-1,
        )
    )

    assert [len(one.barrier) for one in found.rounds] == [4, 1024, *[5] * 62]
    assert found.rounds[0].barrier == "a??b"
    assert (len(found.open), found.more_open, found.total) == (32, 1, 0)
    assert (len(found.open[0].tasks), found.open[0].others) == (64, 4)
    assert (len(found.open[0].missing), found.open[0].more_missing) == (64, 1)


def test_trouble_is_one_printable_line() -> None:
    """Whatever a volunteer makes of it."""
    assert news_in(registry.BarrierNews(trouble="one\n\x1btwo")).trouble == "one??two"


def test_what_is_open_goes_out_as_it_came() -> None:
    """With the server's place, and when that was."""
    (one,) = news_in(registry.BarrierNews(open=[an_open_one()])).open

    at, heard = model.Stamp("b", 7, 9), model.Stamp("b", 8, 10)
    told = barriers_out(Barriers("10.0.0.1:16534", "master", (one,), 4, 9, at, heard, True))

    assert list(told.barriers) == [an_open_one()]
    assert (told.server, told.member, told.more, told.rounds) == ("10.0.0.1:16534", "master", 4, 9)
    assert told.as_of == STAMP
    assert (told.current_at, told.away) == (common.Stamp(boot_id="b", monotonic_ns=8, utc_ns=10), True)


def test_where_nothing_was_told_yet_that_is_unset() -> None:
    """Which is not the same as an hour ago."""
    told = barriers_out(Barriers("", "master", (), 0, 0, None, None, False))
    assert not told.HasField("as_of") and not told.HasField("current_at")


def test_what_is_hidden_of_clients_is_not_their_barriers() -> None:
    """Who sees a job sees whom its members meet where: only what clients print is taken out."""
    line = scheduler.StoryLine(event="barrier.opened", text="barrier 'judge' opened: there were client-0")
    job = scheduler.Job(story=[line])
    ended = job.tasks.add(role=common.ROLE_CLIENT)
    ended.exit.reason, ended.exit.detail = common.REASON_EXITED_NONZERO, "make: *** [client] Error 1"

    hide_words(job)

    assert list(job.story) == [line]
    assert job.tasks[0].exit.detail == ""
