"""``user``, ``team``, ``token``, ``publish``, ``audit`` and ``whoami``."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc
import pytest
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.conftest import Ctl
from tests.cli.fake_identity import ADMIN, ALL, READ, STAFF, STUDENT, stamp
from tests.cli.fake_scheduler import FakeManager, ended_job, log, running_job


def as_user(
    ctl: Ctl,
    manager: FakeManager,
    monkeypatch: pytest.MonkeyPatch,
    name: str = "eve",
    role: scheduler.UserRole.ValueType = STUDENT,
    team: str = "",
) -> Ctl:
    """The same command for another user."""
    monkeypatch.setenv("SYNDICATE_TOKEN", manager.scheduler.add_user(name, role, team))
    return ctl


def test_a_user_is_added_shown_and_listed(ctl: Ctl, manager: FakeManager) -> None:
    """With a role, a team that is there, and a quota; what is not said is the default."""
    assert ctl("team", "add", "red", "--running-jobs", "4").code == 0
    added = ctl("user", "add", "eve", "--team", "red", "--queued-jobs", "5", "--machines", "none")
    assert added.code == 0
    assert added.out.splitlines() == [
        "user       eve added: student, team red",
        "           Its token:  syndicatectl token create --user eve",
    ]
    assert manager.scheduler.users["eve"].quota == scheduler.Quota(queued_jobs=5, machines=-1)
    shown = ctl("user", "show", "eve").out.splitlines()
    assert shown[0] == "user       eve, student, team red"
    assert "quota      queued 5, machines unbounded" in shown
    assert "team       red, together: running 4" in shown
    assert shown[-1] == "tokens     none"
    table = ctl("user", "list").out.splitlines()
    assert table[0].split() == ["NAME", "ROLE", "TEAM", "STATE", "QUOTA"]
    assert table[1].split() == ["eve", "student", "red", "enabled", "queued", "5,", "machines", "unbounded"]
    assert [user["name"] for user in ctl("user", "list", "--json").document["users"]] == ["eve", "root"]


def test_a_user_gets_its_first_token_with_it(ctl: Ctl, manager: FakeManager) -> None:
    """Printed once, on a line of its own; in JSON beside the user."""
    said = ctl("user", "add", "eve", "--with-token", "--note", "first", "--expires", "90d").out
    secret = said.splitlines()[-1].strip()
    assert manager.scheduler.secrets[secret] == "t-2"
    assert "token      t-2, scope all, expires in 90d, note: first, of eve" in said.splitlines()
    document = ctl("user", "add", "ann", "--with-token", "--scope", "read", "--json").document
    assert document["user"]["name"] == "ann" and document["token"]["scope"] == "read"
    assert document["secret"] in manager.scheduler.secrets


def test_a_user_that_is_there_is_not_added(ctl: Ctl, manager: FakeManager) -> None:
    """65, with the command that changes it; it stays as it was."""
    manager.scheduler.add_user("eve", team="red")
    ended = ctl("user", "add", "eve", "--with-token")
    assert ended.code == 65
    assert ended.err == ("error: user eve is there already\n  Change it:  syndicatectl user change eve …\n")
    assert manager.scheduler.users["eve"].team == "red" and len(manager.scheduler.tokens) == 2


@pytest.mark.parametrize("words", [("user", "add"), ("team", "add")])
def test_a_name_that_is_none_is_told_in_words(ctl: Ctl, words: tuple[str, ...]) -> None:
    """As a roster tells it, and not by the protocol's field."""
    ended = ctl(*words, "Bob Smith")
    assert ended.code == 64
    assert (
        ended.err
        == "error: 'Bob Smith' is no name\n  It is written with a-z, 0-9 and -, at most 63 of them.\n"
    )


def test_a_team_that_is_mistyped_is_none(ctl: Ctl, manager: FakeManager) -> None:
    """Nobody is put into a team that is not there; the command that makes it is told."""
    ended = ctl("user", "add", "eve", "--team", "rde")
    assert ended.code == 66 and "syndicatectl team add rde" in ended.err
    assert "eve" not in manager.scheduler.users


def test_only_what_is_given_is_changed(ctl: Ctl, manager: FakeManager) -> None:
    """change leaves the rest as it is, and makes no call where nothing changes."""
    manager.scheduler.add_user("eve", team="red")
    manager.scheduler.users["eve"].quota.machines = 3
    assert "changed" in ctl("user", "change", "eve", "--running-jobs", "1").out
    eve = manager.scheduler.users["eve"]
    assert (eve.team, eve.quota.machines, eve.quota.running_jobs) == ("red", 3, 1)
    calls = len(manager.scheduler.puts)
    assert "is so already" in ctl("user", "change", "eve", "--running-jobs", "1").out
    assert len(manager.scheduler.puts) == calls
    assert ctl("user", "change", "eve", "--team", "", "--machines", "default", "--json").document == {
        "user": {
            "name": "eve", "role": "student", "team": "", "disabled": False,
            "quota": {"running_jobs": 1, "queued_jobs": 0, "submissions_per_day": 0, "machines": 0},
            "created_at": {
                "boot_id": "boot-m", "monotonic_ns": stamp(-3600).monotonic_ns, "utc_ns": stamp(-3600).utc_ns,
            },
            "in_force": None,
        },
        "changed": True,
    }  # fmt: skip
    assert ctl("user", "change", "nobody", "--role", "staff").code == 66


def test_what_others_change_meanwhile_stays(ctl: Ctl, manager: FakeManager) -> None:
    """Between reading and change: of a user, of one to be disabled, of a team. They are told as they are."""
    manager.scheduler.add_user("eve", team="red")
    red = manager.scheduler.teams["red"]
    manager.scheduler.teams["blue"] = scheduler.Team(name="blue")

    def other() -> None:
        eve = manager.scheduler.users["eve"]
        eve.disabled, eve.team, eve.quota.queued_jobs = True, "blue", 9
        red.quota.machines = 8

    manager.scheduler.meanwhile = other
    said = ctl("user", "change", "eve", "--running-jobs", "1", "--role", "student").out
    assert said == "user       eve changed: student, team blue, quota: running 1, queued 9\n"
    eve = manager.scheduler.users["eve"]
    assert (eve.disabled, eve.team, eve.quota) == (
        True,
        "blue",
        scheduler.Quota(running_jobs=1, queued_jobs=9),
    )

    manager.scheduler.add_user("eve", STAFF, team="red")
    assert ctl("user", "disable", "eve").code == 0
    eve = manager.scheduler.users["eve"]
    assert (eve.disabled, eve.team, eve.quota.queued_jobs) == (True, "blue", 9)

    red.quota.Clear()
    said = ctl("team", "add", "red", "--running-jobs", "2").out
    assert said == "team       red changed, quota of all members together: running 2, machines 8\n"


def test_what_is_given_is_sent_though_it_is_so(ctl: Ctl, manager: FakeManager) -> None:
    """A role that was asked for holds, also where somebody takes it away meanwhile."""
    manager.scheduler.add_user("eve", STAFF)

    def other() -> None:
        manager.scheduler.users["eve"].role = STUDENT

    manager.scheduler.meanwhile = other
    assert ctl("user", "change", "eve", "--role", "staff", "--machines", "3").code == 0
    assert manager.scheduler.users["eve"].role == STAFF
    assert list(manager.scheduler.puts[-1].update_mask.paths) == ["role", "quota.machines"]


def test_users_are_disabled_and_enabled(ctl: Ctl, manager: FakeManager) -> None:
    """All that are named or none; a disabled one is told so when it calls."""
    secret = manager.scheduler.add_user("eve")
    manager.scheduler.add_user("ann")
    assert ctl("user", "disable", "eve", "nobody").code == 66
    assert not manager.scheduler.users["eve"].disabled
    said = ctl("user", "disable", "eve", "ann").out
    assert said.count("disabled: its tokens are refused, its jobs go on") == 2
    refused = ctl("jobs", "--token", secret)
    assert refused.code == 77 and "refuses this user: it is disabled" in refused.err
    assert ctl("user", "enable", "eve", "--json").document == {"users": [{"name": "eve", "disabled": False}]}
    assert ctl("user", "enable", "eve").out == "user       eve is enabled already\n"


def test_the_last_admin_stays(ctl: Ctl) -> None:
    """Refused with what to do first."""
    ended = ctl("user", "disable", "root")
    assert ended.code == 65
    assert "syndicatectl user change NAME --role admin" in ended.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("user", "add", "x", "--role", "boss"),
            "--role: 'boss' is no role: there are student, staff, admin",
        ),
        (("user", "add", "x", "--machines", "0"), "--machines: '0' is no bound: it is a number from 1 to"),
        (("user", "add", "x", "--with-token", "--scope", "most"), "--scope 'most' is no scope"),
        (("token", "create", "--expires", "soon"), "--expires 'soon' is no duration"),
        (("token", "create", "--note", "a\nb"), "--note has at most 200 characters, all of them printable"),
        (("token", "create", "--note", "x" * 201), "--note has at most 200 characters"),
        (("team", "add", "red", "--queued-jobs", "x"), "--queued-jobs: 'x' is no bound"),
        (("audit", "--job", "x"), "--job must be a whole number of at least 0"),
    ],
)
def test_values_that_cannot_be(ctl: Ctl, words: tuple[str, ...], says: str) -> None:
    """64, and what it may be."""
    ended = ctl(*words)
    assert ended.code == 64
    assert ended.err.startswith(f"error: {says}")


def test_teams_are_added_changed_and_listed(ctl: Ctl, manager: FakeManager) -> None:
    """A second `add` changes what is given of the quota, and leaves the rest."""
    assert "red added" in ctl("team", "add", "red", "--machines", "8").out
    assert "red changed" in ctl("team", "add", "red", "--running-jobs", "2").out
    assert "is there already" in ctl("team", "add", "red").out
    manager.scheduler.add_user("eve", team="red")
    assert ctl("team", "list").out.splitlines()[1].split() == [
        "red", "1", "running", "2,", "machines", "8",
    ]  # fmt: skip
    assert ctl("team", "list", "--json").document["teams"][0]["members"] == 1


def test_a_token_goes_to_a_pipe_alone(ctl: Ctl, manager: FakeManager) -> None:
    """Standard output that is no terminal gets the token and nothing else."""
    secret = ctl("token", "create", "--note", "laptop").out.strip()
    assert manager.scheduler.secrets[secret] == "t-2"
    assert manager.scheduler.tokens["t-2"].note == "laptop"


def test_a_token_goes_to_a_file_of_its_own(ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """Mode 0600, not overwritten, and on standard output there is no token."""
    path = tmp_path / "eve.token"
    manager.scheduler.add_user("eve")
    ended = ctl("token", "create", "--user", "eve", "--to", str(path))
    assert ended.code == 0
    secret = path.read_text().strip()
    assert manager.scheduler.tokens[manager.scheduler.secrets[secret]].user == "eve"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in ended.out + ended.err
    again = ctl("token", "create", "--to", str(path))
    assert again.code == 73 and "is there already" in again.err
    assert len(manager.scheduler.tokens) == 3, "none was made in vain"


def test_a_token_that_is_refused_leaves_no_file(ctl: Ctl, manager: FakeManager, tmp_path: Path) -> None:
    """Nothing half-done."""
    assert ctl("token", "create", "--user", "nobody", "--to", str(tmp_path / "t")).code == 66
    assert not (tmp_path / "t").exists()
    manager.scheduler.tokens_left = 0
    full = ctl("token", "create")
    assert full.code == 65 and "syndicatectl token revoke ID" in full.err


def test_tokens_are_listed_without_secrets(ctl: Ctl, manager: FakeManager) -> None:
    """One's own, a user's, everybody's; when they end and when they were used."""
    secret = manager.scheduler.add_user("eve")
    manager.scheduler.tokens["t-2"].expires_at.CopyFrom(stamp(20 + 3 * 86400 + 60))
    manager.scheduler.tokens["t-2"].last_used_at.CopyFrom(stamp(10))
    assert "t-2" not in ctl("token", "list").out
    row = ctl("token", "list", "--user", "eve").out.splitlines()[1].split()
    assert row == ["t-2", "eve", "all", "20s", "ago", "10s", "ago", "in", "3d"]
    listed = ctl("token", "list", "--all", "--json")
    assert [token["token_id"] for token in listed.document["tokens"]] == ["t-2", "t-1"]
    assert secret not in listed.out


def test_tokens_of_nobody_are_told_as_such(ctl: Ctl, manager: FakeManager) -> None:
    """A name that is mistyped is none, and `--all` is not one user's."""
    manager.scheduler.add_user("eve")
    manager.scheduler.tokens.pop("t-2")
    assert ctl("token", "list", "--user", "eve").out == "no tokens\n"
    nobody = ctl("token", "list", "--user", "evee", "--json")
    assert (nobody.code, nobody.out) == (66, "") and "syndicatectl user list" in nobody.err
    both = ctl("token", "list", "--user", "eve", "--all")
    assert both.code == 64 and "--all and --user at once" in both.err


@pytest.mark.parametrize("option", [("--expires", "3d"), ("--scope", "read"), ("--note", "first")])
def test_options_of_a_token_that_is_not_made_are_refused(
    ctl: Ctl, manager: FakeManager, tmp_path: Path, option: tuple[str, str]
) -> None:
    """Nobody believes that a token has an end which was left out."""
    roster = tmp_path / "r.csv"
    roster.write_text("name\neve\n")
    added = ctl("user", "add", "eve", *option)
    assert added.code == 64 and f"{option[0]} is a token's" in added.err and "--with-token" in added.err
    imported = ctl("user", "import", str(roster), *option)
    assert imported.code == 64 and f"{option[0]} is a token's" in imported.err
    assert "--tokens FILE" in imported.err and "eve" not in manager.scheduler.users


def test_a_token_is_revoked(ctl: Ctl, manager: FakeManager) -> None:
    """By its id; a whole token in its place is taken for its id, and not passed on."""
    manager.scheduler.add_user("eve")
    made = ctl("token", "create", "--user", "eve").out.strip()
    assert ctl("token", "revoke", made).out == "token      t-3 of eve is revoked\n"
    assert manager.scheduler.tokens["t-3"].HasField("revoked_at")
    assert ctl("token", "revoke", "t-2", "--json").document["tokens"][0]["token_id"] == "t-2"
    unknown = ctl("token", "revoke", "t-99")
    assert unknown.code == 66 and "syndicatectl token list" in unknown.err


def test_several_tokens_are_revoked_or_none(ctl: Ctl, manager: FakeManager) -> None:
    """One that is not known: 66, and the others are as they were."""
    manager.scheduler.add_user("eve")
    ended = ctl("token", "revoke", "t-2", "t-99")
    assert ended.code == 66 and "Nothing was revoked." in ended.err
    assert not manager.scheduler.tokens["t-2"].HasField("revoked_at")


def test_revoking_the_token_in_use_comes_last(ctl: Ctl, manager: FakeManager) -> None:
    """The others are ended before it, and what then is to be done is told."""
    manager.scheduler.add_user("eve")
    ended = ctl("token", "revoke", "t-1", "t-2")
    assert ended.code == 0
    assert [line.split()[1] for line in ended.out.splitlines()] == ["t-2", "t-1"]
    assert "that was the token of these commands" in ended.err


def test_a_token_in_an_error_is_not_readable(ctl: Ctl, manager: FakeManager) -> None:
    """What stands where it should not is named without its secret."""
    token = "syn_0123abcd_" + "f" * 64
    for words in (("jobs", token), ("login", "127.0.0.1:1", token), ("show", token), ("login", token)):
        ended = ctl(*words)
        assert ended.code == 64, words
        assert "ffff" not in ended.err, words


def test_a_token_on_the_command_line_is_warned_of(ctl: Ctl, manager: FakeManager) -> None:
    """Each time, on standard error, before or behind the command."""
    secret = manager.scheduler.add_user("eve")
    for words in (("--token", secret, "whoami"), ("whoami", "--token", secret)):
        ended = ctl(*words)
        assert ended.code == 0
        assert ended.err.startswith("warning: others on this machine can read a token on a command line")
        assert secret not in ended.err + ended.out


@pytest.mark.parametrize("is_old", [False, True])
def test_whoami(ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch, is_old: bool) -> None:
    """Name, role, team, manager, token and what is left of the quota; a near end is told of."""
    manager.scheduler.fills_in_quotas = is_old
    as_user(ctl, manager, monkeypatch, team="red")
    manager.scheduler.tokens["t-2"].expires_at.CopyFrom(stamp(20 + 2 * 86400 + 60))
    ended = ctl("whoami")
    assert ended.out.splitlines() == [
        "user       eve, student, team red",
        f"manager    {manager.address}, of SYNDICATE_MANAGER",
        "token      t-2, scope all, expires in 2d",
        "quota      1 running of 2, 0 queued of 10, 1 machine in use of 8, 14 of 20 submissions a day left",
        "team       1 running of 4, 0 queued, 0 machines in use, any number of submissions",
    ]
    assert ended.err == "(the token expires in 2d: ask for another one in time)\n"
    document = ctl("whoami", "--json").document
    assert (document["user"]["name"], document["token"]["token_id"]) == ("eve", "t-2")
    assert document["team_usage"]["submissions_left"] == "inf"


def test_the_audit_log(ctl: Ctl, manager: FakeManager) -> None:
    """Newest first, a line each, by user, by job, denied only; of many the newest fifty."""
    for number in range(1, 61):
        manager.scheduler.lines.append(
            scheduler.AuditLine(
                line=number, at=stamp(number), who="eve", token_id="t-2", peer="10.0.0.9:4711",
                method="Submit", subject="job 7", allowed=number % 2 == 1,
                reason="" if number % 2 else "QUOTA_QUEUED",
            )
        )  # fmt: skip
    ended = ctl("audit")
    table = ended.out.splitlines()
    assert len(table) == 51 and "syndicatectl audit --all" in ended.err
    assert table[0].split() == ["WHEN", "WHO", "WHAT", "ABOUT", "RESULT", "FROM", "TOKEN"]
    assert table[1].split()[2:] == [
        "eve", "Submit", "job", "7", "denied", "QUOTA_QUEUED", "10.0.0.9:4711", "t-2",
    ]  # fmt: skip
    assert table[2].split()[6] == "ok"
    assert len(ctl("audit", "--all", "--denied").out.splitlines()) == 31
    assert ctl("audit", "--user", "ann").out == "no such calls\n"
    document = ctl("audit", "--job", "7", "--json").document
    assert (len(document["lines"]), document["more"]) == (50, True)


def test_what_is_the_staffs_is_not_a_students(
    ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """77, what it needs, and how to see who one is; too narrow a token says so too."""
    as_user(ctl, manager, monkeypatch)
    ended = ctl("audit")
    assert ended.code == 77
    assert ended.err == ("error: not allowed: this needs role staff\n  Who are you?  syndicatectl whoami\n")
    manager.scheduler.tokens["t-2"].scope = READ
    narrow = ctl("token", "create")
    assert narrow.code == 77 and "it needs scope all" in narrow.err


def test_staff_makes_students_only(ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes staff is an admin."""
    as_user(ctl, manager, monkeypatch, "tutor", STAFF)
    assert ctl("user", "add", "eve").code == 0
    assert ctl("user", "add", "friend", "--role", "staff").code == 77
    assert "friend" not in manager.scheduler.users


def test_a_job_is_published_and_hidden_again(ctl: Ctl, manager: FakeManager) -> None:
    """publish says who sees it; show says that it is so."""
    manager.scheduler.jobs[12] = ended_job()
    assert ctl("publish", "12").out.startswith("job 12     published: every user sees it")
    assert "published  every user sees it, with its clients' output" in ctl("show", "12").out
    assert ctl("publish", "12", "--undo", "--json").document == {"job_id": 12, "published": False}
    assert "published" not in ctl("show", "12").out
    assert ctl("publish", "99").code == 66


def test_a_student_sees_its_own_jobs_first(
    ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is told how to see the team's and those that are published; staff sees all without a word."""
    for number, owner in enumerate(("eve", "ann", "carl"), 1):
        manager.scheduler.jobs[number] = ended_job(number)
        manager.scheduler.jobs[number].owner = owner
    manager.scheduler.jobs[2].team = "red"
    staff = ctl("jobs")
    assert len(staff.out.splitlines()) == 4 and staff.err == ""
    as_user(ctl, manager, monkeypatch, team="red")
    own = ctl("jobs")
    assert [line.split()[2] for line in own.out.splitlines()[1:]] == ["eve"]
    assert own.err == "(your own; also your team's and published ones:  syndicatectl jobs --everybody)\n"
    assert [line.split()[2] for line in ctl("jobs", "--everybody").out.splitlines()[1:]] == ["ann", "eve"]
    assert ctl("jobs", "--owner", "ann").err == ""
    assert ctl("jobs", "--json").document["owner"] == "eve"
    assert ctl("show", "3").code == 66


def test_a_student_is_told_once_that_clients_are_left_out(
    ctl: Ctl, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, where there is a client, its output is not published and not asked for by name."""
    pieces = [log("master", 0, b"hello\n", 1.0), log("client-0", 0, b"graded\n", 2.0)]
    as_user(ctl, manager, monkeypatch)
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.jobs[12].owner = "eve"

    def logs(*words: str) -> tuple[int, str, str]:
        manager.scheduler.logs[12] = [list(pieces)]
        ended = ctl("logs", "12", *words)
        return ended.code, ended.out, ended.err

    note = "(without the clients' output: it is the staff's until they publish the job)\n"
    assert logs() == (0, "master    | hello\n", note)
    assert logs("--task", "master") == (0, "master    | hello\n", "")
    code, _, error = logs("--task", "client-0")
    assert code == 77 and "Staff can show it to everybody:  syndicatectl publish JOB" in error
    del manager.scheduler.jobs[12].tasks[-1]
    assert logs()[2] == ""
    manager.scheduler.jobs[12] = running_job()
    manager.scheduler.jobs[12].published = True
    assert logs()[1:] == ("master    | hello\nclient-0  | graded\n", "")
    del pieces[1:]
    assert logs()[1:] == ("master    | hello\n", ""), "a published client that said nothing is not left out"


@pytest.mark.parametrize("words", [("follow", "12"), ("follow", "12", "--json"), ("submit", "--follow")])
def test_follow_tells_a_student_once_that_clients_are_left_out(
    ctl: Ctl, manager: FakeManager, lab: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """At its end, on standard error; nothing where their output was among the rest."""
    as_user(ctl, manager, monkeypatch)
    pieces = [log("master", 0, b"hello\n", 1.0), log("client-0", 0, b"graded\n", 2.0)]
    words = (words[0], str(lab), *words[1:]) if words[0] == "submit" else words

    def errors(published: bool) -> str:
        job = ended_job()
        job.owner, job.published = "eve", published
        manager.scheduler.jobs[12] = job
        manager.scheduler.logs[12] = [list(pieces)]
        return ctl(*words).err

    assert errors(False).count("without the clients' output: it is the staff's") == 1
    assert "staff" not in errors(True)


@pytest.mark.parametrize(
    ("reason", "values", "code", "says"),
    [
        ("QUOTA_QUEUED", {"most": "5"}, 75, "syndicatectl cancel JOB"),
        ("QUOTA_SUBMISSIONS", {"retry_after_s": "4320.0"}, 75, "Try again in 1 h 12 min."),
        ("QUOTA_MACHINES", {"most": "4"}, 65, "Ask for fewer machines."),
        ("QUEUE_FULL", {}, 75, "Try again later."),
    ],
)
def test_a_bound_that_is_reached(
    ctl: Ctl, manager: FakeManager, lab: Path, reason: str, values: dict[str, str], code: int, says: str
) -> None:
    """What can be waited for is 75, what never fits 65; how long, or what to do."""
    refused = (grpc.StatusCode.RESOURCE_EXHAUSTED, reason, "that is the most", values)
    manager.scheduler.submit_error = refused
    ended = ctl("submit", str(lab))
    assert ended.code == code
    assert ended.err.splitlines()[-2] == "error: that is the most"
    assert says in ended.err


def test_admins_are_many(ctl: Ctl, manager: FakeManager) -> None:
    """With another admin the first one may go."""
    manager.scheduler.add_user("boss", ADMIN)
    assert ctl("user", "change", "boss", "--role", "staff").code == 0
    assert ctl("user", "change", "boss", "--role", "admin").code == 0
    assert ctl("user", "disable", "root").code == 0
    assert manager.scheduler.tokens["t-1"].scope == ALL
