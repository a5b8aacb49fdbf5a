"""``up`` with real processes; the daemons are small stand-ins that keep their contract."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from syndicate.cli import local_cluster
from syndicate.cli.contexts import ClusterContext, Contexts
from syndicate.cli.local_cluster import Plan, Running
from syndicate.cli.processes import Process
from syndicate.cli.unprivileged import UNPRIVILEGED_UID

from tests.cli.conftest import Ctl
from tests.cli.stand_ins import parts, uid_of, up


def test_up_and_down(bare_ctl: Ctl, cluster: Path, tmp_path: Path) -> None:
    """up starts three processes, root's rights in the keeper only; commands find it; down leaves nothing."""
    started = up(bare_ctl, cluster)
    assert started.code == 0, started.err
    assert "4 slots, manager 127.0.0.1:" in started.out
    assert "insecure   tokens, sources and output cross 127.0.0.1 in clear text" in started.out
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
        f"  Other settings need (its jobs stay):  syndicatectl down --keep-state --dir {cluster}\n"
    )


def test_a_manager_that_does_not_start(bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error shows the end of the part's log; what was started is ended, what was made is gone."""
    monkeypatch.setenv("TZ", "broken")
    failed = up(bare_ctl, cluster / "in" / "new" / "folders")
    assert failed.code == 71
    assert failed.err.splitlines()[-2:] == [
        "error: the manager ended at once",
        "  the database is locked by pid 7",
    ]
    assert not cluster.exists()
    assert not Path(f"/run/syndicate-{local_cluster.instance_of(cluster)}").exists()


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_token_that_the_managers_user_planted_is_not_read(
    bare_ctl: Ctl, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Root follows no link of that user's and waits for no fifo; nothing of what it leads to is told."""
    secret = tmp_path / "secret"
    secret.write_text("syn_admin_t0ken\n")
    secret.chmod(0o600)
    monkeypatch.setenv("TZ", ":fifo" if kind == "fifo" else f":{secret}")

    failed = up(bare_ctl, cluster)

    assert failed.code == 77
    assert f"error: {cluster}/manager/admin.token cannot be read (it is " in failed.err
    assert "t0ken" not in failed.out + failed.err
    assert not cluster.exists()


def test_an_up_that_fails_leaves_what_was_there(
    bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs and logs that `down --keep-state` kept survive a start that failed, and the log is named."""
    up(bare_ctl, cluster)
    bare_ctl("down", "--keep-state")
    kept = sorted(path.name for path in cluster.iterdir())
    monkeypatch.setenv("TZ", "broken")
    failed = up(bare_ctl, cluster, "--client", str(client_of(cluster.parent)))
    assert failed.err.splitlines()[-1] == f"  All of it:  {cluster}/manager.log"
    assert sorted(path.name for path in cluster.iterdir()) == kept
    assert "client.tgz" not in kept


def test_the_default_client_is_readable_for_the_manager_alone(bare_ctl: Ctl, cluster: Path) -> None:
    """It is a user's code, and lies beside what anybody on the machine may list."""
    up(bare_ctl, cluster, "--client", str(client_of(cluster.parent)))
    status = (cluster / "client.tgz").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 0, UNPRIVILEGED_UID)


def client_of(folder: Path) -> Path:
    client = folder / "a-client"
    client.mkdir()
    (client / "Makefile").write_text("client:\n\ttrue\n")
    return client


def test_a_port_in_use(bare_ctl: Ctl, cluster: Path) -> None:
    """A port that somebody has is named, with the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = bare_ctl("up", "--dir", str(cluster), "--port", str(port), "--volunteer-port", "0")
    assert refused.code == 71
    assert not cluster.exists()
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
    refused = up(bare_ctl, cluster, "--client", str(tmp_path / "c"))
    assert (refused.code, refused.err.splitlines()[-1]) == (65, "  Nothing was started.")
    (tmp_path / "c" / "Makefile").write_text("client:\n\ttrue\n")
    assert up(bare_ctl, cluster, "--client", str(tmp_path / "c"), "--clients", "2").code == 0
    assert bare_ctl("cluster", "--json").document["default_client_sha256"].startswith("1f8b")


@pytest.mark.parametrize("unsafe", [False, True])
def test_up_starts_all_the_same_where_it_is_told(bare_ctl: Ctl, cluster: Path, unsafe: bool) -> None:
    """--unsafe lets the keeper start without isolation, and the manager use it; nothing else does."""
    started = up(bare_ctl, cluster, *(["--unsafe"] if unsafe else []))

    given = {
        name: Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        for name, process in parts(cluster).items()
    }
    assert ("--unsafe" in given["keeper"], "--allow-unsafe" in given["manager"]) == (unsafe, unsafe)
    assert ("unsafe " in started.out + started.err) == unsafe


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_up_leaves_nothing(
    bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C, TERM, and HUP of a terminal that was closed: half a cluster is taken back, and it says so."""
    started: list[Process] = []

    def interrupted(plan: Plan, running: Running, deadline: float) -> None:
        started.extend(running.parts.values())
        os.kill(os.getpid(), number)

    monkeypatch.setattr(local_cluster, "_await_slots", interrupted)
    ended = up(bare_ctl, cluster)

    assert (ended.code, ended.err.splitlines()[-1]) == (
        130,
        "error: interrupted; all that was made is removed",
    )
    assert len(started) == 3 and not any(process.is_alive() for process in started)
    assert not cluster.exists()


def test_up_says_that_another_context_is_in_use(bare_ctl: Ctl, cluster: Path, tmp_path: Path) -> None:
    """Commands go on to use it: how to use the cluster that came up is told."""
    store = Contexts({"XDG_CONFIG_HOME": str(tmp_path / "config")})
    store.put("uni", ClusterContext("uni:7000"))
    store.use("uni")
    assert (
        "(commands use the context uni; for this cluster:  syndicatectl context use local)"
        in up(bare_ctl, cluster).err
    )
