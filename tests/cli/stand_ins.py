"""Small daemons that keep the contract of the real ones, and what tests ask of a cluster of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from syndicate.cli import local_cluster, processes
from syndicate.cli.processes import Process

if TYPE_CHECKING:
    from tests.cli.conftest import Ctl, Outcome

KEEPER = """
import argparse, os, signal, socket, sys
parser = argparse.ArgumentParser()
for name in ("instance", "run-dir", "state-dir", "cache-dir", "slots", "volunteer-uid"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--unsafe", action="store_true")
given = parser.parse_args()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
stubborn = given.state_dir + "/stubborn"
first = not os.path.exists(given.state_dir + "/starts")
if os.path.exists(stubborn) and open(stubborn).read() == "dies":
    sys.exit("no such device")
with open(given.state_dir + "/starts", "a") as file:
    file.write("x")
server = socket.socket(socket.AF_UNIX)
server.bind(given.run_dir + "/.keeper.sock")
server.listen()
os.chmod(given.run_dir + "/.keeper.sock", 0o777)
os.rename(given.run_dir + "/.keeper.sock", given.run_dir + "/keeper.sock")
if os.path.exists(stubborn):
    signal.pause()
signal.sigwait([signal.SIGTERM])
if first and os.path.exists(given.state_dir + "/hangs"):
    signal.pause()
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
parser.add_argument("--allow-unsafe", action="store_true")
parser.add_argument("--insecure", action="store_true")
given = parser.parse_args()
if os.environ.get("TZ") == "broken":
    sys.exit("the database is locked by pid 7")
attached = threading.Event()
class Scheduler(scheduler_pb2_grpc.SchedulerServicer):
    def GetCluster(self, request, context):
        assert dict(context.invocation_metadata())["authorization"] == "Bearer syn_admin_t0ken"
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
planted = os.environ.get("TZ", "").partition(":")[2]
if planted == "fifo":
    os.mkfifo(given.state_dir + "/admin.token")
elif planted:
    os.symlink(planted, given.state_dir + "/admin.token")
else:
    write("admin.token", "syn_admin_t0ken\\n")
write("volunteer.token", "machine\\n")
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
parser.add_argument("--insecure", action="store_true")
given = parser.parse_args()
assert open(given.token_file).read().strip() == "machine"
keeper = socket.socket(socket.AF_UNIX)
keeper.connect(given.keeper)
open(given.state_dir + "/mine", "w").close()
host, _, port = given.manager.rpartition(":")
manager = socket.create_connection((host, int(port)))
signal.sigwait([signal.SIGTERM])
"""


def up(ctl: Ctl, directory: Path, *words: str) -> Outcome:
    return ctl("up", "--insecure", "--dir", str(directory), "--port", "0", *words)


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
    assert processes.wait_for_end(process, 60)
