"""`syndicate-volunteer doctor` on addresses of slots, and on the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from syndicate.volunteer import offset, reach, room
from syndicate.volunteer.keeper.requirements import Level
from syndicate.volunteer.keeper.settings import KeeperSettings


def keeper(folder: Path, **more: object) -> KeeperSettings:
    """Settings of a keeper with eight slots."""
    values = {"instance": "t", "run_dir": folder / "r", "state_dir": folder / "s", "volunteer_uid": 1}
    return KeeperSettings(**{**values, "slots": 8, **more})  # type: ignore[arg-type]  # as from a file


@pytest.mark.parametrize(
    ("prefix", "level", "says"),
    [
        ("", Level.OK, "the manager gives 8 slots theirs"),
        ("10.5.0.0/26", Level.OK, "has 61 for 8 slots"),
        ("10.5.0.0/28", Level.DEGRADED, "has 13 for 8 slots: a job gets what the one before it had"),
        ("10.5.0.0/29", Level.MISSING, "has 5 for 8 slots"),
        ("10.5.0.1/26", Level.MISSING, "has host bits set"),
    ],
)
def test_slots_need_addresses(tmp_path: Path, prefix: str, level: Level, says: str) -> None:
    """One each, and as many again, so that a job's is not the last one's; else the remedy has its size."""
    found = room.check(keeper(tmp_path), "fabric", prefix)

    assert found.level is level and says in found.detail
    remedy = {Level.OK: "", Level.DEGRADED: "a /27 or larger", Level.MISSING: "a /28 or larger"}[level]
    assert remedy in found.remedy and bool(found.remedy) == bool(remedy)


@pytest.mark.parametrize(
    ("address", "level", "says"),
    [
        ("127.0.0.1", Level.OK, "is this machine's"),
        ("192.0.2.1", Level.MISSING, "is of no device of this machine"),
    ],
)
def test_the_hosts_address_must_be_there(tmp_path: Path, address: str, level: Level, says: str) -> None:
    """On a device of the machine, where slots are in its network."""
    found = room.check(keeper(tmp_path, slots=1, network="host", address=address), "host", "")
    assert found.level is level and says in found.detail


def test_the_keepers_settings_are_found_wrong_with_their_line(tmp_path: Path) -> None:
    """As the keeper itself says it."""
    file = tmp_path / "keeper.toml"
    file.write_text('instance = "syn"\nslots = "many"\n')
    settings, wrong = room.settings_of(file)
    assert settings is None and any(one.detail.startswith(f"{file}:2: slots: ") for one in wrong)


@pytest.mark.parametrize(
    ("network", "wrong"), [("", True), ('network = "fabric"', True), ('network = "host"', False)]
)
def test_an_address_is_for_the_hosts_network_alone(tmp_path: Path, network: str, wrong: bool) -> None:
    """In the keeper's file as on its command line: in any other network it would mean nothing."""
    file = tmp_path / "keeper.toml"
    file.write_text(
        f'instance = "syn"\nrun_dir = "{tmp_path}/run"\nstate_dir = "{tmp_path}/state"\n'
        f'volunteer_uid = 65534\naddress = "10.0.0.7"\n{network}\n'
    )
    settings, found = room.settings_of(file)
    assert (settings is None) is wrong
    assert any("address is for network=host alone" in one.detail for one in found) is wrong


@contextmanager
def clock(off_s: float | None) -> Iterator[str]:
    """A manager whose clock is so far ahead; None for an old one that does not tell its time."""

    def check(request: bytes, context: grpc.ServicerContext) -> bytes:
        if off_s is not None:
            told = str(time.time_ns() + round(off_s * 1e9))
            context.set_trailing_metadata((("syndicate-utc-ns", told),))
        return b""

    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("off_s", "level", "says"),
    [
        (0.0, Level.OK, " ms from the manager's"),
        (40.0, Level.DEGRADED, "40.0 s behind the manager's"),
        (-4000.0, Level.MISSING, "4,000.0 s ahead of the manager's"),
        (None, Level.DEGRADED, "it is of an older version"),
    ],
)
def test_clocks_are_compared(off_s: float | None, level: Level, says: str) -> None:
    """So far that logs mislead, or so far that no machine is let in."""
    with clock(off_s) as target:
        found = reach._clock(target, None)
    assert (found.name, found.level) == ("clock", level) and says in found.detail


def test_an_offset_comes_with_its_error() -> None:
    """The true one lies within."""
    with clock(2.0) as target:
        off, error = offset.measure(target, None)
    assert abs(off + 2.0) <= error < 1.0


def test_a_manager_that_does_not_answer_has_no_time() -> None:
    """That is said as what it is."""
    with pytest.raises(offset.Unknown, match="does not tell its time \\(unavailable\\)"):
        offset.measure("127.0.0.1:1", None)
