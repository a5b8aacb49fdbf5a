"""`install` and `uninstall` on the image of a machine: nothing of the host is touched."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from syndicate.cli import certs_commands, install_app
from syndicate.cli.install_plan import VOLUNTEER, ManagerWish, toml
from syndicate.cli.installed_units import runs_with_older
from syndicate.cli.terminal import this_terminal

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
        (("--network", "host", "--address", "node-a"), "--address node-a: an IPv4 address is meant"),
        (("--network", "ipx"), "fabric or host is meant"),
        (("--address", "10.0.0.7"), "--network host --address 10.0.0.7"),
        (("--network", "fabric", "--address", "10.0.0.7"), "--network host --address 10.0.0.7"),
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


@pytest.mark.parametrize("mask", [0o077, 0o027])
def test_services_can_read_their_settings_whatever_the_mask(ctl: Ctl, image: Path, mask: int) -> None:
    """Folders are open to them that an `install` with a narrow mask makes, or had made."""
    words = ("install", "volunteer", "--manager", "m:7001", *options(image))
    before = os.umask(mask)
    try:
        assert ctl(*words).code == 0
        made = [image / "etc/syndicate", image / "etc/sysusers.d", image / "etc/systemd/system"]
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o755] * 3
        (image / "etc/syndicate").chmod(0o700)
        repaired = ctl(*words, "--json").document
    finally:
        os.umask(before)
    assert repaired["written"] == [str(image / "etc/syndicate")]
    assert stat.S_IMODE((image / "etc/syndicate").stat().st_mode) == 0o755
    assert ctl(*words).out == "it is installed already; nothing was changed\n"


@pytest.mark.parametrize(
    ("library", "grows"),
    [
        ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-255.so", True),  # Debian, Ubuntu
        ("usr/lib/systemd/libsystemd-shared-257.9-1.fc42.so", True),
        ("usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-252.so", False),
    ],
)
def test_pauses_grow_with_the_machines_own_systemd(ctl: Ctl, image: Path, library: str, grows: bool) -> None:
    """Its version is that of its library, wherever the machine has that."""
    (image / library).parent.mkdir(parents=True, exist_ok=True)
    (image / library).touch()
    assert ctl("install", "manager", *options(image)).code == 0
    unit = (image / "etc/systemd/system/syndicate-manager.service").read_text()
    assert ("RestartSteps=" in unit) is grows


@pytest.mark.parametrize(
    "entry",
    [
        "syndicate:x:1000:1000:Ann:/home/syndicate:/bin/bash",
        "syndicate:x:998:998::/srv/other:/usr/sbin/nologin",
        "syndicate:x:998:998::/var/lib/syndicate:/bin/sh",
    ],
)
def test_the_user_of_another_is_neither_taken_nor_removed(ctl: Ctl, image: Path, entry: str) -> None:
    """Who is told by its home and its shell."""
    users = image / "etc/passwd"
    users.write_text(f"root:x:0:0:root:/root:/bin/bash\n{entry}\n")
    before = everything(image)
    refused = ctl("install", "manager", *options(image))
    assert refused.code == 65 and "there is a user syndicate already" in refused.err
    assert everything(image) == before
    assert ctl("uninstall", "manager", "--purge", "--yes", "--root", str(image)).code == 0
    assert entry in users.read_text()


@pytest.mark.parametrize("folder", ["/opt/my s", "/opt/100%", "/opt/$HOME", '/opt/"s"'])
def test_a_folder_that_a_unit_cannot_name_is_refused(ctl: Ctl, image: Path, folder: str) -> None:
    """The unit would run another program, or none."""
    shutil.copytree(image / "opt/s", image / folder.lstrip("/"))
    refused = ctl("install", "manager", "--root", str(image), "--bin", folder)
    assert refused.code == 71 and "cannot be named in a unit" in refused.err


@pytest.mark.parametrize("what", ["the folder", "a folder above", "the program", "its interpreter"])
def test_software_that_others_may_change_is_refused(ctl: Ctl, image: Path, what: str) -> None:
    """Root would run what they put there."""
    interpreter = image / "srv/python/python3"
    interpreter.parent.mkdir(parents=True)
    interpreter.touch(0o755)
    (image / "opt/s/syndicate-manager").write_text("#!/srv/python/python3 -s\n")
    place = {
        "the folder": image / "opt/s",
        "a folder above": image / "opt",
        "the program": image / "opt/s/syndicate-manager",
        "its interpreter": interpreter,
    }[what]
    os.chown(place, 1000, 1000)
    owned = ctl("install", "manager", *options(image))
    os.chown(place, 0, 1000)
    place.chmod(0o775)
    shared = ctl("install", "manager", *options(image))
    place.chmod(0o755)
    assert owned.code == 71 and "belongs to another user, uid 1000" in owned.err
    assert shared.code == 71 and "can be written by others" in shared.err
    assert ctl("install", "manager", *options(image)).code == 0


def test_software_that_services_cannot_read_is_refused(ctl: Ctl, image: Path) -> None:
    """As pip lays it under a narrow mask."""
    (image / "opt/s").chmod(0o700)
    refused = ctl("install", "manager", *options(image))
    assert refused.code == 71 and "services have no access to /opt/s" in refused.err


def test_what_runs_with_older_files_is_told_by_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by what this run did: an interrupted one, or an operator's own change, counts as well."""
    started = time.monotonic_ns() // 1000
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\nprintf 'MainPID=7\\nExecMainStartTimestampMonotonic={started}\\n'\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    unit, settings = tmp_path / "unit", tmp_path / "settings"
    for path in (unit, settings):
        path.touch()
        os.utime(path, (time.time() - 60, time.time() - 60))

    assert not runs_with_older("u", (unit, settings, tmp_path / "none"))
    os.utime(settings, (time.time() + 1, time.time() + 1))
    assert runs_with_older("u", (unit, settings))
    systemctl.write_text("#!/bin/sh\nprintf 'MainPID=0\\nExecMainStartTimestampMonotonic=0\\n'\n")
    assert not runs_with_older("u", (unit, settings))


def test_each_unit_has_its_own_settings() -> None:
    """A change for the volunteer is none for the keeper, whose restart ends tasks."""
    files = [path.name for path in map(VOLUNTEER.settings_of, VOLUNTEER.units)]
    assert files == ["keeper.toml", "volunteer.toml"]


def test_an_address_that_the_manager_gets_later_is_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside those that it has; one that it has makes no new certificate."""
    monkeypatch.setattr(install_app, "MANAGER_STATE", str(tmp_path / "manager"))
    serials = []
    for addresses in (["mgr.lan"], [], ["MGR.lan", "10.0.0.5"], ["10.0.0.5"]):
        install_app._certify(addresses, ManagerWish(), this_terminal())
        listed = json.loads(certs_commands._certs(["list", "--json"], tmp_path / "manager"))
        serials.append(len(listed["certificates"]))

    assert {"mgr.lan", "10.0.0.5"} <= set(certs_commands.manager_addresses(tmp_path / "manager"))
    assert serials[1] == serials[0] and serials[2] == serials[3] == serials[0] + 1


def test_settings_are_written_as_toml() -> None:
    """Whatever stands in them is read as it was meant."""
    import tomllib

    values = {"a": 'q"\\\n', "b": 3, "c": ["x", "é"]}
    assert tomllib.loads(toml(values)) == values
