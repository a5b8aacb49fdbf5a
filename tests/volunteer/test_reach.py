"""`syndicate-volunteer doctor` on the way to the manager, against a manager in a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.manager.pki import Folder
from syndicate.volunteer import reach
from syndicate.volunteer.keeper.requirements import Level, Requirement

from tests.manager.authorities import DAY, manager_process, office, signed, stranger
from tests.volunteer.test_way import put


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """Its state, and where it listens."""
    state = tmp_path_factory.mktemp("manager")
    office(state, "127.0.0.1")
    with manager_process(state) as addresses:
        yield state, addresses


def office_folder(state: Path) -> Folder:
    """The authority's."""
    return Folder(state / "tls")


def checked(folder: Path, target: str) -> dict[str, Requirement]:
    """What is found, by name."""
    file = folder / "volunteer.toml"
    file.write_text(f'manager = ["{target}"]\nstate_dir = "{folder}"\nid = "node-a"\n')
    settings = reach.settings_of(file, [])
    found = settings if isinstance(settings, list) else reach.check(settings)
    return {one.name: one for one in found}


def test_all_is_well(manager: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """The manager is known by its authority; certificate and MTU are told."""
    folder = manager[0] / "tls"
    pair = signed(office_folder(manager[0]), begin=-DAY, end=89 * DAY)
    put(tmp_path / "tls", (folder / "ca.pem").read_bytes(), pair)
    found = checked(tmp_path, manager[1]["volunteers"])
    assert {name: one.level for name, one in found.items()} == dict.fromkeys(
        ("certificate", "mtu", "manager", "clock"), Level.OK
    )
    assert found["manager"].detail.endswith("is the manager of c-test")


def test_another_cluster_answers(manager: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Or somebody in between; either is told as what it is."""
    other = tmp_path / "other"
    office(other, "127.0.0.1")
    put(tmp_path / "tls", (other / "tls/ca.pem").read_bytes(), signed(office_folder(other)))
    found = checked(tmp_path, manager[1]["volunteers"])
    assert (
        found["manager"].level is Level.MISSING and "certificate that will not do" in found["manager"].detail
    )


def test_nobody_answers(tmp_path: Path) -> None:
    """A machine without a certificate whose manager is away lacks both, each with what mends it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = checked(tmp_path, f"127.0.0.1:{port}")
    assert found["manager"].detail == f"127.0.0.1:{port}: connection refused"
    assert "certs add node-a" in found["certificate"].remedy
    assert {one.level for one in found.values()} == {Level.MISSING}


@pytest.mark.parametrize(
    ("begin", "end", "level", "said"),
    [
        (-90 * DAY, -1, Level.MISSING, "expired"),
        (DAY, 90 * DAY, Level.MISSING, "not good yet"),
        (-80 * DAY, 10 * DAY, Level.DEGRADED, "did not renew itself"),
    ],
)
def test_certificates_that_age(
    manager: tuple[Path, dict[str, str]], tmp_path: Path, begin: int, end: int, level: Level, said: str
) -> None:
    """Each with what mends it."""
    ca = (manager[0] / "tls/ca.pem").read_bytes()
    put(tmp_path / "tls", ca, signed(office_folder(manager[0]), begin=begin, end=end))
    found = checked(tmp_path, manager[1]["volunteers"])["certificate"]
    assert found.level is level and said in found.detail and found.remedy


def test_what_is_no_certificate(tmp_path: Path) -> None:
    """A key of another authority is told before anybody is asked."""
    put(tmp_path / "tls", b"no", stranger())
    assert checked(tmp_path, "127.0.0.1:1")["certificate"].level is Level.MISSING


def test_bad_settings_are_a_finding(tmp_path: Path) -> None:
    """With their line."""
    found = checked(tmp_path, "nowhere")["configuration"]
    assert found.level is Level.MISSING and "volunteer.toml:1: manager: 'nowhere'" in found.detail
