"""The built wheel, with the sources out of reach: straight from the tree, and by way of the sdist.

Each is installed into a virtual environment of its own, beside what it asks for and nothing else: the files
of those distributions are laid in from this interpreter's own, so that no index is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.cluster import ROOT, free_ports

pytestmark = pytest.mark.system

SOURCES = ("manager", "volunteer", "client_api", "cli", "protos")
WAIT_S = 120.0


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel in it, and what else is."""

    folder: Path
    packages: Path
    beside: frozenset[str]

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of it, with nothing of this process's environment that leads elsewhere."""
        kept = {name: os.environ[name] for name in ("PATH", "LC_ALL") if name in os.environ}
        folders = {f"XDG_{kind}_HOME": str(self.folder / kind) for kind in ("STATE", "CONFIG")}
        line = [str(self.folder / "bin" / command), *words]
        environ = {**kept, **folders, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            line, env=environ, capture_output=True, text=True, timeout=WAIT_S, check=False, cwd="/"
        )

    def say(self, command: str, *words: str) -> str:
        """The output of one that must end well."""
        done = self.run(command, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=["tree", "sdist"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, which is then deleted; or from the sdist that was built of that."""
    folder = tmp_path_factory.mktemp(f"wheel-{request.param}")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # daemons without rights run what is installed below
    copy, dist = folder / "copy", folder / "dist"
    copy.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    # Without --wheel: an sdist, and a wheel of what is in it.
    form = ["--wheel"] if request.param == "tree" else []
    build = [sys.executable, "-m", "build", *form, "--no-isolation", "--outdir", str(dist), str(copy)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    shutil.rmtree(copy)
    (made,) = dist.glob("*.whl")
    return made


def needs(found: Distribution, extras: set[str]) -> Iterator[tuple[str, set[str]]]:
    """What a distribution asks for with these extras, each with the extras asked of it."""
    for line in found.requires or []:
        asked = Requirement(line)
        marker = asked.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield canonicalize_name(asked.name), asked.extras


def closure(found: Distribution, extras: set[str]) -> frozenset[str]:
    """The names of all that comes along."""
    own, names = canonicalize_name(found.metadata["Name"]), set[str]()
    waiting = list(needs(found, extras))
    while waiting:
        name, wanted = waiting.pop()
        if name == own:
            waiting += needs(found, wanted)
        elif name not in names:
            names.add(name)
            waiting += needs(distribution(name), wanted)
    return frozenset(names)


def lay_in(name: str, packages: Path) -> None:
    """The files of a distribution that this interpreter has, without its commands."""
    found = distribution(name)
    for file in found.files or []:
        if file.suffix in (".pyc", ".pth") or ".." in file.parts:
            continue
        target = packages / str(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(file.locate()), target)


def environment(wheel: Path, folder: Path, extras: set[str]) -> Environment:
    """A new one with the wheel and what it asks for with these extras."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    install = ["pip", "--python", str(python), "-q", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True, timeout=300)
    (packages,) = folder.glob("lib/python*/site-packages")
    (info,) = packages.glob("syndicate_cluster-*.dist-info")
    beside = closure(PathDistribution(info), extras)
    for name in beside:
        lay_in(name, packages)
    return Environment(folder, packages, beside)


@pytest.fixture(scope="module")
def base(wheel: Path) -> Environment:
    """What `pip install syndicate-cluster` makes."""
    return environment(wheel, wheel.parents[1] / "base", set())


@pytest.fixture(scope="module")
def whole(wheel: Path) -> Environment:
    """What `pip install 'syndicate-cluster[all]'` makes."""
    return environment(wheel, wheel.parents[1] / "whole", {"all"})


def test_clients_install_grpc_and_protobuf_alone(base: Environment) -> None:
    """And what these need themselves."""
    assert base.beside - {"typing-extensions"} == {"grpcio", "protobuf"}


@pytest.mark.parametrize(
    "module",
    [
        "syndicate.v1.scheduler_pb2_grpc",
        "syndicate.v1.registry_pb2_grpc",
        "syndicate.v1.chaos_pb2_grpc",
        "syndicate.client_api",
        "syndicate.client_api.testing",
        "syndicate.client_api.history",
        "syndicate.client_api.checkers",
        "syndicate.client_api.sync",
    ],
)
def test_clients_import_from_a_base_install(base: Environment, module: str) -> None:
    """Every part that a client imports is there, and comes from the wheel."""
    found = base.say("python", "-c", f"import {module} as m; print(m.__file__)").strip()
    assert Path(found).is_relative_to(base.packages)


@pytest.mark.parametrize("command", ["syndicate-chaos", "syndicate-sync"])
def test_clients_commands_run_from_a_base_install(base: Environment, command: str) -> None:
    """They tell their version there."""
    assert base.say(command, "--version").startswith(command)


def test_a_job_is_played_with_a_base_install(base: Environment) -> None:
    """The fake of `client_api.testing` serves ChaosControl to a client, both from the wheel."""
    program = (
        "from syndicate.client_api import Chaos\n"
        "from syndicate.client_api.testing import FakeChaosServer\n"
        "with FakeChaosServer(['10.0.0.1', '10.0.0.2']) as server, Chaos(server.address) as chaos:\n"
        "    print(len(chaos.members()))\n"
    )
    assert int(base.say("python", "-c", program)) >= 2


def test_no_source_is_in_reach(whole: Environment) -> None:
    """The namespace has no other portion than the wheel's."""
    portions = whole.say("python", "-c", "import syndicate; print(*syndicate.__path__, sep='\\n')").split()
    assert portions == [str(whole.packages / "syndicate")]


def test_every_command_tells_its_version(whole: Environment) -> None:
    """All that the wheel brings, each the one version that it has."""
    (info,) = whole.packages.glob("syndicate_cluster-*.dist-info")
    points = ConfigParser()
    points.read(info / "entry_points.txt")
    number = PathDistribution(info).version
    said = {command: whole.say(command, "--version").strip() for command in points["console_scripts"]}

    assert len(said) >= 7
    assert {command: text for command, text in said.items() if not text.startswith(command)} == {}
    assert {command: text for command, text in said.items() if not text.endswith(f" {number}")} == {}


def test_the_wheel_carries_what_is_no_python(whole: Environment) -> None:
    """Types, protos and migrations are in it."""
    found = whole.packages / "syndicate"
    assert (found / "v1" / "scheduler.proto").is_file() and (found / "v1" / "scheduler_pb2.pyi").is_file()
    assert list((found / "manager" / "store" / "migrations" / "versions").glob("0*.py"))
    parts = ("v1", "manager", "volunteer", "client_api", "cli")
    assert all((found / name / "py.typed").is_file() for name in parts)


def test_a_cluster_of_the_wheel_runs_a_job(whole: Environment, tmp_path: Path) -> None:
    """`up`, a job to its end, a bundle, `down`: keeper, manager, volunteer and command line."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    source, cluster = tmp_path / "hello", tmp_path / "c"
    source.mkdir()
    (source / "Makefile").write_text(".PHONY: master slave\nmaster slave:\n\t@echo from the wheel\n")
    users, volunteers = free_ports(2)
    ports = ("--port", str(users), "--volunteer-port", str(volunteers))
    try:
        whole.say("syndicatectl", "up", "--slots", "2", "--dir", str(cluster), *ports)
        said = whole.say("syndicatectl", "submit", str(source), "-n", "2", "--follow")
        kept = whole.run("syndicatectl", "debug", "bundle", "-o", str(tmp_path / "b.tar.gz"), "--json")
    finally:
        down = whole.run("syndicatectl", "down", "--dir", str(cluster))

    assert "from the wheel" in said and "SUCCEEDED" in said
    assert "logs/keeper.log" in json.loads(kept.stdout)["files"], kept.stderr
    assert down.returncode == 0, down.stderr
