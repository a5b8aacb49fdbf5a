"""Where the manager is, for a volunteer that was told in several ways, or in none."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from syndicate.volunteer import whereabouts
from syndicate.volunteer.settings import load
from syndicate.volunteer.settled import BadSettings, Settled
from syndicate.volunteer.whereabouts import from_dns, from_kernel

from tests.support import name_server


@pytest.fixture(autouse=True)
def _nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNDICATE_VOLUNTEER_MANAGER", raising=False)
    monkeypatch.setattr(whereabouts, "from_kernel", lambda: ())


def settled(file: Path | None = None, **flags: object) -> Settled:
    """Settings with what else they need."""
    return load({"state_dir": Path("/var/lib/s"), **flags}, file)


def test_the_nearest_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, then the file, then the environment, then the kernel's command line; DNS is asked later."""
    file = tmp_path / "volunteer.toml"
    file.write_text('manager = ["file:1"]\n')
    assert settled().manager == ()
    monkeypatch.setattr(whereabouts, "from_kernel", lambda: ("kernel:3",))
    assert settled().manager == ("kernel:3",)
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_MANAGER", '["environment:2"]')
    assert settled().manager == ("environment:2",)
    assert settled(file).manager == ("file:1",)
    assert settled(file, manager=["flag:4"]).manager == ("flag:4",)


def test_nothing_is_looked_for_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was told its manager looks no further."""
    monkeypatch.setattr(whereabouts, "from_kernel", lambda: pytest.fail("it was looked for"))
    assert settled(manager=["told:1"]).manager == ("told:1",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("m:7001", ("m:7001",)),
        ("m:7001, [fd00::1]:7001", ("m:7001", "[fd00::1]:7001")),
        ("[fd00::1]:7001", ("[fd00::1]:7001",)),
        ('["m:7001"]', ("m:7001",)),
    ],
)
def test_the_environment_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, text: str, told: tuple[str, ...]
) -> None:
    """As on the kernel's command line, or as JSON."""
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_MANAGER", text)
    assert settled().manager == told


@pytest.mark.parametrize("target", ["m", "m:x", "a..b:7001", ""])
def test_what_is_no_address(target: str) -> None:
    """Also a name that no resolver takes: it is refused here, and not by a traceback later."""
    with pytest.raises(BadSettings, match=r"^manager: "):
        settled(manager=target)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("quiet syndicate.manager=10.0.0.5:7001 ro", ("10.0.0.5:7001",)),
        ("syndicate.manager=a:1,b:2", ("a:1", "b:2")),
        ("syndicate.manager=a:1 syndicate.manager=b:2", ("b:2",)),
        ("xsyndicate.manager=a:1 syndicate.managers=b:2", ()),
        ("syndicate.manager=", ()),
    ],
)
def test_the_kernels_command_line(tmp_path: Path, line: str, found: tuple[str, ...]) -> None:
    """One word of it, whose last mention counts; a machine that hides it tells nothing."""
    (tmp_path / "cmdline").write_text(line + "\n")
    assert from_kernel(tmp_path / "cmdline") == found
    assert from_kernel(tmp_path / "none") == ()


def test_a_command_line_that_is_no_text(tmp_path: Path) -> None:
    """Boot loaders pass on what they were given; the rest of it is read."""
    (tmp_path / "cmdline").write_bytes(b"label=\xff\xfe syndicate.manager=a:1\n")
    assert from_kernel(tmp_path / "cmdline") == ("a:1",)


def test_the_first_of_dns_is_taken() -> None:
    """Least priority, then most weight; a target of nothing means that there is none (RFC 2782)."""
    answers = [(20, 9, "far", 1), (10, 1, "light", 2), (10, 5, "heavy", 3)]
    assert from_dns(lambda: answers) == ("heavy:3",)
    assert from_dns(lambda: []) == () == from_dns(lambda: [(0, 0, "", 0)])
    assert from_dns(lambda: [(1, 1, "a\\032b", 1), (2, 1, "m", 0), (3, 1, "good", 1)]) == ("good:1",)


def test_an_invited_machine_asks_the_manager_it_found() -> None:
    """Where users call: on the manager's host, at the usual port."""
    mark = "a" * 64
    invited = {"join_token_file": Path("/t"), "ca_fingerprint": mark}
    assert settled(manager=["[fd00::1]:7001"], **invited).joins_at == "[fd00::1]:7000"
    assert settled(manager=["m:7001"], join="other:1", **invited).joins_at == "other:1"
    assert settled(manager=["m:7001"]).joins_at == ""


@pytest.mark.parametrize("found", ["m:0", "a..b:7001", "10.0.0.5:7001"])
def test_a_manager_that_was_found_is_checked_as_one_that_was_told(found: str) -> None:
    """Its address, and that clear text stays on this machine."""
    here = settled(insecure=True, token_file=Path("/t"))
    with pytest.raises(BadSettings, match=r"^manager: "):
        here.at((found,))
    assert here.at(("127.0.0.1:7001",)) == replace(here, manager=("127.0.0.1:7001",))


# As `doctor` reads them, which asks DNS once.
_READ = (
    "import sys; from pathlib import Path; from syndicate.volunteer.reach import settings_of; "
    "print(*settings_of(Path(sys.argv[1]), []).manager)"
)


def told(file: Path, cmdline: str, **environment: str) -> str:
    """The manager that a volunteer takes on a machine with this kernel command line, in a room with DNS."""
    folder = file.parent
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch room.example\n")
    (folder / "cmdline").write_text(cmdline)
    room = ["_syndicate._tcp.room.example", "20:9:far:1", "10:1:light:2", "10:5:heavy:7001"]
    script = (
        'set -e; ip link set lo up; mount --bind "$1/resolv.conf" /etc/resolv.conf; '
        'mount --bind "$1/cmdline" /proc/cmdline; shift; exec "$@"'
    )
    machine = ["unshare", "--net", "--mount", "--", "sh", "-c", script, "sh", str(folder)]
    asks = [sys.executable, name_server.__file__, *room, "--", sys.executable, "-c", _READ, str(file)]
    environ = {**os.environ, **environment}
    done = subprocess.run([*machine, *asks], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a machine of its own")
def test_a_machine_asks_in_order(tmp_path: Path) -> None:
    """Configuration, environment, the kernel's command line, DNS: what comes first is taken; all are real."""
    file, bare = tmp_path / "volunteer.toml", tmp_path / "bare.toml"
    file.write_text('manager = ["file:1"]\nstate_dir = "/s"\n')
    bare.write_text('state_dir = "/s"\n')
    environment = {"SYNDICATE_VOLUNTEER_MANAGER": '["environment:2"]'}
    kernel = "quiet syndicate.manager=kernel:3 ro\n"

    assert told(file, kernel, **environment) == "file:1"
    assert told(bare, kernel, **environment) == "environment:2"
    assert told(bare, kernel) == "kernel:3"
    assert told(bare, "quiet ro\n") == "heavy:7001"
