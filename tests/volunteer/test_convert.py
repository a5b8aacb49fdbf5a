"""What comes from the manager is held to its form before anything acts on it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.v1 import common_pb2, registry_pb2
from syndicate.volunteer import frames, local
from syndicate.volunteer.convert import Malformed, answer_out, command_in, event_out, hello_out
from syndicate.volunteer.core import model

_TASK = local.TaskId("c1", 7, 1, "master")


def _command(**action: object) -> registry_pb2.Command:
    ref = common_pb2.TaskRef(cluster_id="c1", job_id=7, attempt=1, task="master", generation=1)
    return registry_pb2.Command(command_id="one", epoch=1, task=ref, slot=0, **action)  # type: ignore[arg-type]  # one of its actions


def _action(**action: object) -> model.Action:
    return command_in(_command(**action)).action


def _link(peer: str = "", **sent: float) -> registry_pb2.LinkDegradation:
    return registry_pb2.LinkDegradation(peer=peer, sent=common_pb2.Degradation(**sent))  # type: ignore[arg-type]  # by name


def _network(**fields: object) -> model.Action:
    return _action(set_network=registry_pb2.SetNetwork(**fields))  # type: ignore[arg-type]  # by name


def test_network_comes_in_its_own_order() -> None:
    """Each address once and in ascending order, links by peer, and no link about nothing."""
    wanted = _network(
        cut=["10.0.0.9", "10.0.0.10", "10.0.0.9"],
        cut_out=["10.0.0.3"],
        cut_in=["10.0.0.4"],
        reset=["10.0.0.5"],
        links=[_link("10.0.0.7", loss_percent=10.0), _link("", rate_bps=8000), _link("10.0.0.8")],
    )

    assert wanted == model.SetNetwork(
        model.NetworkState(
            cut=("10.0.0.10", "10.0.0.9"),
            cut_out=("10.0.0.3",),
            cut_in=("10.0.0.4",),
            reset=("10.0.0.5",),
            links=(
                local.LinkState("", sent=local.Degradation(rate_bps=8000)),
                local.LinkState("10.0.0.7", sent=local.Degradation(loss_percent=10.0)),
            ),
        )
    )


@pytest.mark.parametrize("field", ["cut", "cut_out", "cut_in", "reset"])
@pytest.mark.parametrize("address", ["", "10.0.0", "10.0.0.01", "::1", "localhost", "10.0.0.1/8"])
def test_what_is_no_address_is_malformed(field: str, address: str) -> None:
    """In every list, and with the address in the line."""
    with pytest.raises(Malformed, match="not an IPv4 address"):
        _network(**{field: [address]})


@pytest.mark.parametrize(
    "link",
    [
        _link("10.0.0"),
        _link("", loss_percent=-1),
        _link("", loss_percent=100.5),
        _link("", corrupt_percent=math.nan),
        _link("", duplicate_percent=math.inf),
        _link("", reorder_percent=-math.inf),
        _link("", delay_ms=-0.5),
        _link("", jitter_ms=math.nan),
        _link("", delay_ms=1e9),
        _link("", rate_bps=-1),
        _link("", rate_bps=7999),
        _link("", rate_bps=1 << 60),
    ],
    ids=str,
)
def test_degradation_that_makes_no_sense_is_malformed(link: registry_pb2.LinkDegradation) -> None:
    """Percentages are 0 to 100, rates and delays within bounds, and all of them numbers."""
    with pytest.raises(Malformed):
        _network(links=[link])


def test_two_links_to_one_address_are_malformed() -> None:
    """Which of them counts would be anybody's guess."""
    with pytest.raises(Malformed, match="two links"):
        _network(links=[_link("10.0.0.1", loss_percent=1), _link("10.0.0.1", loss_percent=2)])


def test_network_of_the_largest_size_fits_into_a_request() -> None:
    """What is taken from the manager the keeper can be asked for."""
    addresses = [f"10.100.{number // 250}.{number % 250}" for number in range(10_000)]
    worse = dict.fromkeys(
        ("loss_percent", "duplicate_percent", "corrupt_percent", "reorder_percent", "delay_ms", "jitter_ms"),
        99.12345678901234,
    )
    links = [_link(address, rate_bps=1 << 50, **worse) for address in addresses[:2000]]
    for link in links:
        link.heard.CopyFrom(link.sent)

    action = _network(cut=addresses, cut_out=addresses, cut_in=addresses, reset=addresses, links=links)

    assert isinstance(action, model.SetNetwork)
    request = local.RequestFrame(1, local.SetNetwork(0, _TASK, action.network))
    assert len(frames.encode(request)) < 2 << 20


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_the_bytes_a_network_is_valid_or_malformed(data: bytes) -> None:
    """What passes can be told to the keeper; nothing else is raised."""
    wanted = registry_pb2.SetNetwork()
    try:
        wanted.ParseFromString(data)
    except Exception:  # noqa: BLE001  # protobuf's own error, which it does not export
        return

    try:
        action = _action(set_network=wanted)
    except Malformed:
        return

    assert isinstance(action, model.SetNetwork)
    assert frames.encode(local.RequestFrame(1, local.SetNetwork(0, _TASK, action.network)))


def test_task_suffers_what_is_set() -> None:
    """Unset is not: a message without fields heals."""
    assert _action(set_task=registry_pb2.SetTask()) == model.SetTask(paused=False, disk_full=False)
    assert _action(set_task=registry_pb2.SetTask(paused=True)) == model.SetTask(True, False)
    assert _action(set_task=registry_pb2.SetTask(disk_full=True)) == model.SetTask(False, True)


@pytest.mark.parametrize("number", [-1, 0, 65, 1 << 30])
def test_signal_out_of_range_is_malformed(number: int) -> None:
    """Signals are 1 to 64."""
    assert _action(signal=registry_pb2.Signal(signal=64)) == model.Signal(64)
    with pytest.raises(Malformed, match="signal"):
        _action(signal=registry_pb2.Signal(signal=number))


@pytest.mark.parametrize("name", ["a\n", "x" * 1025, "\x1b[2J"])
def test_a_barrier_that_none_can_be_is_malformed(name: str) -> None:
    """Its name is one line that can be shown; none is all of them."""
    assert _action(drop_barriers=registry_pb2.DropBarriers()) == model.DropBarriers("")
    assert _action(drop_barriers=registry_pb2.DropBarriers(barrier="a b")) == model.DropBarriers("a b")
    with pytest.raises(Malformed, match="barrier"):
        _action(drop_barriers=registry_pb2.DropBarriers(barrier=name))


@pytest.mark.parametrize("name", ["", "a\n", "x" * 256, "\x00"])
def test_command_id_is_a_short_line(name: str) -> None:
    """It is told to the keeper with each signal."""
    command = _command(signal=registry_pb2.Signal(signal=3))
    command.command_id = name

    with pytest.raises(Malformed, match="id"):
        command_in(command)


def test_hello_says_what_cannot_be_done_in_short() -> None:
    """Each with its reason, of at most so many characters as the manager takes."""
    stamp = model.Stamp("b", 1, 1)
    hello = model.Hello(
        *(
            "node-a",
            "b",
            (),
            model.Resources(),
            "",
            "",
            ("cut",),
            (),
            0,
            "",
            model.Network.FABRIC,
            "",
            "1",
            stamp,
        ),
        cannot=(model.Incapability("delay", "x" * 600),),
    )

    (told,) = hello_out(hello).hello.cannot

    assert (told.capability, len(told.why)) == ("delay", 500)


def _prepare(server: str) -> registry_pb2.Prepare:
    source = registry_pb2.SourceRef(sha256="ab" * 32)
    return registry_pb2.Prepare(
        source=source, role=common_pb2.ROLE_MASTER, sync_server=server, serve_sync=True
    )


@pytest.mark.parametrize(
    "server", ["10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "host:1", "10.0.0.1:1 "]
)
def test_a_sync_server_that_is_none_is_refused(server: str) -> None:
    """It becomes a line of the tasks' environment."""
    with pytest.raises(Malformed, match=r"IPv4|sync server"):
        _action(prepare=_prepare(server))


@pytest.mark.parametrize("server", ["", "10.0.0.1:16534"])
def test_the_sync_server_is_handed_on(server: str) -> None:
    """With whether it is here."""
    action = _action(prepare=_prepare(server))

    assert isinstance(action, model.Prepare)
    assert (action.sync_server, action.serve_sync) == (server, True)


def test_news_of_barriers_go_out_whole() -> None:
    """Each field of a round and of what is open."""
    at = local.Stamp("b", 7, 9)
    tasks = (local.BarrierTask("master", 2),)
    ended = local.BarrierRound("a", local.BarrierEnd.LEFT, at, at, 3, tasks, tasks, 4, 5, 6)
    held = (local.BarrierTask("slave-1", 5),)
    waits = local.OpenBarrier("b", at, -1, tasks, tasks, 7, ("slave-0",), 8, True, held)
    news = local.BarriersTold(0, local.TaskId("c", 1, 1, "master"), (ended,), 9, (waits,), 10, "oh", True)
    ref = model.TaskRef("c", 1, 1, "master", 1)

    told = event_out(model.TaskEvent(11, ref, at, barriers=news)).event

    assert told.WhichOneof("event") == "barriers"
    (line,) = told.barriers.rounds
    assert (line.barrier, line.end, line.error, line.others, line.left, line.rounds) == (
        *("a", common_pb2.BARRIER_END_LEFT, 3, 4, 5, 6),
    )
    assert [(one.task, one.count) for one in (*line.inits, *line.tasks)] == [("master", 2)] * 2
    (open_one,) = told.barriers.open
    assert (open_one.barrier, open_one.remaining, open_one.others) == ("b", -1, 7)
    assert [(one.task, one.count) for one in open_one.held] == [("slave-1", 5)]
    assert (list(open_one.missing), open_one.more_missing, open_one.abandoned) == (["slave-0"], 8, True)
    news_told = told.barriers
    assert (news_told.total, news_told.more_open, news_told.trouble, news_told.last) == (9, 10, "oh", True)


@pytest.mark.parametrize(("dropped", "told"), [(None, None), (0, 0), (3, 3)])
def test_how_many_were_dropped_goes_out(dropped: int | None, told: int | None) -> None:
    """That there were none is not the same as that nobody says."""
    (answer,) = answer_out(model.Answer("c", model.AnswerCode.DONE, dropped=dropped)).answers.answers

    assert (answer.dropped if answer.HasField("dropped") else None) == told
