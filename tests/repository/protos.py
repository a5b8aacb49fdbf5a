"""The protos with their comments, as protoc reads them."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from syndicate.manager.rpc.errors import STATUS_OF

from tests.support.cluster import ROOT

FOLDER = ROOT / "protos"
STATUSES = {code.name for code in grpc.StatusCode} - {"OK"}
# `NOT_FOUND            no such job (NO_SUCH_JOB).` and the lines that go on below it.
_ERROR_LINE = re.compile(r"^ +([A-Z_]{5,}) {2,}(\S.*)$")
_GOES_ON = re.compile(r"^ {8,}(\S.*)$")
_REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")


@dataclass(frozen=True)
class Element:
    """A commented part of a proto: `kind` is service, rpc, message, field, enum or value."""

    name: str
    kind: str
    comment: str


def descriptors() -> list[descriptor_pb2.FileDescriptorProto]:
    """All files, comments included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "all.binpb")
        files = sorted(str(path) for path in FOLDER.glob("syndicate/v1/*.proto"))
        words = ["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", "--include_source_info", *files]
        assert protoc.main(words) == 0
        return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def elements(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Element]:
    """Each part of a file that a reader looks up, with the comment before it."""
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for number, service in enumerate(file.service):
        yield Element(service.name, "service", comments.get((6, number), ""))
        for inner, rpc in enumerate(service.method):
            yield Element(f"{service.name}.{rpc.name}", "rpc", comments.get((6, number, 2, inner), ""))
    for number, message in enumerate(file.message_type):
        yield Element(message.name, "message", comments.get((4, number), ""))
        for inner, field in enumerate(message.field):
            yield Element(f"{message.name}.{field.name}", "field", comments.get((4, number, 2, inner), ""))
    for number, enum in enumerate(file.enum_type):
        yield Element(enum.name, "enum", comments.get((5, number), ""))
        for inner, value in enumerate(enum.value):
            yield Element(value.name, "value", comments.get((5, number, 2, inner), ""))


def errors(comment: str) -> dict[str, str]:
    """What a comment says of each status that it lists: status to text."""
    found: dict[str, str] = {}
    last = ""
    for line in comment.splitlines():
        if begin := _ERROR_LINE.match(line):
            last = begin[1]
            found[last] = f"{found.get(last, '')} {begin[2]}".strip()
        elif last and (more := _GOES_ON.match(line)):
            found[last] += f" {more[1]}"
        else:
            last = ""
    return found


def reasons(listed: Mapping[str, str]) -> set[tuple[str, str]]:
    """The (status, reason) pairs in a list of errors."""
    return {(status, word) for status, text in listed.items() for word in _REASON.findall(text)}


def answering() -> list[Path]:
    """The code that answers RPCs: the manager's, and a volunteer's relay."""
    return [*sorted((ROOT / "manager").rglob("*.py")), ROOT / "volunteer/syndicate/volunteer/relay.py"]


def reasons_in_code() -> dict[tuple[str, str], str]:
    """Each (status, reason) that the manager or a volunteer's relay can answer, with a place that does."""
    statuses = {kind.__name__: code.name for kind, code in STATUS_OF.items()}
    found: dict[tuple[str, str], str] = {}
    for path in answering():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (answer := _answer(node, statuses)):
                found.setdefault(answer, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def _answer(call: ast.Call, statuses: Mapping[str, str]) -> tuple[str, str] | None:
    """`NotFound("NO_SUCH_JOB", …)` and `refuse(…, StatusCode.NOT_FOUND, "NO_SUCH_JOB", …)`."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    status = statuses.get(name, "")
    for argument in call.args:
        if isinstance(argument, ast.Attribute) and argument.attr in STATUSES:
            status = argument.attr
        elif status:
            is_reason = isinstance(argument, ast.Constant) and _REASON.fullmatch(str(argument.value))
            return (status, str(argument.value)) if is_reason else None  # type: ignore[attr-defined]  # as checked
    return None
