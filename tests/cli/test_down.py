"""``down`` with real processes, also after parts of the cluster died or will not end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from syndicate.cli import local_cluster, processes
from syndicate.cli.install_plan import ROLES
from syndicate.cli.processes import Ending, Process

from tests.cli.conftest import Ctl
from tests.cli.stand_ins import crash, parts, up


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
    port = json.loads((cluster / "up.json").read_text())["manager"].rpartition(":")[2]
    where = f"--dir {cluster}"
    assert f"down --keep-state {where} && syndicatectl up {where} --port {port}" in refused.err
    ended = bare_ctl("down", "--keep-state")
    assert ended.code == 0, ended.err
    assert f"({part} had ended before)" in ended.out
    assert not any(process.is_alive() for process in running.values())
    starts = (cluster / "keeper" / "starts").read_text()
    assert len(starts) == (2 if part == "keeper" else 1)


def hang(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper will not end, and is given 0.3 s; who ends has the time for it on a busy machine, too."""
    (cluster / "keeper" / "hangs").touch()
    running, stop = parts(cluster), processes.stop
    others = running["volunteer"], running["manager"]

    def patient(process: Process, deadline_s: float) -> Ending:
        stubborn = process not in others and (cluster / "keeper" / "stubborn").exists()
        return stop(process, deadline_s if stubborn or process == running["keeper"] else 60.0)

    monkeypatch.setattr(local_cluster, "STOP_S", 0.3)
    monkeypatch.setattr(processes, "stop", patient)


def test_down_of_a_keeper_that_does_not_end(
    bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, another one clears up after it, and the answer says so."""
    up(bare_ctl, cluster)
    keeper = parts(cluster)["keeper"]
    hang(cluster, monkeypatch)
    ended = bare_ctl("down", "--keep-state")
    assert ended.code == 0
    assert ended.out.splitlines()[:2] == [
        "down: ended volunteer, manager, keeper",
        "      the keeper did not end in 0.3 s and was killed; another keeper has cleared up after it",
    ]
    assert not keeper.is_alive()
    assert (cluster / "keeper" / "starts").read_text() == "xx"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("hangs", "another one, started to clear up, did not end in 0.3 s either"),
        ("dies", "another one, started to clear up, failed: the keeper ended at once"),
    ],
)
def test_down_that_could_not_clear_up_is_no_success(
    bare_ctl: Ctl, cluster: Path, monkeypatch: pytest.MonkeyPatch, how: str, says: str
) -> None:
    """Where no keeper clears up, down fails, says what may be left and what to do; the next one mends it."""
    up(bare_ctl, cluster)
    running = parts(cluster)
    hang(cluster, monkeypatch)
    (cluster / "keeper" / "stubborn").write_text(how)
    failed = bare_ctl("down")
    assert failed.code == 70
    lines = failed.err.splitlines()
    assert lines[0] == f"error: the keeper did not end in 0.3 s and was killed; {says}"
    assert any("may be left" in line for line in lines)
    assert f"  Once more:  syndicatectl down --dir {cluster}" in lines
    assert "syndicate-volunteer audit --keeper /run/syndicate-" in lines[-1]
    assert not any(process.is_alive() for process in {**running, **parts(cluster)}.values())
    (cluster / "keeper" / "stubborn").unlink()
    assert bare_ctl("down").code == 0
    assert not cluster.exists()


def test_down_in_json(bare_ctl: Ctl, cluster: Path) -> None:
    """How each part ended, in order; no part where nothing was up."""
    up(bare_ctl, cluster)
    crash(parts(cluster)["volunteer"])
    parts_ended = {"volunteer": "gone", "manager": "ended", "keeper": "ended"}
    assert bare_ctl("down", "--json", "--keep-state").document == {
        "directory": str(cluster), "parts": parts_ended, "kept": True,
    }  # fmt: skip
    assert bare_ctl("down", "--json", "--dir", str(cluster)).document["parts"] == {}


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


def test_down_removes_the_folders_that_up_made(bare_ctl: Ctl, cluster: Path) -> None:
    """Those above DIR too, as far as nothing else is in them."""
    up(bare_ctl, cluster / "in" / "new")
    (cluster / "notes").touch()
    assert bare_ctl("down").code == 0
    assert [path.name for path in cluster.iterdir()] == ["notes"]


def planted(directory: Path, run_dir: Path) -> None:
    """An up.json that names what root would remove."""
    directory.mkdir(parents=True, exist_ok=True)
    values = {"instance": "x", "run_dir": str(run_dir), "slots": 1, "parts": {}}
    (directory / "up.json").write_text(json.dumps(values))


@pytest.mark.parametrize("whose", ["of another user", "open to others", "below a folder of another user"])
def test_a_folder_that_others_may_change_is_not_believed(bare_ctl: Ctl, tmp_path: Path, whose: str) -> None:
    """What they say there is up, root neither ends nor removes; nor is a cluster brought up in it."""
    folder, victim = tmp_path / "theirs" / "up", tmp_path / "victim"
    victim.mkdir()
    planted(folder, victim)
    if whose == "open to others":
        folder.chmod(0o1777)
    else:
        os.chown(folder if whose == "of another user" else folder.parent, 65_534, 0)

    for command in ("down", "up"):
        refused = bare_ctl(command, "--dir", str(folder))
        assert refused.code == 77
        assert (
            "belongs to another user, uid 65534" in refused.err or "can be written by others" in refused.err
        )
    assert victim.is_dir() and (folder / "up.json").exists()


def test_no_folder_but_the_clusters_own_is_removed(bare_ctl: Ctl, tmp_path: Path) -> None:
    """Whatever up.json names, as one that came from elsewhere."""
    victim = tmp_path / "victim"
    victim.mkdir()
    planted(tmp_path / "up", victim)
    refused = bare_ctl("down", "--dir", str(tmp_path / "up"))

    assert refused.code == 70 and f"it names {victim}" in refused.err
    assert victim.is_dir()


def test_the_default_folder_is_in_no_folder_of_a_service() -> None:
    """Its user could put anything there, and systemd would give it all that is in it."""
    states = [Path(state) for role in ROLES.values() for state in role.states]
    assert not any(Path(local_cluster.DEFAULT_DIRECTORY).is_relative_to(state) for state in states)
