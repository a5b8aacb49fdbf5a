"""What the protos promise to people who write a client from them alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from google.protobuf import descriptor_pb2
from syndicate.v1 import chaos_pb2, common_pb2, registry_pb2, scheduler_pb2

from tests.repository import protos

Method = descriptor_pb2.MethodDescriptorProto
Message = descriptor_pb2.DescriptorProto

# Reads change nothing; a volunteer's stream carries the identity of each command in the command itself.
READS = re.compile(r"^(Get|List|Watch|Read|Fetch|Gather)[A-Z]|^Ping$|^Attach$|^WhoAmI$")
# What is sent in place: a piece that comes again is there already, and a disk takes its own place.
IN_PLACE = {"PutHistory", "PutDisk"}
# A job's members are handed out whole: there are as many as its gang has.
WHOLE_LISTS = {"ListMembers"}


@pytest.fixture(scope="module")
def files() -> list[descriptor_pb2.FileDescriptorProto]:
    """All protos."""
    return protos.descriptors()


@pytest.fixture(scope="module")
def comments(files: list[descriptor_pb2.FileDescriptorProto]) -> list[protos.Element]:
    """All parts of all protos, with their comments."""
    return [element for file in files for element in protos.elements(file)]


def methods(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> list[Method]:
    """All RPCs."""
    return [method for file in files for service in file.service for method in service.method]


def messages(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> dict[str, Message]:
    """All messages by their full name."""
    return {f".{file.package}.{one.name}": one for file in files for one in file.message_type}


def fields(message: Message) -> dict[str, descriptor_pb2.FieldDescriptorProto]:
    """The fields of a message by name."""
    return {field.name: field for field in message.field}


def test_there_are_three_services_of_one_package(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """Scheduler for users, Registry for volunteers, ChaosControl for clients; Go knows where they go."""
    assert sorted(service.name for file in files for service in file.service) == [
        "ChaosControl", "Registry", "Scheduler",
    ]  # fmt: skip
    for file in files:
        assert file.package == "syndicate.v1" and file.options.go_package.endswith(";syndicatev1"), file.name


def test_each_part_has_a_comment(comments: list[protos.Element]) -> None:
    """Services, RPCs, messages, fields, enums and their values: nobody has to guess what one means."""
    assert [element.name for element in comments if not element.comment.strip()] == []
    assert {element.kind for element in comments} == {"service", "rpc", "message", "field", "enum", "value"}


def test_each_rpc_has_its_own_request_and_response(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """Each can grow without the others."""
    for method in methods(files):
        assert method.input_type == f".syndicate.v1.{method.name}Request"
        assert method.output_type == f".syndicate.v1.{method.name}Response"


def test_each_enum_begins_with_what_is_not_said(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """An unset field must not mean something."""
    for enum in (enum for file in files for enum in file.enum_type):
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper()
        assert (enum.value[0].name, enum.value[0].number) == (f"{word}_UNSPECIFIED", 0)
        assert all(value.name.startswith(f"{word}_") for value in enum.value)


def test_services_and_rpcs_list_their_errors(comments: list[protos.Element]) -> None:
    """Each service says what every RPC of it may answer; every status is gRPC's, and has words beside it."""
    listed = {
        element.name: protos.errors(element.comment) for element in comments if element.kind == "service"
    }
    assert sorted(listed) == ["ChaosControl", "Registry", "Scheduler"]
    for name, errors in listed.items():
        assert "UNAVAILABLE" in errors and len(errors) >= 2, name
    for element in comments:
        if element.kind in ("service", "rpc"):
            for status, text in protos.errors(element.comment).items():
                assert status in protos.STATUSES and len(text) > 10, (element.name, status)


def test_each_reason_of_an_error_is_told_in_the_protos(comments: list[protos.Element]) -> None:
    """What the manager can answer stands, beside its status, in a comment of a service or RPC."""
    told = set().union(*(protos.reasons(protos.errors(element.comment)) for element in comments))
    answered = protos.reasons_in_code()
    assert len(answered) > 25, "the manager's errors were not found"
    assert {pair: place for pair, place in answered.items() if pair not in told} == {}


def test_each_reason_in_the_protos_can_be_answered(comments: list[protos.Element]) -> None:
    """Nobody handles an error that does not come any more."""
    told = set().union(*(protos.reasons(protos.errors(element.comment)) for element in comments))
    words = "".join(path.read_text() for path in protos.answering())
    assert [reason for _, reason in sorted(told) if f'"{reason}"' not in words] == []


def test_each_mutation_carries_a_request_id(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """So that it can be tried again and happens once; an upload has it in its header."""
    known = messages(files)
    changing = [method for method in methods(files) if not READS.match(method.name)]
    mutations = [method for method in changing if method.name not in IN_PLACE]
    assert sorted(method.name for method in mutations) == [
        "CancelJob", "CreateToken", "Degrade", "Disconnect", "DiskFull", "DrainNode", "Finish", "Heal",
        "Join", "Kill", "Partition", "Pause", "PublishJob", "PutTeam", "PutUsers", "Reconnect", "Renew",
        "Reset", "Resume", "Revive", "RevokeToken", "Signal", "Submit", "UploadSource",
    ]  # fmt: skip
    for method in mutations:
        request = known[method.input_type]
        if method.client_streaming:
            request = known[fields(request)["header"].type_name]
        first = request.field[0]
        assert (first.name, first.number, first.type) == ("request_id", 1, first.TYPE_STRING), method.name


def test_each_list_comes_in_pages(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """A size and a token go in, a token comes out."""
    known = messages(files)
    lists = [method for method in methods(files) if method.name.startswith("List")]
    assert {method.name for method in lists} == WHOLE_LISTS | {
        *("ListJobs", "ListNodes", "ListUsers", "ListTeams", "ListTokens", "ListAudit", "ListFaults"),
    }
    for method in lists:
        if method.name not in WHOLE_LISTS:
            assert {"page_size", "page_token"} <= set(fields(known[method.input_type])), method.name
            assert "next_page_token" in fields(known[method.output_type]), method.name


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (common_pb2.Stamp, {"boot_id", "monotonic_ns", "utc_ns"}),
        (common_pb2.TaskRef, {"cluster_id", "job_id", "attempt", "task", "generation"}),
        (registry_pb2.Command, {"command_id", "epoch", "task"}),
        (registry_pb2.Answer, {"command_id", "applied_at"}),
        (registry_pb2.TaskEvent, {"task", "event_id", "at"}),
        (registry_pb2.LogChunk, {"task", "piece"}),
        (registry_pb2.HeldTask, {"task", "slot", "address", "state"}),
        (
            registry_pb2.Hello,
            {"volunteer_id", "boot_id", "slots", "resources", "host_address", "prefix", "capabilities",
             "held", "highest_epoch", "cluster_id"},
        ),
        (registry_pb2.Welcome, {"session", "cluster_id", "epoch", "prefix", "routes", "warm"}),
        (registry_pb2.Heartbeat, {"sequence", "sent_at", "last_ack_received_at", "last_ack_sequence"}),
        (registry_pb2.HeartbeatAck, {"sequence", "received_at", "sent_at"}),
        (chaos_pb2.FaultApplied, {"fault_id", "already", "applied_at", "clock"}),
        (scheduler_pb2.Task, {"ref", "runs"}),
        (scheduler_pb2.Job, {"job_id", "attempt", "faults", "story"}),
    ],
)  # fmt: skip
def test_identities_and_stamps_are_in(message: type, names: set[str]) -> None:
    """Fencing, generations and clock offsets cannot be added later."""
    assert names <= set(message.DESCRIPTOR.fields_by_name)  # type: ignore[attr-defined]  # a message
