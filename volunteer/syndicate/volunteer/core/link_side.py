"""The streams to the managers: hello, welcome, heartbeats, and the lease that hangs on them."""

from __future__ import annotations

from .. import local
from .addresses import parse_prefix
from .barrier_news import tell_again
from .effects import CloseLink, SendHeartbeat, SendHello, WarmSource
from .model import Heartbeat, HeldTask, Hello, Network, Welcome
from .state import SECOND, Cluster, Link
from .transitions import TASK_STATES, SlotState
from .turn import Turn


def opened(turn: Turn, name: str) -> None:
    """A stream stands; Hello goes out as soon as it is known what is held."""
    link = _fresh_session(turn, name)
    link.opened = True
    if turn.state.known:
        say_hello(turn, link)


def lost(turn: Turn, name: str) -> None:
    """A stream ended: tasks run on, until their lease ends."""
    _fresh_session(turn, name)


def _fresh_session(turn: Turn, name: str) -> Link:
    """Forgets all of the last stream but the cluster that it led to."""
    for cluster in turn.state.clusters.values():
        if name in cluster.links:
            cluster.links.remove(name)
    link = Link(name, turn.state.cluster_of_link.get(name, ""))
    turn.state.links[name] = link
    return link


def say_hello(turn: Turn, link: Link) -> None:
    """Says who the volunteer is and what it holds: of the link's cluster where that is known, else all."""
    state, config = turn.state, turn.state.config
    cluster = state.clusters.get(link.cluster_id)
    link.hello_at = turn.now
    hello = Hello(
        volunteer_id=config.volunteer_id,
        boot_id=turn.now.boot_id,
        slots=tuple((slot.number, slot.fixed_address) for slot in state.slots.values() if slot.offered),
        resources=config.resources,
        host_address=config.host_address,
        prefix=config.prefix,
        capabilities=state.capabilities,
        held=held(turn, link.cluster_id),
        highest_epoch=cluster.epoch if cluster else 0,
        cluster_id=link.cluster_id,
        network=state.network,
        reach_domain=config.reach_domain or _own_domain(turn),
        version=config.version,
        sent_at=turn.now,
        unsafe=state.unsafe,
        cannot=state.cannot,
        instance=config.instance,
    )
    turn.emit(SendHello(link.name, hello))


def _own_domain(turn: Turn) -> str:
    """Slots in namespaces reach only their own volunteer's, unless the operator routes between them."""
    return "host" if turn.state.network is Network.HOST else turn.state.config.volunteer_id


def held(turn: Turn, cluster_id: str) -> tuple[HeldTask, ...]:
    """What is held of a cluster, or of all (empty)."""
    found = []
    for slot in turn.state.slots.values():
        if slot.task is None or slot.state is SlotState.FREE:
            continue
        if cluster_id and slot.task.cluster_id != cluster_id:
            continue
        ended = slot.exits.get(slot.generation)
        found.append(HeldTask(slot.ref(), slot.number, slot.address, TASK_STATES[slot.state], ended))
    return tuple(found)


def welcomed(turn: Turn, name: str, welcome: Welcome) -> None:
    """The manager accepts the volunteer: the lease runs from when Hello was sent."""
    link = turn.state.links.get(name)
    if link is None or not link.opened or link.closing or link.hello_at is None:
        return
    cluster = turn.cluster(welcome.cluster_id)
    refusal = _refuse_welcome(cluster, welcome)
    if refusal:
        _close(turn, link, refusal)
        return
    _note_other_cluster(turn, link, welcome.cluster_id)
    link.cluster_id, link.welcomed, link.heard_ns = welcome.cluster_id, True, turn.ns
    link.interval_ns = max(SECOND // 100, round(welcome.heartbeat_interval_s * SECOND))
    link.orphan_ns = round(welcome.orphan_after_s * SECOND)
    for other in turn.state.clusters.values():
        if name in other.links:
            other.links.remove(name)
    cluster.links.append(name)
    cluster.draining = False  # a manager that wants it drained says so after each Welcome
    cluster.network = parse_prefix(welcome.prefix) if welcome.prefix else None
    if turn.state.cluster_of_link.get(name) != cluster.cluster_id:
        turn.state.cluster_of_link[name] = cluster.cluster_id
        turn.remember()
    turn.raise_epoch(cluster, welcome.epoch)
    # A manager that came back with a shorter orphan_after gives slots away by that: the lease may shrink.
    cluster.lease_until_ns = 0
    renew(turn, cluster, link.hello_at.monotonic_ns + link.orphan_ns)
    send_heartbeat(turn, link)
    turn.send_events(cluster)
    tell_again(turn, cluster.cluster_id)
    for source in welcome.warm:
        turn.emit(WarmSource(name, source))


def _refuse_welcome(cluster: Cluster, welcome: Welcome) -> str:
    if welcome.epoch < cluster.epoch:
        return f"its epoch {welcome.epoch} is over: epoch {cluster.epoch} of its cluster was seen"
    try:
        if welcome.prefix:
            parse_prefix(welcome.prefix)
    except ValueError as error:
        return f"its prefix cannot be used: {error}"
    return ""


def _note_other_cluster(turn: Turn, link: Link, cluster_id: str) -> None:
    """Tasks of the cluster that was here before are kept until their lease ends, and told to people."""
    before = link.cluster_id
    if before and before != cluster_id:
        kept = len(held(turn, before))
        turn.note("cluster.changed", link=link.name, before=before, now=cluster_id, tasks_kept=kept)


def heartbeat_acked(turn: Turn, name: str, sequence: int) -> None:
    """The manager heard a heartbeat: the lease runs from when that one was sent, by the own clock."""
    link = turn.state.links.get(name)
    if link is None or not link.welcomed or sequence not in link.sent:
        return
    sent_at = link.sent[sequence]
    link.sent = {later: at for later, at in link.sent.items() if later > sequence}
    if sent_at.monotonic_ns >= turn.state.unheard.get(link.cluster_id, sent_at.monotonic_ns + 1):
        del turn.state.unheard[link.cluster_id]
    first = link.acked == 0
    link.acked, link.acked_at, link.heard_ns = sequence, turn.now, turn.ns
    renew(turn, turn.cluster(link.cluster_id), sent_at.monotonic_ns + link.orphan_ns)
    if first:  # close the first exchange of stamps at once, so that the manager knows the clocks early
        send_heartbeat(turn, link)


def renew(turn: Turn, cluster: Cluster, until_ns: int) -> None:
    """Lets the tasks of a cluster run until then; of two acknowledged heartbeats the later one counts."""
    if until_ns > cluster.lease_until_ns:
        cluster.lease_until_ns = until_ns
        if turn.state.synced:
            turn.call(local.Renew(cluster.cluster_id, until_ns), None)


def send_heartbeat(turn: Turn, link: Link) -> None:
    """Says that the volunteer lives."""
    link.sequence += 1
    link.sent[link.sequence] = turn.now
    link.next_heartbeat_ns = turn.ns + link.interval_ns
    beat = Heartbeat(link.sequence, turn.now, link.acked, link.acked_at, turn.state.worn)
    turn.emit(SendHeartbeat(link.name, beat))


def dead_ns(turn: Turn, link: Link) -> int | None:
    """When the stream counts as dead unless something is heard; None where nothing is waited for."""
    if not link.opened or link.closing or link.hello_at is None:
        return None
    config = turn.state.config
    if not link.welcomed:
        return link.hello_at.monotonic_ns + round(config.welcome_timeout_s * SECOND)
    return link.heard_ns + round(config.dead_after_intervals * link.interval_ns)


def tick(turn: Turn, link: Link) -> None:
    """Sends the heartbeat that is due, or gives up a stream over which nothing is heard."""
    dead = dead_ns(turn, link)
    if dead is not None and turn.ns >= dead:
        _close(turn, link, "no sign of life from the manager" if link.welcomed else "no Welcome")
    elif link.welcomed and not link.closing and turn.ns >= link.next_heartbeat_ns:
        send_heartbeat(turn, link)


def _close(turn: Turn, link: Link, detail: str) -> None:
    link.closing = True
    turn.emit(CloseLink(link.name, detail))
