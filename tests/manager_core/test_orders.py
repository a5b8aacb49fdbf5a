"""What a call may ask for: each wrong item is named, and nothing is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manager_core.faults import done, fault_commands, refused
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.access import Caller, Origin, check_chaos
from syndicate.manager.core.errors import BadRequest, CoreError, NotAllowed, NotFound, Refused
from syndicate.manager.core.model import (
    Degradation,
    JobSpec,
    PartitionShape,
    Source,
    TokenScope,
    UserRole,
)
from syndicate.manager.core.orders import words_of
from syndicate.manager.core.records import AuditRecord

NAN = float("nan")


def wrong(cluster: Cluster, call: int, text: str, field: str = "") -> CoreError:
    """The refusal of a call, which names the item."""
    error = refused(cluster, call)
    assert text in error.detail
    assert error.metadata.get("field", "") == field
    assert fault_commands(cluster) == []
    return error


@pytest.mark.parametrize(
    ("worse", "field"),
    [
        ({"loss_percent": -0.1}, "loss_percent"),
        ({"loss_percent": 100.1}, "loss_percent"),
        ({"loss_percent": NAN}, "loss_percent"),
        ({"duplicate_percent": 101.0}, "duplicate_percent"),
        ({"corrupt_percent": -1.0}, "corrupt_percent"),
        ({"reorder_percent": 101.0, "delay_ms": 1.0}, "reorder_percent"),
        ({"reorder_percent": 10.0}, "reorder_percent"),
        ({"rate_bps": -1}, "rate_bps"),
        ({"rate_bps": 7_999}, "rate_bps"),
        ({"rate_bps": (1 << 50) + 1}, "rate_bps"),
        ({"delay_ms": -1.0}, "delay_ms"),
        ({"delay_ms": 60_000.1}, "delay_ms"),
        ({"delay_ms": NAN}, "delay_ms"),
        ({"delay_ms": 1.0, "jitter_ms": 2.0}, "jitter_ms"),
        ({"jitter_ms": 1.0}, "jitter_ms"),
        ({"delay_ms": 1.0, "jitter_ms": NAN}, "jitter_ms"),
        ({"delay_ms": 1.0, "jitter_ms": -1.0}, "jitter_ms"),
    ],
)
def test_a_degradation_within_its_bounds(worse: dict[str, float], field: str) -> None:
    """Each field that is not is named."""
    cluster = running(2, 1)
    call = cluster.fault("degrade", cluster.address("slave-0"), degradation=Degradation(**worse))  # type: ignore[arg-type]  # by name
    wrong(cluster, call, field, f"degradation.{field}")


def test_a_degradation_says_something() -> None:
    """Nothing to do is a mistake."""
    cluster = running(2, 1)
    call = cluster.fault("degrade", cluster.address("slave-0"), degradation=Degradation())
    wrong(cluster, call, "says nothing", "degradation")


def test_the_peers_of_a_degradation_are_other_members() -> None:
    """Neither strangers nor the member itself alone; among several each is about the others."""
    cluster = running(2, 1)
    ip, other = cluster.address("slave-0"), cluster.address("master")
    loss = Degradation(loss_percent=1.0)
    wrong(cluster, cluster.fault("degrade", ip, degradation=loss, peers=(ip,)), ip, "peers")
    stranger = cluster.fault("degrade", ip, degradation=loss, peers=("10.9.9.9",))
    assert isinstance(wrong(cluster, stranger, "10.9.9.9"), NotFound)
    cluster.fault("degrade", (ip, other), degradation=loss, peers=(ip, other))
    assert [line.peers for line in cluster.job().faults] == [("master",), ("slave-0",)]


@pytest.mark.parametrize(
    ("groups", "fields", "text", "field"),
    [
        ((), {}, "neither groups nor a shape", "groups"),
        ((("master",), ("slave-0",)), {"shape": 1}, "both groups and a shape", "groups"),
        ((("master",),), {}, "one group", "groups"),
        ((("master",), ()), {}, "group 2 is empty", "groups"),
        ((("master",), ("slave-0", "master")), {}, "(master) is in group 1 and in group 2", "groups"),
        ((("master", "master"), ("slave-0",)), {}, "named twice", "groups"),
        ((("master",), ("slave-0",)), {"ip": "10.0.0.1"}, "ip is for shapes", "ip"),
        ((), {"shape": 6}, "there is no shape 6", "shape"),
        ((), {"shape": -1}, "there is no shape -1", "shape"),
        ((), {"shape": PartitionShape.MAJORITY_RING, "one_way": True}, "mutual", "one_way"),
        ((), {"shape": PartitionShape.BRIDGE}, "bridge needs 3 masters and slaves: job 1 has 2", "shape"),
        ((), {"shape": PartitionShape.HALVES, "ip": "10.0.0.1"}, "about no single member", "ip"),
    ],
)
def test_a_partition_that_makes_sense(
    groups: tuple[tuple[str, ...], ...], fields: dict[str, object], text: str, field: str
) -> None:
    """Groups that overlap, are empty or alone, shapes that are not known or do not fit."""
    cluster = running(2, 1)
    wrong(cluster, cluster.partition(*groups, **fields), text, field)


def test_a_group_of_strangers() -> None:
    """NO_SUCH_MEMBER, NOT_AN_ADDRESS; a client is no member to isolate."""
    cluster = running(2, 1)
    caller, ip = cluster.caller(), cluster.address("master")

    def ask(groups: tuple[tuple[str, ...], ...], **fields: object) -> int:
        return cluster.call(lambda n: ev.PartitionRequested(n, f"p{n}", caller, groups, **fields))  # type: ignore[arg-type]  # by name

    assert isinstance(wrong(cluster, ask(((ip,), ("10.9.9.9",))), "10.9.9.9"), NotFound)
    assert wrong(cluster, ask(((ip,), ("x",))), "'x'", "ip").reason == "NOT_AN_ADDRESS"
    client = cluster.address("client-0")
    call = ask((), shape=int(PartitionShape.ISOLATE_ONE), ip=client)
    wrong(cluster, call, f"{client} is client-0", "ip")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (-1, "-1"), (65, "65"), (9, "Kill"), (19, "Pause"), (18, "Resume")]
)
def test_a_signal_that_there_is(number: int, text: str) -> None:
    """1 to 64, and none for which there is a call."""
    cluster = running(2, 1)
    call = cluster.fault("signal", cluster.address("slave-0"), signal=number)
    assert isinstance(wrong(cluster, call, text, "signal"), BadRequest)


def test_a_request_id_comes_with_the_same_request_only() -> None:
    """Another signal, another degradation, another shape: BAD_FIELD."""
    cluster = running(3, 1)
    ip = cluster.address("slave-0")
    pairs = [
        ("signal", {"signal": 3}, {"signal": 4}),
        ("degrade", {"degradation": Degradation(1.0)}, {"degradation": Degradation(2.0)}),
    ]
    for kind, first, then in pairs:
        cluster.fault(kind, ip, kind, **first)
        assert refused(cluster, cluster.fault(kind, ip, kind, **then)).metadata["field"] == "request_id"
    cluster.partition(shape=1, request_id="p")
    assert refused(cluster, cluster.partition(shape=2, request_id="p")).metadata["field"] == "request_id"


def test_a_degradation_in_words() -> None:
    """As people are told."""
    worse = Degradation(10.0, 1_500_000, 50.0, 5.0, 1.0, 0.0, 2.0)
    assert words_of(worse) == "loss 10 %, rate 1.5 Mbit/s, delay 50 ms ± 5 ms, duplicate 1 %, reorder 2 %"
    assert [words_of(Degradation(rate_bps=bps)) for bps in (8_000, 10**9)] == [
        "rate 8 kbit/s",
        "rate 1 Gbit/s",
    ]


anything = st.floats() | st.integers(-10, 10**12).map(float)
addresses = st.sampled_from(["", "x", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.99", "::1", "10.0.0.01"])
several = st.lists(addresses, max_size=4).map(tuple)
leases = st.none() | anything
calls = st.one_of(
    st.builds(lambda ips, lease: (ev.ResetRequested, {"ips": ips, "lease_s": lease}), several, leases),
    st.builds(lambda ips, lease: (ev.PauseRequested, {"ips": ips, "lease_s": lease}), several, leases),
    st.builds(lambda ips, n: (ev.SignalRequested, {"ips": ips, "signal": n}), several, st.integers()),
    st.builds(lambda ids: (ev.HealRequested, {"fault_ids": ids}), st.lists(st.integers()).map(tuple)),
    st.builds(
        lambda groups, shape, ip, one_way, seed, lease: (
            ev.PartitionRequested,
            {"groups": groups, "shape": shape, "ip": ip, "one_way": one_way, "seed": seed, "lease_s": lease},
        ),
        *(st.lists(several, max_size=3).map(tuple), st.integers(-1, 7), addresses, st.booleans()),
        *(st.integers(-(1 << 63), (1 << 63) - 1), leases),
    ),
    st.builds(
        lambda ips, worse, peers, one_way, lease: (
            ev.DegradeRequested,
            {"ips": ips, "degradation": worse, "peers": peers, "one_way": one_way, "lease_s": lease},
        ),
        several,
        st.builds(Degradation, anything, st.integers(-1, 10**12), *[anything] * 5),
        *(several, st.booleans(), leases),
    ),
)


@settings(deadline=None)
@given(asked=st.lists(calls, min_size=1, max_size=6))
def test_whatever_is_asked_is_answered(asked: list[tuple[Any, dict[str, Any]]]) -> None:
    """By what it did or by an error of the tree; the manager's invariants hold after each."""
    cluster = running(2, 1)
    for number, (kind, fields) in enumerate(asked):
        call = cluster.call(lambda n, k=kind, f=fields, r=number: k(n, f"r{r}", cluster.caller(), **f))  # type: ignore[misc]  # by name
        cluster.deliver()
        assert isinstance(cluster.replies[call], fx.FaultReply | fx.FaultsReply | CoreError)


# ---- capabilities -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "needs"),
    [
        ("reset", {}, "reset"),
        ("pause", {}, "pause"),
        ("disk_full", {}, "disk-full"),
        ("signal", {"signal": 3}, "signal"),
        ("degrade", {"degradation": Degradation(loss_percent=1.0)}, "loss"),
        ("degrade", {"degradation": Degradation(rate_bps=8000)}, "rate"),
        ("degrade", {"degradation": Degradation(loss_percent=1.0, delay_ms=1.0)}, "delay"),
        ("degrade", {"degradation": Degradation(delay_ms=1.0, jitter_ms=1.0)}, "jitter"),
        ("degrade", {"degradation": Degradation(duplicate_percent=1.0)}, "duplicate"),
        ("degrade", {"degradation": Degradation(corrupt_percent=1.0)}, "corrupt"),
        ("degrade", {"degradation": Degradation(delay_ms=1.0, reorder_percent=1.0)}, "reorder"),
    ],
)
def test_what_a_machine_cannot_do_is_refused_with_its_reason(
    kind: str, fields: dict[str, object], needs: str
) -> None:
    """CANNOT names the capability and the volunteer, and why; no member is touched."""
    cluster = Cluster()
    cluster.volunteer("node-a", 3)
    poor = cluster.volunteer("node-b", 3)
    poor.capabilities = tuple(each for each in poor.capabilities if each != needs)
    poor.cannot = ((needs, "the kernel has no such thing"),)
    cluster.attach(poor)
    cluster.submit(5, 1)
    cluster.deliver()
    ips = [task.address for task in cluster.job().tasks if task.task != "client-0"]
    error = refused(cluster, cluster.fault(kind, ips, **fields))
    assert (type(error), error.reason) == (Refused, "CANNOT")
    assert error.metadata["capability"] == needs
    assert error.metadata["volunteer"] == "node-b"
    assert error.detail.endswith(f"cannot do {needs}: the kernel has no such thing")
    assert (fault_commands(cluster), cluster.job().faults) == ([], ())


def test_a_one_way_partition_needs_a_capability() -> None:
    """A plain one needs none that is new; an old volunteer says nothing of why."""
    cluster = running(2, 1)
    volunteer = cluster.volunteers["node-a"]
    volunteer.capabilities = ("cut", "kill")
    cluster.attach(volunteer)
    error = refused(cluster, cluster.partition(("master",), ("slave-0",), one_way=True))
    assert (error.reason, error.metadata["capability"]) == ("CANNOT", "one-way")
    assert "does not say that it can" in error.detail
    cluster.partition(("master",), ("slave-0",))
    assert len(fault_commands(cluster)) == 2


# ---- users ------------------------------------------------------------------------------------------------


def person(role: UserRole = UserRole.STUDENT) -> Caller:
    """Alice."""
    return Caller("alice", role, TokenScope.ALL, "", "t1")


def test_a_user_breaks_a_job_under_her_own_name() -> None:
    """The ledger says who; the audit log has a line for each call that changes something."""
    cluster = running(2, 1)
    caller = ev.UserCaller(1, "alice", Origin(person(), "192.0.2.1"))
    ip = cluster.address("slave-0")
    done(cluster, cluster.fault("disk_full", ip, "once", caller=caller))
    cluster.fault("disk_full", ip, "once", caller=caller)
    cluster.heal(caller=caller)
    cluster.deliver()
    line = cluster.job().faults[0]
    assert (line.requested_by, line.healed_by) == ("user:alice", "user:alice")
    audited = [row for row in cluster.store.values() if isinstance(row, AuditRecord)]
    assert [(row.method, row.subject, row.who) for row in audited] == [
        ("DiskFull", "job 1", "alice"),
        ("Heal", "job 1", "alice"),
    ]


def test_a_users_job_must_be_there_and_run() -> None:
    """NO_SUCH_JOB, JOB_NOT_RUNNING."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")

    def ask(job_id: int) -> str:
        caller = ev.UserCaller(job_id, "alice", Origin(person(), ""))
        return refused(cluster, cluster.fault("kill", ip, caller=caller)).reason

    assert ask(9) == "NO_SUCH_JOB"
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    assert ask(1) == "JOB_NOT_RUNNING"


def test_a_graded_job_is_broken_by_its_client_alone() -> None:
    """GRADED for students where the client is, or was, the manager's own; not for staff, nor with another."""
    default, own = Source("c" * 64, 1), Source("d" * 64, 1)

    def spec(client: Source | None, graded: bool = False) -> JobSpec:
        return JobSpec("job", own, 1, client, int(client is not None), 60.0, graded=graded)

    for graded in (spec(default), spec(own, graded=True)):
        with pytest.raises(NotAllowed, match="graded"):
            check_chaos(person(), 1, graded, default)
        check_chaos(person(UserRole.STAFF), 1, graded, default)
    check_chaos(person(), 1, spec(own), default)
    check_chaos(person(), 1, spec(None), default)
    check_chaos(person(), 1, spec(default), None)


def test_what_is_graded_stays_so() -> None:
    """Whether it is, is settled when it is submitted."""
    default = Source("c" * 64, 1)
    cluster = Cluster(default_client=default, default_clients=1)
    cluster.volunteer(slots=9)
    graded, own = cluster.submit(1), cluster.submit(1, client=Source("d" * 64, 1))

    assert [cluster.job(job).job.spec.graded for job in (graded, own)] == [True, False]
    cluster.restart(default_client=None)
    assert cluster.job(graded).job.spec.graded
