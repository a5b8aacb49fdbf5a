"""A whole cluster on this machine: a keeper, a manager and a volunteer as background processes.

DIR/manager, DIR/keeper, DIR/volunteer    the state of each part
DIR/*.log                                 what each part writes
DIR/up.json                               what runs: written after each start, read by `down`
RUN                                       the sockets; /run/syndicate-INSTANCE
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from syndicate.cli import cluster_files, exit_codes, processes
from syndicate.cli.failure import CliError
from syndicate.cli.ownership import who_else_may_change
from syndicate.cli.processes import Ending, Process, StartFailed
from syndicate.cli.render.quantities import plural
from syndicate.cli.unprivileged import UNPRIVILEGED_UID, unprivileged_command
from syndicate.client_api import SchedulerClient, SchedulerError

# In no folder of a service: its unprivileged user could put there what root reads, ends and removes.
DEFAULT_DIRECTORY = "/var/lib/syndicate-up"
DEFAULT_SLOTS = 4
START_S = 60.0
STOP_S = 15.0
_POLL_S = 0.02
_STOP_ORDER = ("volunteer", "manager", "keeper")
OWN_NAMES = ("manager", "keeper", "volunteer", "client.tgz", "up.json", *(f"{p}.log" for p in _STOP_ORDER))
_VOLUNTEER_ID = "local"
_STATUS_FD = 3
_LINES_OF_SHORT = 5
_LINES_OF_LONG = 20
"""So much is shown of the log of a part that failed: where the log stays, and where it goes."""


class _PartFailed(Exception):
    """A part ended, or was not ready in time."""

    def __init__(self, part: str, text: str) -> None:
        super().__init__(text)
        self.part = part


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. All paths are absolute."""

    directory: Path
    run_dir: Path
    instance: str
    """At most 6 letters and digits: it is part of every kernel name of this cluster."""
    bin_dir: Path
    """Holds the daemons' commands."""
    slots: int
    users_port: int
    volunteers_port: int
    client: bytes | None = None
    """The default client's archive."""
    clients: int = 1
    insecure: bool = False
    """Whether manager and volunteer speak clear text."""
    unsafe: bool = False
    """Whether to start on a machine that cannot isolate tasks as it should."""
    made: Sequence[str] = ()
    """The folders that were made for it, ``directory`` among them; the innermost first."""


@dataclass(slots=True)
class Running:
    """What runs, as DIR/up.json says it."""

    instance: str
    run_dir: str
    slots: int
    manager: str = ""
    volunteers: str = ""
    unsafe: bool = False
    insecure: bool = False
    made: Sequence[str] = ()
    """The folders that `down` is to remove, as far as they are empty; the innermost first."""
    parts: dict[str, Process] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """The parts that do not run."""
        return [name for name in _STOP_ORDER if name not in self.parts or not self.parts[name].is_alive()]


def instance_of(directory: Path) -> str:
    """A short name for the cluster in a folder, the same each time: ``up`` for the default one."""
    if directory == Path(DEFAULT_DIRECTORY):
        return "up"
    # As many digits as there is room for: two clusters of one name cannot be up at a time.
    return "u" + base64.b32encode(hashlib.sha256(os.fsencode(directory)).digest())[:5].decode().lower()


def run_dir_of(directory: Path) -> Path:
    """Where the sockets of the cluster in a folder are."""
    return Path(f"/run/syndicate-{instance_of(directory)}")


def require_own(directory: Path) -> None:
    """Raises CliError where others than root and the caller may change a folder or what is above it.

    What lies in it is acted upon by root: processes are ended, and folders removed. See `who_else_may_change`
    for the path.
    """
    why = who_else_may_change(directory, (0, os.geteuid()))
    if why:
        raise CliError(
            f"{why}, and so could what is in {directory}",
            "Name a folder of your own in folders of root's:  --dir DIR",
            code=exit_codes.NOT_ALLOWED,
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps a second `up` or `down` of the same folder out. Raises CliError when there is one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CliError(
            f"another `syndicatectl up` or `down` works on {directory}",
            "Wait for it.",
            code=exit_codes.TRY_AGAIN,
        ) from None
    finally:
        os.close(descriptor)


def read_running(directory: Path) -> Running | None:
    """What runs by DIR/up.json; None where there is no such file.

    Raises CliError for a damaged one, and where others may have written it.
    """
    path = directory / "up.json"
    if not os.path.lexists(path):
        return None
    require_own(directory)
    try:
        values = json.loads(path.read_text())
        parts = {name: Process(**part) for name, part in values.pop("parts").items()}
        running = Running(**values, parts=parts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CliError(f"{path} cannot be read ({error})", code=exit_codes.INTERNAL) from None
    if (running.instance, running.run_dir) != (instance_of(directory), str(run_dir_of(directory))):
        raise CliError(
            f"{path} is of another folder: it names {running.run_dir}",
            f"It is ended in that one:  syndicatectl down --dir DIR, or it was moved here: remove {path}",
            code=exit_codes.INTERNAL,
        )
    return running


def start(plan: Plan, tell: Callable[[str], None]) -> Running:
    """Starts all parts and waits until every slot can be used.

    On an error nothing of it is left; of logs that were there before the new lines stay. Raises CliError.
    """
    before = set(os.listdir(plan.directory))
    running = Running(
        plan.instance, str(plan.run_dir), plan.slots,
        unsafe=plan.unsafe, insecure=plan.insecure, made=plan.made,
    )  # fmt: skip
    try:
        _make_folders(plan)
        if not plan.insecure:
            _make_certificates(plan)
        deadline = time.monotonic() + START_S
        _start_keeper(plan.directory, plan.bin_dir, running, deadline)
        tell("keeper     ready")
        _start_manager(plan, running, deadline)
        tell(f"manager    ready on {running.manager}")
        _start_volunteer(plan, running)
        _await_slots(plan, running, deadline)
        tell(f"volunteer  ready, {plural(plan.slots, 'slot')}")
        if plan.unsafe:
            tell("unsafe     what isolation of tasks lacks here:  syndicatectl nodes")
    except BaseException as error:
        found = _told(plan.directory, error, before)
        with processes.signals_held():  # a second Ctrl-C would leave what the first one was to end
            try:
                stop(plan.directory, running, plan.bin_dir, keeper_died=False)
            except CliError as unclean:
                first = (found.message, *found.lines) if found is not None else ("interrupted",)
                raise CliError(*first, unclean.message, *unclean.lines, code=unclean.code) from None
            remove_state(plan.directory, before)
        if found is not None:
            raise found from None
        raise
    return running


def _told(directory: Path, error: BaseException, before: set[str]) -> CliError | None:
    """A part's failure with the end of its log; all that there will be of it, unless it was there before."""
    if isinstance(error, StartFailed):
        return CliError(str(error), code=exit_codes.BAD_MACHINE)
    if not isinstance(error, _PartFailed):
        return None
    log = directory / f"{error.part}.log"
    stays = log.name in before
    more = f"All of it:  {log}" if stays else ""
    lines = _tail(log, _LINES_OF_SHORT if stays else _LINES_OF_LONG)
    return CliError(str(error), *lines, more, code=exit_codes.BAD_MACHINE)


def stop(directory: Path, running: Running, bin_dir: Path, *, keeper_died: bool = True) -> dict[str, Ending]:
    """Ends all parts, the keeper last, and removes the run folder. Returns how each ended, in order.

    A keeper that had to be killed, or had died (unless ``keeper_died`` says that it need not), is started
    once more from ``bin_dir``, so that it clears what it left in the kernel. Raises CliError, and leaves
    what the next `down` needs, when that fails.
    """
    try:
        endings = {
            name: processes.stop(running.parts[name], STOP_S) for name in _STOP_ORDER if name in running.parts
        }
    except TimeoutError as error:
        raise CliError(
            f"{error}, though it was killed: the kernel holds it", code=exit_codes.INTERNAL
        ) from None
    unclean = (Ending.KILLED, Ending.GONE) if keeper_died else (Ending.KILLED,)
    if endings.get("keeper") in unclean:
        _clear_up(directory, running, bin_dir, endings["keeper"])
    _remove_tree(Path(running.run_dir))
    (directory / "up.json").unlink(missing_ok=True)
    return endings


def _clear_up(directory: Path, running: Running, bin_dir: Path, ending: Ending) -> None:
    """Lets a new keeper clear up after one that could not."""
    try:
        _start_keeper(directory, bin_dir, running, time.monotonic() + START_S)
        again = processes.stop(running.parts["keeper"], STOP_S)
        if again is Ending.ENDED:
            return
        how = "ended by itself" if again is Ending.GONE else f"did not end in {STOP_S:g} s either"
        why = f"another one, started to clear up, {how}"
    except (_PartFailed, StartFailed) as error:
        processes.stop(running.parts["keeper"], STOP_S)
        why = f"another one, started to clear up, failed: {error}"
    how = f"did not end in {STOP_S:g} s and was killed" if ending is Ending.KILLED else "had died"
    raise CliError(
        f"the keeper {how}; {why}",
        f"Its log:  {directory / 'keeper.log'}",
        f"Processes, cgroups, mounts and network devices of `{running.instance}` may be left.",
        f"Once more:  syndicatectl down --dir {directory}",
        f"With a keeper that runs:  syndicate-volunteer audit --keeper {running.run_dir}/keeper.sock",
        code=exit_codes.INTERNAL,
    )


def make_folder(directory: Path) -> list[Path]:
    """Makes the folder and those above it; returns those that were not there, the innermost first."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return made


def remove_folders(made: Sequence[Path]) -> None:
    """Takes back what `make_folder` made, as far as nothing else came into it."""
    for path in made:
        try:
            path.rmdir()
        except OSError:  # something is in it, and so in all above it; or it is gone already
            if path.exists():
                return


def remove_state(directory: Path, but: Container[str] = ()) -> None:
    """Removes what a cluster made in its folder, but for the names that it had before."""
    for name in OWN_NAMES:
        if name in but:
            continue
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            _remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def _make_folders(plan: Plan) -> None:
    for name, owner in (("manager", UNPRIVILEGED_UID), ("volunteer", UNPRIVILEGED_UID), ("keeper", 0)):
        path = plan.directory / name
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, owner, owner)
    cluster_files.ready_file(plan.directory).unlink(missing_ok=True)
    if plan.client is not None:
        _write_client(plan.directory / "client.tgz", plan.client)


def _make_certificates(plan: Plan) -> None:
    """The cluster's own authority, unless it has one, and certificates of it. Raises StartFailed."""
    state, own = plan.directory / "manager", plan.directory / "volunteer"
    commands = [["renew", _VOLUNTEER_ID, "--out", str(own / "tls"), "--days", "365"]]
    if not cluster_files.ca_file(plan.directory).exists():
        commands.insert(0, ["init"])
    for words in commands:
        command = [str(plan.bin_dir / "syndicate-manager"), "certs", *words, "--state-dir", str(state)]
        # As the owner of both folders: root would follow whatever that one laid there.
        wrapped = unprivileged_command(command, writable=[state, own], readable=[plan.bin_dir])
        try:
            done = subprocess.run(
                wrapped,
                env=_environ(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=START_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartFailed(f"the certificates were not made: {error}") from None
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip().removeprefix("error: ")
            raise StartFailed(f"the certificates were not made: {text or done.returncode}")


def _write_client(path: Path, data: bytes) -> None:
    """For the manager to read and nobody else: it is a user's code."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, 0, UNPRIVILEGED_UID)
        os.fchmod(descriptor, 0o640)
        file.write(data)


def _environ() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "TZ") if name in os.environ}
    # The venv's own folder first: a part may look for its companions on PATH.
    return {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C.UTF-8", "HOME": "/",
        "PYTHONDONTWRITEBYTECODE": "1", **kept,
    }  # fmt: skip


def _start_keeper(directory: Path, bin_dir: Path, running: Running, deadline: float) -> None:
    run_dir = Path(running.run_dir)
    run_dir.mkdir(mode=0o755, exist_ok=True)
    socket = run_dir / "keeper.sock"
    socket.unlink(missing_ok=True)
    command = [
        "env", "--chdir=/", str(bin_dir / "syndicate-keeper"),
        "--instance", running.instance, "--run-dir", running.run_dir,
        "--state-dir", str(directory / "keeper"), "--slots", str(running.slots),
        "--cache-dir", str(directory / "volunteer" / "cache"),
        "--volunteer-uid", str(UNPRIVILEGED_UID), *(["--unsafe"] if running.unsafe else []),
    ]  # fmt: skip
    with processes.signals_held():
        keeper = processes.start(command, directory / "keeper.log", _environ())
        _record(directory, running, "keeper", keeper)
    _await_file("keeper", keeper, socket, deadline)


def _start_manager(plan: Plan, running: Running, deadline: float) -> None:
    state = plan.directory / "manager"
    command = [
        str(plan.bin_dir / "syndicate-manager"), "--state-dir", str(state),
        "--listen-users", f"127.0.0.1:{plan.users_port}",
        "--listen-volunteers", f"127.0.0.1:{plan.volunteers_port}",
        *(["--allow-unsafe"] if plan.unsafe else []), *(["--insecure"] if plan.insecure else []),
    ]  # fmt: skip
    readable = [plan.bin_dir]
    if plan.client is not None:
        archive = plan.directory / "client.tgz"
        readable.append(archive)
        command += ["--client", str(archive), "--clients", str(plan.clients)]
    wrapped = unprivileged_command(command, writable=[state], readable=readable, status_fd=_STATUS_FD)
    with processes.signals_held():
        manager = processes.start_wrapped(wrapped, plan.directory / "manager.log", _environ(), START_S)
        _record(plan.directory, running, "manager", manager)
    ready = cluster_files.ready_file(plan.directory)
    _await_file("manager", manager, ready, deadline)
    try:
        values = json.loads(cluster_files.read_ready(plan.directory))
        running.manager, running.volunteers = str(values["users"]), str(values["volunteers"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StartFailed(f"the manager's {ready} is damaged ({error})") from None
    _write(plan.directory, running)


def _start_volunteer(plan: Plan, running: Running) -> None:
    state = plan.directory / "volunteer"
    token = plan.directory / "manager" / "volunteer.token"
    command = [
        str(plan.bin_dir / "syndicate-volunteer"), "run", "--manager", running.volunteers,
        "--keeper", str(plan.run_dir / "keeper.sock"),
        "--state-dir", str(state), "--run-dir", str(plan.run_dir), "--id", _VOLUNTEER_ID,
        *(["--insecure", "--token-file", str(token)] if plan.insecure else []),
    ]  # fmt: skip
    readable = [plan.bin_dir, token] if plan.insecure else [plan.bin_dir]
    wrapped = unprivileged_command(
        command, writable=[state, plan.run_dir], readable=readable, status_fd=_STATUS_FD
    )
    with processes.signals_held():
        volunteer = processes.start_wrapped(wrapped, plan.directory / "volunteer.log", _environ(), START_S)
        _record(plan.directory, running, "volunteer", volunteer)


def _record(directory: Path, running: Running, name: str, process: Process) -> None:
    running.parts[name] = process
    _write(directory, running)


def _write(directory: Path, running: Running) -> None:
    values: dict[str, Any] = asdict(running)
    fresh = directory / f"up.json.{os.getpid()}"
    fresh.write_text(json.dumps(values) + "\n")
    fresh.replace(directory / "up.json")


def _await_file(name: str, process: Process, path: Path, deadline: float) -> None:
    while not path.exists():
        _pause(name, process, deadline, f"{path} did not appear")


def _await_slots(plan: Plan, running: Running, deadline: float) -> None:
    token = cluster_files.read_token(plan.directory)
    ca = None if plan.insecure else cluster_files.read_ca(plan.directory)
    with SchedulerClient(running.manager, token, timeout=5.0, ca=ca, insecure=plan.insecure) as client:
        while True:
            why = "its slots did not become ready"
            try:
                if client.cluster().slots >= plan.slots:
                    return
            except SchedulerError as error:
                why = f"the manager answers: {error}"
            for name in ("manager", "keeper", "volunteer"):
                _pause(name, running.parts[name], deadline, why)


def _pause(name: str, process: Process, deadline: float, why: str) -> None:
    """Waits a moment. Raises _PartFailed when the process has ended meanwhile, or the deadline has passed."""
    ended = processes.wait_for_end(process, _POLL_S)
    if not ended and time.monotonic() < deadline:
        return
    what = "ended at once" if ended else f"was not ready in {START_S:g} s: {why}"
    raise _PartFailed(name, f"the {name} {what}")


def _tail(log: Path, lines: int) -> list[str]:
    try:
        return log.read_bytes()[-8192:].decode(errors="replace").rstrip().splitlines()[-lines:]
    except OSError:
        return []


def _remove_tree(path: Path) -> None:
    """Removes a folder of ours. Refuses while something is mounted in it: that would be removed as well."""
    if not path.exists():
        return
    mounts = [os.fsdecode(line.split()[4]) for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    inside = [mount for mount in mounts if Path(mount).is_relative_to(path)]
    if inside:
        raise CliError(
            f"{path} still holds a mount: {inside[0]}",
            "The keeper did not clear up after itself; its log says why.",
            code=exit_codes.BAD_MACHINE,
        )
    shutil.rmtree(path)
