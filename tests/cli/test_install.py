"""`install` and `uninstall` on the image of a machine: nothing of the host is touched."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from syndicate.cli.install_plan import toml

from tests.cli.conftest import Ctl

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("systemd-sysusers") is None, reason="needs root and systemd"
)

MARK = "sha256:" + "a" * 64


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root of a machine with the software in it and without users."""
    for folder in ("etc", "opt/s", "usr/lib/systemd/system", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("syndicate-volunteer", "syndicate-manager"):
        program = tmp_path / "opt/s" / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def everything(root: Path) -> dict[str, tuple[str, int, float]]:
    """Each file of it: its text, mode and time."""
    return {
        str(path.relative_to(root)): (
            os.readlink(path) if path.is_symlink() else path.read_text(),
            stat.S_IMODE(path.lstat().st_mode),
            path.lstat().st_mtime,
        )
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def options(image: Path) -> tuple[str, ...]:
    """What names the image."""
    return "--root", str(image), "--bin", "/opt/s"


def test_an_image_has_all_that_a_boot_needs(ctl: Ctl, image: Path, tmp_path: Path) -> None:
    """Units enabled, settings, a user, the token readable by it alone."""
    token = tmp_path / "opt" / "token"
    token.write_text("abc.def\n")
    ended = ctl(
        *("install", "volunteer", "--manager=10.0.0.5:7001", "--slots=8", f"--join-token-file={token}"),
        *(f"--ca-fingerprint={MARK}", "--after-job=reboot", *options(image)),
    )
    assert ended.code == 0, ended.err
    for name in ("keeper", "volunteer"):
        wanted = image / f"etc/systemd/system/multi-user.target.wants/syndicate-{name}.service"
        assert os.readlink(wanted).endswith(f"/syndicate-{name}.service")
    assert 'manager = ["10.0.0.5:7001"]' in (image / "etc/syndicate/volunteer.toml").read_text()
    of_keeper = (image / "etc/syndicate/keeper.toml").read_text()
    assert "slots = 8" in of_keeper and 'after_job = "reboot"' in of_keeper
    assert (
        "ExecStart=/opt/s/syndicate-keeper "
        in (image / "etc/systemd/system/syndicate-keeper.service").read_text()
    )
    users = dict(line.split(":")[0:3:2] for line in (image / "etc/passwd").read_text().splitlines())
    secret = (image / "etc/syndicate/join-token").stat()
    assert (stat.S_IMODE(secret.st_mode), str(secret.st_uid)) == (0o600, users["syndicate-volunteer"])


def test_a_second_run_changes_nothing(ctl: Ctl, image: Path) -> None:
    """No file, mode or time; it says so, also as JSON."""
    words = ("install", "manager", "--listen-users", "0.0.0.0:7000", *options(image))
    first = ctl(*words, "--json").document
    before = everything(image)
    assert ctl(*words).out == "it is installed already; nothing was changed\n"
    assert everything(image) == before
    assert str(image / "etc/syndicate/manager.toml") in first["written"]
    assert first["enabled"] == ["syndicate-manager.service"]


def test_what_the_operator_changed_stays(ctl: Ctl, image: Path) -> None:
    """Settings are replaced with --force alone; a damaged unit is put right."""
    words = ("install", "manager", "--listen-users", "0.0.0.0:7000", *options(image))
    ctl(*words)
    file = image / "etc/syndicate/manager.toml"
    file.write_text(file.read_text() + "max_queued = 5\n")
    (image / "etc/systemd/system/syndicate-manager.service").write_text("broken")
    refused = ctl(*words)
    assert refused.code == 65 and "says something else" in refused.err and "--force" in refused.err
    assert (image / "etc/systemd/system/syndicate-manager.service").read_text() == "broken"
    assert ctl("install", "manager", *options(image)).code == 0
    assert "max_queued = 5" in file.read_text()
    assert (image / "etc/systemd/system/syndicate-manager.service").read_text().startswith("[Unit]")
    assert ctl(*words, "--force").code == 0
    assert "max_queued" not in file.read_text()


def test_uninstall_leaves_state_until_it_is_purged(ctl: Ctl, image: Path) -> None:
    """And an image is as it was, but for the users' files that were not there before."""
    before = everything(image)
    ctl("install", "volunteer", "--manager", "m:7001", *options(image))
    assert "kept" in ctl("uninstall", "volunteer", "--root", str(image)).out
    assert (image / "var/lib/syndicate-volunteer").is_dir()
    asked = ctl("uninstall", "volunteer", "--purge", "--root", str(image))
    assert asked.code == 64 and "--yes" in asked.err
    assert {name for name in everything(image) if "yndicate" in name} == {
        n for n in before if "yndicate" in n
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--manager", "nowhere"), "--manager nowhere: HOST:PORT is meant"),
        (("--manager", "m:70000"), "--manager m:70000"),
        (("--id", "Node A"), "--id Node A"),
        (("--ca-fingerprint", MARK), "belong together"),
        (("--network", "host"), "needs --address"),
        (("--network", "ipx"), "fabric or host is meant"),
    ],
)
def test_wrong_words_change_nothing(ctl: Ctl, image: Path, words: tuple[str, ...], said: str) -> None:
    """They are told before anything is written, with the code of wrong usage."""
    before = everything(image)
    ended = ctl("install", "volunteer", *words, *options(image))
    assert ended.code == 64 and said in ended.err
    assert everything(image) == before


def test_machines_that_cannot_be_served(ctl: Ctl, image: Path) -> None:
    """No system, no software, software where services have no access: one line and 71."""
    nothing = ctl("install", "manager", "--root", str(image / "opt"), "--bin", "/opt/s")
    assert nothing.code == 71 and "holds no system" in nothing.err
    absent = ctl("install", "manager", "--root", str(image), "--bin", "/usr/bin")
    assert absent.code == 71 and "there is no" in absent.err
    (image / "root").mkdir()
    shutil.copytree(image / "opt/s", image / "root/s")
    closed = ctl("install", "manager", "--root", str(image), "--bin", "/root/s")
    assert closed.code == 71 and "services have no access to /root/s" in closed.err


def test_settings_are_written_as_toml() -> None:
    """Whatever stands in them is read as it was meant."""
    import tomllib

    values = {"a": 'q"\\\n', "b": 3, "c": ["x", "é"]}
    assert tomllib.loads(toml(values)) == values
