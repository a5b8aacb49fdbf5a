"""A kernel that lacks something: the keeper, `doctor` and `up` name it, and the command that mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import without_nf_tables, without_seccomp
from tests.support.cluster import BIN, EXAMPLES, free_ports

pytestmark = pytest.mark.system

NEED = "nft_tables: open netlink socket 12: Protocol not supported"
REMEDY = "modprobe nf_tables"


def run(
    *words: str, kernel: ModuleType = without_nf_tables, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command on such a kernel."""
    return subprocess.run(
        [sys.executable, str(kernel.__file__), *words],
        env={**os.environ, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_keeper_refuses_to_start(tmp_path: Path) -> None:
    """Two lines: what is missing, and what mends it; nothing is made."""
    words = ["--instance", "synbad", "--volunteer-uid", "199999"]
    words += ["--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state")]
    answer = run(str(BIN / "syndicate-keeper"), *words)
    said, remedy = answer.stderr.splitlines()
    assert answer.returncode == 78 and said == f"syndicate-keeper: {NEED}"
    assert remedy.startswith("  ") and REMEDY in remedy
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_all_that_is_missing() -> None:
    """Each use of nf_tables is told as missing with its remedy; what this kernel has is told as met."""
    answer = run(str(BIN / "syndicate-volunteer"), "doctor", "--json")
    found = {need["name"]: need for need in json.loads(answer.stdout)}
    assert answer.returncode == 1
    missing = {name for name, need in found.items() if need["level"] == "missing"}
    assert missing == {"nft_tables", "nft_sets", "nft_ingress", "nft_egress"}
    assert all(found[name]["remedy"] for name in missing) and REMEDY in found["nft_tables"]["remedy"]
    assert {found[name]["level"] for name in ("root", "bwrap", "netns", "veth", "bridge")} == {"ok"}


def test_doctor_tells_it_to_people() -> None:
    """A line for the need and, below it, one for the remedy."""
    lines = run(str(BIN / "syndicate-volunteer"), "doctor").stdout.splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith("missing   nft_tables "))
    assert "Protocol not supported" in lines[number]
    assert "mend it:" in lines[number + 1] and REMEDY in lines[number + 1]


def test_up_starts_without_isolation_only_where_it_is_told(tmp_path: Path) -> None:
    """Refused at first; with --unsafe jobs run, and `nodes` says what is lacking."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    users, volunteers = free_ports(2)
    ports = ["--port", str(users), "--volunteer-port", str(volunteers)]
    words = ["up", "--slots", "1", "--dir", str(tmp_path / "d"), *ports]

    def ctl(*words: str) -> subprocess.CompletedProcess[str]:
        home = str(tmp_path / "s")
        return run(str(BIN / "syndicatectl"), *words, kernel=without_seccomp, XDG_STATE_HOME=home)

    refused = ctl(*words)
    started = ctl(*words, "--unsafe")
    try:
        nodes = json.loads(ctl("nodes", "--json").stdout)["nodes"]
        submit = ctl("submit", str(EXAMPLES / "hello"), "-n", "1", "--no-client", "--follow")
    finally:
        ended = ctl("down", "--dir", str(tmp_path / "d"))

    assert refused.returncode == 71 and "seccomp" in refused.stderr, refused
    assert started.returncode == 0 and "syndicatectl nodes" in started.stderr, started
    assert [node["unsafe"] for node in nodes] == [["seccomp"]]
    assert submit.returncode == 0, submit
    assert ended.returncode == 0, ended


def test_up_says_why_its_keeper_ended(tmp_path: Path) -> None:
    """The need and the remedy reach the user of `up`, and nothing of a cluster is left but its log."""
    words = ["up", "--slots", "1", "--dir", str(tmp_path / "d"), "--port", "0", "--volunteer-port", "0"]
    answer = run(str(BIN / "syndicatectl"), *words, XDG_STATE_HOME=str(tmp_path / "s"))
    assert answer.returncode == 71, answer
    assert answer.stderr.count("error: ") == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert "Protocol not supported" in answer.stderr and REMEDY in answer.stderr, answer.stderr
    assert not (tmp_path / "d" / "up.json").exists() and not (tmp_path / "s").exists()
