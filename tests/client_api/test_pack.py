"""Sources: what is packed, what is refused, and what a Makefile's text says."""

from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from syndicate.client_api import (
    MissingTarget,
    NoMakefile,
    PackError,
    SourceTooLarge,
    check_makefile,
    job_name,
    pack,
    require_targets,
)

MAKEFILE = ".PHONY: master slave\nmaster:\n\t./run\nslave:\n\t./run\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source with a script, a link, a subfolder."""
    root = tmp_path / "Lab 4"
    (root / "src").mkdir(parents=True)
    (root / "Makefile").write_text(MAKEFILE)
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o750)
    (root / "src" / "a.py").write_text("x = 1\n")
    (root / "link").symlink_to("src/a.py")
    return root


def members(source_path: Path) -> dict[str, tarfile.TarInfo]:
    with pack(source_path) as source:
        data = b"".join(source.chunks(1000))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: entry for entry in tar.getmembers()}


def test_the_same_tree_has_the_same_digest(tree: Path, tmp_path: Path) -> None:
    """Times, owners and the order of making do not change a byte; contents and exec bits do."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("src", "run", "link", "Makefile"):
        subprocess.run(["cp", "-a", str(tree / name), str(other / name)], check=True)
    os.utime(other / "run", (1, 1))
    os.chown(other / "run", 1234, 1234)
    with pack(tree) as one, pack(other) as two:
        assert one.sha256 == two.sha256
        assert (one.name, two.name) == ("lab-4", "other")
    (other / "run").chmod(0o640)
    with pack(tree) as one, pack(other) as two:
        assert one.sha256 != two.sha256


def test_entries_are_plain(tree: Path) -> None:
    """Entries belong to root, keep exec bits and links, and have one time."""
    found = members(tree)
    assert sorted(found) == ["Makefile", "link", "run", "src", "src/a.py"]
    assert (found["run"].mode, found["Makefile"].mode, found["src"].mode) == (0o755, 0o644, 0o755)
    assert found["link"].linkname == "src/a.py"
    assert {(entry.uid, entry.gid, entry.uname) for entry in found.values()} == {(0, 0, "")}
    assert len({entry.mtime for entry in found.values()}) == 1


def test_gnu_tar_reads_it(tree: Path, tmp_path: Path) -> None:
    """The archive is one for everybody, strange names included."""
    (tree / ("n" * 200 + "-ä")).write_bytes(b"1")
    (tree / os.fsdecode(b"bad-\xff")).write_bytes(b"2")
    with pack(tree) as source:
        (tmp_path / "a.tgz").write_bytes(b"".join(source.chunks(1 << 16)))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xzf", str(tmp_path / "a.tgz"), "-C", str(tmp_path / "out")], check=True)
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(os.listdir(os.fsencode(tree)))


def test_git_and_ignored_files_stay_behind(tree: Path) -> None:
    """.git never goes; .syndicateignore names the rest."""
    (tree / ".git").mkdir()
    (tree / ".git" / "HEAD").write_text("x")
    for name in ("a.o", "src/b.o", "build/x", "notes", "src/notes", "data/big.log"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("x")
    (tree / ".syndicateignore").write_text("# made\n*.o\nbuild/\n/notes\n\ndata/*.log\n")
    assert sorted(members(tree)) == [
        ".syndicateignore", "Makefile", "data", "link", "run", "src", "src/a.py", "src/notes",
    ]  # fmt: skip


def test_caches_and_the_like_stay_behind_unless_asked_for(tree: Path) -> None:
    """What lies beside a source is left out wherever it lies, told, and sent with `everything`."""
    names = [
        ".git/HEAD", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x", ".venv/bin/python", "a.o",
        "node_modules/left-pad/index.js", "src/__pycache__/a.pyc",
    ]  # fmt: skip
    with pack(tree) as clean:
        pass
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    (tree / ".syndicateignore").write_text("*.o\n.venv\n")
    left = [".git/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", "node_modules/", "src/__pycache__/"]
    with pack(tree) as source, pack(tree, everything=True) as whole:
        assert source.left_out.by_default == left
        assert source.left_out.by_pattern == whole.left_out.by_pattern == [".venv/", "a.o"]
        assert whole.left_out.by_default == []
        assert whole.sha256 != source.sha256
    (tree / ".syndicateignore").unlink()
    (tree / "a.o").unlink()
    with pack(tree) as again:
        assert again.sha256 == clean.sha256


def test_an_exception_in_the_ignore_file_is_refused(tree: Path) -> None:
    """A pattern that would silently mean something else is an error."""
    (tree / ".syndicateignore").write_text("*.o\n!keep.o\n")
    with pytest.raises(PackError, match="line 2"):
        pack(tree)


def test_special_files_are_refused(tree: Path) -> None:
    """A pipe or a socket cannot be sent; the message names it and the way out."""
    os.mkfifo(tree / "src" / "pipe")
    with pytest.raises(PackError, match="src/pipe is a named pipe") as caught:
        pack(tree)
    assert ".syndicateignore" in caught.value.remedy
    (tree / "src" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tree / "s"))
        with pytest.raises(PackError, match="s is a socket"):
            pack(tree)


def test_too_large_is_said_while_packing(tree: Path) -> None:
    """A folder that packs to more than the limit is refused with the limit."""
    (tree / "big").write_bytes(os.urandom(300_000))
    with pytest.raises(
        SourceTooLarge, match=r"more than 0\.25 MiB packed; the manager takes at most 0\.25 MiB"
    ):
        pack(tree, max_bytes=1 << 18)


def test_no_makefile(tmp_path: Path) -> None:
    """A folder without a Makefile, an empty one, and a path that is not there."""
    with pytest.raises(PackError, match="is empty"):
        pack(tmp_path)
    (tmp_path / "x").write_text("")
    with pytest.raises(NoMakefile, match="has no Makefile"):
        pack(tmp_path)
    with pytest.raises(PackError, match="no such file or directory"):
        pack(tmp_path / "nowhere")


def archive(path: Path, names: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # any mode
        for name, data in names.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.gz", "w:gz")])
def test_archives_are_taken_as_they_are(tmp_path: Path, name: str, mode: str) -> None:
    """The bytes of an archive are its own, and its Makefile is read."""
    path = archive(tmp_path / name, {"./Makefile": MAKEFILE.encode(), "big": b"x" * 100_000}, mode)
    with pack(path) as source:
        assert b"".join(source.chunks(777)) == path.read_bytes()
        assert (source.makefile, source.name, source.size) == (MAKEFILE, "a", path.stat().st_size)


def test_zstd_is_left_to_the_manager(tmp_path: Path, tree: Path) -> None:
    """The standard library cannot look into zstd, so nothing is claimed of it."""
    path = tmp_path / "lab.tar.zst"
    subprocess.run(f"tar -C '{tree}' -c . | zstd -q -o {path}", shell=True, check=True)
    with pack(path) as source:
        assert (source.makefile, source.name) == (None, "lab")
        require_targets(source, ("master",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is text\n" * 100, "is not a tar archive"),
        (gzip.compress(b"no tar at all" * 100), "is not a tar archive"),
        (b"BZh91AY&SY" + b"x" * 600, "is a bzip2 file"),
        (b"PK\x03\x04" + b"x" * 600, "is a zip file"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes, message: str) -> None:
    """Other files are refused with what they are."""
    path = tmp_path / "lab.tgz"
    path.write_bytes(data)
    with pytest.raises(PackError, match=message):
        pack(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_torn_archive(tmp_path: Path, mode: str, part: float) -> None:
    """An archive that is cut short is refused, wherever it is cut."""
    path = archive(tmp_path / "lab.tar", {"Makefile": MAKEFILE.encode(), "big": os.urandom(200_000)}, mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(PackError, match="cut short or damaged"):
        pack(path)


def test_an_archive_with_its_folder_inside(tmp_path: Path) -> None:
    """An archive of one folder, as GitHub makes them, is taken, and its Makefile is read."""
    path = archive(tmp_path / "lab4.tgz", {"lab4/Makefile": MAKEFILE.encode(), "lab4/run": b""})
    with pack(path) as source:
        assert source.makefile == MAKEFILE


def test_an_archive_with_its_folder_beside_others(tmp_path: Path) -> None:
    """A Makefile in one of several folders is not the source's; the folder is named with the remedy."""
    path = archive(tmp_path / "lab4.tgz", {"lab4/Makefile": MAKEFILE.encode(), "notes/run": b""})
    with pytest.raises(NoMakefile, match="in the folder `lab4`, not at its root") as caught:
        pack(path)
    assert "tar -C lab4 -czf lab4.tgz ." in caught.value.remedy


def test_missing_targets_are_named(tree: Path) -> None:
    """The error says what is missing, what is needed and what was found."""
    (tree / "Makefile").write_text("all: build\nbuild test master:\n\techo\n")
    with pack(tree) as source, pytest.raises(MissingTarget) as caught:
        require_targets(source, ("master", "slave"))
    assert caught.value.message == "Lab 4 has no Makefile target `slave`"
    assert caught.value.remedy == (
        "A job needs the targets `master` and `slave`. Found: all, build, master, test."
    )
    with pack(tree) as source, pytest.raises(MissingTarget, match="no Makefile target `client`") as caught:
        require_targets(source, ("client",), who="client")
    assert caught.value.remedy.startswith("A client needs the target `client`. ")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("master slave:\n\techo\n", ()),
        ("master: dep\n\techo\n\nslave : | dep\n\techo\n", ()),
        ("master::\n\techo\nslave&: x\n\techo\n", ()),
        ("master \\\n  slave: x\n", ()),
        ("  master: x\nifeq (1,2)\nslave: y\nendif\n", ()),
        ("X = master: slave:\nY := slave:\nexport Z ?= a:b\n", ("master", "slave")),
        (".PHONY: master slave\n", ("master", "slave")),
        ("# master: slave:\nmaster: # slave:\n", ("slave",)),
        ("all:\n\tmaster: slave:\n", ("master", "slave")),
        ("define X\nmaster:\nendef\nslave:\n", ("master",)),
        ("include other.mk\n", ()),
        ("-include other.mk\nmaster:\n", ()),
        ("$(TARGETS):\n\techo\n", ()),
        ("%:\n\techo $@\n", ()),
        ("%ter: x\n\techo\n", ("slave",)),
        ("%.o: %.c\n\tcc\n", ("master", "slave")),
        (".DEFAULT:\n\techo\n", ()),
        ("$(eval $(call rule,master))\n", ()),
        ("$(foreach t,master slave,$(eval $(t):;echo))\n", ()),
        ("", ("master", "slave")),
    ],
)
def test_targets_are_read_from_the_text(text: str, missing: tuple[str, ...]) -> None:
    """What is surely missing is found; what may be there by include, pattern or eval passes."""
    assert check_makefile(text, ("master", "slave")).missing == missing


def test_the_makefile_that_make_would_take(tree: Path) -> None:
    """GNUmakefile goes before makefile, makefile before Makefile."""
    (tree / "GNUmakefile").write_text("other:\n")
    with pack(tree) as source, pytest.raises(MissingTarget, match="`master` and `slave`"):
        require_targets(source, ("master", "slave"))


def test_reading_a_makefile_runs_nothing(tree: Path, tmp_path: Path) -> None:
    """A hostile Makefile is text."""
    (tree / "Makefile").write_text(f"X := $(shell touch {tmp_path}/ran)\nmaster slave:\n\techo\n")
    with pack(tree) as source:
        require_targets(source, ("master", "slave"))
    assert not (tmp_path / "ran").exists()


def test_a_makefile_outside_of_the_tree_is_not_read(tree: Path, tmp_path: Path) -> None:
    """A link that leads out of the tree is sent as a link and not looked into."""
    (tmp_path / "secret").write_text("root:x:0\n")
    (tree / "Makefile").unlink()
    (tree / "Makefile").symlink_to(tmp_path / "secret")
    with pack(tree) as source:
        assert source.makefile is None


@pytest.mark.parametrize(
    ("label", "name"),
    [("Lab_4.tar.gz", "lab-4"), ("x" * 80, "x" * 63), ("---", "job"), ("äöü", "job"), ("a.b.tgz", "a-b")],
)
def test_names_of_jobs(label: str, name: str) -> None:
    """A job's name is made of what its source is called."""
    assert job_name(label) == name
