"""What the fake draws and says is what the manager draws and says."""

from __future__ import annotations

import pytest
from syndicate.client_api import Shape
from syndicate.client_api._fake_checks import degradation_text
from syndicate.client_api._fake_shapes import of_shape
from syndicate.manager.core import shapes
from syndicate.manager.core.model import Degradation, PartitionShape
from syndicate.manager.core.orders import words_of
from syndicate.v1 import common_pb2


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 8, 20])
@pytest.mark.parametrize("seed", [0, 1, -7, 1 << 40])
def test_shapes_are_the_managers(shape: Shape, count: int, seed: int) -> None:
    """The same seed draws the same groups and cuts of the same members."""
    members = ["master", *(f"slave-{number}" for number in range(count - 1))]
    kind = PartitionShape[shape.name]
    groups = shapes.groups(kind, members, "", seed)
    ring = shape is Shape.MAJORITY_RING
    theirs = shapes.ring_cuts(groups) if ring else shapes.cuts(groups, one_way=False)

    ours = of_shape(shape, members, "", False, seed)

    assert ours.groups == groups
    assert {name: (set(ours.cut_out.get(name, ())), set(ours.cut_in(name))) for name in theirs} == {
        name: (set(out), set(heard)) for name, (out, heard) in theirs.items()
    }
    assert {name for name in members if ours.concerns(name)} == set(theirs)


@pytest.mark.parametrize(
    "how",
    [
        {"loss_percent": 10.0},
        {"rate_bps": 1_500_000, "delay_ms": 50.0, "jitter_ms": 5.0},
        {
            "rate_bps": 8000,
            "duplicate_percent": 1.0,
            "corrupt_percent": 0.5,
            "reorder_percent": 2.0,
            "delay_ms": 1.0,
        },
    ],
)
def test_degradations_are_worded_as_the_manager_does(how: dict[str, float]) -> None:
    """What a test reads in the ledger is what a cluster writes there."""
    assert degradation_text(common_pb2.Degradation(**how)) == words_of(Degradation(**how))
