"""The Raft example keeps its promises in a deterministic world full of faults."""

from __future__ import annotations

import pytest
from raft_world import World
from raftkv.raft import Raft, Role

SEEDS = range(100)


def _led(seed: int) -> tuple[World, Raft]:
    """A world at peace, in which every member votes, and its leader."""
    world = World(seed, loss=0.0)
    world.run_until(lambda: world.leader() is not None and all(m.voter for m in world.members.values()), 10)
    leader = world.leader()
    assert leader is not None
    assert leader.raft is not None
    return world, leader.raft


def _tortured(seed: int) -> World:
    """A world after 15 virtual seconds of faults, writes and reads; then everybody is there again."""
    world = World(seed)
    dice = world.random
    world.run_until(lambda: all(m.voter for m in world.members.values()), 10)
    for _ in range(300):
        world.run(0.05)
        _fault(world)
        for name in dice.sample(world.names, 3):
            world.write(name)
            world.read(name)
    world.cut.clear()
    for name, member in world.members.items():
        if not member.alive:
            world.start(name)
    return world


def _fault(world: World) -> None:
    dice = world.random
    name = dice.choice(world.names)
    leader = world.leader()
    if leader is not None and dice.random() < 0.3:
        name = leader.name
    member = world.members[name]
    roll = dice.random()
    if roll < 0.02 and member.alive:
        world.kill(name)
    elif roll < 0.2 and not member.alive:
        # At most two disks are away at a time: more than that no majority can stand for.
        away = sum(not other.voter for other in world.members.values() if other is not member)
        world.start(name, with_disk=away >= 2 or dice.random() < 0.5)
    elif roll < 0.22 and len(world.cut) < 3:
        world.cut.add(name)
    elif roll < 0.3 and world.cut:
        world.cut.remove(dice.choice(sorted(world.cut)))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost(seed: int) -> None:
    """Through kills, lost disks and cuts one leader leads a term, reads are fresh, and writes stay."""
    world = _tortured(seed)

    world.run_until(lambda: _settled(world), 20)

    for member in world.members.values():
        assert world.acknowledged <= set(member.store.get("k"))
    assert world.acknowledged
    assert world.answered_reads


def _settled(world: World) -> bool:
    leader = world.leader()
    if leader is None or leader.raft is None:
        return False
    last = leader.raft.log.last_index
    return all(member.voter and member.applied == last for member in world.members.values())


def test_three_lost_disks_of_five_stop_the_store() -> None:
    """With a majority of disks lost nothing is committed any more: safe, not live."""
    world, _ = _led(3)
    for name in world.names[:3]:
        world.kill(name)
        world.start(name, with_disk=False)
    committed = len(world.truth)

    world.run(20)

    assert not any(world.members[name].voter for name in world.names[:3])
    assert len(world.truth) == committed


def test_the_last_missing_voice_is_waited_for() -> None:
    """Two of five lose their disks; while a third is away they stay learners, and vote when it is back."""
    world, _ = _led(4)
    a, b, c, *_ = world.names
    world.kill(c)
    for name in (a, b):
        world.kill(name)
        world.start(name, with_disk=False)
    world.run(10)
    early = [world.members[name].voter for name in (a, b)]

    world.start(c)
    world.run_until(lambda: all(m.voter for m in world.members.values()), 10)

    assert early == [False, False]


def test_a_new_cluster_is_not_formed_over_a_lost_disk() -> None:
    """The member that forms clusters loses its disk: it learns that there is one, and copies it."""
    world, leader = _led(5)
    value = world.write(leader.me)
    world.run_until(lambda: value in world.acknowledged, 5)
    first = world.names[0]

    world.kill(first)
    world.start(first, with_disk=False)
    world.run_until(lambda: world.members[first].voter, 10)

    assert value in world.members[first].store.get("k")


def test_a_member_that_was_cut_off_does_not_depose_the_leader() -> None:
    """The pre-vote keeps the term where it was when a cut member comes back."""
    world, leader = _led(6)
    world.run(2)
    term = leader.term
    world.cut = {next(name for name in world.names if name != leader.me)}

    world.run(5)
    world.cut = set()
    world.run(5)

    assert leader.role is Role.LEADER
    assert leader.term == term


def test_a_leader_that_is_cut_off_steps_down() -> None:
    """A leader that hears no majority does not go on leading."""
    world, leader = _led(7)

    world.cut = {leader.me}
    world.run(2)

    assert leader.role is not Role.LEADER
