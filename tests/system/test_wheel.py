"""The built wheel, with the sources out of reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.cluster import ROOT

pytestmark = pytest.mark.system

SOURCES = ("manager", "volunteer", "client_api", "cli", "protos")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from a copy of the tree, installed into a folder of its own; the copy is deleted."""
    folder = tmp_path_factory.mktemp("wheel")
    copy, dist, target = folder / "copy", folder / "dist", folder / "site"
    copy.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(copy)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    shutil.rmtree(copy)
    (wheel,) = dist.glob("*.whl")
    install = ["-m", "pip", "-q", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True, timeout=120)
    return target


@pytest.fixture(scope="module")
def python(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """An interpreter that finds the wheel and the dependencies, and no sources of this project."""
    others = tmp_path_factory.mktemp("others")
    # A folder on PYTHONPATH has its .pth files unread; links leave the editable install's own names behind.
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("syndicate", "_syndicate", "__editable__")) and entry.suffix != ".pth":
            (others / entry.name).symlink_to(entry)
    kept = {name: os.environ[name] for name in ("PATH", "LC_ALL") if name in os.environ}
    environ = {**kept, "PYTHONPATH": f"{site}{os.pathsep}{others}", "PYTHONDONTWRITEBYTECODE": "1"}
    # -S: no site-packages but those named above.
    return [sys.executable, "-S", "-P"], environ


def run(python: tuple[list[str], dict[str, str]], *words: str) -> str:
    """The output of that interpreter; it must end well."""
    command, environ = python
    line = [*command, *words]
    done = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "syndicate.v1.scheduler_pb2_grpc",
        "syndicate.v1.registry_pb2_grpc",
        "syndicate.v1.chaos_pb2_grpc",
        "syndicate.client_api",
        "syndicate.client_api.testing",
        "syndicate.cli.command",
        "syndicate.manager.app",
        "syndicate.volunteer.app",
        "syndicate.volunteer.keeper.serve",
    ],
)
def test_modules_are_imported_from_the_wheel(
    python: tuple[list[str], dict[str, str]], site: Path, module: str
) -> None:
    """Every part of the one namespace comes from the wheel's folder."""
    found = run(python, "-c", f"import {module} as m; print(m.__file__)").strip()
    assert Path(found).is_relative_to(site)


def test_no_source_is_in_reach(python: tuple[list[str], dict[str, str]], site: Path) -> None:
    """The namespace has no other portion than the wheel's."""
    portions = run(python, "-c", "import syndicate; print(*syndicate.__path__, sep='\\n')").split()
    assert portions == [str(site / "syndicate")]


@pytest.mark.parametrize("command", ["syndicatectl", "syndicate-manager", "syndicate-volunteer"])
def test_commands_tell_their_version(
    python: tuple[list[str], dict[str, str]], site: Path, command: str
) -> None:
    """The commands that the wheel brings run."""
    option = "version" if command == "syndicatectl" else "--version"
    said = run(python, str(site / "bin" / command), option)
    assert said.startswith(f"{command} ") and said.split()[1][0].isdigit()


def test_the_wheel_carries_what_is_no_python(site: Path) -> None:
    """Types, protos and migrations are in it."""
    base = site / "syndicate"
    assert (base / "v1" / "scheduler.proto").is_file() and (base / "v1" / "scheduler_pb2.pyi").is_file()
    assert list((base / "manager" / "store" / "migrations" / "versions").glob("0*.py"))
    assert all((base / name / "py.typed").is_file() for name in ("v1", "manager", "client_api", "cli"))
