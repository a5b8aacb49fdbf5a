"""Users of a course on a real cluster: a roster, students who see their own, staff who see all."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.cluster import BIN, Cluster, ended, tree

pytestmark = pytest.mark.system

HELLO = {"Makefile": ".PHONY: master\nmaster:\n\t@echo hello\n"}
GRADER = {"Makefile": ".PHONY: client\nclient:\n\t@echo graded; syndicate-chaos finish --outcome pass\n"}


class Desk:
    """`syndicatectl` as one person has it: with folders of its own, and nothing else that names a manager."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        homes = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
        self._environment: Mapping[str, str] = {**cluster.environment, **homes}

    def __call__(self, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command with what is typed."""
        return subprocess.run(
            [str(BIN / "syndicatectl"), *words],
            env=self._environment, input=said, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


def desks(cluster: Cluster, folder: Path, tokens: Path) -> dict[str, Desk]:
    """A desk for each token of an import, logged in by what one would type."""
    with tokens.open(newline="") as file:
        rows = list(csv.DictReader(file))
    pin = ("--fingerprint", cluster.certs("list")["fingerprint"])
    found = {row["name"]: Desk(cluster, folder / row["name"]) for row in rows}
    for row in rows:
        login = found[row["name"]]("login", cluster.address, *pin, said=row["token"] + "\n")
        assert login.returncode == 0, login.stderr
        assert row["token"] not in login.stdout + login.stderr
    return found


def test_a_course(cluster: Cluster, tmp_path: Path) -> None:
    """A roster is imported; a student submits, another cannot see it, staff can; a revoked token ends."""
    roster, tokens = tmp_path / "roster.csv", tmp_path / "tokens.csv"
    rows = ("\ufeffname,team,role", "course-ann,one,", "course-bob,two,", "course-tutor,,staff", "")
    roster.write_text("\r\n".join(rows), newline="")
    imported = cluster.ctl("user", "import", str(roster), "--tokens", str(tokens))
    assert imported.returncode == 0, imported.stderr
    people = desks(cluster, tmp_path, tokens)
    ann, bob, tutor = (people[f"course-{name}"] for name in ("ann", "bob", "tutor"))

    submitted = ann("submit", str(tree(tmp_path, HELLO)), "--client", str(tree(tmp_path, GRADER)))
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    waited = ann("wait", job)
    assert (waited.returncode, cluster.users.job(int(job)).owner) == (0, "course-ann"), waited.stderr

    own = ann("logs", job)
    assert "master    | hello" in own.stdout and "graded" not in own.stdout
    assert "it is the staff's" in own.stderr
    for words in (("show", job), ("logs", job), ("result", job), ("cancel", job)):
        strange = bob(*words)
        assert strange.returncode == 66 and f"no job {job}" in strange.stderr, words
    assert bob("jobs", "--everybody").stdout == "no jobs\n"
    assert f"\n{job} " in tutor("jobs").stdout and "graded" in tutor("logs", job).stdout

    assert tutor("publish", job).returncode == 0
    assert "graded" in bob("logs", job).stdout and bob("result", job).returncode == 0
    assert bob("publish", job, "--undo").returncode == 77

    token_id = tutor("token", "list", "--user", "course-ann").stdout.splitlines()[1].split()[0]
    assert tutor("token", "revoke", token_id).returncode == 0
    assert ann("jobs").returncode == 77
    assert tutor("user", "disable", "course-bob").returncode == 0
    assert "it is disabled" in bob("jobs").stderr
    log = tutor("audit", "--denied", "--user", "course-bob").stdout
    assert "denied NO_SUCH_JOB" in log and "denied ROLE_TOO_LOW" in log


def test_a_quota_holds_up_and_refuses(cluster: Cluster, tmp_path: Path) -> None:
    """A bound of machines refuses a job that never fits; one of submissions says when the next may go."""
    made = cluster.ctl(
        "user", "add", "quota-eve", "--machines", "1", "--submissions-per-day", "1", "--with-token", "--json"
    )
    assert made.returncode == 0, made.stderr
    eve, source = Desk(cluster, tmp_path / "eve"), str(tree(tmp_path, HELLO))
    secret = made.stdout.partition('"secret": "')[2].partition('"')[0]
    assert eve("login", cluster.address, "--ca", str(cluster.ca_file), said=secret).returncode == 0

    large = eve("submit", source, "-n", "2")
    assert large.returncode == 65, large.stderr

    first = eve("submit", source)
    assert first.returncode == 0 and eve("wait", first.stdout.strip()).returncode == 0, first.stderr
    second = eve("submit", source)
    assert second.returncode == 75 and "Try again in " in second.stderr
    assert "0 of 1 submissions a day left" in eve("whoami").stdout
    assert ended(cluster.users.job(int(first.stdout))) == "succeeded"
