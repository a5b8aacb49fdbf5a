"""`syndicatectl debug bundle`: one private file, each item or why it is not there, and no secret."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from syndicate.cli import debug_bundle, debug_items, local_cluster
from syndicate.cli.secrets_out import (
    REMOVED,
    kernel_words_without_secrets,
    settings_without_secrets,
    without_secrets,
    words_without_secrets,
)

from tests.cli.conftest import Ctl
from tests.cli.fake_scheduler import TOKEN


def read(path: Path) -> dict[str, str]:
    """Its files by name, without the folder that all are in."""
    with tarfile.open(path) as tar:
        found = {}
        for entry in tar.getmembers():
            file = tar.extractfile(entry)
            assert file is not None
            found[entry.name.partition("/")[2]] = file.read().decode()
        return found


def test_a_bundle_has_the_cluster_and_says_what_it_has_not(ctl: Ctl, tmp_path: Path) -> None:
    """The manager is asked, `up` has started nothing: both are in its contents."""
    path = tmp_path / "b.tar.gz"
    done = ctl("debug", "bundle", "-o", str(path))
    files = read(path)
    contents = json.loads(files["contents.json"])
    left = {one["what"]: one["why"] for one in contents["left_out"]}

    assert done.code == 0, done.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(files["cluster.json"])["slots"] >= 0
    assert {"nodes.json", "jobs.json", "versions.json", "machine.json"} <= set(files)
    assert set(contents["files"]) == set(files) - {"contents.json"}
    assert "metrics_listen" in left["metrics/manager.txt"]
    assert "never read" in left["secrets"] and all(what in done.out for what in left)
    assert TOKEN not in "".join(files.values())


def test_a_manager_that_is_away_costs_the_bundle_no_more_than_its_answers(
    bare_ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once; the machine's own facts are there."""
    monkeypatch.setenv("SYNDICATE_MANAGER", "127.0.0.1:1")
    path = tmp_path / "b.tar.gz"
    done = bare_ctl("debug", "bundle", "-o", str(path), "--json")
    told: dict[str, Any] = done.document

    assert done.code == 0
    assert "machine.json" in told["files"] and "jobs.json" not in told["files"]
    (why,) = (one["why"] for one in told["left_out"] if "jobs.json" in one["what"])
    assert "127.0.0.1:1" in why


def test_units_of_systemd_are_looked_at_where_up_has_started_nothing(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their lines in journald, from the end, and their configuration without its secrets."""
    journalctl = tmp_path / "journalctl"
    journalctl.write_text(
        '#!/bin/sh\nfor n in 1 2 3 4; do echo "$2 line $n syn_eve_0123456789abcdef"; done\n'
    )
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "manager.toml").write_text(
        'state_dir = "/x"\nsome_token = "hush"\nmetrics_listen = "127.0.0.1:1"\n'
    )
    monkeypatch.setattr(debug_items, "_CONFIGURATION", etc)
    path = tmp_path / "b.tar.gz"
    assert ctl("debug", "bundle", "-o", str(path), "--log-size", "130").code == 0
    files = read(path)
    left = {one["what"]: one["why"] for one in json.loads(files["contents.json"])["left_out"]}

    assert files["logs/manager.log"].splitlines() == [
        f"syndicate-manager line {number} syn_eve_{REMOVED}" for number in (3, 4)
    ]
    assert json.loads(files["settings.json"])[str(etc / "manager.toml")]["some_token"] == REMOVED
    assert "127.0.0.1:1 does not answer" in left["metrics/manager.txt"]


def test_a_file_that_is_there_is_not_overwritten(ctl: Ctl, tmp_path: Path) -> None:
    """Nothing is collected then."""
    path = tmp_path / "b.tar.gz"
    path.write_text("mine")
    done = ctl("debug", "bundle", "-o", str(path))

    assert (done.code, path.read_text()) == (73, "mine")


def test_nothing_is_read_from_a_folder_that_others_may_change(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log may be a link there to what root alone reads; in a folder of root's own none is followed."""
    secret, folder = tmp_path / "shadow", tmp_path / "theirs"
    secret.write_text("root:hash\n")
    folder.mkdir()
    values = {"instance": local_cluster.instance_of(folder), "slots": 1, "parts": {}}
    values["run_dir"] = str(local_cluster.run_dir_of(folder))
    (folder / "up.json").write_text(json.dumps(values))
    (folder / "keeper.log").symlink_to(secret)

    assert ctl("debug", "bundle", "--dir", str(folder), "-o", str(tmp_path / "one")).code == 0
    os.chown(folder, 65_534, 0)
    refused = ctl("debug", "bundle", "--dir", str(folder), "-o", str(tmp_path / "two"))
    monkeypatch.setattr(debug_bundle, "DEFAULT_DIRECTORY", str(folder))
    assert ctl("debug", "bundle", "-o", str(tmp_path / "three")).code == 0

    assert refused.code == 77 and "belongs to another user" in refused.err
    assert not any(
        "root:hash" in text for name in ("one", "three") for text in read(tmp_path / name).values()
    )


def test_a_folder_without_a_cluster_is_told(ctl: Ctl, tmp_path: Path) -> None:
    """And leaves no file."""
    done = ctl("debug", "bundle", "--dir", str(tmp_path), "-o", str(tmp_path / "b.tar.gz"))

    assert done.code == 66 and "no cluster is up" in done.err
    assert not (tmp_path / "b.tar.gz").exists()


@pytest.mark.parametrize(
    "text",
    [
        "token syn_admin_0123456789abcdef0123456789abcdef is known",
        "join with 0a1b2c3d." + "A" * 43,
        "authorization: Bearer abcdefgh.ijkl",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nMIGHAgEA and no end",
        "https://anna:hunter2hunter2@example.org/",
        "the value that this command holds: top-secret-value",
    ],
)
def test_what_looks_like_a_secret_is_removed(text: str) -> None:
    """And so is what this command itself holds."""
    shown = without_secrets(text, ["top-secret-value", ""])

    assert REMOVED in shown
    for secret in ("0123456789abcdef", "A" * 43, "abcdefgh.ijkl", "MIGHAgEA", "hunter2", "top-secret-value"):
        assert secret not in shown


def test_ids_and_names_of_files_stay() -> None:
    """They are what the reader needs."""
    text = "token_id=eve-1 /etc/syndicate/token.file sha256:" + "0a1b2c3d" * 8 + " syn_eve_"
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("ro quiet cgroup_no_v1=all", ["ro", "quiet", "cgroup_no_v1=all"]),
        ("syndicate.manager=10.0.0.5:7001", ["syndicate.manager=10.0.0.5:7001"]),
        ("rd.iscsi.password=hunter2", [f"rd.iscsi.password={REMOVED}"]),
        ("netroot=iscsi:user:hunter2@10.0.0.1::::t", [f"netroot={REMOVED}"]),
        ("systemd.set_credential=tok:hunter2", [f"systemd.set_credential={REMOVED}"]),
        ('rd.iscsi.password="hunter2 hunter2" ro', [f"rd.iscsi.password={REMOVED}", "ro"]),
        ('"systemd.set_credential=tok:hunter2 hunter2"', [f'"systemd.set_credential={REMOVED}']),
        ("ro -- hunter2 --token=hunter2", ["ro", "--", REMOVED]),
        ('a="hunter2 hunter2', [f"a={REMOVED}"]),
    ],
)
def test_the_kernels_command_line_keeps_what_is_known_as_harmless(line: str, shown: list[str]) -> None:
    """Boot loaders, iSCSI and systemd take secrets there, under names of their own."""
    assert kernel_words_without_secrets(line + "\n") == shown


def test_a_bundle_has_no_secret_of_the_kernels_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's facts are read with it."""
    whole = Path.read_text

    def read_text(path: Path, *how: Any, **named: Any) -> str:
        line = "ro rd.iscsi.password=hunter2\n"
        return line if str(path) == "/proc/cmdline" else whole(path, *how, **named)

    monkeypatch.setattr(Path, "read_text", read_text)
    told = json.loads(debug_items.machine())

    assert told["command_line"] == ["ro", f"rd.iscsi.password={REMOVED}"]


def test_settings_and_command_lines_lose_values_by_their_names() -> None:
    """Those that name files keep them."""
    settings = {"token_file": "/a", "password": "b", "student_quota": {"api_key": "c"}, "token_ttl_s": 5}
    words = ["x", "--token", "abc", "--token-file", "/a", "--secret=s", "--slots", "4"]

    assert settings_without_secrets(settings) == {
        "token_file": "/a", "password": REMOVED, "student_quota": {"api_key": REMOVED}, "token_ttl_s": 5,
    }  # fmt: skip
    assert words_without_secrets(words) == [
        "x", "--token", REMOVED, "--token-file", "/a", f"--secret={REMOVED}", "--slots", "4",
    ]  # fmt: skip
