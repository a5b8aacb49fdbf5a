"""What is taken from the folder of a cluster's manager, whose user may put anything there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from syndicate.cli import cluster_files
from syndicate.cli.context import Context, Given, resolve, write_context
from syndicate.cli.failure import CliError
from syndicate.cli.unprivileged import UNPRIVILEGED_UID

from tests.cli.conftest import Ctl

TOKEN = f"syn_admin_{'0a' * 32}"
SECRET = f"syn_other_{'5e' * 32}"


@pytest.fixture
def cluster_folder(tmp_path: Path) -> Path:
    """The folder of a cluster, as its manager and `up` leave it; beside it a secret of root's."""
    own = tmp_path / "cluster" / "manager"
    (own / "tls").mkdir(parents=True)
    (own / "admin.token").write_text(f"{TOKEN}\n")
    (own / "tls" / "ca.pem").write_text("a certificate")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    for path in (own, own / "admin.token", own / "tls", own / "tls" / "ca.pem"):
        os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    return tmp_path / "cluster"


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda path: path.symlink_to(path.parents[2] / "secret"), "symbolic link"),
    "link to nothing": (lambda path: path.symlink_to("nothing"), "symbolic link"),
    "hard link": (lambda path: path.hardlink_to(path.parents[2] / "secret"), "second name"),
    "fifo": (os.mkfifo, "no plain file"),
    "folder": (Path.mkdir, "no plain file"),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "it is a socket"),
    "too much": (lambda path: path.write_text("s" * 100_000), "too large"),
    "more than a token": (lambda path: path.write_text(f"{SECRET}\n{SECRET}\n"), "no token"),
    "another word": (lambda path: path.write_text("hunter2\n"), "no token"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\n"), "no token"),
    "empty": (lambda path: path.write_text(""), "no token"),
    "nothing": (lambda path: None, "no such file"),
}


def test_the_token_that_a_manager_wrote(cluster_folder: Path) -> None:
    """Its own file, of its own user; root's is as good."""
    path = cluster_files.token_file(cluster_folder)
    assert cluster_files.read_token(cluster_folder) == TOKEN
    os.chown(path, 0, 0)
    assert cluster_files.read_token(cluster_folder) == TOKEN


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_no_token_of_its_own_is_refused(cluster_folder: Path, kind: str) -> None:
    """At once, by name, with the reason, and without a letter of what was found."""
    path = cluster_files.token_file(cluster_folder)
    path.unlink()
    plant, why = PLANTED[kind]
    plant(path)

    with pytest.raises(CliError) as refused:
        cluster_files.read_token(cluster_folder)

    told = refused.value.text()
    assert refused.value.code == 77 and f"{path} cannot be read" in told and why in told
    assert "syn_" not in told and "hunter2" not in told


def test_a_file_of_somebody_elses_is_refused(cluster_folder: Path) -> None:
    """Whoever else laid it there, it is not the manager's."""
    os.chown(cluster_files.token_file(cluster_folder), 12345, 12345)
    with pytest.raises(CliError, match="another user, uid 12345"):
        cluster_files.read_token(cluster_folder)


@pytest.mark.parametrize("name", ["manager", "manager/tls"])
def test_no_folder_on_the_way_is_a_link(cluster_folder: Path, name: str) -> None:
    """Else another folder's files of the same names would be taken."""
    folder = cluster_folder / name
    folder.rename(cluster_folder.parent / "moved")
    folder.symlink_to(cluster_folder.parent / "moved")
    with pytest.raises(CliError, match="cannot be read"):
        cluster_files.read_ca(cluster_folder)


@pytest.mark.parametrize("by_name", [False, True])
def test_later_commands_take_the_token_so_too(
    cluster_folder: Path, tmp_path: Path, by_name: bool, bare_ctl: Ctl
) -> None:
    """By the context that `up` left, whether it is named or all there is."""
    path = cluster_files.token_file(cluster_folder)
    left = Context("127.0.0.1:7000", str(path), str(cluster_folder))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", left)
    given = Given(context="local" if by_name else None)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert resolve(given, environ).token == TOKEN

    path.unlink()
    path.symlink_to(tmp_path / "secret")

    with pytest.raises(CliError, match="symbolic link"):
        resolve(given, environ)
    assert bare_ctl("jobs").code == 77


def test_the_authority_is_read_here_where_it_is_the_clusters_own(cluster_folder: Path) -> None:
    """Any other name is left to whoever reads it."""
    own = str(cluster_files.ca_file(cluster_folder))
    assert cluster_files.authority(own, str(cluster_folder)) == b"a certificate"
    assert cluster_files.authority("/etc/ca.pem", str(cluster_folder)) == "/etc/ca.pem"
    assert cluster_files.authority("", "") == ""


@pytest.mark.parametrize("words", [("jobs",), ("login", "127.0.0.1:7000", "--token", "x")])
def test_later_commands_take_the_authority_so_too(
    cluster_folder: Path,
    tmp_path: Path,
    bare_ctl: Ctl,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    """A fifo in its place hangs nobody."""
    monkeypatch.delenv("SYNDICATE_INSECURE")
    path = cluster_files.ca_file(cluster_folder)
    token_file = str(cluster_files.token_file(cluster_folder))
    left = Context("127.0.0.1:7000", token_file, str(cluster_folder), str(path))
    write_context(tmp_path / "state" / "syndicate" / "context.toml", left)
    path.unlink()
    os.mkfifo(path)

    ended = bare_ctl(*words)

    assert ended.code == 77 and f"{path} cannot be read (it is no plain file)" in ended.err
