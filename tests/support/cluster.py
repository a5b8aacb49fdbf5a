"""A whole cluster on this machine, as `syndicatectl up` makes it, with a handle on each of its processes."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from syndicate.cli import processes
from syndicate.cli.unprivileged import UNPRIVILEGED_UID
from syndicate.client_api import SchedulerClient, SchedulerError, job_has_ended, pack
from syndicate.manager.control import tell_manager
from syndicate.manager.pki import Folder, Office
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
JOBS = ROOT / "tests" / "system" / "jobs"
BIN = Path(sys.executable).parent
WAIT_S = 60.0
# For an answer of a stream: longer than the manager waits for any volunteer, far less than a test may take.
STREAM_S = 2 * WAIT_S
T = TypeVar("T")


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes a source and returns its folder; a name that ends in `/x` is made executable."""
    source = folder / f"source-{len(list(folder.iterdir()))}"
    for name, text in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return source


def ended(job: scheduler.Job) -> str:
    """The state of a job in one lower-case word."""
    return common.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()


def eventually(
    what: str, condition: Callable[[], T | None], deadline_s: float = WAIT_S, every_s: float = 0.02
) -> T:
    """Waits until `condition` gives something true and returns it, for facts that tell nobody."""
    until = time.monotonic() + deadline_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"never within {deadline_s:g} s: {what}")
        time.sleep(every_s)


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]


def free_ports(count: int) -> tuple[int, ...]:
    """Different ports that nobody has at this moment, and that the kernel gives to no one of its own accord.

    One that it gives could be taken before it is used, or while a daemon that had it is started again.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    dice = random.SystemRandom()  # the tests' own begin anew with each: all would try the same ports
    found: list[int] = []
    with ExitStack() as probes:  # each is held until all are found: none is found twice
        for _ in range(1000):
            port = dice.randrange(lowest // 2, lowest)
            probe = probes.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # somebody has it, or may not have it
                continue
            found.append(port)
            if len(found) == count:
                return tuple(found)
    raise OSError("no port is free")


class Daemon:
    """One process of the cluster, which a test may end and start again with the same command line."""

    def __init__(self, name: str, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self._log = log
        wrapper = _parent(pid)
        # The unprivileged daemons are children of bubblewrap, which is what has to be started again.
        outer = wrapper if _argv(wrapper)[:1] == ["bwrap"] else pid
        self.argv = _argv(outer)
        self._start_ticks = int(_stat(pid)[19])
        self._environ = dict(
            entry.split("=", 1)
            for entry in Path(f"/proc/{outer}/environ").read_text().split("\0")
            if "=" in entry
        )
        self.started: processes.Process | None = None

    def kill(self) -> None:
        """Ends it as a crash would, and waits until it is gone."""
        descriptor = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            assert select.select([descriptor], [], [], WAIT_S)[0], f"{self.name} does not end"
        finally:
            os.close(descriptor)
        if self.started is not None:
            processes.stop(self.started, WAIT_S)

    def pause(self) -> None:
        """Stops it, as a machine that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, **settings: str) -> None:
        """Starts it again with the same arguments and environment, and with these settings in it."""
        self._environ |= settings
        self.restart_as(self.argv)

    def restart_as(self, argv: list[str], **settings: str) -> None:
        """Starts another command in its place, with these settings in its environment this once."""
        environ = self._environ | settings
        if argv[0] == "bwrap":
            self.started = processes.start_wrapped(argv, self._log, environ, WAIT_S)
        else:
            self.started = processes.start(argv, self._log, environ)
        self.pid = self.started.pid

    def stop(self) -> None:
        """Ends it as `down` would, so that it clears up, and waits until it is gone."""
        processes.stop(self.started or processes.Process(self.pid, self._start_ticks), WAIT_S)


class Cluster:
    """Slots of one machine, a manager, and a connection for a user."""

    def __init__(self, folder: Path, slots: int = 10, *extra: str) -> None:
        self.folder = folder
        self.slots = slots
        self._extra = extra
        self.environment = {**os.environ, "COLUMNS": "120"}
        for name in ("state", "config"):
            self.environment[f"XDG_{name.upper()}_HOME"] = str(folder / name)

    def __enter__(self) -> Cluster:
        # Ports of its own, not 0: a manager that a test starts again must come back where it was.
        users, volunteers = free_ports(2)
        ports = ("--port", str(users), "--volunteer-port", str(volunteers))
        up = self.ctl("up", "--slots", str(self.slots), "--dir", str(self.dir), *ports, *self._extra)
        assert up.returncode == 0, up.stderr + self.daemon_logs()
        state = json.loads((self.dir / "up.json").read_text())
        self.run_dir = Path(state["run_dir"])
        self.address = str(state["manager"])
        self.volunteers_address = str(state["volunteers"])
        self.token = (self.dir / "manager" / "admin.token").read_text().strip()
        self.daemons = {
            name: Daemon(name, part["pid"], self.dir / f"{name}.log") for name, part in state["parts"].items()
        }
        self.users = self.client(self.token, connect_for=WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.users.close()
        for name in ("volunteer", "manager", "keeper"):
            # Those that a test started again are not in the record of `up`.
            if (again := self.daemons[name].started) is not None:
                processes.stop(again, WAIT_S)
        down = self.ctl("down", "--dir", str(self.dir))
        assert down.returncode == 0, down.stderr

    @property
    def dir(self) -> Path:
        """Where `up` keeps its state."""
        return self.folder / "c"

    @property
    def insecure(self) -> bool:
        """Whether it speaks clear text."""
        return "--insecure" in self._extra

    @property
    def volunteer_token(self) -> str:
        """What opens the volunteers' door of a cluster in clear text; there is none with certificates."""
        return (self.dir / "manager" / "volunteer.token").read_text().strip()

    def client(self, token: str, **how: Any) -> SchedulerClient:
        """A connection for a user with this token."""
        ca = None if self.insecure else self.ca_file
        return SchedulerClient(self.address, token, ca=ca, insecure=self.insecure, **how)

    @property
    def ca_file(self) -> Path:
        """The cluster's own authority."""
        return self.dir / "manager" / "tls" / "ca.pem"

    def certs(self, *words: str) -> dict[str, Any]:
        """Runs `syndicate-manager certs` and returns what it says."""
        command = [str(BIN / "syndicate-manager"), "certs", *words, "--state-dir", str(self.dir / "manager")]
        done = subprocess.run(
            [*command, "--json"],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            env=self.environment,
        )
        assert done.returncode == 0, done.stderr
        values: dict[str, Any] = json.loads(done.stdout)
        return values

    def issue(self, names: Iterable[str]) -> dict[str, bytes]:
        """Key and certificate of each of these volunteers; many at once, without a command for each."""
        office = Office(Folder(self.ca_file.parent))
        made = {name: office.renew(name, ()).identity for name in names}
        self.take_register()
        return made

    def take_register(self) -> None:
        """Has the manager read a register that this process, as root, has written."""
        os.chown(self.ca_file.parent / "register.json", UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        assert tell_manager(self.ca_file.parent) is not None

    def channel(self, door: str, name: str = "stranger") -> grpc.Channel:
        """A connection to one of the two listeners; to the volunteers' with a certificate of this name."""
        ca = self.ca_file.read_bytes()
        options = [("grpc.use_local_subchannel_pool", 1)]
        if door == "users":
            return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(ca), options)
        identity = self.certs("renew", name, "--bundle")["files"]["identity.pem"].encode()
        credentials = grpc.ssl_channel_credentials(
            ca, identity, identity[identity.index(b"-----BEGIN CERT") :]
        )
        return grpc.secure_channel(self.volunteers_address, credentials, options)

    @property
    def cgroup_name(self) -> str:
        """The folder of this cluster's cgroups in each hierarchy; no other has one of this name."""
        return self.run_dir.name

    def task_processes(self) -> set[int]:
        """All processes of its tasks, by the host's own process table."""
        return processes_in(self.cgroup_name)

    def ctl(self, *words: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs `syndicatectl` as a user would."""
        return subprocess.run(
            [str(BIN / "syndicatectl"), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def submit(
        self,
        source: str | Path,
        *,
        machines: int,
        client: str | Path | None = None,
        clients: int | None = None,
        time_limit_s: float = 0.0,
        limits: common.Limits | None = None,
    ) -> int:
        """Uploads the sources and queues the job; a plain name is one of tests/system/jobs."""
        spec = scheduler.JobSpec(
            source_sha256=self.upload(source), machines=machines, time_limit_s=time_limit_s, limits=limits
        )
        if client is not None:
            spec.client_sha256 = self.upload(client)
        else:
            spec.no_client = clients is None
        if clients is not None:
            spec.clients = clients
        return self.users.submit(spec)

    def upload(self, source: str | Path) -> str:
        """Sends a source and returns its digest."""
        with pack(str(JOBS / source if isinstance(source, str) else source)) as packed:
            return self.users.upload(packed).sha256

    def run(self, source: str | Path, **wish: object) -> scheduler.Job:
        """Submits a job and waits until it has ended."""
        return self.wait(self.submit(source, **wish))  # type: ignore[arg-type]  # passed on as they came

    @contextmanager
    def _stream_of(self, job_id: int, deadline_s: float) -> Iterator[SchedulerClient]:
        """A connection for one stream about a job, which is cut at the deadline.

        Raises AssertionError with what became of the job where it was, or where the stream failed.
        """
        is_late = threading.Event()
        users = self.client(self.token, connect_for=WAIT_S)

        def cut() -> None:
            is_late.set()
            users.close()

        timer = threading.Timer(deadline_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield users
        except SchedulerError as error:
            how = f"nothing within {deadline_s:g} s" if is_late.is_set() else str(error)
            raise AssertionError(f"job {job_id}: {how}\n{self.story(job_id)}") from error
        finally:
            timer.cancel()
            users.close()

    def watch(
        self, job_id: int, until: Callable[[scheduler.Job], bool], deadline_s: float = STREAM_S
    ) -> scheduler.Job:
        """Waits until a job is as wished. Raises AssertionError when it ends without, or takes too long."""
        with self._stream_of(job_id, deadline_s) as users:
            for answer in users.watch(job_id):
                if until(answer.job):
                    return answer.job
        raise AssertionError(f"job {job_id} ended otherwise\n{self.story(job_id)}")

    def wait(self, job_id: int, deadline_s: float = STREAM_S) -> scheduler.Job:
        """Waits until a job has ended, and for its slots to be free."""
        return self.watch(job_id, lambda job: job_has_ended(job.state), deadline_s)

    def until_running(self, job_id: int) -> scheduler.Job:
        """Waits until all members of a job run."""
        return self.watch(job_id, lambda job: ended(job) == "running")

    def until_idle(self, job_id: int) -> scheduler.Job:
        """Waits until each member of a job of the source `idle` is the one process that it stays."""
        job = self.until_running(job_id)
        for task in job.tasks:
            assert next(self.log_lines(job_id, task.ref.task)) == "up"
        return job

    def log_lines(self, job_id: int, task: str, deadline_s: float = STREAM_S) -> Iterator[str]:
        """The lines of one task as they come, until the job has ended; AssertionError as `watch`."""
        rest = b""
        with self._stream_of(job_id, deadline_s) as users:
            for answer in users.logs(job_id, tasks=[task], follow=True):
                *lines, rest = (rest + answer.piece.data).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)

    def output(self, job_id: int, task: str = "") -> str:
        """All output of a job or of one of its tasks so far, as text; AssertionError as `watch`."""
        with self._stream_of(job_id, STREAM_S) as users:
            pieces = users.logs(job_id, tasks=[task] if task else [])
            return b"".join(answer.piece.data for answer in pieces).decode(errors="replace")

    def story(self, job_id: int) -> str:
        """What became of a job and what the daemons say, for a failing test."""
        try:
            shown = self.ctl("show", str(job_id), timeout=WAIT_S)
            told = shown.stdout + shown.stderr
        except subprocess.TimeoutExpired:
            told = "the manager does not answer\n"
        return told + self.daemon_logs()

    def reason(self, job: scheduler.Job) -> str:
        """The reason of a job's end in one lower-case word."""
        return common.Reason.Name(job.reason).removeprefix("REASON_").lower()

    def audit(self) -> subprocess.CompletedProcess[str]:
        """What the keeper has on the host, beyond what it always has."""
        return subprocess.run(
            [str(BIN / "syndicate-volunteer"), "audit", "--keeper", str(self.run_dir / "keeper.sock")],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    def daemon_logs(self) -> str:
        """The last lines of each daemon, for a failing test."""
        parts = []
        for log in sorted(self.dir.glob("*.log")):
            parts.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
        return "\n".join(parts)


def output(cluster: Cluster, job: scheduler.Job, task: str = "") -> str:
    """All output of a job or of one of its tasks, as text."""
    return cluster.output(job.job_id, task)


def processes_in(cgroup_name: str, *, waiting: bool = False) -> set[int]:
    """What lives in the slots of a keeper: tasks, and with `waiting` also the sandboxes made ahead.

    What has ended counts no more, reaped or not.
    """
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            groups = (process / "cgroup").read_text()
            command = (process / "cmdline").read_bytes()  # empty once it has ended
        except (FileNotFoundError, ProcessLookupError):
            continue
        # What the launcher has just made, bubblewrap's own processes and the shell in it, which becomes make
        # when a task starts.
        ahead = b"echo ready >&4" in command or b"/launcher.py" in command
        if f"0::/{cgroup_name}/slot-" in groups and command and (waiting or not ahead):
            found.add(int(process.name))
    return found


def _argv(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) from the third on, which is the first that holds nothing strange."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
