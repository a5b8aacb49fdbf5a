"""The cluster of docker/compose.yaml, by an engine of the test's own in a network of its own.

It is brought up, used and reset by `make`, as people do it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.booted import base_archive, docker, engine, make_image, run, until
from tests.support.cluster import ROOT

WITHIN_S = 600.0
_MAKE_S = 900.0


def packages() -> list[str]:
    """All packages of Debian that the images ask for; the base has them, since nothing can be fetched."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    asked = [name for line in re.findall(r"RUN install-packages (.*)", text) for name in line.split()]
    (tasks,) = re.findall(r'ARG TASK_PACKAGES="(.*)"', text)
    return sorted({*asked, *tasks.split()} - {"${TASK_PACKAGES}"})


class Containers:
    """One cluster; `address` is the engine's."""

    def __init__(self, address: str, folder: Path, base: str) -> None:
        self.address = address
        self.project = f"syn{uuid.uuid4().hex[:6]}"
        # What runs the tests may itself be run by a make.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
        }
        self._environment |= {
            "DOCKER_HOST": address,
            "COMPOSE_PROJECT_NAME": self.project,
            "SYNDICATE_BASE": base,
            "IMAGES": str(folder / "images"),
            # To copy an image for each container takes a slow disk more than the minute that it has.
            "COMPOSE_HTTP_TIMEOUT": f"{_MAKE_S:g}",
        }

    def make(self, *words: str, text: str | None = None) -> str:
        """What `make` prints, in the repository."""
        done = subprocess.run(
            ["make", "--no-print-directory", *words],
            cwd=ROOT,
            env=self._environment,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=_MAKE_S,
            check=False,
        )
        assert done.returncode == 0, f"make {' '.join(words)}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def up(self, volunteers: int, *words: str) -> None:
        """`make cluster`."""
        self.make("cluster", f"VOLUNTEERS={volunteers}", *words)

    def names(self, service: str) -> list[str]:
        """The containers of a service that run, by their short ids, which are their volunteers' ids."""
        words = ["ps", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        words += ["--filter", f"label=com.docker.compose.service={service}"]
        return docker(self.address, *words).stdout.split()

    def docker(self, *words: str, check: bool = True) -> str:
        """What docker prints."""
        return docker(self.address, *words, check=check).stdout

    def ctl(self, *words: str, check: bool = True) -> str:
        """What syndicatectl prints in the manager's container."""
        (manager,) = self.names("manager")
        return self.docker("exec", manager, "syndicatectl", *words, check=check)

    def json(self, *words: str) -> Any:
        """What it prints as JSON."""
        return json.loads(self.ctl(*words, "--json"))

    def copy(self, folder: Path) -> str:
        """Brings a folder to /home, where each container has it; its path there."""
        (manager,) = self.names("manager")
        self.docker("cp", str(folder), f"{manager}:/home/{folder.name}")
        return f"/home/{folder.name}"

    def submit(self, source: str, machines: int, *more: str) -> str:
        """A job's id."""
        return str(self.json("submit", source, "-n", str(machines), *more)["job_id"])

    def until_running(self, job: str) -> dict[str, Any]:
        """The job, once all of its tasks run."""

        def running() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.json("show", job)
            return shown if shown["state"] == "running" else None

        try:
            found: dict[str, Any] = until(f"job {job} runs", running)
        except AssertionError as error:
            raise self._told(job, str(error)) from None
        return found

    def ended(self, job: str) -> dict[str, Any]:
        """The job, once it has ended, with its output for when a test fails."""
        words = ("exec", *self.names("manager"), "syndicatectl", "wait", job, "--timeout", f"{WITHIN_S:g}s")
        docker(self.address, *words, check=False, timeout=WITHIN_S + 20)
        shown: dict[str, Any] = self.json("show", job)
        if shown["ended_at"] is None:
            raise self._told(job, f"job {job}: no end within {WITHIN_S:g} s")
        shown["output"] = self.ctl("logs", job)[-4000:]
        return shown

    def ready(self) -> list[dict[str, Any]]:
        """The volunteers that are ready."""
        nodes: list[dict[str, Any]] = self.json("nodes")["nodes"]
        return [node for node in nodes if node["state"] == "ready"]

    def logs(self) -> str:
        """The last lines of each container, for a failing test."""
        words = ["ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"]
        told = []
        for name in docker(self.address, *words, check=False).stdout.split():
            said = docker(self.address, "logs", "--tail=25", name, check=False)
            told.append(f"--- {name}\n{said.stdout}{said.stderr}")
        return "\n".join(told)

    def remove(self) -> None:
        """Removes its containers, networks and volumes."""
        filters = ["--filter", f"label=com.docker.compose.project={self.project}"]
        for kind, listing, removal in (
            ("container", ["--all"], ["--force"]),
            ("network", [], []),
            ("volume", [], ["--force"]),
        ):
            found = docker(self.address, kind, "ls", "--quiet", *listing, *filters).stdout.split()
            if found:
                docker(self.address, kind, "rm", *removal, *found)

    def _told(self, job: str, what: str) -> AssertionError:
        return AssertionError(f"{what}\n{self.ctl('show', job)}\n{self.logs()}")


@contextmanager
def containers(folder: Path) -> Iterator[Containers]:
    """An engine, and a cluster that is not up yet; nothing of either is there afterwards."""
    namespace = f"syn{uuid.uuid4().hex[:6]}"
    run("ip", "netns", "add", namespace)
    try:
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        with engine(folder, namespace) as address:
            base = make_image(address, base_archive(packages(), {}))
            docker(address, "tag", base, "syndicate-base")
            cluster = Containers(address, folder, "syndicate-base")
            try:
                yield cluster
            finally:
                cluster.remove()
    finally:
        run("ip", "netns", "delete", namespace)
        shutil.rmtree(folder / "data", ignore_errors=True)
