"""The queue: owners take turns, inside an owner first come first served."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core.queue import Queue
from syndicate.manager.core.snapshot import Waiting


def filled(*jobs: tuple[int, str]) -> Queue:
    """A queue with jobs of one slot each, as (id, owner)."""
    queue = Queue()
    for job_id, owner in jobs:
        queue.push(Waiting(job_id, 1, 1), owner)
    return queue


def order(queue: Queue) -> list[int]:
    """The ids in turn."""
    return [job.job_id for job in queue.order()]


def test_owners_take_turns() -> None:
    """Three jobs of one owner do not stand before the first of another."""
    assert order(filled((1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"))) == [1, 4, 2, 5, 3]


def test_who_uses_fewer_slots_goes_first() -> None:
    """An owner with slots in use waits for one without, whoever came first."""
    queue = filled((1, "a"), (2, "b"))
    queue.started("a", 4)
    assert order(queue) == [2, 1]
    queue.ended("a", 4)
    queue.started("b", 1)
    assert order(queue) == [1, 2]


def test_who_had_a_turn_longer_ago_goes_first() -> None:
    """With equal shares the owner whose last start is older is next."""
    queue = filled((1, "a"), (2, "b"))
    for owner in ("b", "a"):
        queue.started(owner, 1)
        queue.ended(owner, 1)
    assert order(queue) == [2, 1]


def test_a_requeued_job_comes_before_later_ones() -> None:
    """Inside an owner the lowest id is first, also when it comes back."""
    queue = filled((5, "a"), (6, "a"))
    queue.push(Waiting(3, 1, 1), "a")
    assert order(queue) == [3, 5, 6]
    assert [queue.place(job_id) for job_id in (3, 5, 6)] == [1, 2, 3]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from("abcd")), min_size=30, max_size=60), st.data())
def test_places_far_back_are_right_to_within_the_number_of_owners(
    jobs: list[tuple[int, str]], data: st.DataObject
) -> None:
    """They are found without a look at the whole queue, however jobs have come and gone."""
    queue = Queue()
    for job_id, (slots, owner) in enumerate(jobs, 1):
        queue.push(Waiting(job_id, slots, 1), owner)
    waiting = dict(enumerate(jobs, 1))
    for _ in range(data.draw(st.integers(0, 20))):
        gone = data.draw(st.sampled_from([*sorted(waiting)[:4], *waiting]))
        queue.remove(gone)
        slots, owner = waiting.pop(gone)
        queue.started(owner, slots)
        if data.draw(st.booleans()):
            queue.ended(owner, slots)
        elif data.draw(st.booleans()):
            queue.ended(owner, slots)
            queue.push(Waiting(gone, slots, 1), owner)
            waiting[gone] = slots, owner
    for place, job_id in enumerate(order(queue), 1):
        assert abs(queue._place_by_share(job_id) - place) <= 4
        assert queue.place(job_id) == place


def test_places_of_a_deep_queue_cost_no_look_at_all_of_it() -> None:
    """After each change a few owners are asked, not every job; the first thousand places are exact."""
    queue = Queue()
    for job_id in range(1, 20_001):
        queue.push(Waiting(job_id, 1 + job_id % 3, 1), "abcd"[job_id % 4])
    expected = order(queue)
    far = expected[15_000]
    looked = 0

    def counted() -> Iterator[Waiting]:
        nonlocal looked
        for job in Queue.order(queue):
            looked += 1
            yield job

    queue.order = counted  # type: ignore[method-assign]  # to count
    assert abs(queue.place(far) - 15_001) <= 4
    assert looked == 0
    assert [queue.place(job_id) for job_id in expected[:1000]] == list(range(1, 1001))
    assert looked < 1100


def test_an_owner_without_jobs_costs_nothing_and_keeps_its_turn() -> None:
    """Whoever was served last is behind one who waits since before, also after being away."""
    queue = Queue()
    for number in range(1000):
        queue.push(Waiting(number, 1, 1), f"owner-{999 - number:03}")
        queue.remove(number)
        queue.started(f"owner-{999 - number:03}", 1)
        queue.ended(f"owner-{999 - number:03}", 1)
    assert len(queue._owners) == 0
    queue.push(Waiting(1001, 1, 1), "owner-000")
    queue.push(Waiting(1002, 1, 1), "owner-001")
    assert order(queue) == [1002, 1001]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from("abc")), unique_by=lambda job: job[0]), st.data()
)
def test_the_order_is_what_starting_one_by_one_gives(
    jobs: list[tuple[int, str]], data: st.DataObject
) -> None:
    """Looking at the order and starting head after head come to the same."""
    queue = filled(*jobs)
    owners = dict(jobs)
    for _ in range(data.draw(st.integers(0, len(jobs)))):
        gone = data.draw(st.sampled_from(sorted(owners)))
        queue.remove(gone)
        del owners[gone]
    expected = order(queue)
    actual = []
    while (head := queue.head()) is not None:
        actual.append(head.job_id)
        queue.remove(head.job_id)
        queue.started(owners[head.job_id], head.slots)
    assert actual == expected
    assert len(queue) == 0
