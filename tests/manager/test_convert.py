"""The core's words and those of the protos are the same."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import pytest
from syndicate.manager.core import effects, model
from syndicate.manager.core.errors import BadRequest
from syndicate.manager.core.records import FaultRecord, JobRecord, TaskRecord
from syndicate.manager.core.views import JobView
from syndicate.manager.rpc import convert, pictures
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import scheduler_pb2 as scheduler

REF = model.TaskRef("c-1", 7, 2, "slave-0", 3)
WORSE = (10.0, 8000, 50.0, 5.0, 1.0, 2.0, 3.0)
WORSE_PB = common.Degradation(
    loss_percent=10.0,
    rate_bps=8000,
    delay_ms=50.0,
    jitter_ms=5.0,
    duplicate_percent=1.0,
    corrupt_percent=2.0,
    reorder_percent=3.0,
)


def command(action: effects.Action) -> registry.Command:
    """A command with this action, as it goes out."""
    pb = registry.Command()
    convert.command_out(effects.Command("cmd", 4, REF, 1, action), pb)
    return pb


@pytest.mark.parametrize(
    ("word", "proto", "prefix"),
    [
        (model.Role, common.Role, "ROLE_"),
        (model.JobState, common.JobState, "JOB_STATE_"),
        (model.TaskState, common.TaskState, "TASK_STATE_"),
        (model.Reason, common.Reason, "REASON_"),
        (model.Annotation, common.Annotation, "ANNOTATION_"),
        (model.Outcome, common.Outcome, "OUTCOME_"),
        (model.FaultKind, common.FaultKind, "FAULT_KIND_"),
        (model.BarrierEnd, common.BarrierEnd, "BARRIER_END_"),
        (model.PartitionShape, chaos.PartitionShape, "PARTITION_SHAPE_"),
        (model.AnswerCode, registry.AnswerCode, "ANSWER_CODE_"),
        (model.NodeState, scheduler.NodeState, "NODE_STATE_"),
        (model.UserRole, scheduler.UserRole, "USER_ROLE_"),
        (model.TokenScope, scheduler.TokenScope, "TOKEN_SCOPE_"),
    ],
)
def test_enums_have_the_same_words_and_numbers(word: type[IntEnum], proto: Any, prefix: str) -> None:
    """Each enum of the core is its proto's, but for UNSPECIFIED."""
    here = {member.name: member.value for member in word if member.name != "UNSPECIFIED"}
    there = {key.removeprefix(prefix): value for key, value in proto.items() if value}

    assert here == there


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (effects.Reserve(1.5), registry.Command(reserve=registry.Reserve(ttl_ms=1500))),
        (effects.Start(), registry.Command(start=registry.Start())),
        (effects.Kill(), registry.Command(kill=registry.Kill())),
        (effects.Revive(with_disk=False), registry.Command(revive=registry.Revive())),
        (effects.Revive(with_disk=True), registry.Command(revive=registry.Revive(with_disk=True))),
        (effects.SetNetwork(()), registry.Command(set_network=registry.SetNetwork())),
        (
            effects.SetNetwork(("10.0.0.1",)),
            registry.Command(set_network=registry.SetNetwork(cut=["10.0.0.1"])),
        ),
        (
            effects.SetNetwork(
                ("10.0.0.1",),
                ("10.0.0.2",),
                ("10.0.0.3",),
                ("10.0.0.4",),
                (effects.LinkState("10.0.0.5", sent=model.Degradation(*WORSE)),),
            ),
            registry.Command(
                set_network=registry.SetNetwork(
                    cut=["10.0.0.1"],
                    cut_out=["10.0.0.2"],
                    cut_in=["10.0.0.3"],
                    reset=["10.0.0.4"],
                    links=[registry.LinkDegradation(peer="10.0.0.5", sent=WORSE_PB)],
                )
            ),
        ),
        (effects.SetTask(), registry.Command(set_task=registry.SetTask())),
        (
            effects.SetTask(True, True),
            registry.Command(set_task=registry.SetTask(paused=True, disk_full=True)),
        ),
        (effects.DropBarriers(""), registry.Command(drop_barriers=registry.DropBarriers())),
        (
            effects.DropBarriers("start"),
            registry.Command(drop_barriers=registry.DropBarriers(barrier="start")),
        ),
        (effects.Signal(3), registry.Command(signal=registry.Signal(signal=3))),
        (effects.Release(), registry.Command(release=registry.Release())),
    ],
)
def test_commands_carry_their_action_and_identity(action: effects.Action, expected: registry.Command) -> None:
    """Every action has its place in the envelope, also where it has no field to set."""
    pb = command(action)

    assert pb.WhichOneof("action") == expected.WhichOneof("action")
    assert getattr(pb, pb.WhichOneof("action")) == getattr(expected, pb.WhichOneof("action"))
    assert (pb.command_id, pb.epoch, pb.slot) == ("cmd", 4, 1)
    assert convert.ref_in(pb.task) == REF


def test_prepare_carries_members_and_limits() -> None:
    """What a slot needs to make a task is all there."""
    members = (model.Member("master", model.Role.MASTER, "10.0.0.1"),)
    limits = model.Limits(1, 2, 3, 4, 5, 6, 7, 8, 9)
    action = effects.Prepare(model.Source("ab", 9), model.Role.MASTER, members, limits, "lab")
    prepare = command(action).prepare

    assert prepare == registry.Prepare(
        source=registry.SourceRef(sha256="ab", size=9),
        role=common.ROLE_MASTER,
        members=[common.Member(task="master", role=common.ROLE_MASTER, address="10.0.0.1")],
        limits=common.Limits(
            disk_bytes=1,
            disk_inodes=2,
            log_head_bytes=3,
            log_tail_bytes=4,
            memory_bytes=5,
            pids=6,
            cpu_millis=7,
            open_files=8,
            file_bytes=9,
        ),
        job_name="lab",
    )


def test_a_number_that_means_nothing_is_the_callers_mistake() -> None:
    """An enum's number of a later version is refused by its field's name."""
    with pytest.raises(BadRequest, match=r"exit\.reason"):
        convert.exit_in(common.TaskExit(reason=99))  # type: ignore[arg-type]  # what another version may send


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (common.Result(score=math.nan), "not NaN"),
        (common.Result(metrics={"rate": math.nan}), "not NaN"),
        (common.Result(metrics={f"{n:03}" + "𝄞" * 97: 1.0 for n in range(1000)}), "more than 65,536 bytes"),
    ],
)
def test_a_result_has_numbers_and_bounds(result: common.Result, words: str) -> None:
    """What has no place in an order, and what a thousand clients would fill the database with, is refused."""
    with pytest.raises(BadRequest, match=words):
        convert.result_in(result)
    assert convert.result_in(common.Result(metrics={"rate": math.inf})).metrics == (("rate", math.inf),)


@pytest.mark.parametrize("text", ["10.0.0.256", "010.0.0.1", "::1", "node-a"])
def test_an_address_is_an_address(text: str) -> None:
    """What a volunteer calls an address goes into the rules of other machines."""
    with pytest.raises(BadRequest, match=r"answer\.address"):
        convert.address(text, "answer.address")
    assert convert.address("10.0.0.1", "answer.address") == "10.0.0.1"
    assert convert.address("", "answer.address") == ""


def test_what_many_clients_say_fits_into_one_answer() -> None:
    """A picture holds 16 MiB of results whole, and of the others the outcome alone, and says so."""
    at = model.Stamp("b", 1, 1)
    spec = model.JobSpec("lab", model.Source("a" * 64, 1), 1, model.Source("b" * 64, 1), 300, 600.0)
    said = model.Result(model.Outcome.FAIL, 0.5, (), "x" * convert.MAX_RESULT_TEXT_BYTES)
    tasks = [
        TaskRecord(
            1, 1, f"client-{n}", model.Role.CLIENT, "node-a", "b", n, model.TaskState.EXITED, result=said
        )
        for n in range(300)
    ]
    job = JobRecord(1, "r", "alice", spec, model.JobState.SUCCEEDED, 1, at, at)
    shown = pictures.job_out(JobView(job, tuple(tasks)), "c-1").tasks

    assert sum(task.ByteSize() for task in shown) < 17 << 20
    assert (shown[0].result.text, shown[0].result.outcome) == (said.text, common.OUTCOME_FAIL)
    assert (len(shown[299].result.text) < 100, shown[299].result.outcome) == (True, common.OUTCOME_FAIL)


def test_what_a_volunteer_says_is_cut() -> None:
    """An end of a task is told in a line or two, however much a volunteer has to say."""
    said = common.TaskExit(reason=common.REASON_SIGNALED, detail="ä" * 5000)
    detail = convert.exit_in(said).detail

    assert len(detail.encode()) <= 2000
    assert detail.endswith("ä …")


def test_no_outcome_stands_for_a_pass() -> None:
    """A client that finishes without a word has passed."""
    assert convert.result_in(common.Result()).outcome is model.Outcome.PASS


def test_a_long_ledger_is_drawn_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between slices others are served, and the picture takes what was drawn ahead."""
    at = model.Stamp("b", 1, 1)
    spec = model.JobSpec("lab", model.Source("a" * 64, 1), 1, None, 0, 600.0)
    job = JobRecord(1, "r", "alice", spec, model.JobState.RUNNING, 1, at, at)
    faults = tuple(
        FaultRecord(1, number, 1, "", model.FaultKind.KILL, "master", "client-0", at)
        for number in range(4 * pictures.SLICE_LINES)
    )
    view, drawn, made = JobView(job, faults=faults), pictures.Drawn(), []
    draw = pictures.fault_out
    monkeypatch.setattr(pictures, "fault_out", lambda fault: made.append(fault) or draw(fault))
    counts = [len(made) for _ in pictures.draw_ahead(view, drawn)]
    shown = pictures.job_out(view, "c-1", drawn)

    assert counts == [pictures.SLICE_LINES * part for part in (1, 2, 3, 4)]
    assert len(made) == len(faults)
    assert [fault.fault_id for fault in shown.faults] == [fault.fault_id for fault in faults]


def test_a_line_of_the_ledger_is_shown_whole() -> None:
    """Every field that the proto has."""
    at, healed = model.Stamp("b", 1, 2), model.Stamp("m", 3, 4)
    line = FaultRecord(
        *(1, 2, 1, "r", model.FaultKind.DEGRADE, "slave-0", "client-0", at),
        **{"applied_at": at, "applied_at_manager": healed, "applied_error_ns": 5, "duration_ns": 6},
        **{"call_id": 1, "lease_s": 7.5, "healed_at_manager": healed, "healed_error_ns": 8},
        **{"healed_by": "lease", "cut_out": ("a",), "cut_in": ("b",), "peers": ("c",), "one_way": True},
        **{"degradation": model.Degradation(*WORSE), "signal": 9, "shape": "halves", "seed": -1, "text": "t"},
        **{"generation": 3, "processes": 4, "error": "e"},
    )
    shown = pictures.fault_out(line)
    unset = {field.name for field in shown.DESCRIPTOR.fields} - {
        field.name for field, _ in shown.ListFields()
    }

    assert unset == set()
    assert shown.degradation == WORSE_PB
    assert convert.degradation_in(shown.degradation) == model.Degradation(*WORSE)
    assert (shown.call_id, shown.lease_s, shown.healed_by, shown.seed) == (1, 7.5, "lease", -1)


def test_what_a_volunteer_cannot_do_is_taken_in_bounds() -> None:
    """A name, and a line of at most 500 bytes; at most 64 of them."""
    hello = registry.Hello(volunteer_id="a", boot_id="b", network=registry.NETWORK_KIND_FABRIC)
    hello.cannot.add(capability="delay", why="x" * 600)
    [(capability, why)] = convert.hello_in(hello).cannot
    assert (capability, len(why.encode()) <= 500) == ("delay", True)
    hello.cannot.add(capability="A B", why="")
    with pytest.raises(BadRequest, match="cannot"):
        convert.hello_in(hello)
