"""Kinds of worlds: how busy and how unkind. A seed picks one by its remainder, so that all are visited."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """What the nemesis may do, in mean numbers of faults; the rest are chances in 0 to 1."""

    name: str
    jobs: int = 10
    managers: int = 1
    with_clients: float = 0.5
    patient: bool = False  # small gangs whose tasks run long: what the lease is for
    cancels: float = 0.1
    lost_calls: float = 0.1  # chance that a user's call, or its answer, is lost
    breaks: float = 0.0
    cuts: float = 0.0
    storms: float = 0.0  # a link that drops, repeats and reorders for a while
    volunteer_crashes: float = 0.0
    reboots: float = 0.0
    keeper_restarts: float = 0.0
    pauses: float = 0.0
    machine_troubles: float = 0.0  # a machine whose keeper fails or stalls for a while
    manager_crashes: float = 0.0
    manager_pauses: float = 0.0
    moves: float = 0.0  # the manager's machine is lost, and it comes back at its other address
    doubles: float = 0.0  # one volunteer is cut off while another one loses its tasks
    crash_points: float = 0.0  # a while in which each commit may be the last thing the manager does
    drains: float = 0.0
    replays: int = 0  # how often a user replays a job that has ended


CALM = Profile("calm", jobs=12, cancels=0.0, lost_calls=0.0)

PROFILES = (
    CALM,
    Profile("lossy", breaks=6, cuts=3, storms=4),
    Profile(
        "volunteers",
        breaks=2,
        volunteer_crashes=6,
        reboots=2,
        keeper_restarts=1,
        doubles=2,
        pauses=2,
        machine_troubles=2,
    ),
    Profile(
        "partitions", jobs=8, with_clients=0.3, patient=True, cuts=4, doubles=6, pauses=3, machine_troubles=1
    ),
    Profile("manager", breaks=2, manager_crashes=3, manager_pauses=1, crash_points=3),
    Profile("moves", jobs=14, moves=5, breaks=1, storms=1, volunteer_crashes=1, manager_crashes=1),
    Profile("overload", jobs=24, cancels=0.4, drains=4, breaks=2, manager_crashes=0.5, machine_troubles=1),
    Profile(
        "chaos",
        with_clients=1.0,
        cancels=0.05,
        breaks=2,
        cuts=1,
        volunteer_crashes=1,
        manager_crashes=0.7,
        replays=6,
    ),
    Profile(
        "shared", managers=2, jobs=12, breaks=2, volunteer_crashes=2, reboots=0.5, manager_crashes=1, storms=1
    ),
    Profile(
        "everything",
        jobs=14,
        cancels=0.2,
        breaks=4,
        cuts=2,
        storms=2,
        volunteer_crashes=3,
        reboots=1,
        keeper_restarts=0.5,
        doubles=0.7,
        pauses=2,
        machine_troubles=2,
        manager_crashes=1.5,
        manager_pauses=1,
        crash_points=1,
        drains=2,
    ),
)


def profile_of(seed: int) -> Profile:
    """The profile of a seed."""
    return PROFILES[seed % len(PROFILES)]
