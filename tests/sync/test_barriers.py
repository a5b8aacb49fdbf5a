"""The machine of the barriers, one behaviour at a time."""

from __future__ import annotations

import time

import pytest
from syndicate.volunteer.sync.core import barriers, effects
from syndicate.volunteer.sync.core.barriers import BARRIERS_MAX, Barriers, Standing
from syndicate.volunteer.sync.core.effects import Room
from syndicate.volunteer.sync.core.events import Arrived, DropAll, DropOne, Expired, Gone, Why
from syndicate.volunteer.sync.core.transitions import BarrierState
from syndicate.volunteer.sync.core.wire import COUNT_MAX, Extension, Flag, Kind, Request


class Bench:
    """A machine whose parties are words; `released` has the value of each that was answered."""

    def __init__(self, most: int = 100) -> None:
        self.barriers: Barriers[str] = Barriers(most)
        self.released: dict[str, int] = {}
        self.refused: list[str] = []
        self.watched: dict[str, int] = {}
        self.told: list[effects.Notice] = []

    def handle(self, event: Arrived[str] | Gone[str] | Expired[str] | DropAll | DropOne) -> None:
        for effect in self.barriers.handle(event):
            match effect:
                case effects.Release(parties, value):
                    self.released |= dict.fromkeys(parties, value)
                case effects.Refuse(party, _):
                    self.refused.append(party)
                case effects.Watch(party, timeout_ms):
                    self.watched[party] = timeout_ms
                case effects.Tell(notice):
                    self.told.append(notice)
        self.barriers.check()

    def wait(self, party: str, error: int = 0, abandon: bool = False, timeout_ms: int = 0) -> None:
        extension = Extension(1, Flag.ABANDON if abandon else Flag(0), timeout_ms)
        self._ask(party, Request(b"b", Kind.WAIT, 0, error, extension=extension))

    def init(
        self, party: str, count: int, error: int = 0, no_wait: bool = False, abandon: bool = False
    ) -> None:
        extension = Extension(1, Flag.ABANDON) if abandon else None
        self._ask(party, Request(b"b", Kind.INIT, count, error, no_wait, extension))

    def _ask(self, party: str, request: Request) -> None:
        self.handle(Arrived(party, f"of {party}", request))

    def leave(self, party: str) -> None:
        self.handle(Gone(party, Why.CLOSED))

    @property
    def remaining(self) -> int | None:
        standing = self.barriers.standing()
        return standing[0].remaining if standing else None


@pytest.fixture
def bench() -> Bench:
    """No barrier yet."""
    return Bench()


def test_all_are_released_when_the_last_comes(bench: Bench) -> None:
    """Whoever initialised it, too."""
    bench.init("m", 2)
    bench.wait("a")
    assert bench.released == {} and bench.remaining == 1
    bench.wait("b")
    assert bench.released == {"m": 0, "a": 0, "b": 0} and bench.remaining is None


def test_waiters_may_come_before_the_init(bench: Bench) -> None:
    """The count goes below zero until then."""
    bench.wait("a")
    bench.wait("b")
    assert bench.remaining == -2
    bench.init("m", 2)
    assert set(bench.released) == {"a", "b", "m"}


def test_an_init_adds_to_the_count(bench: Bench) -> None:
    """Several may share a barrier."""
    bench.init("m", 1)
    bench.init("n", 1)
    bench.wait("a")
    assert bench.remaining == 1
    bench.wait("b")
    assert set(bench.released) == {"m", "n", "a", "b"}


def test_a_barrier_is_used_again_after_it_opened(bench: Bench) -> None:
    """With a new count and new errors."""
    bench.init("m", 1, error=9)
    bench.wait("a")
    bench.init("m2", 1)
    bench.wait("a2")
    assert bench.released == {"m": 9, "a": 9, "m2": 0, "a2": 0}


def test_the_largest_error_is_everybodys(bench: Bench) -> None:
    """Wherever it came from."""
    bench.wait("a", error=20)
    bench.wait("b", error=3)
    bench.init("m", 2, error=10)
    assert bench.released == {"a": 20, "b": 20, "m": 20}


def test_an_init_that_does_not_wait_is_answered_at_once(bench: Bench) -> None:
    """What it added stays, and so does its error."""
    bench.init("m", 1, error=4, no_wait=True)
    assert bench.released == {"m": 0} and bench.remaining == 1
    bench.leave("m")
    assert bench.remaining == 1
    bench.wait("a")
    assert bench.released["a"] == 4


def test_an_init_that_does_not_wait_opens_what_is_complete(bench: Bench) -> None:
    """Waiters were there before."""
    bench.wait("a")
    bench.init("m", 1, no_wait=True)
    assert bench.released == {"a": 0, "m": 0}


def test_a_waiter_that_goes_away_is_uncounted(bench: Bench) -> None:
    """With its error, as if it had never come."""
    bench.init("m", 2)
    bench.wait("a", error=99)
    bench.leave("a")
    assert bench.remaining == 2
    bench.wait("b")
    bench.wait("c", error=5)
    assert bench.released == {"m": 5, "b": 5, "c": 5}


def test_who_leaves_may_make_the_count_zero(bench: Bench) -> None:
    """Then the barrier opens for those who are left."""
    for waiter in "abc":
        bench.wait(waiter)
    bench.init("m", 2)
    assert bench.released == {}
    bench.leave("b")
    assert bench.released == {"a": 0, "c": 0, "m": 0}


def test_nothing_is_left_of_a_barrier_that_all_have_left(bench: Bench) -> None:
    """Nobody had initialised it."""
    bench.wait("a")
    bench.leave("a")
    assert bench.remaining is None


def test_an_end_that_is_told_twice_counts_once(bench: Bench) -> None:
    """And one of somebody who does not wait counts nothing."""
    bench.init("m", 2)
    bench.wait("a")
    bench.leave("a")
    bench.leave("a")
    bench.handle(Expired("a"))
    bench.leave("nobody")
    assert bench.remaining == 2 and bench.released == {}


def test_waiters_who_asked_are_told_when_an_inits_owner_ends(bench: Bench) -> None:
    """And count no more; the others wait for another init."""
    bench.init("m", 5)
    bench.wait("a", abandon=True)
    bench.wait("b")
    bench.leave("m")
    assert bench.released == {"a": 242} and bench.remaining == -1
    bench.init("m2", 1)
    assert bench.released == {"a": 242, "b": 0, "m2": 0}


def test_an_owner_may_ask_for_all(bench: Bench) -> None:
    """All who wait when it ends are told, asked or not."""
    bench.init("m", 5, abandon=True)
    bench.wait("a")
    bench.wait("b")
    bench.leave("m")
    assert bench.released == {"a": 242, "b": 242}
    bench.wait("c")
    assert "c" not in bench.released


def test_who_asks_and_comes_later_is_told_at_once(bench: Bench) -> None:
    """The barrier is marked until the next init, also while nobody waits at it."""
    bench.init("m", 1)
    bench.leave("m")
    assert bench.barriers.standing()[0].state is BarrierState.ABANDONED
    bench.wait("a", abandon=True)
    assert bench.released == {"a": 242} and bench.told[-1] == effects.TurnedAway(b"b", "of a")
    bench.init("m2", 1)
    bench.wait("b", abandon=True)
    assert bench.released == {"a": 242, "m2": 0, "b": 0}


def test_an_end_that_makes_the_count_zero_abandons_nobody(bench: Bench) -> None:
    """Those who are left have all that they wait for."""
    bench.init("m", 2)
    bench.init("n", 1)
    bench.wait("a", abandon=True)
    bench.leave("m")
    assert bench.released == {"n": 0, "a": 0}


def test_a_time_out_ends_the_waiting(bench: Bench) -> None:
    """With 241, and without being counted."""
    bench.init("m", 2)
    bench.wait("a", timeout_ms=1500)
    assert bench.watched == {"a": 1500}
    bench.handle(Expired("a"))
    assert bench.released == {"a": 241} and bench.remaining == 2


def test_a_time_out_is_not_watched_where_nobody_waits(bench: Bench) -> None:
    """The barrier opened at once."""
    bench.init("m", 1)
    bench.wait("a", timeout_ms=1500)
    assert bench.watched == {} and bench.released["a"] == 0


def test_an_init_whose_time_is_out_leaves_as_its_owner(bench: Bench) -> None:
    """So its waiters are told, where they asked."""
    extension = Extension(1, timeout_ms=10)
    bench.wait("a", abandon=True)
    bench.handle(Arrived("m", "of m", Request(b"b", Kind.INIT, 3, extension=extension)))
    bench.handle(Expired("m"))
    assert bench.released == {"m": 241, "a": 242}


def test_drop_all_releases_everybody_with_240(bench: Bench) -> None:
    """And nothing stands afterwards, inits without owner and marks included."""
    bench.init("m", 3)
    bench.wait("a")
    bench.handle(Arrived("x", "of x", Request(b"other", Kind.INIT, 3, no_wait=True)))
    bench.handle(DropAll())
    assert bench.released == {"m": 240, "a": 240, "x": 0} and bench.barriers.standing() == []
    bench.init("m2", 1)
    bench.wait("a2")
    assert bench.released["a2"] == 0


def test_one_barrier_is_dropped_alone(bench: Bench) -> None:
    """The others go on; one that is not there is no news."""
    bench.init("m", 2)
    bench.wait("a")
    bench.handle(Arrived("x", "of x", Request(b"other", Kind.WAIT, 0)))
    bench.handle(DropOne(b"b"))
    assert bench.released == {"m": 240, "a": 240}
    assert [each.barrier for each in bench.barriers.standing()] == [b"other"]
    told = list(bench.told)
    bench.handle(DropOne(b"b"))
    assert bench.told == told


def test_a_count_that_overflows_is_refused(bench: Bench) -> None:
    """And changes nothing."""
    bench.init("m", COUNT_MAX)
    bench.init("n", 1)
    assert bench.refused == ["n"] and bench.remaining == COUNT_MAX
    assert bench.told[-1] == effects.Refused("of n", "the count would be 2,147,483,648")


def test_barriers_are_bounded() -> None:
    """One more is refused; in place of one that is only marked it is not."""
    bench = Bench(most=2)
    for number in range(3):
        bench.handle(Arrived(f"{number}", f"s{number}", Request(b"%d" % number, Kind.INIT, 1)))
    assert bench.refused == ["2"]
    bench.leave("0")
    bench.handle(Arrived("3", "s3", Request(b"3", Kind.INIT, 1)))
    assert bench.refused == ["2"] and [each.barrier for each in bench.barriers.standing()] == [b"1", b"3"]


def test_the_mark_that_is_oldest_makes_room() -> None:
    """One that was used again meanwhile is none."""
    bench = Bench(most=3)
    for number in range(3):
        bench.handle(Arrived(f"{number}", f"s{number}", Request(b"%d" % number, Kind.INIT, 1)))
        bench.leave(f"{number}")
    bench.handle(Arrived("x", "x", Request(b"0", Kind.WAIT)))
    bench.handle(Arrived("y", "y", Request(b"3", Kind.WAIT)))
    assert [each.barrier for each in bench.barriers.standing()] == [b"0", b"2", b"3"]
    assert [each.barrier for each in bench.barriers.gathered(9)[0]] == [b"0", b"3"]


def test_no_address_takes_all_names() -> None:
    """A quarter may be begun from one, and from all loopback addresses together; others go on."""
    bench = Bench(most=8)
    for number in range(3):
        begun = Request(b"%d" % number, Kind.INIT, 1, no_wait=True)
        bench.handle(Arrived(f"{number}", f"127.0.0.{number}", begun))
    assert bench.refused == ["2"]
    assert bench.told[-1] == effects.Refused("127.0.0.2", "2 barriers were begun from there", Room.BARRIERS)
    bench.handle(Arrived("3", "127.0.0.1", Request(b"0", Kind.WAIT)))
    bench.handle(Arrived("4", "10.0.0.1", Request(b"2", Kind.WAIT)))
    bench.handle(Arrived("5", "127.0.0.1", Request(b"2", Kind.INIT, 1)))
    bench.handle(Arrived("6", "127.0.0.1", Request(b"3", Kind.WAIT)))
    assert bench.refused == ["2"] and bench.released.keys() >= {"3", "4", "5"}


def test_what_there_is_no_room_for_costs_no_more_than_what_there_is() -> None:
    """With all names taken: of a member that asks on, all who wait would stand behind it."""
    barriers: Barriers[int] = Barriers()
    for number in range(BARRIERS_MAX):
        request = Request(b"%d" % number, Kind.INIT, 1, no_wait=True)
        barriers.handle(Arrived(number, f"10.0.0.{number % 4}", request))

    def refused_s() -> float:
        begin = time.process_time()
        for number in range(2_000):
            (refuse, _) = barriers.handle(Arrived(number, "10.0.0.9", Request(b"x%d" % number, Kind.WAIT)))
            assert isinstance(refuse, effects.Refuse)
        return time.process_time() - begin

    # The least of a few: the interpreter may collect the garbage of all tests before in the midst of one.
    assert min(refused_s() for _ in range(3)) < 0.5


def test_a_party_waits_at_one_barrier_at_a_time(bench: Bench) -> None:
    """A second arrival is the caller's mistake, and loud."""
    bench.wait("a")
    with pytest.raises(ValueError, match="one barrier"):
        bench.wait("a")


def test_names_stand_for_barriers_of_their_own(bench: Bench) -> None:
    """Who waits at one knows nothing of another."""
    bench.init("m", 1)
    bench.handle(Arrived("x", "s", Request(b"other", Kind.WAIT)))
    assert bench.released == {} and len(bench.barriers.standing()) == 2


def test_the_listing_tells_who_is_there(bench: Bench) -> None:
    """By the address that they came from: what owners added, and how many wait."""
    bench.init("m", 4)
    bench.init("x", 2, no_wait=True)
    bench.wait("a")
    (standing,) = bench.barriers.standing()
    assert standing == Standing(b"b", BarrierState.COUNTING, 5, 2, {"of m": 4}, {"of a": 1}, {"of x": 2})


def test_who_added_without_waiting_stays_listed(bench: Bench) -> None:
    """Also when all others have left; a barrier that has opened knows nothing of the one before."""
    bench.init("x", 1, no_wait=True)
    bench.wait("a", timeout_ms=5)
    assert bench.barriers.standing() == []
    bench.init("x", 2, no_wait=True)
    bench.wait("a")
    bench.leave("a")
    (standing,) = bench.barriers.standing()
    assert (standing.held, standing.holders) == (2, {"of x": 2})


def test_names_of_who_added_without_waiting_are_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all barriers together: over UDP anybody may come from any address. What they add counts."""
    monkeypatch.setattr(barriers, "HOLDERS_MAX", 3)
    for number in range(5):
        bench.init(f"x{number}", 1, no_wait=True)
    bench.init("x0", 1, no_wait=True)
    (standing,) = bench.barriers.standing()
    assert (standing.held, standing.holders) == (6, {"of x0": 2, "of x1": 1, "of x2": 1})
    bench.handle(DropAll())
    bench.init("x9", 1, no_wait=True)
    assert bench.barriers.standing()[0].holders == {"of x9": 1}


def test_the_life_of_a_barrier_is_told(bench: Bench) -> None:
    """Init, waiters by source, leaving, opening."""
    bench.init("m", 2)
    bench.wait("a")
    bench.leave("a")
    bench.wait("b")
    bench.wait("c", error=7)
    assert bench.told == [
        effects.Initialised(b"b", "of m", 2, True, 2),
        effects.Came(b"b", "of a", 1),
        effects.Left(b"b", "of a", Why.CLOSED, False, 2),
        effects.Came(b"b", "of b", 1),
        effects.Came(b"b", "of c", 0),
        effects.Opened(b"b", 7, {"of m": 1, "of b": 1, "of c": 1}),
    ]


def test_an_abandoned_barrier_is_told(bench: Bench) -> None:
    """Whose end it was, and how many were told of it."""
    bench.init("m", 2)
    bench.wait("a", abandon=True)
    bench.leave("m")
    assert bench.told[2:] == [
        effects.Left(b"b", "of m", Why.CLOSED, True, -1),
        effects.Abandoned(b"b", "of m", 1),
        effects.Left(b"b", "of a", Why.ABANDONED, False, 0),
    ]
