"""A course's roster: a CSV file of users, read whole and checked whole. No connection.

Its first line names the columns: ``name``, and any of ``role``, ``team``, ``running_jobs``, ``queued_jobs``,
``submissions_per_day``, ``machines``. Spreadsheets' habits are taken as they are: a byte order mark, CRLF,
quotes, blanks around a value, empty lines.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.quotas import QUOTAS, quota_number
from syndicate.cli.render.quantities import plural
from syndicate.v1 import scheduler_pb2
from syndicate.v1.scheduler_pb2 import User, UserRole

MOST_USERS = 10_000
"""As many as the manager takes at once."""
MOST_BYTES = 8 << 20
NAME = re.compile(r"[a-z0-9-]{1,63}")
_COLUMNS = ("name", "role", "team", *QUOTAS)
_SHOWN = 20
_ARCHIVE = b"PK\x03\x04"
"""How files of Excel and LibreOffice begin."""
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
ROLES: Mapping[str, UserRole.ValueType] = {
    "student": scheduler_pb2.USER_ROLE_STUDENT,
    "staff": scheduler_pb2.USER_ROLE_STAFF,
    "admin": scheduler_pb2.USER_ROLE_ADMIN,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One user of a roster: the values of its line, for the columns that the roster has."""

    line: int
    name: str
    values: Mapping[str, str | int | UserRole.ValueType] = field(default_factory=dict)

    def over(self, user: User | None) -> User:
        """The user as the roster has it; what it has no column for stays as it is, or is the default."""
        made = User(name=self.name, role=scheduler_pb2.USER_ROLE_STUDENT)
        if user is not None:
            made.CopyFrom(user)
        for column, value in self.values.items():
            setattr(made.quota if column in QUOTAS else made, column, value)
        return made


def read_roster(data: bytes, source: str) -> list[Entry]:
    """The users of a roster. Raises CliError with everything that is wrong with it, line by line."""
    problems: list[str] = []
    text = _decoded(data, problems)
    entries = [] if problems else list(_entries(text, problems))
    if not entries and not problems:
        problems.append("line 1: there is no user in it")
    if len(entries) > MOST_USERS:
        problems.append(f"line {entries[MOST_USERS].line}: more than {MOST_USERS:,} users")
    if problems:
        rest = len(problems) - _SHOWN
        more = [f"and {plural(rest, 'line')} more"] if rest > 0 else []
        count = plural(len(problems), "mistake")
        raise CliError(
            f"{source} has {count}, nothing was changed", *problems[:_SHOWN], *more, code=exit_codes.REFUSED
        )
    return entries


def _decoded(data: bytes, problems: list[str]) -> str:
    if len(data) > MOST_BYTES:
        problems.append(f"it is larger than {MOST_BYTES >> 20} MiB")
    elif data.startswith(_ARCHIVE):
        problems.append("it is a spreadsheet's own file; save it as CSV")
    elif data.startswith(_WIDE_MARKS) or 0 in data[:2]:  # in text of such a kind, without a mark
        problems.append("line 1: it is written in UTF-16 or UTF-32; save it as UTF-8")
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
            problems.append(f"line {line}, byte {column}: it is no UTF-8; save it as UTF-8")
    return ""


def _entries(text: str, problems: list[str]) -> Iterator[Entry]:
    rows = _rows(text, problems)
    line, header = next(rows, (1, []))
    columns = _header(line, header, problems)
    if not columns:
        return
    first_lines: dict[str, int] = {}
    for line, cells in rows:
        if len(cells) != len(columns):
            problems.append(
                f"line {line}: {plural(len(cells), 'value')}, and {plural(len(columns), 'column')}"
            )
            continue
        given = dict(zip(columns, cells, strict=True))
        name = given.pop("name")
        wrong = _name_problem(name, first_lines.get(name))
        if wrong:
            problems.append(f"line {line}, column name: {wrong}")
        first_lines.setdefault(name, line)
        values: dict[str, str | int | UserRole.ValueType] = {}
        for column, cell in given.items():
            try:
                values[column] = _value(column, cell)
            except ValueError as error:
                problems.append(f"line {line}, column {column}: {error}")
        yield Entry(line, name, values)


def _rows(text: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line that it begins in and its values without blanks."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    begin = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        where = f"line {begin}" if begin == reader.line_num else f"line {begin} to {reader.line_num}"
        what = "a quote is not closed" if "unexpected end" in str(error) else str(error)
        problems.append(f"{where}: {what}")


def _header(line: int, header: Sequence[str], problems: list[str]) -> Sequence[str]:
    """The names of the columns; none where they make no roster."""
    wrong = len(problems)
    known = f"There are: {', '.join(_COLUMNS)}."
    if len(header) == 1 and re.search("[;\t]", header[0]):
        sign = "semicolons" if ";" in header[0] else "tabs"
        problems.append(f"line {line}: its columns are separated by {sign}; save it with commas")
        return ()
    for number, column in enumerate(header, 1):
        if column not in _COLUMNS:
            what = (
                f"no name stands over column {number}"
                if not column
                else f"column {number}: unknown: {column!r}"
            )
            problems.append(f"line {line}, {what}. {known}")
        elif column in header[: number - 1]:
            problems.append(f"line {line}, column {number}: {column} is there twice")
    if "name" not in header and len(problems) == wrong:
        problems.append(f"line {line}: there is no column `name`. {known}" if header else "it is empty")
    return header if len(problems) == wrong else ()


def _name_problem(name: str, before: int | None) -> str:
    if not name:
        return "it is empty"
    if not NAME.fullmatch(name):
        return f"{name!r} is no name: it is written with a-z, 0-9 and -, at most 63 of them"
    return f"{name} is in line {before} already" if before is not None else ""


def _value(column: str, cell: str) -> str | int | UserRole.ValueType:
    """Raises ValueError with what is wrong."""
    if column == "role":
        return role_of(cell)
    if column == "team":
        if cell and not NAME.fullmatch(cell):
            raise ValueError(f"{cell!r} is no name: it is written with a-z, 0-9 and -, at most 63 of them")
        return cell
    return quota_number(cell)


def role_of(text: str) -> UserRole.ValueType:
    """The role of its word; a student's for an empty one. Raises ValueError for any other."""
    role = ROLES.get(text.strip().lower() or "student")
    if role is None:
        raise ValueError(f"{text!r} is no role: there are {', '.join(ROLES)}")
    return role
