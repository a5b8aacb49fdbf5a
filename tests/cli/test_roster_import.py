"""``user import``: all or none, once more without harm, and tokens that go to one file only."""

from __future__ import annotations

import csv
import errno
import os
import stat
from pathlib import Path

import pytest
from syndicate.cli import roster_import
from syndicate.client_api import SchedulerClient, SchedulerError
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_identity import STAFF, STUDENT
from tests.cli.fake_scheduler import FakeManager


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    """Three students, two of them in a team that is not there yet."""
    path = tmp_path / "roster.csv"
    path.write_text("name,team,submissions_per_day\nann,red,20\nbob,red,\ncarl,,none\n")
    return path


def read_tokens(path: Path) -> dict[str, str]:
    """Name to token, as the file says."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "token"]
    return {row[0]: row[1] for row in rows}


def test_a_roster_is_imported(ctl: Ctl, manager: FakeManager, roster: Path) -> None:
    """All users in one call, with the team of theirs."""
    ended = ctl("user", "import", str(roster))
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "roster     3 users: 3 new, 0 changed, 0 as they are",
        "teams      1 new: red",
    ]
    assert len(manager.scheduler.puts) == 1
    assert list(manager.scheduler.teams) == ["red"]
    assert manager.scheduler.users["carl"].quota.submissions_per_day == -1
    assert len(manager.scheduler.tokens) == 1


def test_a_second_import_changes_what_differs(ctl: Ctl, manager: FakeManager, roster: Path) -> None:
    """What has no column stays; what changes is told; where nothing does, no call is made."""
    ctl("user", "import", str(roster))
    ctl("user", "disable", "bob")
    roster.write_text("name,team,role\nann,blue,student\nbob,red,\ncarl,,staff\ndora,,\n")
    said = ctl("user", "import", str(roster)).out.splitlines()
    assert said == [
        "roster     4 users: 1 new, 2 changed, 1 as they are",
        "           ann: team blue (was red)",
        "           carl: role staff (was student)",
        "teams      1 new: blue",
    ]
    assert manager.scheduler.users["ann"].quota.submissions_per_day == 20
    assert manager.scheduler.users["bob"].disabled
    calls = len(manager.scheduler.puts)
    assert "0 new, 0 changed, 4 as they are" in ctl("user", "import", str(roster)).out
    assert len(manager.scheduler.puts) == calls


@pytest.mark.parametrize("columns", [("name", "ann"), ("name,role,machines", "ann,student,4")])
def test_a_roster_changes_what_it_has_columns_for(
    ctl: Ctl, manager: FakeManager, tmp_path: Path, columns: tuple[str, str]
) -> None:
    """What somebody else does between reading and change stays, also where he adds one of its users."""
    path = tmp_path / "r.csv"
    header, ann = columns
    path.write_text(f"{header}\n{ann}\n{ann.replace('ann', 'new')}\n")
    manager.scheduler.add_user("ann", STAFF if header == "name" else STUDENT)

    def other() -> None:
        for name in ("ann", "new"):
            manager.scheduler.add_user(name, STAFF, team="red")
            manager.scheduler.users[name].disabled = True
            manager.scheduler.users[name].quota.queued_jobs = 9

    manager.scheduler.meanwhile = other
    assert ctl("user", "import", str(path)).code == 0
    for name in ("ann", "new"):
        user = manager.scheduler.users[name]
        assert (user.team, user.disabled, user.quota.queued_jobs) == ("red", True, 9)
        assert (user.role, user.quota.machines) == ((STAFF, 0) if header == "name" else (STUDENT, 4))


def test_a_dry_run_changes_nothing(ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path) -> None:
    """It tells all the same, also how many tokens there would be, and makes no file."""
    ended = ctl("user", "import", str(roster), "--dry-run", "--tokens", str(tmp_path / "t.csv"))
    assert ended.out.splitlines()[-2:] == ["tokens     3 to be made", "dry run    nothing was changed"]
    assert manager.scheduler.puts == [] and not (tmp_path / "t.csv").exists()
    document = ctl("user", "import", str(roster), "--dry-run", "--json").document
    assert document == {
        "added": ["ann", "bob", "carl"], "changed": [], "unchanged": 0, "teams_added": ["red"],
        "dry_run": True, "tokens_made": 0,
    }  # fmt: skip


def test_each_user_gets_a_token_in_a_file(
    ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path
) -> None:
    """name,token; mode 0600; each works; and none is on standard output or error."""
    path = tmp_path / "tokens.csv"
    ended = ctl("user", "import", str(roster), "--tokens", str(path), "--expires", "90d")
    assert ended.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tokens = read_tokens(path)
    assert list(tokens) == ["ann", "bob", "carl"]
    for name, secret in tokens.items():
        assert secret not in ended.out + ended.err
        with SchedulerClient(manager.address, secret, insecure=True) as client:
            assert client.whoami().user.name == name
    assert f"tokens     3 made, in {path}, and nowhere else" in ended.out.splitlines()


def test_only_those_without_a_token_get_one(
    ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path
) -> None:
    """Who has one that works keeps it; where all have one there is no file."""
    manager.scheduler.add_user("ann", team="red")
    manager.scheduler.add_user("bob", team="red")
    ctl("token", "revoke", "t-3")
    path = tmp_path / "tokens.csv"
    assert ctl("user", "import", str(roster), "--tokens", str(path)).code == 0
    assert list(read_tokens(path)) == ["bob", "carl"]
    again = ctl("user", "import", str(roster), "--tokens", str(tmp_path / "more.csv"))
    assert "each user has one already: none is made, and no file" in again.out
    assert not (tmp_path / "more.csv").exists()


@pytest.mark.parametrize("there", ["file", "link"])
def test_a_token_file_that_is_there_is_not_touched(
    ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path, there: str
) -> None:
    """Neither it nor what a link leads to; nothing is imported then."""
    path, other = tmp_path / "tokens.csv", tmp_path / "other"
    if there == "file":
        path.write_text("precious")
    else:
        path.symlink_to(other)
    ended = ctl("user", "import", str(roster), "--tokens", str(path))
    assert ended.code == 73 and "is there already" in ended.err
    assert manager.scheduler.puts == [] and not other.exists()
    assert there == "link" or path.read_text() == "precious"


def test_tokens_are_printed_if_asked_for(ctl: Ctl, manager: FakeManager, roster: Path) -> None:
    """`--tokens -`: standard output is the CSV, what is said about it goes to standard error."""
    ended = ctl("user", "import", str(roster), "--tokens", "-")
    rows = list(csv.reader(ended.out.splitlines()))
    assert [row[0] for row in rows] == ["name", "ann", "bob", "carl"]
    assert all(row[1] in manager.scheduler.secrets for row in rows[1:])
    assert "3 made, above, shown this once" in ended.err
    roster.write_text("name\nemil\n")
    document = ctl("user", "import", str(roster), "--tokens", "-", "--json").document
    assert document["tokens"][0]["token"] in manager.scheduler.secrets


def test_a_wrong_roster_changes_nothing(ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path) -> None:
    """65, one line for each mistake; no user, no file."""
    roster.write_text("name,team\nann,red\nBob,red\nann,red\n")
    ended = ctl("user", "import", str(roster), "--tokens", str(tmp_path / "t.csv"))
    assert ended.code == 65
    assert ended.err.splitlines() == [
        f"error: {roster} has 2 mistakes, nothing was changed",
        "  line 3, column name: 'Bob' is no name: it is written with a-z, 0-9 and -, at most 63 of them",
        "  line 4, column name: ann is in line 2 already",
    ]
    assert manager.scheduler.puts == [] and not (tmp_path / "t.csv").exists()
    assert ctl("user", "import", str(tmp_path / "none.csv")).code == 65
    assert ctl("user", "import", str(tmp_path)).code == 65


def test_only_new_users(ctl: Ctl, manager: FakeManager, roster: Path) -> None:
    """--only-new refuses a roster with users that are there, and names their lines."""
    manager.scheduler.add_user("bob")
    ended = ctl("user", "import", str(roster), "--only-new")
    assert ended.code == 65 and "line 3: bob is there already" in ended.err
    assert manager.scheduler.puts == []


def test_what_the_manager_refuses_leaves_no_file(
    ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staff that imports staff: nothing is changed, and the file for the tokens is gone again."""
    monkeypatch.setenv("SYNDICATE_TOKEN", manager.scheduler.add_user("tutor", STAFF))
    roster.write_text("name,role\nann,\nfriend,staff\n")
    ended = ctl("user", "import", str(roster), "--tokens", str(tmp_path / "t.csv"))
    assert ended.code == 77
    assert "ann" not in manager.scheduler.users and not (tmp_path / "t.csv").exists()


def test_staff_gives_tokens_to_students_only(
    ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others in the roster that are as they should be are no hindrance."""
    monkeypatch.setenv("SYNDICATE_TOKEN", manager.scheduler.add_user("tutor", STAFF))
    manager.scheduler.users["friend"] = scheduler.User(name="friend", role=STAFF)
    roster.write_text("name,role\nann,student\nfriend,staff\n")
    path = tmp_path / "t.csv"
    assert ctl("user", "import", str(roster), "--tokens", str(path)).code == 0
    assert list(read_tokens(path)) == ["ann"]


@pytest.mark.parametrize(("error", "code"), [(SchedulerError("no"), 75), (KeyboardInterrupt(), 130)])
def test_what_stops_it_half_way_loses_no_token(
    ctl: Ctl,
    manager: FakeManager,
    roster: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    """The tokens that were made are in the file, the rest comes with the next run."""
    make, calls = SchedulerClient.create_token, []

    def fails_at_third(self: SchedulerClient, **values: object) -> object:
        calls.append(values)
        if len(calls) == 3:
            raise error
        return make(self, **values)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(SchedulerClient, "create_token", fails_at_third)
    path = tmp_path / "tokens.csv"
    ended = ctl("user", "import", str(roster), "--tokens", str(path))
    assert ended.code == code
    assert "2 of 3 tokens were made" in ended.err and f"They are in {path}." in ended.err
    assert list(read_tokens(path)) == ["ann", "bob"]
    rest = tmp_path / "rest.csv"
    assert ctl("user", "import", str(roster), "--tokens", str(rest)).code == 0
    assert list(read_tokens(rest)) == ["carl"]


def test_a_token_that_cannot_be_written_down_is_revoked(
    ctl: Ctl, manager: FakeManager, roster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: its user would have one that nobody knows, and get no other."""
    path = tmp_path / "tokens.csv"
    with monkeypatch.context() as patched:
        patched.setattr(roster_import, "create_private", lambda path: os.open("/dev/full", os.O_WRONLY))
        ended = ctl("user", "import", str(roster), "--tokens", str(path))
    assert ended.code == 75 and "0 of 3 tokens were made" in ended.err and "No space left" in ended.err
    assert ctl("user", "import", str(roster), "--tokens", str(path)).code == 0
    assert list(read_tokens(path)) == ["ann", "bob", "carl"]


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the file are whole tokens."""
    path, left, write = tmp_path / "t", [3, 0], os.write

    def short(descriptor: int, data: bytes) -> int:
        if not (most := left.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:most])

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    roster_import._append(descriptor, "name,token\n")
    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space left"):
        roster_import._append(descriptor, "ann,syn_1\n")
    os.close(descriptor)
    assert path.read_text() == "name,token\n"
