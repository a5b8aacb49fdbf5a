"""Shapes of partitions: the same for the same seed, and what their names promise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core import shapes
from syndicate.manager.core.model import PartitionShape

seeds = st.integers(-(1 << 63), (1 << 63) - 1)


def members(number: int) -> list[str]:
    """A master and slaves."""
    return ["master", *[f"slave-{i}" for i in range(number - 1)]]


@settings(deadline=None)
@given(number=st.integers(2, 40), seed=seeds)
def test_an_order_is_drawn_of_all_members_and_the_same_by_the_same_seed(number: int, seed: int) -> None:
    """Nobody is lost or doubled."""
    order = shapes.drawn(members(number), seed)
    assert sorted(order) == sorted(members(number))
    assert order == shapes.drawn(members(number), seed)


def test_what_is_drawn_stays_the_same_over_versions() -> None:
    """Recorded runs name their seeds."""
    assert shapes.drawn(members(5), 7) == ("master", "slave-1", "slave-0", "slave-2", "slave-3")


def test_each_order_is_drawn_about_as_often() -> None:
    """Of three members there are six orders: 6,000 seeds, about 1,000 each."""
    orders = [shapes.drawn("abc", seed) for seed in range(6000)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert all(870 < count < 1130 for count in counts)


def test_halves_are_in_order_the_smaller_one_first() -> None:
    """Five members: two, and three."""
    groups = shapes.groups(PartitionShape.HALVES, members(5), "", 3)
    assert groups == (("master", "slave-0"), ("slave-1", "slave-2", "slave-3"))


@settings(deadline=None)
@given(number=st.integers(2, 40), seed=seeds)
def test_random_halves_are_halves(number: int, seed: int) -> None:
    """Of everybody."""
    small, large = shapes.groups(PartitionShape.RANDOM_HALVES, members(number), "", seed)
    assert len(small) == number // 2
    assert sorted(small + large) == sorted(members(number))


@settings(deadline=None)
@given(number=st.integers(3, 60), seed=seeds)
def test_in_a_majority_ring_each_reaches_another_majority(number: int, seed: int) -> None:
    """Itself counted and first; mutual; no two the same; and no more of them than it takes."""
    reached = shapes.groups(PartitionShape.MAJORITY_RING, members(number), "", seed)
    near = {group[0]: set(group) for group in reached}
    assert sorted(near) == sorted(members(number))
    assert all(number // 2 + 1 <= len(group) <= number // 2 + 2 for group in reached)
    assert all(one in near[other] for one, others in near.items() for other in others)
    assert len({frozenset(group) for group in reached}) == number


@settings(deadline=None)
@given(number=st.integers(3, 40), seed=seeds, named=st.booleans())
def test_the_one_of_a_bridge_is_in_neither_half(number: int, seed: int, named: bool) -> None:
    """Drawn, or named."""
    one = "slave-1" if named else ""
    small, large = shapes.groups(PartitionShape.BRIDGE, members(number), one, seed)
    [bridge] = set(members(number)) - set(small + large)
    assert not named or bridge == one
    assert 0 <= len(large) - len(small) <= 1


@settings(deadline=None)
@given(number=st.integers(2, 40), seed=seeds)
def test_isolate_one_leaves_the_rest_together(number: int, seed: int) -> None:
    """One, and all others."""
    one, rest = shapes.groups(PartitionShape.ISOLATE_ONE, members(number), "", seed)
    assert len(one) == 1
    assert sorted(one + rest) == sorted(members(number))


@pytest.mark.parametrize("shape", PartitionShape)
@settings(deadline=None)
@given(number=st.integers(3, 30), seed=seeds)
def test_who_is_cut_from_another_is_cut_in_both_directions(
    shape: PartitionShape, number: int, seed: int
) -> None:
    """What one cannot send, the other cannot hear; and the same the other way round."""
    groups = shapes.groups(shape, members(number), "", seed)
    ring = shape is PartitionShape.MAJORITY_RING
    cuts = shapes.ring_cuts(groups) if ring else shapes.cuts(groups, one_way=False)
    for one, (out, heard) in cuts.items():
        assert out == heard
        assert one not in out
        assert all(one in cuts[other][0] for other in out)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_one_way_a_later_group_is_not_heard_by_an_earlier_one(sizes: list[int]) -> None:
    """What it sends is lost at both ends; what it is sent passes."""
    groups = [tuple(f"g{number}-{i}" for i in range(size)) for number, size in enumerate(sizes)]
    cuts = shapes.cuts(groups, one_way=True)
    for number, group in enumerate(groups):
        for other, others in enumerate(groups):
            for one in group:
                lost = set(others) if other < number else set()
                assert set(others) & set(cuts[one][0]) == lost
            for one in others:
                unheard = set(group) if other < number else set()
                assert set(group) & set(cuts[one][1]) == unheard
