"""The scripts of the manager's container, run as it does, in a file system that is theirs alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None or os.geteuid() != 0, reason="needs root and bubblewrap"
)
_BIN = Path(sys.executable).parent
_TRAP = "import os\nopen(os.environ['SPRUNG'], 'w').close()\n"


@dataclass(frozen=True)
class Box:
    """What such a container has: its volumes, and a home that others write to."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("state", "invitation", "home", "out"):
            (self.folder / name).mkdir()
        for module in ("json", "shutil", "sys", "time", "os"):
            (self.folder / "home" / f"{module}.py").write_text(_TRAP)
        site = self.folder / "home/.local/lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        site.mkdir(parents=True)
        (site / "usercustomize.py").write_text(_TRAP)
        (self.folder / "group").write_text("syndicate-invited:x:980:\n")

    def run(self, script: str, *words: str, first: Mapping[str, str] | None = None) -> str:
        """What it prints, with the home as the working directory; commands of `first` are found first."""
        commands = self.folder / "commands"
        commands.mkdir(exist_ok=True)
        for name, text in (first or {}).items():
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        within = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/var/lib", "--tmpfs", "/home"]
        for name, there in (
            ("state", "/var/lib/syndicate"),
            ("invitation", "/var/lib/syndicate-invitation"),
            ("home", "/home"),
            ("out", "/mnt"),
        ):
            within += ["--bind", str(self.folder / name), there]
        within += ["--ro-bind", str(self.folder / "group"), "/etc/group", "--chdir", "/home", "--unshare-net"]
        within += ["--setenv", "HOME", "/home", "--setenv", "SPRUNG", "/mnt/sprung"]
        within += ["--setenv", "PATH", f"{commands}:{_BIN}:/usr/bin:/bin"]
        done = subprocess.run(
            [*within, str(ROOT / "docker" / script), *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def is_sprung(self) -> bool:
        """Whether something of the home was run."""
        return (self.folder / "out" / "sprung").exists()

    def start_manager(self) -> tuple[str, str]:
        """The invitation, token and fingerprint, that a start leaves; the manager itself ends at once."""
        assert "syndicate-manager" in self.run("manager-entry", "--version")
        token, fingerprint = (
            (self.folder / "invitation" / name).read_text().strip() for name in ("token", "fingerprint")
        )
        return token, fingerprint


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A container that was never started."""
    return Box(tmp_path)


def test_a_start_runs_nothing_of_the_home(box: Box) -> None:
    """All volunteers write there, and it holds the authority's key."""
    box.start_manager()
    box.start_manager()

    assert not box.is_sprung


def test_waiting_for_volunteers_runs_nothing_of_the_home(box: Box) -> None:
    """It is the manager's user that waits."""
    nodes = json.dumps({"nodes": [{"state": "ready"}, {"state": "ready"}]})
    box.run("await-volunteers", "2", first={"syndicatectl": f"#!/bin/sh\necho '{nodes}'\n"})

    assert not box.is_sprung


def test_an_invitation_is_kept(box: Box) -> None:
    """Containers that come later join by the same."""
    assert box.start_manager() == box.start_manager()


def test_an_invitation_of_another_authority_is_made_anew(box: Box) -> None:
    """As where the state's volume was removed, or a reset was interrupted: nobody could join by it."""
    first = box.start_manager()
    for made in (box.folder / "state").iterdir():
        shutil.rmtree(made)

    second = box.start_manager()

    assert first[0] != second[0] and first[1] != second[1]
