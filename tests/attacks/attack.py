"""An attack as a value: what it runs, what would be its success, and which defence it would need gone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from syndicate.client_api import Source
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

if TYPE_CHECKING:
    from tests.attacks.arena import Arena

INSIDE = Path(__file__).with_name("inside")
_ATTACKER = (INSIDE / "attacker.py").read_text()
GOT_IT = "ATTACK: got it: "


@dataclass(frozen=True)
class Ran:
    """What is known after an attack has run."""

    arena: Arena
    end: str
    """`succeeded exited_zero`: the job's state and reason; `refused SOURCE_TOO_LARGE`: never queued."""
    job: scheduler.Job | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the attacker was told, and what a `run` of its own adds for its `got`."""
    text: str = ""
    """Of a refusal: the words that came with it."""

    @cached_property
    def output(self) -> str:
        """All output of all its tasks, as text."""
        return "" if self.job is None else self.arena.output(self.job.job_id)

    @property
    def claims(self) -> list[str]:
        """What the attacking scripts say they got."""
        return [line.partition(GOT_IT)[2] for line in self.output.splitlines() if GOT_IT in line]

    @property
    def annotations(self) -> set[str]:
        """The bounds that its tasks met: `disk_full`, `pids_limit`, `log_limit`."""
        tasks = [] if self.job is None else self.job.tasks
        names = {common.Annotation.Name(each) for task in tasks for each in task.exit.annotations}
        return {name.removeprefix("ANNOTATION_").lower() for name in names}


@dataclass(frozen=True)
class Attack:
    """One attack; each text is Python that may `from attacker import *` and runs as that member of a job."""

    id: str
    tries: str
    """What it tries, in a few words, for the table of docs/security.md."""
    held_by: str
    """What holds it, likewise."""
    got: Callable[[Ran], str]
    """What of a success the host shows (not only what the attacker says), in words; empty for none."""
    ends: tuple[str, ...] = ("succeeded exited_zero",)
    """How the job may end: see Ran.end; a beginning of it is enough."""
    without: str = ""
    """`GROUP/NAME` of the defence without which it must succeed; several joined by `+`."""
    given: str = ""
    """A weakness that it takes for granted, named as `without` is: it must be repelled even so."""
    because: str = ""
    """Why its success cannot be shown, where there is no `without`."""

    master: str = ""
    slave: str = ""
    client: str = ""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    """More files of the job's source; a `Makefile` here replaces the one that runs the texts."""
    client_files: Mapping[str, str | bytes] = field(default_factory=dict)
    raw: Callable[[Mapping[str, Any]], bytes] | None = None
    """Makes the job's source itself, all bytes of the archive, from the facts."""
    machines: int = 1
    limits: common.Limits | None = None
    annotations: frozenset[str] = frozenset()
    """The bounds that it must have met."""
    time_limit_s: float = 100.0
    keep_disks: bool = False
    lose_unsynced: bool = False
    run: Callable[[Arena, Attack], Ran] | None = None
    """Does something else than submit one job and wait for its end."""
    gap_s: float = 5.0
    """The longest silence that the bystander may see, each time that the attack is run."""

    def __post_init__(self) -> None:
        assert bool(self.without) != bool(self.because), f"{self.id}: either `without` or `because`"


def makefile(texts: Mapping[str, str]) -> str:
    """One that runs each text, and waits where a member has none."""
    rules = [f"{role}:\n\t@exec python3 {role}.py\n" for role, text in texts.items() if text]
    rules += [f"{role}:\n\t@exec sleep 600\n" for role, text in texts.items() if not text]
    return f".PHONY: {' '.join(texts)}\n" + "".join(rules)


def job_source(attack: Attack, facts: Mapping[str, Any]) -> bytes:
    """The archive of its master and slaves."""
    if attack.raw is not None:
        return attack.raw(facts)
    return archive({"master": attack.master, "slave": attack.slave}, attack.files, facts)


def client_source(attack: Attack, facts: Mapping[str, Any]) -> bytes | None:
    """The archive of its client, if it has one."""
    if not attack.client and not attack.client_files:
        return None
    return archive({"client": attack.client}, attack.client_files, facts)


def archive(texts: Mapping[str, str], files: Mapping[str, str | bytes], facts: Mapping[str, Any]) -> bytes:
    """A source of these scripts by role, with what they import, and further files."""
    scripts = {f"{role}.py": text for role, text in texts.items() if text}
    told = {"attacker.py": _ATTACKER, "facts.json": json.dumps(dict(facts))}
    return tar({"Makefile": makefile(texts)} | scripts | told | dict(files))


def tar(files: Mapping[str, str | bytes]) -> bytes:
    """A plain tar of these files; a name with `bin/` in it is made executable."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_000_000_000
            member.mode = 0o755 if "bin/" in name else 0o644
            packed.addfile(member, io.BytesIO(data))
    return out.getvalue()


def as_source(data: bytes) -> Source:
    """Bytes as something to upload, without the looks that the client's own packing takes at them."""
    digest = hashlib.sha256(data).hexdigest()
    return Source(
        io.BytesIO(data), sha256=digest, size=len(data), name="attack", label="attack", makefile=None
    )


def claimed(ran: Ran) -> str:
    """Evidence for attacks whose only witness can be the attacker: what it says it got."""
    return "; ".join(ran.claims)


def each(attacks: tuple[Attack, ...]) -> pytest.MarkDecorator:
    """Runs a test once for each."""
    return pytest.mark.parametrize("attack", attacks, ids=[attack.id for attack in attacks])


def each_given(attacks: tuple[Attack, ...]) -> pytest.MarkDecorator:
    """Runs a test once for each that takes a weakness for granted."""
    return each(tuple(attack for attack in attacks if attack.given))


def each_shown(attacks: tuple[Attack, ...]) -> pytest.MarkDecorator:
    """Runs a test once for each that can be shown to succeed without its defence."""
    return each(tuple(attack for attack in attacks if attack.without))
