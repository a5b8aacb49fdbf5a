"""Calls of ChaosControl that cannot be, by bare stubs: each is refused by the name of what is wrong."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import common_pb2 as common

from tests.manager.conftest import Running
from tests.manager.scripted import reason
from tests.manager.test_chaos import Client, client_of_a_job, new_id

STRANGER = "10.99.99.99"


def partition(client: Client, *groups: tuple[str, ...], **more: Any) -> chaos.PartitionRequest:
    """Groups by the names of members, or by addresses."""
    known = {"master", "slave-0"}
    return chaos.PartitionRequest(
        groups=[
            chaos.PartitionGroup(ips=[client.address(name) if name in known else name for name in group])
            for group in groups
        ],
        **more,
    )


def degrade(client: Client, **how: float) -> chaos.DegradeRequest:
    """Of the slave."""
    return chaos.DegradeRequest(ip=client.address("slave-0"), degradation=common.Degradation(**how))  # type: ignore[arg-type]  # by name


def lasting(client: Client, lease_s: float) -> list[Any]:
    """Each call that takes a lease."""
    ip = client.address("slave-0")
    one = {"ip": ip, "lease_s": lease_s}
    worse = common.Degradation(loss_percent=1)
    return [
        chaos.DisconnectRequest(**one),  # type: ignore[arg-type]  # by name
        chaos.ResetRequest(**one),  # type: ignore[arg-type]  # by name
        chaos.PauseRequest(**one),  # type: ignore[arg-type]  # by name
        chaos.DiskFullRequest(**one),  # type: ignore[arg-type]  # by name
        chaos.DegradeRequest(degradation=worse, **one),  # type: ignore[arg-type]  # by name
        partition(client, ("master",), ("slave-0",), lease_s=lease_s),
    ]


async def refused(client: Client, request: Any) -> tuple[str, str]:
    """(reason, text) of a call that is refused as malformed, or for a member that there is not."""
    method = type(request).__name__.removesuffix("Request")
    request.request_id = new_id()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(client.stub, method)(request, **client.credentials)
    told = reason(caught)
    expected = grpc.StatusCode.NOT_FOUND if told == "NO_SUCH_MEMBER" else grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.code() == expected, caught.value
    return told, str(caught.value.details())


async def assert_untouched(client: Client) -> None:
    """No line in the ledger, no command to anybody."""
    answer = await client.stub.ListFaults(chaos.ListFaultsRequest(), **client.credentials)
    assert list(answer.faults) == []
    assert client.volunteer.commands("set_network") == client.volunteer.commands("set_task") == []


async def test_groups_that_cannot_be_are_named(manager: Running) -> None:
    """Those that overlap by the member that they share, strangers by their address, and too few of them."""
    async with client_of_a_job(manager) as client:
        overlap = await refused(client, partition(client, ("master",), ("slave-0", "master")))
        stranger = await refused(client, partition(client, ("master",), ("slave-0", STRANGER)))
        alone = await refused(client, partition(client, ("master",)))
        empty = await refused(client, partition(client, ("master",), ()))
        await assert_untouched(client)
        address = client.address("master")

    assert overlap == ("BAD_FIELD", f"{address} (master) is in group 1 and in group 2")
    assert stranger[0] == "NO_SUCH_MEMBER" and STRANGER in stranger[1]
    assert alone[0] == empty[0] == "BAD_FIELD"
    assert "two or more" in alone[1] and "group 2" in empty[1]


@pytest.mark.parametrize("shape", [6, 99, -1])
async def test_a_shape_that_there_is_not_is_named(manager: Running, shape: int) -> None:
    """Of a newer client, or of one that has it wrong."""
    async with client_of_a_job(manager) as client:
        told = await refused(client, chaos.PartitionRequest(shape=shape))  # type: ignore[arg-type]  # no shape
        await assert_untouched(client)

    assert told[0] == "BAD_FIELD" and str(shape) in told[1], told


PERCENT = ("loss_percent", "duplicate_percent", "corrupt_percent", "reorder_percent")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        *((field, value, f"{field} is {value:g}") for field in PERCENT for value in (-1.0, 100.5, 120.0)),
        ("rate_bps", -8000, "rate_bps is -8"),
        ("rate_bps", 7999, "rate_bps is 7"),
        ("delay_ms", -1.0, "delay_ms is -1"),
        ("delay_ms", 60_001.0, "delay_ms is 60001"),
        ("jitter_ms", -1.0, "jitter_ms is -1"),
    ],
)
async def test_a_degradation_out_of_its_range_is_named(
    manager: Running, field: str, value: float, says: str
) -> None:
    """With the field and what was given."""
    async with client_of_a_job(manager) as client:
        told = await refused(client, degrade(client, **{"delay_ms": 100.0, field: value}))
        await assert_untouched(client)

    assert told[0] == "BAD_FIELD" and says in told[1].replace(",", ""), told


@pytest.mark.parametrize("lease_s", [0.0, -1.0, float("nan"), 86_401.0])
async def test_a_lease_that_is_none_is_named_by_every_call(manager: Running, lease_s: float) -> None:
    """0, less, no number, or more than a day."""
    async with client_of_a_job(manager) as client:
        told = [await refused(client, request) for request in lasting(client, lease_s)]
        await assert_untouched(client)

    assert len(told) == 6
    assert {found for found, _ in told} == {"BAD_FIELD"}
    assert all(text.startswith(f"lease_s is {lease_s:g}") for _, text in told), told
