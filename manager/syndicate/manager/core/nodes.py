"""Volunteers: who is attached through which stream, who is away, who is given up.

A volunteer whose stream ends is away and keeps its tasks: the lease lets them run on. It is given up when
`lost_after_s` have passed since it was last heard, by heartbeat or Hello; by then its lease has ended its
tasks. One that is given up counts as capacity and keeps its prefix while there are others; it is forgotten
`forget_after_s` after it was last heard, unless it was drained: a word of the operator's is kept.
"""

from __future__ import annotations

from dataclasses import replace

from . import clock, commands, prefixes, reconcile, stopping
from .effects import Close, SendDrain, SendWelcome
from .errors import Away, BadRequest, Conflict, CoreError, Exhausted, NotFound, Refused
from .events import DrainNode, HeartbeatReceived, VolunteerAttached
from .model import Hello, NodeState, Reason
from .records import NodeRecord
from .state import Node, Slot
from .world import World, nanoseconds

# One that cannot be forgotten yet, or was just read from the store, is looked at so much later.
FORGET_AGAIN_S = 3600.0


def state_of(node: Node) -> NodeState:
    """Whether the volunteer can be used."""
    if node.session is None:
        return NodeState.AWAY
    if node.record.drained:
        return NodeState.DRAINED
    return NodeState.WORN if node.worn else NodeState.READY


def attached(world: World, event: VolunteerAttached) -> None:
    """A Hello: the volunteer is welcomed and reconciled, or its stream is closed with the reason."""
    hello = event.hello
    try:
        prefix = _admit(world, hello)
    except CoreError as error:
        world.emit(Close(event.session, error))
        return
    node = world.nodes.get(hello.volunteer_id)
    if node is not None and node.session is not None:
        text = f"{hello.volunteer_id} has attached again, through another stream"
        world.emit(Close(node.session, Conflict("DUPLICATE_VOLUNTEER", text)))
        _detach(world, node)
    rebooted = node is not None and node.record.boot_id != hello.boot_id
    record = _record_of(world, hello, prefix, node)
    if node is None:
        node = world.nodes[hello.volunteer_id] = Node(record, world.now)
    if rebooted:
        give_up(world, node, f"{hello.volunteer_id} was rebooted")
    world.save_node(node, record)
    _take_prefix(world, node)
    node.heard, node.seen, node.gone, node.free = world.now, True, False, hello.resources
    node.session, node.welcomed, node.instance = event.session, False, hello.instance
    node.worn = node.worn and not rebooted
    world.sessions[event.session] = hello.volunteer_id
    _set_slots(world, node, hello)
    world.emit(SendWelcome(event.session, prefix, world.warm))
    if record.drained:
        world.emit(SendDrain(event.session, True))
    reconcile.held(world, node, hello.held)
    commands.resend_all(world, node)
    for slot in node.slots.values():
        world.refresh(node, slot)
    world.timers.cancel(("forget", hello.volunteer_id))
    _watch(world, node)


def detached(world: World, session: str) -> None:
    """A stream has ended. One that was replaced means nothing any more."""
    node = world.node_of_session(session)
    if node is not None:
        _detach(world, node)


def heard(world: World, event: HeartbeatReceived) -> None:
    """A heartbeat: the volunteer lives, and its clock is known a little better."""
    node = world.node_of_session(event.session)
    if node is None:
        return
    node.heard, node.welcomed = world.now, True
    node.free, node.worn = event.free, event.worn
    if event.exchange is not None:
        measured = clock.measure(event.exchange, world.config.boot_id)
        if measured is not None and measured.boot_id == node.record.boot_id:
            node.clock = clock.merge(node.clock, measured)


def overdue(world: World, volunteer_id: str) -> None:
    """The volunteer's timer: gives it up if it was not heard for `lost_after_s`."""
    node = world.nodes[volunteer_id]
    if node.gone:
        return
    if world.ns < _lost_at(world, node):
        _watch(world, node)
        return
    text = f"{volunteer_id} was not heard for {world.config.lost_after_s:g} s"
    if node.session is not None:
        world.emit(Close(node.session, Away("VOLUNTEER_LOST", text)))
        _detach(world, node)
    if node.seen:
        world.save_node(node, replace(node.record, last_seen_at=node.heard))
    give_up(world, node, text)
    _watch_gone(world, node)


def forget(world: World, volunteer_id: str) -> None:
    """The volunteer's other timer: forgets it, if it is gone and nothing speaks of it."""
    node = world.nodes[volunteer_id]
    if not node.gone:
        return
    spoken_of = any(slot.ref is not None for slot in node.slots.values()) or any(
        task.record.volunteer_id == volunteer_id
        for job in world.active.values()
        for task in job.tasks.values()
    )
    if node.record.drained or spoken_of:
        world.timers.set(("forget", volunteer_id), world.ns + nanoseconds(FORGET_AGAIN_S))
        return
    world.save_node(node, replace(node.record, forgotten=True))
    for number in node.slots:
        world.timers.cancel(("slot", volunteer_id, number))
    world.timers.cancel(("resend", volunteer_id))
    del world.nodes[volunteer_id]


def give_up(world: World, node: Node, why: str) -> None:
    """Nothing of what the volunteer held can live any more: its tasks are lost, its slots nobody's."""
    node.gone = True
    node.pending.clear()
    lost = [slot.ref for slot in node.slots.values() if slot.ref is not None]
    for slot in node.slots.values():
        world.unlock(node, slot)
    for ref in lost:
        found = world.find(ref)
        if found is not None and found[1].record.volunteer_id == node.record.volunteer_id:
            stopping.member_lost(world, *found, Reason.VOLUNTEER_LOST, why)


def drain(world: World, event: DrainNode) -> NodeState:
    """Takes a volunteer out of use, or back; what runs there goes on."""
    node = world.nodes.get(event.volunteer_id)
    if node is None:
        raise NotFound("NO_SUCH_NODE", f"there is no volunteer {event.volunteer_id!r:.80}")
    if node.record.drained != event.draining:
        world.save_node(node, replace(node.record, drained=event.draining))
        if node.session is not None:
            world.emit(SendDrain(node.session, event.draining))
        for slot in node.slots.values():
            world.refresh(node, slot)
    return state_of(node)


def slot_back(world: World, volunteer_id: str, number: int) -> None:
    """A busy slot may be asked again."""
    node = world.nodes.get(volunteer_id)
    slot = node.slots.get(number) if node is not None else None
    if node is not None and slot is not None:
        world.refresh(node, slot)


def _admit(world: World, hello: Hello) -> str:
    """The prefix that the volunteer gets. Raises Refused, Conflict, BadRequest or Exhausted."""
    config = world.config
    if hello.cluster_id == config.cluster_id and hello.highest_epoch > config.epoch:
        world.save_epoch(hello.highest_epoch)
        raise Refused(
            "STALE_MANAGER",
            f"{hello.volunteer_id} has seen epoch {hello.highest_epoch}, this manager's is {config.epoch}: "
            "its state directory is an old copy. Start the newer one; if there is none, restart it, and it "
            "takes a higher epoch",
        )
    node = world.nodes.get(hello.volunteer_id)
    if node is not None:
        _require_the_same(world, node, hello)
    others = [
        other
        for name, other in sorted(world.nodes.items())
        if name != hello.volunteer_id and other.session is not None
    ]
    claimed = {address for _, address in hello.slots if address}
    for address in sorted(claimed):
        if not prefixes.is_address(address):
            text = f"the fixed address {address!r:.80} of a slot is no IPv4 address"
            raise BadRequest("BAD_FIELD", text, field="fixed_address")
    for other in others:
        twice = sorted(claimed.intersection(address for _, address in other.record.slots))
        if twice:
            owner = other.record.volunteer_id
            raise Conflict("DUPLICATE_ADDRESS", f"{twice[0]} is the address of a slot of {owner} already")
    return _prefix_for(world, hello, node, others)


def _require_the_same(world: World, node: Node, hello: Hello) -> None:
    """The one that is attached keeps its id as long as it is heard. Raises Conflict.

    Were the newer stream to win, two of one id would end each other's for ever.
    """
    if node.session is None or world.ns - node.heard.monotonic_ns > nanoseconds(
        2 * world.config.heartbeat_interval_s
    ):
        return
    if node.record.boot_id != hello.boot_id:
        who = "another machine is"
    elif node.instance != hello.instance:
        who = "another volunteer on this machine, with another state directory, is"
    else:
        return
    text = f"{who} attached as {hello.volunteer_id}; give this one an id of its own"
    raise Conflict("DUPLICATE_VOLUNTEER", text)


def _prefix_for(world: World, hello: Hello, node: Node | None, others: list[Node]) -> str:
    if hello.prefix:
        own = prefixes.normal(hello.prefix)
        for other in others:
            if other.record.prefix and prefixes.overlap(own, other.record.prefix):
                text = f"prefix {own} overlaps {other.record.prefix} of {other.record.volunteer_id}"
                raise Conflict("DUPLICATE_ADDRESS", text)
        return own
    if hello.network == "host":
        return ""
    taken = {
        n.record.prefix: n.gone
        for name, n in world.nodes.items()
        if n.record.prefix and name != hello.volunteer_id
    }
    slots = len(hello.slots)
    kept = node.record.prefix if node is not None else ""
    if kept and prefixes.has_room(kept, slots) and not any(prefixes.overlap(kept, other) for other in taken):
        return kept
    pool = world.config.prefixes
    try:
        return prefixes.choose(pool, taken, slots)
    except Exhausted:
        # Rather one that somebody had who is gone: whoever comes back late gets another.
        return prefixes.choose(pool, [prefix for prefix, gone in taken.items() if not gone], slots)


def _take_prefix(world: World, node: Node) -> None:
    """Nobody who is gone keeps what this volunteer has got now."""
    own = node.record.prefix
    for other in world.nodes.values():
        theirs = other.record.prefix
        if own and theirs and other.gone and other is not node and prefixes.overlap(own, theirs):
            world.save_node(other, replace(other.record, prefix=""))


def _record_of(world: World, hello: Hello, prefix: str, node: Node | None) -> NodeRecord:
    return NodeRecord(
        hello.volunteer_id,
        hello.boot_id,
        hello.slots,
        prefix,
        hello.network,
        hello.reach_domain,
        hello.capabilities,
        hello.version,
        hello.resources,
        node.record.drained if node is not None else False,
        world.now,
        unsafe=hello.unsafe,
        cannot=hello.cannot,
    )


def _set_slots(world: World, node: Node, hello: Hello) -> None:
    """The slots are those of the Hello; one that it does not offer any more goes when it is free."""
    offered = dict(hello.slots)
    for number, slot in list(node.slots.items()):
        slot.offered = False
        if number not in offered and slot.ref is None:
            del node.slots[number]
    for number, address in offered.items():
        slot = node.slots.setdefault(number, Slot(number))
        slot.address, slot.offered = address, True


def _detach(world: World, node: Node) -> None:
    assert node.session is not None, "only a stream can end"  # noqa: S101  # for the type checker
    del world.sessions[node.session]
    node.session = None
    for slot in node.slots.values():
        world.refresh(node, slot)
    world.capacity_known = False


def _lost_at(world: World, node: Node) -> int:
    return node.heard.monotonic_ns + nanoseconds(world.config.lost_after_s)


def _watch_gone(world: World, node: Node) -> None:
    """One that this manager has not heard itself was last seen by the calendar, and gets an hour more."""
    silent_ns = world.now.utc_ns - node.record.last_seen_at.utc_ns
    left_ns = nanoseconds(world.config.forget_after_s) - max(silent_ns, 0)
    if not node.seen:
        left_ns = max(left_ns, nanoseconds(FORGET_AGAIN_S))
    world.timers.set(("forget", node.record.volunteer_id), world.ns + max(left_ns, 0))


def _watch(world: World, node: Node) -> None:
    world.timers.set(("node", node.record.volunteer_id), _lost_at(world, node))
