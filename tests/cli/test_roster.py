"""What a roster may look like, and what is said of one that is wrong."""

from __future__ import annotations

import codecs

import pytest
from syndicate.cli.failure import CliError
from syndicate.cli.roster import MOST_USERS, read_roster
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1.scheduler_pb2 import User

PLAIN = b"name,role,team,machines\nalice,staff,,none\nbob,,red,4\n"


def names(data: bytes) -> list[str]:
    return [entry.name for entry in read_roster(data, "r.csv")]


def mistakes(data: bytes) -> list[str]:
    """What is said of it, line by line, below the headline."""
    with pytest.raises(CliError) as caught:
        read_roster(data, "r.csv")
    assert caught.value.code == 65
    assert caught.value.message.startswith("r.csv has ")
    return list(caught.value.lines)


def test_columns_become_fields() -> None:
    """Words for roles and bounds; what is empty is the default."""
    alice, bob = (entry.over(None) for entry in read_roster(PLAIN, "r.csv"))
    assert (alice.role, alice.team, alice.quota.machines) == (scheduler.USER_ROLE_STAFF, "", -1)
    assert (bob.role, bob.team, bob.quota.machines) == (scheduler.USER_ROLE_STUDENT, "red", 4)


def test_what_has_no_column_stays() -> None:
    """Of a user that is there only the roster's columns change."""
    there = User(name="bob", role=scheduler.USER_ROLE_STUDENT, team="red", disabled=True)
    there.quota.machines = 3
    [entry] = read_roster(b"name,team\nbob,blue\n", "r.csv")
    after = entry.over(there)
    assert (after.team, after.disabled, after.quota.machines) == ("blue", True, 3)
    assert there.team == "red"


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r"),
        PLAIN.replace(b"alice", b'"alice"').replace(b"red", b'" red "'),
        PLAIN.replace(b"alice", b' "alice"').replace(b"red", b'  "red"'),
        PLAIN.replace(b"bob", b"\n\n , ,\t,\n  bob "),
        PLAIN.rstrip(),
        PLAIN + b"\n\r\n",
    ],
    ids=["mark", "crlf", "cr", "quotes", "blanks around quotes", "empty lines", "no end", "empty end"],
)
def test_habits_of_spreadsheets_are_taken(data: bytes) -> None:
    """None of them changes what the roster says."""
    assert [entry.over(None) for entry in read_roster(data, "r")] == [
        entry.over(None) for entry in read_roster(PLAIN, "r")
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"name,team\n", "line 1: there is no user in it"),
        (b"team\nred\n", "line 1: there is no column `name`."),
        (b"name,e-mail\nbob,b@c\n", "line 1, column 2: unknown: 'e-mail'. There are: name, role,"),
        (b"name,\nbob,x\n", "line 1, no name stands over column 2"),
        (b"name,team,team\nbob,a,b\n", "line 1, column 3: team is there twice"),
        (b"name;team\nbob;red\n", "line 1: its columns are separated by semicolons; save it with commas"),
        (b"name\tteam\nbob\tred\n", "line 1: its columns are separated by tabs; save it with commas"),
        (b"name\nbob\nBob Smith\n", "line 3, column name: 'Bob Smith' is no name"),
        (b"name\n" + b"a" * 64 + b"\n", "is no name"),
        (b"name,team\n,red\n", "line 2, column name: it is empty"),
        (b"name\nbob\n\nann\nbob\n", "line 5, column name: bob is in line 2 already"),
        (b"name,role\nbob,boss\n", "line 2, column role: 'boss' is no role: there are student, staff, admin"),
        (b"name,team\nbob,Team 1\n", "line 2, column team: 'Team 1' is no name"),
        (b"name,machines\nbob,0\n", "line 2, column machines: '0' is no bound"),
        (b"name,machines\nbob,-1\n", "line 2, column machines: '-1' is no bound"),
        (b"name,machines\nbob,99999999999\n", "line 2, column machines: '99999999999' is no bound"),
        (b"name,team\nbob\n", "line 2: 1 value, and 2 columns"),
        (b"name\nbob,red\n", "line 2: 2 values, and 1 column"),
        (b'name\nbob\n"ann\ncarl\n', "line 3 to 4: a quote is not closed"),
        (b'name\n"bob"x\n', "line 2: "),
        (b"name\nbob\nM\xfcller\n", "line 3, byte 2: it is no UTF-8; save it as UTF-8"),
        (codecs.BOM_UTF16_LE + "name\nbob\n".encode("utf-16-le"), "line 1: it is written in UTF-16"),
        ("name\nbob\n".encode("utf-16-le"), "line 1: it is written in UTF-16 or UTF-32; save it as UTF-8"),
        ("name\nbob\n".encode("utf-16-be"), "line 1: it is written in UTF-16 or UTF-32; save it as UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00\xff", "it is a spreadsheet's own file; save it as CSV"),
        (b"name\nbo\x00b\n", "line 2"),
        (b"name\n\x1b[2Jbob\n", "line 2, column name: '\\x1b[2Jbob' is no name"),
        (b"name\n" + b"x\n" * (5 << 20), "it is larger than 8 MiB"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(data: bytes, says: str) -> None:
    """One clear line for each mistake: which line, which column, what it may be."""
    [line] = mistakes(data)
    assert says in line


def test_all_mistakes_are_told_at_once() -> None:
    """In their order; of very many the first twenty, and how many more."""
    lines = mistakes(b"name,role,machines\nA,boss,x\nbob,,\nbob,,\n")
    assert [line.partition(":")[0] for line in lines] == [
        "line 2, column name", "line 2, column role", "line 2, column machines", "line 4, column name",
    ]  # fmt: skip
    many = mistakes(b"name\n" + b"".join(b"A%d\n" % number for number in range(30)))
    assert len(many) == 21 and many[-1] == "and 10 lines more"


def test_a_roster_has_a_bound() -> None:
    """As many users as the manager takes at once, and no more."""
    rows = [f"u{number}\n".encode() for number in range(MOST_USERS + 1)]
    assert len(names(b"name\n" + b"".join(rows[:-1]))) == MOST_USERS
    [line] = mistakes(b"name\n" + b"".join(rows))
    assert line == f"line {MOST_USERS + 2}: more than 10,000 users"
