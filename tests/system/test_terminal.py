"""`syndicatectl` on a real terminal: what moves there, and what does not elsewhere."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.cluster import BIN, Cluster, ended, tree
from tests.support.terminal import ERASED, Valve, on_terminal

pytestmark = pytest.mark.system

SIZE = 6_000_000


def large(folder: Path, seed: int) -> Path:
    """A job that takes a while to send: what is in it does not compress, and no manager has it."""
    source = tree(folder, {"Makefile": ".PHONY: master\nmaster:\n\t@true\n"})
    (source / "noise").write_bytes(random.Random(seed).randbytes(SIZE))
    return source


def test_a_bar_moves_while_a_source_is_uploaded(cluster: Cluster, tmp_path: Path) -> None:
    """It shows how much of how much is sent, vanishes at the end, and leaves one line."""
    token = str(cluster.dir / "manager" / "admin.token")
    with Valve(cluster.address, 1_000_000) as way:
        words = ["--manager", way.address, "--token-file", token, "--ca", str(cluster.ca_file)]
        words += ["submit", str(large(tmp_path, 1))]
        with on_terminal([str(BIN / "syndicatectl"), *words], cluster.environment) as shown:
            moved = shown.until(r"uploading\s+\S*[━╸╺]\S*.*? ([1-9][\d.]*)/(\d\.\d) MB")
            assert 0 < float(moved[1]) < float(moved[2]) == SIZE / 1e6
            assert "uploaded" not in shown.text
            way.open()
            assert shown.to_its_end() == 0
    left = shown.raw.rpartition(ERASED)[2]
    assert ERASED in shown.raw and "uploading" not in left and "uploaded   6.0 MB  sha256:" in left, left
    job = shown.until(r"job (\d+)")[1]
    assert ended(cluster.wait(int(job))) == "succeeded"


def test_nothing_moves_on_what_is_no_terminal(cluster: Cluster, tmp_path: Path) -> None:
    """In a pipe there is the last line alone, without an escape in it."""
    done = cluster.ctl("submit", str(large(tmp_path, 2)))
    assert done.returncode == 0 and "\x1b" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("uploaded "), done.stderr
    assert ended(cluster.wait(int(done.stdout))) == "succeeded"
