"""A fake manager, and `syndicatectl` run against it inside this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from syndicate.cli.command import run

from tests.cli.fake_scheduler import TOKEN, FakeManager
from tests.cli.stand_ins import KEEPER, MANAGER, VOLUNTEER


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Ctl:
    """Runs commands as a user would, with a state folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Outcome:
        self._capsys.readouterr()
        code = run(list(words))
        seen = self._capsys.readouterr()
        return Outcome(code, seen.out, seen.err)


class Certs:
    """`certs` and `join-token` on one state folder."""

    def __init__(self, ctl: Ctl, state: Path) -> None:
        self._ctl = ctl
        self.state = state

    def __call__(self, *words: str) -> Outcome:
        return self._ctl(*words, "--state-dir", str(self.state))

    def volunteers(self) -> list[Any]:
        """The volunteers' lines of the list."""
        listed = self("certs", "list", "--json").document["certificates"]
        return [one for one in listed if one["kind"] == "volunteer"]


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    with FakeManager() as fake:
        yield fake


@pytest.fixture
def bare_ctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ctl:
    """`syndicatectl` that knows no manager."""
    for name in ("MANAGER", "TOKEN", "TOKEN_FILE", "CONTEXT"):
        monkeypatch.delenv(f"SYNDICATE_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("SYNDICATE_INSECURE", "1")  # the fake manager speaks clear text
    return Ctl(capsys)


@pytest.fixture
def ctl(manager: FakeManager, bare_ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> Ctl:
    """`syndicatectl` whose environment names the fake manager."""
    monkeypatch.setenv("SYNDICATE_MANAGER", manager.address)
    monkeypatch.setenv("SYNDICATE_TOKEN", TOKEN)
    return bare_ctl


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A source with both targets."""
    folder = tmp_path / "lab4"
    folder.mkdir()
    (folder / "Makefile").write_text(".PHONY: master slave\nmaster:\n\t./run\nslave:\n\t./run\n")
    return folder


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins that `up` takes for the one it was started from."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("keeper", KEEPER), ("manager", MANAGER), ("volunteer", VOLUNTEER)):
        path = folder / f"syndicate-{name}"
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


@pytest.fixture
def cluster(tmp_path: Path, daemons: Path, bare_ctl: Ctl) -> Iterator[Path]:
    """A folder for a cluster, which is taken down in the end whatever happened."""
    yield tmp_path / "cluster"
    bare_ctl("down", "--dir", str(tmp_path / "cluster"))


@pytest.fixture
def certs(bare_ctl: Ctl, tmp_path: Path) -> Certs:
    """With an authority."""
    made = Certs(bare_ctl, tmp_path / "manager")
    assert made("certs", "init", "--cluster", "lab", "--address", "10.0.0.5").code == 0
    return made
