"""Who reaches whom after any sequence of states, against a model of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keeper.network_helpers import Slot, exchange, pending, slots_of_a_job, until
from syndicate.volunteer.keeper.network import FabricNetwork
from syndicate.volunteer.local import UNDEGRADED, WHOLE, Degradation, LinkState, NetworkState

ADDRESSES = tuple(f"10.77.0.{number}" for number in range(1, 5))
PAIRS = tuple(itertools.permutations(range(len(ADDRESSES)), 2))

some = st.sets(st.sampled_from(ADDRESSES)).map(lambda chosen: tuple(sorted(chosen)))
degradations = st.sampled_from(
    [
        UNDEGRADED,
        Degradation(loss_percent=100),
        Degradation(rate_bps=1_000_000_000),
        Degradation(delay_ms=0.5),
        Degradation(rate_bps=1_000_000_000, delay_ms=0.5),
        Degradation(loss_percent=100, rate_bps=1_000_000_000),
    ]
)
links = st.lists(
    st.builds(LinkState, st.sampled_from(["", *ADDRESSES]), degradations, degradations), max_size=3
).map(tuple)
states = st.one_of(
    st.just(WHOLE), st.builds(NetworkState, cut=some, cut_out=some, cut_in=some, reset=some, links=links)
)
changes = st.dictionaries(st.integers(0, len(ADDRESSES) - 1), states, min_size=1)


@pytest.fixture(scope="module")
def job() -> Iterator[tuple[FabricNetwork, list[Slot]]]:
    """Four slots of one job, for all examples: each begins with a heal."""
    with slots_of_a_job(*ADDRESSES) as made:
        yield made


def sends(state: NetworkState, peer: str) -> bool:
    """Whether a slot in this state gets a packet out to a peer."""
    lost = any(link.sent.loss_percent == 100 for link in state.links if link.peer in ("", peer))
    return not lost and peer not in (*state.cut, *state.cut_out, *state.reset)


def hears(state: NetworkState, peer: str) -> bool:
    """Whether a slot in this state gets a packet in from a peer."""
    lost = any(link.heard.loss_percent == 100 for link in state.links if link.peer in ("", peer))
    return not lost and peer not in (*state.cut, *state.cut_in, *state.reset)


def dropped(slots: list[Slot]) -> int:
    """Packets that states dropped so far."""
    counters = [slot.network.counters() for slot in slots]
    return sum(counted.cut_out + counted.cut_in + counted.lost for counted in counters)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(changes, min_size=1, max_size=6))
def test_who_reaches_whom_is_as_in_the_model(
    job: tuple[FabricNetwork, list[Slot]], sequence: list[dict[int, NetworkState]]
) -> None:
    """After each change of one slot or of several exactly the datagrams arrive that the states let pass."""
    fabric, slots = job
    now = dict.fromkeys(range(len(ADDRESSES)), WHOLE)
    fabric.set_states([(slot.network, WHOLE) for slot in slots])
    sockets = [slot.udp() for slot in slots]
    for sender, receiver in PAIRS:
        exchange(sockets[sender], sockets[receiver])  # so that the neighbours are known

    for change in sequence:
        now |= change
        fabric.set_states([(slots[number].network, state) for number, state in change.items()])
        before = dropped(slots)
        for sender, receiver in PAIRS:
            sockets[sender].sendto(bytes([sender, receiver]), sockets[receiver].getsockname())
        arrived: set[bytes] = set()

        def all_told(before: int = before, arrived: set[bytes] = arrived) -> bool:
            for socket in sockets:
                arrived.update(pending(socket))
            return len(arrived) + dropped(slots) - before == len(PAIRS)

        until("each datagram arrived or was dropped", all_told)
        assert arrived == {
            bytes([sender, receiver])
            for sender, receiver in PAIRS
            if sends(now[sender], ADDRESSES[receiver]) and hears(now[receiver], ADDRESSES[sender])
        }
    for socket in sockets:
        socket.close()
