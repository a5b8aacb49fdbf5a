"""What a member suffers follows from the lines in force, in whichever order they came."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core import desired
from syndicate.manager.core.effects import LinkState, SetNetwork, SetTask
from syndicate.manager.core.model import UNDEGRADED, Degradation, FaultKind, Stamp
from syndicate.manager.core.records import FaultRecord

NOW = Stamp("boot", 1, 1)
OTHERS = ("10.0.0.1", "10.0.0.10", "10.0.0.2", "10.0.0.3")
PEERS = ("a", "b", "c", "d", "e")
ADDRESSES = dict(zip(PEERS, (*OTHERS, "10.0.0.9"), strict=True))

percent = st.sampled_from([0.0, 0.1, 10.0, 33.3, 50.0, 100.0])
worse = st.builds(
    Degradation,
    loss_percent=percent,
    rate_bps=st.sampled_from([0, 8_000, 1_000_000]),
    delay_ms=st.sampled_from([0.0, 0.1, 0.2, 0.3, 50.0, 60_000.0]),
    jitter_ms=st.sampled_from([0.0, 0.1]),
    duplicate_percent=percent,
    corrupt_percent=percent,
    reorder_percent=percent,
).filter(lambda part: part.jitter_ms <= part.delay_ms)
some = st.lists(st.sampled_from(PEERS), unique=True, max_size=4).map(tuple)
lines = st.builds(
    FaultRecord,
    job_id=st.just(1),
    fault_id=st.integers(1, 1000),
    attempt=st.just(1),
    request_id=st.just(""),
    kind=st.sampled_from(sorted(desired.LASTING)),
    task=st.just("x"),
    requested_by=st.just("client-0"),
    requested_at=st.just(NOW),
    cut_out=some,
    cut_in=some,
    degradation=worse,
    peers=some,
    one_way=st.booleans(),
)
ledgers = st.lists(lines, max_size=8, unique_by=lambda line: line.fault_id)


def line(kind: FaultKind, number: int = 1, **fields: object) -> FaultRecord:
    """A line that is in force."""
    made = FaultRecord(1, number, 1, "", kind, "x", "client-0", NOW)
    return replace(made, **fields)  # type: ignore[arg-type]  # fields by name


def network(*of: FaultRecord) -> SetNetwork:
    """The state of a network with these lines in force."""
    return desired.network(of, OTHERS, ADDRESSES.__getitem__)


def test_nothing_in_force_leaves_everything_whole() -> None:
    """Both parts."""
    assert network() == SetNetwork()
    assert desired.task([]) == SetTask(False, False)


def test_a_disconnect_cuts_from_all_masters_and_slaves() -> None:
    """In silence, in ascending order."""
    assert network(line(FaultKind.DISCONNECT)) == SetNetwork(cut=tuple(sorted(OTHERS)))


def test_a_reset_is_told_where_no_cut_is_silent() -> None:
    """Silence hides it."""
    reset = line(FaultKind.RESET)
    assert network(reset) == SetNetwork(reset=tuple(sorted(OTHERS)))
    both = network(reset, line(FaultKind.PARTITION, 2, cut_out=("a",), cut_in=("a",)))
    assert (both.cut, both.reset) == (("10.0.0.1",), tuple(sorted(OTHERS[1:])))


def test_two_one_way_cuts_make_a_whole_one() -> None:
    """What neither is sent nor heard is cut."""
    out, heard = (
        line(FaultKind.PARTITION, cut_out=("a", "b")),
        line(FaultKind.PARTITION, 2, cut_in=("b", "c")),
    )
    state = network(out, heard)
    assert (state.cut, state.cut_out, state.cut_in) == (("10.0.0.10",), ("10.0.0.1",), ("10.0.0.2",))


def test_a_degradation_of_a_peer_stands_beside_that_of_all() -> None:
    """They are not composed: a packet goes through both."""
    loss, delay = Degradation(loss_percent=10.0), Degradation(delay_ms=5.0)
    state = network(
        line(FaultKind.DEGRADE, degradation=loss),
        line(FaultKind.DEGRADE, 2, degradation=delay, peers=("a",), one_way=True),
    )
    assert state.links == (LinkState("", loss, loss), LinkState("10.0.0.1", delay, UNDEGRADED))


def test_degradations_of_the_same_packets_compose() -> None:
    """Chances are independent, the least rate holds, times add up."""
    one = Degradation(50.0, 1_000_000, 10.0, 1.0, 10.0, 0.0, 20.0)
    other = Degradation(50.0, 0, 20.0, 2.0, 0.0, 1.0, 0.0)
    both = desired.compose([one, other])
    assert (both.loss_percent, both.rate_bps, both.delay_ms, both.jitter_ms) == (75.0, 1_000_000, 30.0, 3.0)
    assert (both.duplicate_percent, both.corrupt_percent, both.reorder_percent) == (10.0, 1.0, 20.0)


def test_a_delay_is_never_more_than_can_be_set() -> None:
    """60 s, and the jitter no more than the delay."""
    most = desired.compose([Degradation(delay_ms=50_000.0, jitter_ms=50_000.0)] * 2)
    assert (most.delay_ms, most.jitter_ms) == (60_000.0, 60_000.0)


@pytest.mark.parametrize(
    ("kind", "state"), [(FaultKind.PAUSE, (True, False)), (FaultKind.DISK_FULL, (False, True))]
)
def test_a_task_is_paused_or_its_disk_is_full(kind: FaultKind, state: tuple[bool, bool]) -> None:
    """And what a network suffers says nothing of it."""
    assert desired.task([line(kind), line(FaultKind.DISCONNECT, 2)]) == SetTask(*state)


@settings(deadline=None)
@given(ledger=ledgers, data=st.data())
def test_the_order_of_lines_tells_nothing(ledger: list[FaultRecord], data: st.DataObject) -> None:
    """Bit for bit, rounding included."""
    mixed = data.draw(st.permutations(ledger))
    assert network(*ledger) == network(*mixed)
    assert desired.task(ledger) == desired.task(mixed)


@settings(deadline=None)
@given(ledger=ledgers, data=st.data())
def test_applying_and_healing_in_any_order_is_what_is_left(
    ledger: list[FaultRecord], data: st.DataObject
) -> None:
    """Lines come and go one after the other; what stays decides alone."""
    in_force: dict[int, FaultRecord] = {}
    healed = {one.fault_id for one in ledger if data.draw(st.booleans())}
    for one in data.draw(st.permutations(ledger)):
        in_force[one.fault_id] = one
        for number in [number for number in in_force if number in healed]:
            if data.draw(st.booleans()):
                del in_force[number]
    stays = [one for number, one in in_force.items() if number not in healed]
    left = [one for one in ledger if one.fault_id not in healed]
    assert network(*stays) == network(*left)
    assert desired.task(stays) == desired.task(left)


@settings(deadline=None)
@given(ledger=ledgers)
def test_a_state_says_each_thing_once(ledger: list[FaultRecord]) -> None:
    """No address is cut in two ways, all are in order, and links are within their bounds."""
    state = network(*ledger)
    for many in (state.cut, state.cut_out, state.cut_in, state.reset):
        assert list(many) == sorted(set(many))
    cut, out, heard = set(state.cut), set(state.cut_out), set(state.cut_in)
    assert not cut & out
    assert not cut & heard
    assert not out & heard
    assert not cut & set(state.reset)
    assert [link.peer for link in state.links] == sorted({link.peer for link in state.links})
    for link in state.links:
        for part in (link.sent, link.heard):
            chances = (part.loss_percent, part.duplicate_percent, part.corrupt_percent, part.reorder_percent)
            assert all(0.0 <= chance <= 100.0 for chance in chances)
            assert 0.0 <= part.jitter_ms <= part.delay_ms <= 60_000.0
