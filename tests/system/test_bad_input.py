"""What a user or an operator gets wrong: one clear line, its remedy and exit code, nothing lost."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc

from tests.support.cluster import BIN, JOBS, Cluster, ended, eventually, free_port, output, tree

pytestmark = pytest.mark.system

BAD_SOURCE, USAGE, NOT_FOUND, AWAY, BAD_MACHINE, NOT_ALLOWED = 65, 64, 66, 69, 71, 77
GOOD = {"Makefile": ".PHONY: master slave\nmaster slave:\n\t@true\n"}
# Reading is all that is left to it: the sources may lie in a folder that only root enters.
NOBODY = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
]


def newest_job(cluster: Cluster) -> int:
    """The id of the last job submitted; 0 before the first."""
    return max((job.job_id for job in cluster.users.jobs(page_size=1)), default=0)


def refused(
    cluster: Cluster, *words: str, code: int = BAD_SOURCE, says: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a command that must fail: one line of error, these words, this code, and no job of it."""
    before = newest_job(cluster)
    answer = cluster.ctl(*words)
    assert answer.returncode == code, answer
    lines = answer.stderr.splitlines()
    while lines and lines[0].startswith(("uploaded ", "client ")):  # progress, before what is told last
        lines = lines[1:]
    assert lines and lines[0].startswith("error: "), answer.stderr
    assert all(line.startswith("  ") for line in lines[1:]) and "Traceback" not in answer.stderr, lines
    assert all(word in answer.stderr for word in says), answer.stderr
    assert answer.stdout == ""
    assert newest_job(cluster) == before, "something was submitted"
    return answer


def archive(folder: Path, noise: int = 0) -> Path:
    """A good .tar.gz of a job, with so many bytes in it that do not compress."""
    path = folder / "job.tar.gz"
    source = tree(folder, GOOD)
    (source / "noise").write_bytes(random.Random(1).randbytes(noise))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(source, arcname=".")
    return path


def empty_file(folder: Path) -> Path:
    (folder / "job.tar").touch()
    return folder / "job.tar"


def truncated(folder: Path) -> Path:
    path = archive(folder, noise=200_000)
    path.write_bytes(path.read_bytes()[:100_000])
    return path


def no_tar(folder: Path) -> Path:
    path = folder / "job.tgz"
    path.write_bytes(gzip.compress(b"this is a letter\n" * 100))
    return path


def too_large(folder: Path) -> Path:
    return archive(folder, noise=(10 << 20) + 1)


def no_makefile(folder: Path) -> Path:
    return tree(folder, {"main.c": "int main(void) { return 0; }\n"})


def no_target(folder: Path) -> Path:
    return tree(folder, {"Makefile": "all:\n\ttrue\nmaster:\n\ttrue\n"})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty_file, ("is empty",)),
        (truncated, ("job.tar.gz",)),
        (no_tar, ("job.tgz",)),
        (too_large, ("10 MiB",)),
        (no_makefile, ("has no Makefile",)),
        (no_target, ("`slave`", "Found: all, master.")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_source_is_refused_before_it_is_a_job(
    cluster: Cluster, tmp_path: Path, make: Callable[[Path], Path], says: tuple[str, ...]
) -> None:
    """Empty, truncated, not a tar, too large, no Makefile, no target: told in one line, and not submitted."""
    refused(cluster, "submit", str(make(tmp_path)), "-n", "2", says=(*says, "Nothing was submitted."))


def test_a_source_that_is_not_there_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """A path that leads nowhere."""
    refused(cluster, "submit", str(tmp_path / "lab4"), says=("lab4", "no such file"))


@pytest.mark.parametrize("machines", ["0", "-3", "11", "1000000000", "99999999999999999999"])
def test_a_number_of_machines_that_cannot_be_is_refused_at_once(cluster: Cluster, machines: str) -> None:
    """None, negative, more than there are: the largest that is possible is named."""
    before = newest_job(cluster)
    answer = cluster.ctl("submit", str(JOBS / "idle"), "-n", machines)
    assert answer.returncode in (BAD_SOURCE, USAGE), answer
    assert answer.stderr.count("error: ") == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert "-n 10" in answer.stderr and "Nothing was submitted." in answer.stderr, answer.stderr
    assert newest_job(cluster) == before


def test_clients_count_towards_what_is_possible(cluster: Cluster) -> None:
    """Nine machines and two clients are one more than there are slots."""
    words = ("submit", str(JOBS / "idle"), "-n", "9", "--client", str(JOBS / "pair-client"), "--clients", "2")
    refused(cluster, *words, says=("-n 8",))


@pytest.mark.parametrize("command", ["show", "logs", "wait", "result", "cancel", "follow"])
def test_an_unknown_job_is_told(cluster: Cluster, command: str) -> None:
    """Every command that takes a job says that there is none, and how to find those that are."""
    refused(cluster, command, "99999", code=NOT_FOUND, says=("99999", "syndicatectl jobs"))


def test_a_manager_that_is_away_is_told_with_the_time_it_was_tried(cluster: Cluster) -> None:
    """The line names the address, the cause and how long it was tried; and it is not tried longer."""
    address = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    answer = refused(cluster, "--manager", address, "jobs", code=AWAY)
    took = time.monotonic() - started
    lines = answer.stderr.splitlines()
    tried = re.fullmatch(
        rf"error: no manager at {re.escape(address)} \(connection refused, tried for (\d+) s\)", lines[0]
    )
    # For 5 s; a command that stood still meanwhile says how long it was.
    assert tried is not None and 5 <= int(tried[1]) < 30, lines
    assert lines[1].startswith("  Start one here:  syndicatectl up"), lines
    assert 4.5 < took < 30, took


def test_a_wrong_token_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """No token of this manager's: not allowed, and how to name the right one."""
    token = tmp_path / "token"
    token.write_text("not-this-one")
    token.chmod(0o600)
    words = ("--manager", cluster.address, "--token-file", str(token), "jobs")
    refused(cluster, *words, code=NOT_ALLOWED, says=("token", "--token-file"))


def scratch_up(folder: Path, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`syndicatectl up` in a scratch folder, behind another command's words; it must not come up."""
    words = [*before, str(BIN / "syndicatectl"), "up", "--slots", "1", "--dir", str(folder / "d")]
    words += ["--port", environment.pop("port", "0"), "--volunteer-port", "0"]
    environ = {**os.environ, "XDG_STATE_HOME": str(folder / "s"), "COLUMNS": "120", **environment}
    answer = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode != 0 and "Traceback" not in answer.stderr, answer
    assert answer.stderr.count("error: ") == 1, answer.stderr
    assert not (folder / "d" / "up.json").exists() and not (folder / "s").exists()
    return answer


def test_a_port_in_use_is_told_by_up(tmp_path: Path) -> None:
    """`up` names the port and the option that takes another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = scratch_up(tmp_path, port=str(port))
    assert answer.returncode == BAD_MACHINE
    assert f"port {port} on 127.0.0.1 is in use" in answer.stderr and "--port 0" in answer.stderr


def test_up_as_another_user_asks_for_root(tmp_path: Path) -> None:
    """Without root nothing is tried, and sudo is named."""
    tmp_path.chmod(0o777)
    answer = scratch_up(tmp_path, *NOBODY)
    assert answer.returncode == NOT_ALLOWED and "needs root" in answer.stderr and "sudo " in answer.stderr


def path_without(folder: Path, *tools: str) -> str:
    """A PATH on which everything is found but these."""
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    for place in ("/usr/sbin", "/usr/bin"):
        for entry in os.scandir(place):
            if entry.name not in tools and not (bin_dir / entry.name).exists():
                (bin_dir / entry.name).symlink_to(entry.path)
    return str(bin_dir)


def test_up_names_the_tool_that_is_missing_and_the_command_that_mends_it(tmp_path: Path) -> None:
    """Without bubblewrap nothing is started."""
    answer = scratch_up(tmp_path, PATH=path_without(tmp_path, "bwrap"))
    assert answer.returncode == BAD_MACHINE
    assert "bwrap is not installed" in answer.stderr and "apt-get install bubblewrap" in answer.stderr


def keeper(folder: Path, *before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A keeper that must refuse to start."""
    words = [*before, str(BIN / "syndicate-keeper"), "--instance", "synbad", "--run-dir", str(folder / "run")]
    words += ["--state-dir", str(folder / "state"), "--volunteer-uid", "199999"]
    environ = {**os.environ, **environment}
    answer = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 78 and "Traceback" not in answer.stderr, answer
    assert not (folder / "run").exists() and not (folder / "state").exists()
    return answer


def test_a_keeper_without_bubblewrap_says_so(tmp_path: Path) -> None:
    """The need and the command that mends it, one line each."""
    answer = keeper(tmp_path, PATH=path_without(tmp_path, "bwrap"))
    assert answer.stderr.splitlines() == [
        "syndicate-keeper: bwrap: bubblewrap is not installed",
        "  apt-get install bubblewrap",
    ]


def test_a_keeper_that_may_not_use_nftables_says_so(tmp_path: Path) -> None:
    """Without the right to change networks veth cannot be had, nor nft: the keeper names it, and what for."""
    answer = keeper(tmp_path, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")
    need, remedy = answer.stderr.splitlines()[:2]
    assert need.startswith("syndicate-keeper: cap-net-admin: ") and "networks" in need
    assert "CAP_NET_ADMIN" in remedy


def test_a_keeper_as_another_user_asks_for_root(tmp_path: Path) -> None:
    """Not root is told before anything else."""
    tmp_path.chmod(0o777)
    answer = keeper(tmp_path, *NOBODY)
    assert "root: runs as uid 65534" in answer.stderr and "sudo" in answer.stderr


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tgz", "tar.zst"])
def test_every_kind_of_archive_runs(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    """A tarball made by tar itself is sent as it is, and its job runs."""
    source = tree(tmp_path, {"Makefile": ".PHONY: master\nmaster:\n\t@cat word\n", "word": f"from {kind}\n"})
    path = tmp_path / f"job.{kind}"
    tar = shutil.which("tar") or "tar"
    subprocess.run([tar, "--auto-compress", "-cf", str(path), "-C", str(source), "."], check=True, timeout=30)
    done = cluster.ctl("submit", str(path), "--follow")
    assert done.returncode == 0 and f"from {kind}" in done.stdout, done


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (0, "DIGEST_MISMATCH"),
        (1 << 20, "DIGEST_MISMATCH"),
        (10 << 20, "SOURCE_TOO_LARGE"),
        (100 << 20, "SOURCE_TOO_LARGE"),
    ],
)
def test_an_upload_is_bounded_while_it_streams(cluster: Cluster, told: int, reason: str) -> None:
    """The manager keeps a running total: past what it takes, or was told, it refuses and keeps nothing."""
    chunk, sent = b"x" * (256 << 10), 0

    def chunks() -> Iterator[scheduler_pb2.UploadSourceRequest]:
        nonlocal sent
        header = scheduler_pb2.UploadHeader(request_id=str(uuid.uuid4()), sha256="0" * 64, size=told)
        yield scheduler_pb2.UploadSourceRequest(header=header)
        for _ in range(400):  # 100 MiB
            sent += len(chunk)
            yield scheduler_pb2.UploadSourceRequest(chunk=chunk)

    blobs = cluster.dir / "manager" / "blobs"
    before = set(blobs.rglob("*"))  # what is no longer needed may go meanwhile
    with cluster.channel("users") as channel:
        upload = scheduler_pb2_grpc.SchedulerStub(channel).UploadSource
        with pytest.raises(grpc.RpcError) as caught:
            upload(chunks(), metadata=[("authorization", f"Bearer {cluster.token}")], timeout=60)
    trailing = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]  # gRPC raises calls
    assert trailing["syndicate-reason"] == reason
    # What the caller got rid of lies in gRPC's and the kernel's buffers; it has 100 MiB to send.
    assert sent < min(told, 10 << 20) + (24 << 20)
    eventually("nothing of it is kept", lambda: set(blobs.rglob("*")) <= before)


def test_a_client_cannot_touch_another_job(cluster: Cluster, tmp_path: Path) -> None:
    """The address of a task that runs in another job is nobody's to the caller, and that task runs on."""
    other = cluster.submit("idle", machines=2)
    address = cluster.until_running(other).tasks[0].address
    check = (
        "from syndicate.client_api import Chaos, NoSuchMember\n"
        "with Chaos.from_env() as chaos:\n"
        "    for call in (chaos.kill, chaos.revive, chaos.disconnect, chaos.reconnect):\n"
        "        try:\n"
        f"            call('{address}')\n"
        "        except NoSuchMember as error:\n"
        "            print(call.__name__, 'refused:', error, flush=True)\n"
        "    chaos.finish('pass')\n"
    )
    client = tree(tmp_path, {"Makefile": ".PHONY: client\nclient:\n\t@python3 c.py\n", "c.py": check})
    job = cluster.run("idle", machines=1, client=client)
    text = output(cluster, job, "client-0")
    assert text.count("refused:") == 4 and text.count(address) == 4, text
    assert not job.faults and not cluster.users.job(other).faults
    assert ended(cluster.users.job(other)) == "running"
    cluster.users.cancel(other)
    cluster.wait(other)
