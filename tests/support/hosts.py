"""Machines, each a namespace: one with a manager, the others with keeper and volunteer.

They are at one switch, or each in a network of its own behind a router, on which the manager runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from syndicate.cli import processes
from syndicate.cli.unprivileged import UNPRIVILEGED_UID, unprivileged_command

from tests.support import shifted_clock
from tests.support.cluster import BIN, WAIT_S, eventually, processes_in

MANAGER = "10.66.7.1"
PREFIX = 24
USERS, VOLUNTEERS = f"{MANAGER}:7000", f"{MANAGER}:7001"


def ip(*words: str, check: bool = True) -> str:
    """Runs ip."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0 or not check, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def inside(namespace: str, *command: str) -> list[str]:
    """A command in the network of a machine, and in all else the host's: its cgroups stay in sight."""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *command]


class Host:
    """One machine with one slot in its own network; `claims` is an address that another one has."""

    uplink = "synup"

    def __init__(self, name: str, number: int, mark: str, *, routed: bool = False, claims: str = "") -> None:
        self.name = name
        self.namespace = f"syn{mark}{name}"
        self.instance = f"{mark}h{name}"
        self.gateway = f"10.66.{100 + number}.1" if routed else ""
        self.address = f"10.66.{100 + number}.2" if routed else f"10.66.7.{10 + number}"
        self.claims = claims
        self.run_dir = Path(f"/run/syndicate-{self.instance}")

    @property
    def cgroup_name(self) -> str:
        """The folder of its cgroups."""
        return f"syndicate-{self.instance}"


class ManagersHost(Host):
    """The machine that the manager runs on, as a volunteer as well."""

    uplink = "synsw"

    def __init__(self, number: int, mark: str) -> None:
        super().__init__("m", number, mark)
        self.namespace, self.address = f"syn{mark}", MANAGER


class Hosts:
    """A switch with a manager at it, or a router that is one, and one cable to each machine.

    The clocks of those that `ahead_ns` names are ahead of the manager's by as many nanoseconds.
    """

    def __init__(
        self, folder: Path, names: str, ahead_ns: Mapping[str, int] | None = None, *, routed: bool = False
    ) -> None:
        self.folder = folder
        self._ahead_ns = ahead_ns or {}
        self.routed = routed
        self.mark = uuid.uuid4().hex[:3]  # others on this machine may run the same tests
        self.middle = f"syn{self.mark}"
        self.hosts = [Host(name, number, self.mark, routed=routed) for number, name in enumerate(names)]
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "120"}
        self._stack = ExitStack()

    def __enter__(self) -> Hosts:
        with self._stack:
            self._stack.callback(self._remove_networks)
            self._make_middle()
            for host in self.hosts:
                self._lay_cable(host)
            self._start_manager()
            for host in self.hosts:
                self._start_host(host)
            eventually("all slots", lambda: self._free_slots() == len(self.hosts))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, name: str, *, claims: str = "") -> Host:
        """One more machine; where its slot claims an address that another has, its volunteer is refused."""
        host = Host(name, len(self.hosts), self.mark, routed=self.routed, claims=claims)
        self.hosts.append(host)
        self._lay_cable(host)
        self._start_host(host)
        return host

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`syndicatectl` on the manager's machine."""
        return self._of_admin(str(BIN / "syndicatectl"), *words)

    def program(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A Python program there; its environment says which manager, and what opens it."""
        return self._of_admin(sys.executable, *words)

    def _of_admin(self, *command: str) -> subprocess.CompletedProcess[str]:
        state = self.folder / "manager"
        admin = {
            "SYNDICATE_MANAGER": USERS,
            "SYNDICATE_TOKEN_FILE": str(state / "admin.token"),
            "SYNDICATE_CA": str(state / "tls" / "ca.pem"),
        }
        return subprocess.run(
            inside(self.middle, *command),
            env=self.environment | admin,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def add_managers(self) -> Host:
        """The manager's own machine, as one more volunteer."""
        host = ManagersHost(len(self.hosts), self.mark)
        self.hosts.append(host)
        self._start_host(host)
        eventually("its slot", lambda: self._free_slots() == len(self.hosts))
        return host

    def tables(self, host: Host) -> str:
        """All nftables tables of a machine, as nft lists them."""
        command = inside(host.namespace, "nft", "list", "tables")
        return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout

    def audit(self, host: Host) -> subprocess.CompletedProcess[str]:
        """What a machine's keeper has beyond what it always has."""
        command = [str(BIN / "syndicate-volunteer"), "audit", "--keeper", str(host.run_dir / "keeper.sock")]
        return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

    def _free_slots(self) -> int:
        answer = self.ctl("cluster", "--json")
        return int(json.loads(answer.stdout)["free_slots"]) if answer.returncode == 0 else 0

    def _remove_networks(self) -> None:
        # A namespace takes its ends of the cables with it, and a cable goes with either end.
        for namespace in dict.fromkeys((self.middle, *(host.namespace for host in self.hosts))):
            if Path("/run/netns", namespace).exists():
                ip("netns", "delete", namespace)
        for host in self.hosts:
            shutil.rmtree(host.run_dir, ignore_errors=True)

    def _make_middle(self) -> None:
        ip("netns", "add", self.middle)
        ip("-n", self.middle, "link", "add", "synsw", "type", "bridge")
        ip("-n", self.middle, "address", "add", f"{MANAGER}/{PREFIX}", "dev", "synsw")
        for device in ("lo", "synsw"):
            ip("-n", self.middle, "link", "set", device, "up")
        if self.routed:
            forward = ["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]
            subprocess.run(inside(self.middle, *forward), check=True, timeout=WAIT_S)

    def _lay_cable(self, host: Host) -> None:
        there, here = host.namespace, f"synp{host.name}"
        ip("netns", "add", there)
        ip("-n", there, "link", "add", "synup", "type", "veth", "peer", "name", here, "netns", self.middle)
        if self.routed:
            ip("-n", self.middle, "address", "add", f"{host.gateway}/{PREFIX}", "dev", here)
            ip("-n", self.middle, "link", "set", here, "up")
        else:
            ip("-n", self.middle, "link", "set", here, "master", "synsw", "up")
        ip("-n", there, "address", "add", f"{host.address}/{PREFIX}", "dev", "synup")
        if host.claims:
            ip("-n", there, "address", "add", f"{host.claims}/32", "dev", "synup")
        for device in ("lo", "synup"):
            ip("-n", there, "link", "set", device, "up")
        if self.routed:
            ip("-n", there, "route", "add", "default", "via", host.gateway)

    def _start_manager(self) -> None:
        state = self._state("manager", UNPRIVILEGED_UID)
        self._certs("init", "--address", MANAGER)
        command = [str(BIN / "syndicate-manager"), "--state-dir", str(state)]
        command += ["--listen-users", USERS, "--listen-volunteers", VOLUNTEERS]
        self._start_unprivileged("manager", self.middle, command, [state], [BIN])
        eventually("the manager", (state / "manager.ready").exists)

    def _start_host(self, host: Host) -> None:
        own = self._state(f"volunteer-{host.name}", UNPRIVILEGED_UID)
        keeper = self._state(f"keeper-{host.name}", 0)
        host.run_dir.mkdir(mode=0o755)
        command = [
            str(BIN / "syndicate-keeper"), "--instance", host.instance, "--run-dir", str(host.run_dir),
            "--state-dir", str(keeper), "--cache-dir", str(own / "cache"),
            "--volunteer-uid", str(UNPRIVILEGED_UID),
            "--network", "host", "--address", host.claims or host.address, "--uplink", host.uplink,
        ]  # fmt: skip
        log = self.folder / f"keeper-{host.name}.log"
        shift = self._shift(host)
        started = processes.start(inside(host.namespace, *shift, *command), log, self._environ())
        self._stack.callback(processes.stop, started, WAIT_S)
        eventually(f"the keeper (see {log})", (host.run_dir / "keeper.sock").exists)
        # For this address alone: another machine could do nothing with it.
        self._certs("add", f"node-{host.name}", "--address", host.address, "--out", str(own / "tls"))
        command = [
            str(BIN / "syndicate-volunteer"), "run", "--manager", VOLUNTEERS,
            "--keeper", str(host.run_dir / "keeper.sock"), "--state-dir", str(own),
            "--run-dir", str(host.run_dir), "--id", f"node-{host.name}",
        ]  # fmt: skip
        self._start_unprivileged(
            f"volunteer-{host.name}", host.namespace, command, [own, host.run_dir], [BIN], shift
        )

    def _shift(self, host: Host) -> list[str]:
        """What starts a command of a machine with that machine's clock."""
        ahead = self._ahead_ns.get(host.name)
        return [] if ahead is None else [sys.executable, shifted_clock.__file__, str(ahead)]

    def _certs(self, *words: str) -> None:
        state = self.folder / "manager"
        command = [str(BIN / "syndicate-manager"), "certs", *words, "--state-dir", str(state)]
        own = [state, *self.folder.glob("volunteer-?")]
        line = unprivileged_command(command, writable=own, readable=[BIN])
        subprocess.run(line, check=True, timeout=WAIT_S, capture_output=True)

    def _start_unprivileged(
        self,
        name: str,
        namespace: str,
        command: list[str],
        writable: list[Path],
        readable: list[Path],
        prefix: Sequence[str] = (),
    ) -> None:
        wrapped = unprivileged_command(command, writable=writable, readable=readable, status_fd=3)
        log = self.folder / f"{name}.log"
        started = processes.start_wrapped(inside(namespace, *prefix, *wrapped), log, self._environ(), WAIT_S)
        self._stack.callback(processes.stop, started, WAIT_S)

    def _state(self, name: str, owner: int) -> Path:
        path = self.folder / name
        path.mkdir(mode=0o700)
        os.chown(path, owner, owner)
        return path

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}


def nothing_is_left(hosts: Hosts) -> str:
    """What is left on any machine after all jobs; empty when nothing is."""
    found = []
    for host in hosts.hosts:
        audit = hosts.audit(host)
        found += [audit.stdout + audit.stderr] if audit.returncode else []
        found += [f"process {pid}" for pid in processes_in(host.cgroup_name)]
    return "\n".join(found)


def routed(folder: Path, names: str) -> Hosts:
    """Machines behind a router, in a folder that their users may enter."""
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    return Hosts(folder, names, routed=True)


def run(hosts: Hosts, *words: str) -> dict[str, Any]:
    """A job, once it has ended, with its output for when a test fails."""
    done = hosts.ctl("submit", *words, "--follow", "--json")
    job: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["job"]
    job["output"] = hosts.ctl("logs", str(job["job_id"])).stdout[-4000:]
    return job


def assert_spread(hosts: Hosts, job: dict[str, Any], tasks: int) -> None:
    """Each task of it was on a machine of its own."""
    addresses = {task["address"] for task in job["tasks"]}
    assert len(addresses) == tasks and addresses <= {host.address for host in hosts.hosts}
