"""``up`` and ``down`` with real processes; the daemons are small stand-ins that keep their contract."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.cli import local_cluster, processes
from syndicate.cli.processes import Process
from syndicate.cli.unprivileged import UNPRIVILEGED_UID, unprivileged_command

from tests.cli.conftest import Ctl, Outcome

KEEPER = """
import argparse, os, signal, socket, sys
parser = argparse.ArgumentParser()
for name in ("instance", "run-dir", "state-dir", "cache-dir", "slots", "volunteer-uid"):
    parser.add_argument("--" + name, required=True)
given = parser.parse_args()
server = socket.socket(socket.AF_UNIX)
server.bind(given.run_dir + "/keeper.sock")
server.listen()
os.chmod(given.run_dir + "/keeper.sock", 0o777)
with open(given.state_dir + "/starts", "a") as file:
    file.write("x")
signal.sigwait([signal.SIGTERM])
os.unlink(given.run_dir + "/keeper.sock")
"""

MANAGER = """
import argparse, json, os, signal, socket, sys, threading
from concurrent import futures
import grpc
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc
parser = argparse.ArgumentParser()
for name in ("state-dir", "listen-users", "listen-volunteers"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--client")
parser.add_argument("--clients")
given = parser.parse_args()
if os.environ.get("TZ") == "broken":
    sys.exit("the database is locked by pid 7")
attached = threading.Event()
class Scheduler(scheduler_pb2_grpc.SchedulerServicer):
    def GetCluster(self, request, context):
        assert dict(context.invocation_metadata())["authorization"] == "Bearer t0ken"
        client = open(given.client, "rb").read().hex()[:8] if given.client else ""
        slots = 4 if attached.is_set() else 0
        return scheduler_pb2.GetClusterResponse(slots=slots, default_client_sha256=client)
server = grpc.server(futures.ThreadPoolExecutor(4))
scheduler_pb2_grpc.add_SchedulerServicer_to_server(Scheduler(), server)
port = server.add_insecure_port(given.listen_users)
server.start()
host, _, number = given.listen_volunteers.rpartition(":")
link = socket.create_server((host, int(number)))
def serve():
    held = []
    while True:
        held.append(link.accept())
        attached.set()
threading.Thread(target=serve, daemon=True).start()
def write(name, text):
    with open(given.state_dir + "/." + name, "w") as file:
        file.write(text)
    os.rename(given.state_dir + "/." + name, given.state_dir + "/" + name)
write("admin.token", "t0ken\\n")
write("manager.ready", json.dumps({
    "users": f"127.0.0.1:{port}", "volunteers": "127.0.0.1:%d" % link.getsockname()[1],
    "cluster_id": "c", "pid": os.getpid()}))
signal.sigwait([signal.SIGTERM])
os._exit(0)
"""

VOLUNTEER = """
import argparse, os, signal, socket, sys
parser = argparse.ArgumentParser()
parser.add_argument("command")
for name in ("manager", "token-file", "keeper", "state-dir", "run-dir", "id"):
    parser.add_argument("--" + name, required=True)
given = parser.parse_args()
assert open(given.token_file).read().strip() == "t0ken"
keeper = socket.socket(socket.AF_UNIX)
keeper.connect(given.keeper)
open(given.state_dir + "/mine", "w").close()
host, _, port = given.manager.rpartition(":")
manager = socket.create_connection((host, int(port)))
signal.sigwait([signal.SIGTERM])
"""


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins that `up` takes for the one it was started from."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("keeper", KEEPER), ("manager", MANAGER), ("volunteer", VOLUNTEER)):
        path = folder / f"syndicate-{name}"
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


@pytest.fixture
def cluster(tmp_path: Path, daemons: Path, bare_ctl: Ctl) -> Iterator[Path]:
    """A folder for a cluster, which is taken down in the end whatever happened."""
    yield tmp_path / "cluster"
    bare_ctl("down", "--dir", str(tmp_path / "cluster"))


def up(ctl: Ctl, directory: Path, *words: str) -> Outcome:
    return ctl("up", "--dir", str(directory), "--port", "0", *words)


def parts(directory: Path) -> dict[str, Process]:
    running = local_cluster.read_running(directory)
    assert running is not None
    return running.parts


def uid_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("Uid:")[2].split()[0])


def crash(process: Process) -> None:
    pidfd = os.pidfd_open(process.pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    assert processes.wait_for_end(process, 5)


def test_the_launcher_drops_all_rights(tmp_path: Path) -> None:
    """Code under it is nobody, imports the software, writes its own folder and nothing else."""
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    (tmp_path / "secret").write_text("s")
    code = f"""
import json, os
import syndicate.v1.chaos_pb2, grpc
def tries(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror
    return "written"
status = open("/proc/self/status").read()
print(json.dumps({{
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(),
    "caps": [status.partition(name)[2].split()[0] for name in ("CapEff:", "CapBnd:", "NoNewPrivs:")],
    "own": tries({str(own / "file")!r}), "beside": tries({str(tmp_path / "other")!r}),
    "usr": tries("/usr/x"), "etc": tries("/etc/x"), "tmp": tries("/tmp/x"),
    "secret": os.path.exists({str(tmp_path / "secret")!r}), "root": os.path.exists("/var"),
}}))
"""
    ended = subprocess.run(
        unprivileged_command([sys.executable, "-c", code], writable=[own]),
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    seen = json.loads(ended.stdout)
    assert seen["uids"] == seen["gids"] == [UNPRIVILEGED_UID] * 3
    assert seen["groups"] == []
    assert seen["caps"] == ["0" * 16, "0" * 16, "1"]
    assert (seen["own"], seen["tmp"]) == ("written", "written")
    assert "written" not in (seen["beside"], seen["usr"], seen["etc"])
    assert (seen["secret"], seen["root"]) == (False, False)
    assert not Path("/tmp/x").exists()


def test_up_and_down(bare_ctl: Ctl, cluster: Path, tmp_path: Path) -> None:
    """up starts three processes, root's rights in the keeper only; commands find it; down leaves nothing."""
    started = up(bare_ctl, cluster)
    assert started.code == 0, started.err
    assert "4 slots, manager 127.0.0.1:" in started.out
    running = parts(cluster)
    assert {name: uid_of(process.pid) for name, process in running.items()} == {
        "keeper": 0, "manager": UNPRIVILEGED_UID, "volunteer": UNPRIVILEGED_UID,
    }  # fmt: skip
    assert all(os.getsid(process.pid) != os.getsid(0) for process in running.values())
    assert bare_ctl("cluster").code == 0
    run_dir = Path(json.loads((cluster / "up.json").read_text())["run_dir"])
    assert run_dir.is_dir()

    ended = bare_ctl("down")
    assert (ended.code, ended.out) == (0, "down: ended volunteer, manager, keeper\n")
    assert not any(process.is_alive() for process in running.values())
    assert not run_dir.exists()
    assert not cluster.exists()
    assert not (tmp_path / "state" / "syndicate" / "context.toml").exists()


def test_a_second_up_says_so(bare_ctl: Ctl, cluster: Path) -> None:
    """up of a cluster that runs starts nothing and is fine."""
    up(bare_ctl, cluster)
    before = parts(cluster)
    again = up(bare_ctl, cluster)
    assert again.code == 0
    assert "is up already" in again.out
    assert parts(cluster) == before
    assert up(bare_ctl, cluster, "--slots", "4").code == 0
    refused = up(bare_ctl, cluster, "--slots", "8")
    assert refused.code == 71
    assert refused.err == (
        f"error: 8 slots asked for, the cluster in {cluster} has 4\n"
        f"  Other settings need:  syndicatectl down --dir {cluster}\n"
    )


def test_down_without_a_cluster(bare_ctl: Ctl, daemons: Path, tmp_path: Path) -> None:
    """down of nothing says so and is fine."""
    ended = bare_ctl("down", "--dir", str(tmp_path / "none"))
    assert (ended.code, ended.out) == (0, f"no cluster is up in {tmp_path / 'none'}\n")


@pytest.mark.parametrize("part", ["volunteer", "manager", "keeper"])
def test_down_after_a_crash(bare_ctl: Ctl, cluster: Path, part: str) -> None:
    """With one part dead, up refuses, and down ends the others; a dead keeper comes back to clear up."""
    up(bare_ctl, cluster)
    running = parts(cluster)
    crash(running[part])
    refused = up(bare_ctl, cluster)
    assert refused.code == 71
    assert f"up in part: no {part}" in refused.err
    ended = bare_ctl("down", "--keep-state")
    assert ended.code == 0, ended.err
    assert f"({part} had ended before)" in ended.out
    assert not any(process.is_alive() for process in running.values())
    starts = (cluster / "keeper" / "starts").read_text()
    assert len(starts) == (2 if part == "keeper" else 1)


def test_down_leaves_another_process_with_the_same_pid_alone(bare_ctl: Ctl, cluster: Path) -> None:
    """A pid that was given to somebody else meanwhile is not ours to end."""
    up(bare_ctl, cluster)
    record = json.loads((cluster / "up.json").read_text())
    with subprocess.Popen(["sleep", "30"]) as other:
        crash(parts(cluster)["volunteer"])
        record["parts"]["volunteer"]["pid"] = other.pid
        (cluster / "up.json").write_text(json.dumps(record))
        assert "(volunteer had ended before)" in bare_ctl("down").out
        assert other.poll() is None
        other.terminate()


def test_a_manager_that_does_not_start(bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error shows the last lines of the part's log, and what was started is ended."""
    monkeypatch.setenv("TZ", "broken")
    failed = up(bare_ctl, cluster)
    assert failed.code == 71
    lines = failed.err.splitlines()
    assert lines[-3:] == [
        "error: the manager ended at once",
        "  the database is locked by pid 7",
        f"  All of it:  {cluster}/manager.log",
    ]
    assert not (cluster / "up.json").exists()
    assert not Path(f"/run/syndicate-{local_cluster.instance_of(cluster)}").exists()


def test_a_port_in_use(bare_ctl: Ctl, cluster: Path) -> None:
    """A port that somebody has is named, with the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = bare_ctl("up", "--dir", str(cluster), "--port", str(port), "--volunteer-port", "0")
    assert refused.code == 71
    assert refused.err.splitlines()[0] == f"error: port {port} on 127.0.0.1 is in use"
    assert "--port PORT" in refused.err


def test_up_needs_root(bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user is told what to do, and nothing is made."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = bare_ctl("up", "--dir", str(cluster))
    monkeypatch.undo()
    assert refused.code == 77
    assert "sudo" in refused.err
    assert not cluster.exists()


def test_down_needs_root(bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the command line as it was given."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["syndicatectl", "down", "--dir", "my lab"])
    refused = bare_ctl("down", "--dir", "my lab")
    monkeypatch.undo()
    assert refused.code == 77
    lines = refused.err.splitlines()
    assert lines[0].startswith("error: `down` needs root: it ends")
    assert lines[1] == "  sudo syndicatectl down --dir 'my lab'"


def test_a_folder_with_other_things(bare_ctl: Ctl, cluster: Path) -> None:
    """up does not put its state beside somebody's files."""
    cluster.mkdir()
    (cluster / "thesis.tex").write_text("x")
    assert up(bare_ctl, cluster).code == 71
    assert (cluster / "thesis.tex").exists()


def test_missing_tools_are_named(bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that is not there is named with the package that has it."""
    monkeypatch.setattr("shutil.which", lambda name: None if name == "bwrap" else f"/usr/bin/{name}")
    refused = up(bare_ctl, cluster)
    assert refused.code == 71
    assert refused.err == "error: bwrap is not installed\n  apt-get install bubblewrap\n"


def test_up_passes_the_default_client(bare_ctl: Ctl, cluster: Path, tmp_path: Path) -> None:
    """--client is packed, checked and given to the manager."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "Makefile").write_text("other:\n")
    assert up(bare_ctl, cluster, "--client", str(tmp_path / "c")).code == 65
    (tmp_path / "c" / "Makefile").write_text("client:\n\ttrue\n")
    assert up(bare_ctl, cluster, "--client", str(tmp_path / "c"), "--clients", "2").code == 0
    assert bare_ctl("cluster", "--json").document["default_client_sha256"].startswith("1f8b")


def test_a_launcher_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """When bubblewrap does not come to start its command, its processes are ended and the error names it."""
    script = f"sleep 60 & echo $! > {tmp_path}/child; exec >&3-; wait"
    with pytest.raises(processes.StartFailed, match="sh did not start daemon"):
        processes.start_wrapped(["sh", "-c", script, "daemon"], tmp_path / "log", dict(os.environ), 0.5)
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(int((tmp_path / "child").read_text()))
        assert select.select([pidfd], [], [], 5)[0]
        os.close(pidfd)


def test_ctrl_c_while_a_launcher_starts_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C before the child is known ends the wrapper and what it has started."""
    script = f"sleep 60 & echo $! > {tmp_path}/child; kill -INT {os.getpid()}; wait"
    with pytest.raises(KeyboardInterrupt):
        processes.start_wrapped(["sh", "-c", script], tmp_path / "log", dict(os.environ), 20)
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(int((tmp_path / "child").read_text()))
        assert select.select([pidfd], [], [], 5)[0]
        os.close(pidfd)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_waits_until_a_start_is_written_down() -> None:
    """Between a start and its record no signal comes in; it comes right after."""
    recorded = False

    def start_and_record() -> None:
        nonlocal recorded
        with processes.signals_held():
            os.kill(os.getpid(), signal.SIGINT)
            recorded = True

    with pytest.raises(KeyboardInterrupt):
        start_and_record()
    assert recorded
