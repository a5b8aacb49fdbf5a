"""Errors of a configuration file name file, line and key, in all three daemons."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from syndicate.manager import settings as manager
from syndicate.manager.toml_lines import line_of as managers_line_of
from syndicate.volunteer import settings as volunteer
from syndicate.volunteer.keeper.__main__ import main as keeper
from syndicate.volunteer.settled import BadSettings, is_loopback
from syndicate.volunteer.toml_lines import line_of


def written(folder: Path, text: str) -> Path:
    """A file that says so."""
    file = folder / "x.toml"
    file.write_text(text)
    return file


def test_a_wrong_value_of_the_manager(tmp_path: Path) -> None:
    """Also one in a table, and a key that there is not; not one that a flag has overruled."""
    file = written(tmp_path, 'state_dir = "/s"\n# so\nmax_queued = 0\ncolour = 1\n[limits]\npids = -1\n')
    with pytest.raises(manager.BadSettings) as raised:
        manager.load({}, file)
    lines = sorted(str(raised.value).splitlines())
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{file}:3", "max_queued"],
        [f"{file}:4", "colour"],
        [f"{file}:6", "limits.pids"],
    ]
    with pytest.raises(manager.BadSettings) as raised:
        manager.load({"max_queued": -5}, file)
    assert "\nmax_queued: " in "\n" + str(raised.value)


def test_a_setting_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one that was meant is named, and how one is set that is missing."""
    file = written(tmp_path, "max_queue = 5\n")
    with pytest.raises(manager.BadSettings) as raised:
        manager.load({}, file)
    assert f"{file}:1: max_queue: there is no such setting; max_queued is one" in str(raised.value)
    assert "state_dir: is not set: by a flag, SYNDICATE_MANAGER_STATE_DIR or a" in str(raised.value)
    assert keeper(["--config", str(file)]) == 78
    told = capsys.readouterr().err
    assert f"{file}:1: max_queue: there is no such setting" in told
    assert "--instance: is not set: by a flag, SYNDICATE_KEEPER_INSTANCE or a configuration file" in told


def test_a_wrong_value_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is not blamed for it."""
    file = written(tmp_path, 'manager = ["m:1"]\nstate_dir = "/s"\ncache_bytes = 5\n')
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_CACHE_BYTES", "0")
    with pytest.raises(BadSettings, match=r"^cache_bytes: "):
        volunteer.load({}, file)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("daemon", [manager, volunteer])
@pytest.mark.parametrize("closed", ["the file", "its folder"])
def test_a_file_that_is_closed_to_its_user(tmp_path: Path, daemon: Any, closed: str) -> None:
    """It is told in a line, and is no crash."""
    file = written(tmp_path, 'state_dir = "/s"\n')
    (file if closed == "the file" else tmp_path).chmod(0o000)
    os.seteuid(65_534)
    try:
        with pytest.raises(
            (manager.BadSettings, BadSettings), match=rf"^{file} cannot be read \(permission denied\)$"
        ):
            daemon.load({}, file)
    finally:
        os.seteuid(0)


def test_a_wrong_value_of_the_volunteer(tmp_path: Path) -> None:
    """A list's line is that of its key."""
    file = written(tmp_path, 'state_dir = "/s"\nmanager = [\n  "m:1",\n  "m",\n]\n')
    with pytest.raises(BadSettings, match=rf"^{file}:2: manager: 'm' is not HOST:PORT"):
        volunteer.load({}, file)


def test_a_wrong_value_of_the_keeper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So do its own errors, also of syntax and of a file that is not there; status 78."""
    file = written(tmp_path, 'instance = "syn"\nslots = 0\nvolunteer_uid = "nobody-at-all"\n')
    assert keeper(["--config", str(file), "--run-dir", "/run/x", "--state-dir", "/var/x"]) == 78
    told = capsys.readouterr().err
    assert f"syndicate-keeper: {file}:2: slots: " in told
    assert f"syndicate-keeper: {file}:3: volunteer_uid: this machine has no user nobody-at-all" in told
    file.write_text("slots = \n")
    assert keeper(["--config", str(file)]) == 78
    assert f"{file}: Invalid value (at line 1, column 9)" in capsys.readouterr().err
    assert keeper(["--config", f"{file}.not"]) == 78
    assert "there is no such configuration file" in capsys.readouterr().err


def test_a_variable_that_is_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and no file is blamed; a volunteer's managers need none."""
    file = written(tmp_path, 'state_dir = "/s"\n')
    monkeypatch.setenv("SYNDICATE_MANAGER_LIMITS", "pids=5")
    monkeypatch.setenv("SYNDICATE_KEEPER_NEVER_CUT", "10.0.0.1")
    monkeypatch.setenv("SYNDICATE_VOLUNTEER_MANAGER", "m:7001")

    with pytest.raises(manager.BadSettings, match=r"^SYNDICATE_MANAGER_LIMITS: it is no JSON$"):
        manager.load({}, file)
    assert keeper(["--instance", "syn"]) == 78
    assert "syndicate-keeper: SYNDICATE_KEEPER_NEVER_CUT: it is no JSON" in capsys.readouterr().err
    assert volunteer.load({}, file).manager == ("m:7001",)


@pytest.mark.parametrize("find", [line_of, managers_line_of])
def test_lines_of_keys(find: object) -> None:
    """Dotted, quoted and indented keys, tables, and what is written nowhere."""
    assert callable(find)
    text = '"a" = 1\n[b]\n  c.d = 2\n[ e . f ]\ng = { h = 1 }\n'
    wanted = {("a",): 1, ("b", "c", "d"): 3, ("e", "f", "g", "h"): 5, ("b",): 2, ("z",): None}
    assert {path: find(text, path) for path in wanted} == wanted


def test_both_daemons_have_the_same_text_for_it() -> None:
    """Neither may import the other, so it stands in both: what is mended in one is mended in the other."""
    texts = [Path(str(part.__file__)).with_name("toml_lines.py").read_text() for part in (manager, volunteer)]

    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (("127.0.0.1", "::1"), ""),
        (("10.9.9.9",), "10.9.9.9"),
        (("127.0.0.1", "10.9.9.9"), "10.9.9.9"),
        ((), ""),
    ],
)
def test_clear_text_follows_localhost_to_no_other_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: tuple[str, ...], told: str
) -> None:
    """Where /etc/hosts does not have the name, others would hear the token, or reach the listener."""

    def lookup(*_words: Any, **_options: Any) -> list[Any]:
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    of_volunteer = {
        "manager": ["localhost:7001"],
        "insecure": True,
        "token_file": tmp_path / "token",
        "state_dir": tmp_path,
    }
    of_manager = {"state_dir": tmp_path, "insecure": True, "listen_users": "localhost:7000"}
    assert is_loopback("localhost:7001") is manager.is_loopback("localhost:7000") is (not told)
    if not told:
        volunteer.load(of_volunteer, None)
        manager.load(of_manager, None)
        return
    with pytest.raises(BadSettings, match=rf"machine only, not localhost:7001 \({told} here\)"):
        volunteer.load(of_volunteer, None)
    with pytest.raises(manager.BadSettings, match=rf"listen_users is localhost:7000 \({told} here\): "):
        manager.load(of_manager, None)
