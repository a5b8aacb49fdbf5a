"""The units that the wheel carries, as systemd itself reads them, without one that runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from syndicate.cli.install_plan import MANAGER, ROLES, unit_files

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
UNITS = {
    file.path.name: file.text for role in ROLES.values() for file in unit_files(role, Path("/usr/bin"), 252)
}


def written(folder: Path, name: str) -> Path:
    """The unit, with a program that is there."""
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/usr/bin/true", UNITS[name])
    path = folder / name
    path.write_text(text)
    return path


def exposure(path: Path) -> float:
    """Systemd's own mark, 0 to 10, of how much a service could do."""
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("syndicate-manager.service", 3.0),
        ("syndicate-volunteer.service", 3.0),
        # Root with the rights that namespaces, mounts and networks need; its unit says for each why.
        ("syndicate-keeper.service", 6.0),
    ],
)
def test_services_may_do_little(tmp_path: Path, name: str, most: float) -> None:
    """What systemd says of them stays below a bound."""
    assert exposure(written(tmp_path, name)) <= most


@pytest.mark.parametrize("name", sorted(UNITS))
def test_systemd_reads_them(tmp_path: Path, name: str) -> None:
    """No key and no value is unknown to the oldest systemd that is supported."""
    path = written(tmp_path, name)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60
    )
    assert [line for line in said.stderr.splitlines() if name in line] == []


def test_every_exemption_of_the_keeper_has_its_reason() -> None:
    """What the others are denied and the keeper is not, its comments name."""
    denied = set(
        re.findall(
            r"(?m)^((?:Protect|Private|Restrict|MemoryDeny)\w+)=", UNITS["syndicate-volunteer.service"]
        )
    )
    keeper = UNITS["syndicate-keeper.service"]
    given = set(re.findall(r"(?m)^(\w+)=", keeper))
    reasons = "\n".join(line for line in keeper.splitlines() if line.startswith("#"))
    assert [name for name in sorted(denied - given) if name not in reasons] == []


def test_pauses_grow_where_systemd_can() -> None:
    """Older ones would tell of unknown keys at every reload."""
    old, new = (unit_files(MANAGER, Path("/b"), version)[0].text for version in (253, 254))
    assert "RestartSteps" not in old and "RestartSec=2\n" in old
    assert "RestartSteps=6\nRestartMaxDelaySec=60\n" in new
    assert not re.search("@[A-Z]+@", new + old)


def test_they_are_where_the_wheel_takes_them() -> None:
    """As data of the packages whose services they are."""
    assert json.dumps(sorted(UNITS)) == json.dumps(
        [f"syndicate-{name}.service" for name in ("keeper", "manager", "volunteer")]
    )
