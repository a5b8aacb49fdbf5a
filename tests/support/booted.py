"""Machines that systemd has booted: containers of an engine that the tests start.

Nothing is pulled: debootstrap makes the base image once, and it is kept where other runs find it. The
software is what the wheel holds, in a virtual environment at /opt/syndicate; its dependencies are the tests'.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.cluster import ROOT

CACHE = Path("/var/cache/syndicate-tests")
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "bubblewrap", "libseccomp2", "make"),
    *("zstd", "nftables", "iproute2", "kmod", "util-linux"),
)
BIN = "/opt/syndicate/bin"
ADMIN = ("--ca=/var/lib/syndicate/tls/ca.pem", "--token-file=/var/lib/syndicate/admin.token")
WITHIN_S = 180.0
# Containers have the host's kernel, and so its boot id: each of these boots gets one of its own.
_BOOT_ID = """\
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cat /proc/sys/kernel/random/uuid >/run/boot-id && chmod 0444 /run/boot-id && \
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id'
[Install]
WantedBy=sysinit.target
"""
# A service with a /proc of its own (ProtectProc=) does not see what was mounted in the other.
_OWN_PROC = "[Service]\nBindReadOnlyPaths=/run/boot-id:/proc/sys/kernel/random/boot_id\n"
_UNITS = {
    "boot-id.service": _BOOT_ID,
    "syndicate-manager.service.d/boot-id.conf": _OWN_PROC,
    "syndicate-volunteer.service.d/boot-id.conf": _OWN_PROC,
}


def base_archive(packages: Sequence[str] = PACKAGES, units: Mapping[str, str] = _UNITS) -> Path:
    """The base's file system, made where it is not there yet (about 90 s)."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    suite = release["VERSION_CODENAME"].strip('"')
    mark = hashlib.sha256(" ".join((*packages, *units.values())).encode()).hexdigest()[:12]
    archive = CACHE / f"{suite}-{mark}.tar"
    if archive.exists():
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f".{suite}-{uuid.uuid4().hex}"
    try:
        _debootstrap(folder, suite, packages)
        for rest in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(folder / rest)
        _lay_units(folder / "etc/systemd/system", units)
        part = archive.with_suffix(f".{uuid.uuid4().hex}")
        run("tar", "-C", str(folder), "-cf", str(part), ".", timeout=300)
        part.rename(archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return archive


def _debootstrap(folder: Path, suite: str, packages: Sequence[str]) -> None:
    """From a mirror that may be out of reach for a moment: in three tries."""
    wanted = f"--include={','.join(packages)}"
    for is_last in (False, False, True):
        made = run(
            "debootstrap", "--variant=minbase", wanted, suite, str(folder), check=is_last, timeout=1200
        )
        if made.returncode == 0:
            return
        shutil.rmtree(folder, ignore_errors=True)


def _lay_units(folder: Path, units: Mapping[str, str]) -> None:
    for name, text in units.items():
        unit = folder / name
        unit.parent.mkdir(exist_ok=True)
        unit.write_text(text)
        if "/" not in name:
            wants = folder / "sysinit.target.wants"
            wants.mkdir(exist_ok=True)
            (wants / name).symlink_to(f"/etc/systemd/system/{name}")


@contextmanager
def engine(folder: Path, namespace: str = "") -> Iterator[str]:
    """A container engine of the test's own, by its address; it touches no rule and no bridge of the host.

    In a network namespace it has bridges and rules of its own there, as engines come; else no network.
    """
    address, parent = f"unix://{folder}/sock", f"syn-{uuid.uuid4().hex[:8]}"
    words = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    words += [f"--host={address}", f"--cgroup-parent=/{parent}"]
    if not namespace:
        words += ["--iptables=false", "--ip-masq=false", "--bridge=none"]
    there = ["nsenter", f"--net=/run/netns/{namespace}", "--"] if namespace else []
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen([*there, "dockerd", *words], stdout=log, stderr=log, start_new_session=True)
    try:
        until("the engine", lambda: docker(address, "version", check=False).returncode == 0)
        yield address
    finally:
        daemon.terminate()
        daemon.wait(WITHIN_S)
        _remove_cgroups(parent)


def _remove_cgroups(name: str) -> None:
    """Those that the engine made for its machines, in every hierarchy; soon none holds a process any more."""
    top = Path("/sys/fs/cgroup")
    for made in (top / name, *top.glob(f"*/{name}")):
        for folder, _, _ in os.walk(made, topdown=False):
            until(f"the end of what is in {folder}", lambda folder=folder: _removed(folder))


def _removed(cgroup: str) -> bool:
    try:
        os.rmdir(cgroup)
    except FileNotFoundError:  # by the engine itself
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def software(folder: Path) -> Path:
    """A virtual environment from the wheel, made so that it fits /opt/syndicate of a machine."""
    dist, opt = folder / "dist", folder / "opt"
    opt.mkdir()
    build = ["-m", "build", "-q", "--wheel", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    run(sys.executable, *build, timeout=300)
    (wheel,) = dist.glob("*.whl")
    there = ["bwrap", "--dev-bind", "/", "/", "--bind", str(opt), "/opt"]
    run(*there, "/usr/bin/python3", "-m", "venv", "/opt/syndicate", timeout=300)
    run(*there, f"{BIN}/pip", "-q", "install", "--no-deps", "--no-index", str(wheel), timeout=300)
    (site,) = (opt / "syndicate" / "lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text("/opt/dependencies\n")
    run("chmod", "-R", "a+rX", str(opt))
    return opt / "syndicate"


class Installed(ABC):
    """A machine with the software at /opt/syndicate, and what is asked of its parts."""

    @abstractmethod
    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """What a command on it prints; both streams where it need not end well."""

    def ctl(self, *words: str, text: str | None = None, check: bool = True) -> str:
        """What syndicatectl prints, as the first admin."""
        return self.run(f"{BIN}/syndicatectl", *ADMIN, *words, text=text, check=check)

    def json(self, *words: str) -> Any:
        """What it prints as JSON."""
        return json.loads(self.ctl(*words, "--json"))

    def install_volunteer(self, *more: str) -> dict[str, Any]:
        """Installs it by a join token, for the manager on the same machine; what was done."""
        made = self.json("join-token", "create", "--uses=4", "--ttl=1h")
        words = ["--manager=127.0.0.1:7001", "--join-token-file=-", *more]
        words.append(f"--ca-fingerprint={made['ca_fingerprint']}")
        done: dict[str, Any] = json.loads(
            self.run(f"{BIN}/syndicatectl", "install", "volunteer", *words, "--json", text=made["token"])
        )
        return done

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()


@dataclass
class Machine(Installed):
    """One booted machine."""

    address: str
    image: str
    software: Path
    beside: str = ""
    """The name of another one, in whose network it is; else it has one of its own."""
    name: str = field(default_factory=lambda: f"syn-{uuid.uuid4().hex[:8]}")

    def start(self) -> None:
        """Boot it."""
        how = ["--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined"]
        how += ["--security-opt=apparmor=unconfined"]
        alone = ["--network=none", "--hostname=node-a"]
        how += [f"--network=container:{self.beside}"] if self.beside else alone
        how += ["--stop-signal=SIGRTMIN+3"]  # halts systemd
        how += ["--tmpfs=/run", "--tmpfs=/run/lock", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro"]
        how += [f"--volume={self.software}:/opt/syndicate:ro"]
        how += [f"--volume={sysconfig.get_path('purelib')}:/opt/dependencies:ro"]
        docker(self.address, "run", "--detach", "--name", self.name, *how, self.image, "/sbin/init")
        self.until_booted()

    def until_booted(self) -> None:
        """Wait until all units have started, or failed."""
        words = ("systemctl", "is-system-running")
        until("the boot", lambda: self.run(*words, check=False).strip() in ("running", "degraded"))

    def reboot(self, *, orderly: bool) -> None:
        """Halt it and boot it again, or cut its power between the two."""
        if orderly:
            docker(self.address, "restart", "--time=60", self.name)
        else:
            docker(self.address, "kill", self.name)
            docker(self.address, "start", self.name)
        self.until_booted()

    def boots_again(self) -> None:
        """Wait until it has gone down by itself, as by `systemctl reboot`, and boot it: its host's part."""
        words = ("inspect", "--format", "{{.State.Running}}", self.name)
        until("its end", lambda: docker(self.address, *words).stdout.strip() == "false")
        docker(self.address, "start", self.name)
        self.until_booted()

    def remove(self) -> None:
        """End it, and remove what it wrote."""
        docker(self.address, "rm", "--force", "--volumes", self.name)

    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """See Installed."""
        ended = docker(self.address, "exec", "-i", self.name, *command, text=text, check=check)
        return ended.stdout if check else ended.stdout + ended.stderr

    def copy(self, folder: Path, to: str) -> None:
        """Bring a folder there."""
        docker(self.address, "cp", str(folder), f"{self.name}:{to}")


def until(what: str, met: Any, within: float = WITHIN_S) -> Any:
    """What `met` gives once it is true."""
    deadline = time.monotonic() + within
    while not (found := met()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within:g} s")
        time.sleep(0.1)
    return found


def make_image(address: str, base: Path | None = None) -> str:
    """The base image, by its id."""
    with (base or base_archive()).open("rb") as archive:
        made = subprocess.run(
            ["docker", "--host", address, "import", "-"], stdin=archive, capture_output=True, timeout=300
        )
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout.decode().strip()


def docker(
    address: str, *words: str, text: str | None = None, check: bool = True, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A docker command, with that engine."""
    return run("docker", "--host", address, *words, text=text, check=check, timeout=timeout)


def run(
    *command: str, text: str | None = None, check: bool = True, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A command, which must end well unless `check` is off."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=timeout, check=False, env=environ
    )
    assert not check or ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
    return ended
