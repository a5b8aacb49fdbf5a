"""``up`` and ``down``: checks first, then the local cluster, then what to do next."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from syndicate.cli import cluster_files, exit_codes, local_cluster, processes
from syndicate.cli.context import Context, context_path, read_context, write_context
from syndicate.cli.contexts import LOCAL, Contexts
from syndicate.cli.failure import CliError
from syndicate.cli.local_cluster import DEFAULT_DIRECTORY, DEFAULT_SLOTS, Plan, Running
from syndicate.cli.processes import Ending
from syndicate.cli.render.fit import hung
from syndicate.cli.render.job_lines import advice, labelled
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import duration_text, plural
from syndicate.cli.start_again import lines_to_start_again
from syndicate.cli.terminal import Terminal
from syndicate.client_api import PackError, pack, require_targets

__all__ = ["DEFAULT_DIRECTORY", "UpWish", "down", "up"]

_DAEMONS = ("syndicate-manager", "syndicate-keeper", "syndicate-volunteer")
# Each with the Debian package that has it.
_TOOLS = {"bwrap": "bubblewrap", "setpriv": "util-linux", "make": "make", "env": "coreutils"}


_WHY_ROOT = {
    "up": "makes network namespaces and cgroups",
    "down": "ends processes of root's and removes network namespaces and cgroups",
}
MOST_SLOTS = 1000
_INSECURE = "tokens, sources and output cross 127.0.0.1 in clear text"


@dataclass(frozen=True, slots=True)
class UpWish:
    """What the command line of ``up`` asks for."""

    slots: int | None = None
    """None stands for DEFAULT_SLOTS, or as many as the running cluster has."""
    directory: str = DEFAULT_DIRECTORY
    port: int = 7000
    volunteer_port: int = 7001
    client: str | None = None
    clients: int = 1
    unsafe: bool = False
    insecure: bool = False
    as_json: bool = False


def up(wish: UpWish, terminal: Terminal) -> int:
    """Starts a cluster on this machine, or says that it runs already. Returns the exit code.

    On Ctrl-C, TERM and HUP, as on any error, nothing of it is left.
    """
    _need_root("up")
    with processes.ended_as_by_ctrl_c():
        return _up(wish, terminal)


def _up(wish: UpWish, terminal: Terminal) -> int:
    directory = Path(wish.directory).resolve()
    local_cluster.require_own(directory)
    plan = _plan(wish, directory, _check_tools())
    made = local_cluster.make_folder(directory)
    try:
        _check_folder(directory)
        with local_cluster.locked(directory):
            running = _running_already(directory, wish.slots)
            if running is not None:
                _tell(wish, directory, running, terminal, "is up already")
                return exit_codes.OK
            _check_ports(wish)
            started = time.monotonic()
            running = local_cluster.start(replace(plan, made=[str(path) for path in made]), terminal.note)
            write_context(context_path(os.environ), _context(directory, running))
    except BaseException as error:
        local_cluster.remove_folders(made)
        if isinstance(error, KeyboardInterrupt) and not (directory / "up.json").exists():
            text = "interrupted; all that was made is removed"
            raise CliError(text, code=exit_codes.INTERRUPTED) from None
        raise
    _tell(wish, directory, running, terminal, f"up in {duration_text(time.monotonic() - started)}")
    return exit_codes.OK


def _context(directory: Path, running: Running) -> Context:
    token_file = str(cluster_files.token_file(directory))
    ca_file = "" if running.insecure else str(cluster_files.ca_file(directory))
    return Context(running.manager, token_file, str(directory), ca_file)


def _running_already(directory: Path, slots: int | None) -> Running | None:
    running = local_cluster.read_running(directory)
    if running is not None and running.missing():
        raise CliError(
            f"the cluster in {directory} is up in part: no {' and no '.join(running.missing())}",
            f"Start it again:  {lines_to_start_again(directory)}",
            "Its jobs and logs stay.",
            code=exit_codes.BAD_MACHINE,
        )
    if running is not None and slots not in (None, running.slots):
        raise CliError(
            f"{slots} slots asked for, the cluster in {directory} has {running.slots}",
            f"Other settings need (its jobs stay):  syndicatectl down --keep-state{_dir_option(directory)}",
            code=exit_codes.BAD_MACHINE,
        )
    return running


def down(directory_given: str | None, keep_state: bool, as_json: bool, terminal: Terminal) -> int:
    """Ends the cluster and leaves nothing of it. Without one it says so, and that is fine."""
    _need_root("down")
    path = context_path(os.environ)
    context = read_context(path)
    directory = Path(directory_given or (context.directory if context else DEFAULT_DIRECTORY)).resolve()
    running = local_cluster.read_running(directory) if directory.is_dir() else None
    endings: dict[str, Ending] = {}
    if running is not None:
        with local_cluster.locked(directory):
            endings = local_cluster.stop(directory, running, Path(sys.executable).parent)
            if not keep_state:
                local_cluster.remove_state(directory)
        if not keep_state:
            local_cluster.remove_folders([directory, *map(Path, running.made)])
    if context is not None and Path(context.directory) == directory:
        path.unlink(missing_ok=True)
    kept = keep_state and running is not None
    if as_json:
        how = {name: ending.value for name, ending in endings.items()}
        terminal.say(document({"directory": str(directory), "parts": how, "kept": kept}))
    elif running is None:
        terminal.say(f"no cluster is up in {directory}")
    else:
        terminal.say(_down_lines(endings, terminal.room))
        if kept:
            terminal.say(f"kept {directory}")
    return exit_codes.OK


def _down_lines(endings: Mapping[str, Ending], room: int) -> list[str]:
    """What ended, what had ended before; then what had to be killed."""
    ended = [name for name, ending in endings.items() if ending is not Ending.GONE]
    gone = [name for name, ending in endings.items() if ending is Ending.GONE]
    before = f" ({', '.join(gone)} had ended before)" if gone else ""
    lines = [f"down: ended {', '.join(ended) or 'nothing'}{before}"]
    for name, ending in endings.items():
        if ending is Ending.KILLED:
            clear = "; another keeper has cleared up after it" if name == "keeper" else ""
            text = f"the {name} did not end in {local_cluster.STOP_S:g} s and was killed{clear}"
            lines += hung("      ", text, room)
    return lines


def _tell(wish: UpWish, directory: Path, running: Running, terminal: Terminal, how: str) -> None:
    if wish.as_json:
        values = {"manager": running.manager, "volunteers": running.volunteers, "slots": running.slots}
        context = _context(directory, running)
        files = {"token_file": context.token_file, "ca_file": context.ca_file}
        terminal.say(document({**values, "directory": str(directory), **files}))
        return
    terminal.say(
        [
            labelled("cluster", f"{how}: {plural(running.slots, 'slot')}, manager {running.manager}"),
            labelled("", f"state and logs in {directory}"),
            *([labelled("insecure", _INSECURE)] if running.insecure else []),
            *advice(
                "Next:  syndicatectl submit PATH -n 2 --follow     End it:  syndicatectl down", terminal.room
            ),
        ]
    )
    used = os.environ.get("SYNDICATE_CONTEXT") or Contexts(os.environ).current()
    if used not in ("", LOCAL):
        text = f"(commands use the context {used}; for this cluster:  syndicatectl context use {LOCAL})"
        terminal.note(text)


def _need_root(command: str) -> None:
    if sys.platform != "linux":
        raise CliError(
            f"`{command}` works on Linux only",
            "On other systems:  syndicatectl --manager HOST:PORT …",
            code=exit_codes.BAD_MACHINE,
        )
    if os.geteuid() != 0:
        raise CliError(
            f"`{command}` needs root: it {_WHY_ROOT[command]}",
            shlex.join(["sudo", *sys.argv]),
            code=exit_codes.NOT_ALLOWED,
        )


def _check_tools() -> Path:
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        packages = " ".join(_TOOLS[tool] for tool in missing)
        plural_verb = "is" if len(missing) == 1 else "are"
        raise CliError(
            f"{' and '.join(missing)} {plural_verb} not installed",
            f"apt-get install {packages}",
            code=exit_codes.BAD_MACHINE,
        )
    bin_dir = Path(sys.executable).parent
    lacking = [name for name in _DAEMONS if not (bin_dir / name).is_file()]
    if lacking:
        raise CliError(
            f"{lacking[0]} is not installed beside {sys.executable}",
            "In a clone of Syndicate:  pip install '.[all]'",
            code=exit_codes.BAD_MACHINE,
        )
    return bin_dir


def _check_ports(wish: UpWish) -> None:
    for port, option in ((wish.port, "--port"), (wish.volunteer_port, "--volunteer-port")):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise CliError(
                    f"port {port} on 127.0.0.1 is in use",
                    f"Another one:  syndicatectl up {option} PORT     Any free ones:  --port 0",
                    code=exit_codes.BAD_MACHINE,
                ) from None


def _plan(wish: UpWish, directory: Path, bin_dir: Path) -> Plan:
    archive = None
    if wish.client is not None:
        archive = _packed_client(wish.client)
    return Plan(
        directory=directory,
        run_dir=local_cluster.run_dir_of(directory),
        instance=local_cluster.instance_of(directory),
        bin_dir=bin_dir,
        slots=DEFAULT_SLOTS if wish.slots is None else wish.slots,
        users_port=wish.port,
        volunteers_port=wish.volunteer_port,
        client=archive,
        clients=wish.clients,
        unsafe=wish.unsafe,
        insecure=wish.insecure,
    )


def _packed_client(path: str) -> bytes:
    """The default client's archive. Raises CliError for a source that is none."""
    try:
        with pack(path) as source:
            require_targets(source, ("client",), who="client")
            return b"".join(source.chunks(1 << 20))
    except PackError as error:
        text = "Nothing was started."
        raise CliError(error.message, error.remedy, text, code=exit_codes.REFUSED) from None


def _check_folder(directory: Path) -> None:
    """A folder with other things in it is not ours to fill."""
    strange = [name for name in sorted(os.listdir(directory)) if name not in local_cluster.OWN_NAMES]
    if strange:
        raise CliError(
            f"{directory} holds other things ({strange[0]})",
            "Name an empty folder:  --dir DIR",
            code=exit_codes.BAD_MACHINE,
        )


def _dir_option(directory: Path) -> str:
    return "" if directory == Path(DEFAULT_DIRECTORY) else f" --dir {shlex.quote(str(directory))}"
