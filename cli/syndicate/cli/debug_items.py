"""What goes into a bundle, item by item. Each is a function that gives text, or says why there is none."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from syndicate.cli.local_cluster import Running
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.secrets_out import (
    kernel_words_without_secrets,
    named_like_a_secret,
    settings_without_secrets,
    words_without_secrets,
)
from syndicate.client_api import SchedulerClient, SyndicateError

PARTS: Final = ("manager", "volunteer", "keeper")
MOST_JOBS: Final = 500
WHOLE_JOBS: Final = 20
_COMMAND_S: Final = 60.0
_SCRAPE_S: Final = 10.0
_MOST_BYTES: Final = 16 << 20
_CONFIGURATION: Final = Path("/etc/syndicate")
_KEEPER: Final = "/run/syndicate/keeper.sock"
_OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"


class Left(Exception):
    """It cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """The cluster on this machine: what `up` started in a folder, or None for what systemd runs."""

    directory: Path | None
    running: Running | None


def versions() -> str:
    """This software, its daemons, the interpreter, and all distributions that are installed beside it."""
    commands = ["syndicate-manager", "syndicate-volunteer", "syndicate-keeper"]
    told: dict[str, str] = {}
    for command in commands:
        try:
            told[command] = _run(_beside(command), "--version").strip()
        except Left as why:
            told[command] = str(why)
    installed = {one.metadata["Name"]: one.version for one in distributions()}
    return document(
        {"commands": told, "python": sys.version, "distributions": dict(sorted(installed.items()))}
    )


def machine() -> str:
    """Kernel, system, processors, memory, and what of cgroups there is."""
    uname = platform.uname()
    facts: dict[str, Any] = {
        "kernel": f"{uname.system} {uname.release} {uname.version} {uname.machine}",
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
    }
    for name, path in (
        ("os", "/etc/os-release"),
        ("meminfo", "/proc/meminfo"),
        ("command_line", "/proc/cmdline"),
        ("pressure", "/proc/pressure/memory"),
        ("cgroup_controllers", "/sys/fs/cgroup/cgroup.controllers"),
    ):
        try:
            text = Path(path).read_text(errors="replace")
        except OSError as error:
            facts[name] = f"not to be read ({error.strerror})"
            continue
        is_secret = name == "command_line"
        facts[name] = kernel_words_without_secrets(text) if is_secret else text.splitlines()
    return document(facts)


def settings(place: Place) -> str:
    """What the daemons were started with, and /etc/syndicate, without what is named like a secret."""
    found: dict[str, Any] = {}
    if place.running is not None:
        up = asdict(place.running)
        found["up"] = up
        for name, process in place.running.parts.items():
            found[name] = {
                "running": process.is_alive(),
                "command": words_without_secrets(_of_process(process.pid, "cmdline")),
                "environment": _environment(process.pid),
            }
    for path in sorted(_CONFIGURATION.glob("*.toml")):
        try:
            found[str(path)] = settings_without_secrets(tomllib.loads(path.read_text()))
        except (OSError, ValueError) as error:
            found[str(path)] = f"not to be read ({error})"
    if not found:
        raise Left(f"`up` has started nothing here, and {_CONFIGURATION} has no *.toml")
    return json.dumps(found, default=str)


def doctor() -> str:
    """What this machine lacks."""
    return _run(_beside("syndicate-volunteer"), "doctor", "--json", statuses=(0, 1))


def audit(place: Place) -> str:
    """What the keeper has in the kernel."""
    socket = f"{place.running.run_dir}/keeper.sock" if place.running else _KEEPER
    if not Path(socket).exists():
        raise Left(f"no keeper is at {socket}")
    return _run(_beside("syndicate-volunteer"), "audit", "--json", "--keeper", socket, statuses=(0, 1))


def log(place: Place, part: str, most_bytes: int) -> str:
    """The end of a daemon's log: the file of `up`, or journald's lines of its unit."""
    if place.directory is None:
        return _journal(f"syndicate-{part}", most_bytes)
    path = place.directory / f"{part}.log"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - most_bytes, 0))
            return _whole_lines(file.read(most_bytes), size > most_bytes)
    except OSError as error:
        raise Left(f"{path}: {error.strerror}") from None


def _journal(unit: str, most_bytes: int) -> str:
    text = _run(
        "journalctl", "--unit", unit, "--no-pager", "--output", "short-iso-precise", "--lines", "50000"
    )
    data = text.encode()
    lines = _whole_lines(data[-most_bytes:], len(data) > most_bytes)
    if not lines.strip() or "-- No entries --" in lines:
        raise Left(f"journald has no line of {unit}")
    return lines


def _whole_lines(data: bytes, is_cut: bool) -> str:
    return (data.partition(b"\n")[2] if is_cut else data).decode(errors="replace")


def metrics(place: Place, part: str) -> str:
    """A scrape, where the daemon serves metrics."""
    address = _metrics_address(place, part)
    if not address:
        raise Left("none are served (metrics_listen)")
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": _OPENMETRICS})
    # Not through a proxy: the address is of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SCRAPE_S) as answer:
            return str(answer.read(_MOST_BYTES).decode(errors="replace"))
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Left(f"{address} does not answer ({getattr(error, 'reason', error)})") from None


def _metrics_address(place: Place, part: str) -> str:
    """By the process's own arguments and environment, or by its configuration file."""
    if place.running is not None:
        process = place.running.parts.get(part)
        if process is None:
            return ""
        words = _of_process(process.pid, "cmdline")
        environ = dict(word.partition("=")[::2] for word in _of_process(process.pid, "environ"))
        named = [after for word, after in itertools.pairwise(words) if word == "--metrics-listen"]
        return named[-1] if named else environ.get(f"SYNDICATE_{part.upper()}_METRICS_LISTEN", "")
    try:
        values = tomllib.loads((_CONFIGURATION / f"{part}.toml").read_text())
    except (OSError, ValueError):
        return ""
    return str(values.get("metrics_listen", ""))


def cluster(client: SchedulerClient) -> str:
    """The cluster in numbers."""
    return document(as_plain(client.cluster()))


def nodes(client: SchedulerClient) -> str:
    """All volunteers."""
    return document({"nodes": [as_plain(node) for node in client.nodes()]})


def jobs(client: SchedulerClient) -> str:
    """The newest jobs, the first few whole: their members, faults and stories."""
    newest = list(itertools.islice(client.jobs(), MOST_JOBS))
    whole = [as_plain(client.job(job.job_id)) for job in newest[:WHOLE_JOBS]]
    return document({"jobs": [as_plain(job) for job in newest], "whole": whole})


def asked(ask: Callable[[], str]) -> str:
    """What the manager says. Raises Left where it is away or refuses."""
    try:
        return ask()
    except SyndicateError as error:
        raise Left(str(error)) from None


def _environment(pid: int) -> dict[str, str]:
    """The project's own variables; those named like secrets by name alone."""
    pairs = (word.partition("=") for word in _of_process(pid, "environ"))
    return {
        name: "[removed]" if named_like_a_secret(name) else value
        for name, _, value in pairs
        if name.startswith("SYNDICATE_") or name in ("PATH", "LC_ALL", "TZ")
    }


def _of_process(pid: int, what: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:  # it has ended, or is another user's
        return []


def _beside(command: str) -> str:
    """The command that was installed with this one."""
    path = Path(sys.executable).parent / command
    if not path.is_file():
        raise Left(f"{command} is not installed beside {sys.executable}")
    return str(path)


def _run(*command: str, statuses: tuple[int, ...] = (0,)) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False
        )
    except FileNotFoundError:
        raise Left(f"{command[0]} is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Left(f"{Path(command[0]).name}: {error}") from None
    if done.returncode not in statuses:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise Left(f"{Path(command[0]).name}: {lines[0] if lines else f'status {done.returncode}'}")
    return done.stdout[:_MOST_BYTES].decode(errors="replace")
