"""The repository's own shape: where what lies, and what is kept out of it."""

from __future__ import annotations

import tomllib

from tests.support.cluster import ROOT

FOLDERS = (
    ".ci", "cli", "client_api", "docker", "docs", "examples", "manager", "protos", "tests", "volunteer",
)  # fmt: skip
FILES = ("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements.lock")
PACKAGES = ("manager", "volunteer", "client_api", "cli")


def test_the_top_level_is_what_it_should_be() -> None:
    """One folder for each part, and nothing that grew beside them but what version control leaves out."""
    left_out = {".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines())}
    there = {path.name: path for path in ROOT.iterdir() if path.name not in left_out}
    assert {name for name, path in there.items() if path.is_dir()} == set(FOLDERS)
    assert {name for name, path in there.items() if not path.is_dir()} == {".gitignore", *FILES}
    assert all((ROOT / name).stat().st_size > 0 for name in FILES)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_each_package_is_a_root_of_one_namespace() -> None:
    """No `__init__.py` in any `*/syndicate/`, or the other parts could not be found; types in each part."""
    for name in PACKAGES:
        assert not (ROOT / name / "syndicate" / "__init__.py").exists()
        assert (ROOT / name / "syndicate" / name / "py.typed").exists()
        assert [path.name for path in (ROOT / name).glob("*.py")] == []
    assert (ROOT / "protos/syndicate/v1/py.typed").exists()


def test_both_cores_and_the_keeper_are_held_by_an_import_contract() -> None:
    """Purity and direction of imports are checked by `make check`; here only that nobody took it out."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = {
        source: set(contract["forbidden_modules"])
        for contract in contracts
        if contract["type"] == "forbidden"
        for source in contract["source_modules"]
    }
    for core in ("syndicate.manager.core", "syndicate.volunteer.core", "syndicate.volunteer.sync.core"):
        assert {"grpc", "syndicate.v1", "asyncio", "time", "random", "os"} <= forbidden[core]
    assert {"grpc", "syndicate.v1"} <= forbidden["syndicate.volunteer.keeper"]
    assert {"syndicate.manager", "syndicate.volunteer"} <= forbidden["syndicate.cli"]


def test_every_version_is_locked() -> None:
    """Each dependency that is asked for stands in the lock with one version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {_name(one) for one in asked} - {"syndicate-cluster"}
    lines = [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    assert all("==" in line for line in lines)
    assert names - {_name(line) for line in lines} == set()


def _name(requirement: str) -> str:
    for mark in "=<>[;@ ":
        requirement = requirement.partition(mark)[0]
    return requirement.lower().replace("_", "-")
