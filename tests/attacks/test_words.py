"""Words that would be more than that: to a terminal, a shell, make, tar, or a path."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syndicate.client_api import SchedulerError
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran, claimed, each, each_shown, job_source
from tests.attacks.weak import WeakArena
from tests.support.cluster import BIN
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("words")
# What the command line itself sends to a terminal: plain colours, erasing a line, hiding the cursor.
_OWN = re.compile(r"\x1b\[(?:[0-9]{0,3}m|[0-9]?[KAGJ]|\?25[lh])|\r\n|\r")
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\u3164\ufeff\xad\U000e0000-\U000e007f]"
    "|\u0301{20}"
)
_NAMES = (
    *("x; touch /injected", "$(touch /injected)", "`touch /injected`", "$(shell touch /injected)", "${HOME}"),
    *("x\nMAKEFLAGS=--eval=$(shell touch /injected)", "x\n\n--eval=$(shell touch /injected)", "x\0y", "a b"),
    *("../../injected", "/injected", ".", "..", "%s%n", "{0.__class__}", "\x1b]0;syn\x07", "syn\u202egnp"),
    *(
        "A",
        "é",
        "x" * 64,
        "x\r",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "'; DROP TABLE jobs",
    ),
)
# These are names, and look like options.
_PLAIN_NAMES = ("--help", "-rf", "--", "-", "--eval")


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def shown(ran: Ran) -> str:
    """What reached a terminal, or a pipe, that should not."""
    return "; ".join(ran.facts["shown"])


def injected(ran: Ran) -> str:
    """What a name did, by the host's look, the manager's word or the attacker's."""
    return "; ".join(filter(None, [*ran.facts.get("taken", ()), ran.arena.bitten(), claimed(ran)]))


def _looked(arena: Arena, job_id: int) -> Iterator[str]:
    """What is unsafe of all that the command line shows of a job, on a terminal and through a pipe."""
    number = str(job_id)
    for words in (["logs", number], ["show", number], ["result", number], ["follow", number]):
        with on_terminal([str(BIN / "syndicatectl"), *words], arena.cluster.environment) as command:
            command.to_its_end(60.0)
        assert "syn" in command.raw, f"{words}: {command.raw!r}"
        if found := _UNSAFE.search(_OWN.sub("", command.raw)):
            yield f"{words[0]} on a terminal: {found[0]!r}"
        if "\x1b[31;5m" in command.raw:
            yield f"{words[0]} on a terminal: a colour of the attacker's"
        if words[0] == "follow":  # through a pipe it is what the others are
            continue
        piped = arena.cluster.ctl(*words)
        if found := _UNSAFE.search(piped.stdout + piped.stderr):
            yield f"{words[0]} through a pipe: {found[0]!r}"


def _escapes(arena: Arena, attack: Attack) -> Ran:
    """Runs it and looks; the raw output must hold what is not to be shown."""
    ran = arena.submit(attack)
    assert ran.job is not None, ran.text
    for raw in ("\x1b]52;c;", "\x1b[31;5m", "\u202e"):
        assert raw in ran.output, f"{raw!r} did not come as far"
    return Ran(arena, ran.end, ran.job, {**ran.facts, "shown": list(_looked(arena, ran.job.job_id))})


def _names(arena: Arena, attack: Attack) -> Ran:
    """Jobs of all these names; those that look like options run."""
    facts = arena.facts()
    source = arena.upload(job_source(attack, facts))
    taken: list[str] = []
    ran = None
    for name in (*_NAMES, *_PLAIN_NAMES):
        spec = scheduler.JobSpec(name=name, source_sha256=source, machines=1, no_client=True)
        try:
            job_id = arena.cluster.users.submit(spec)
        except (SchedulerError, ValueError):
            if name in _PLAIN_NAMES:
                raise
            continue
        ran = arena.finished(job_id, {**facts, "taken": taken})
        assert ran.end == "succeeded exited_zero" or name not in _PLAIN_NAMES, f"{name!r}: {ran.end}"
        if name not in _PLAIN_NAMES and (said := claimed(ran)):
            taken.append(f"{name!r}: {said}")
            break
    assert ran is not None
    return ran


def _refused(arena: Arena, call: Callable[[], Any], what: str) -> str:
    """What it answered where it should have refused."""
    try:
        answer = call()
    except (SchedulerError, ValueError):
        return ""
    return f"{what}: {str(answer)[:80]!r}"


def _other_names(arena: Arena, attack: Attack) -> Ran:
    """Paths and commands where users, teams, digests and tasks are named."""
    users, beside = arena.cluster.users, arena.bystander.job_id
    taken = []
    for name in _NAMES:
        if "\ud800" in name:
            continue
        user = scheduler.User(name=name, role=scheduler.USER_ROLE_STUDENT)
        taken.append(_refused(arena, lambda user=user: users.put_users([user]), f"user {name!r}"))
        named = scheduler.User(name="mallory", role=scheduler.USER_ROLE_STUDENT, team=name)
        taken.append(_refused(arena, lambda named=named: users.put_users([named]), f"team {name!r}"))
        taken.append(
            _refused(arena, lambda name=name: list(users.logs(beside, tasks=[name])), f"logs of {name!r}")
        )
        taken.append(_refused(arena, lambda name=name: users.create_token(user=name), f"token of {name!r}"))
        for digest in (name, "../" * 8 + "etc/passwd", "../admin.token"):
            spec = scheduler.JobSpec(source_sha256=digest, machines=1, no_client=True)
            taken.append(_refused(arena, lambda spec=spec: users.submit(spec), f"source {digest!r}"))
    return Ran(arena, "done", facts={**arena.facts(), "taken": [one for one in taken if one]})


_FILES = (
    *("--eval=$(shell touch injected)", "-f evil.mk", "MAKEFLAGS=--eval=$(shell touch injected)", "-C"),
    *("--checkpoint=1", "--checkpoint-action=exec=touch injected", "--to-command=touch injected", "-I touch"),
    *(
        "; touch injected",
        "$(touch injected)",
        "`touch injected`",
        "a\nb",
        "a\x1b]0;syntitle\x07\x1b[31;5m",
        "*",
    ),
    *(
        "syn\u202egnp.exe",
        "-",
        "--",
        "--help",
        " ",
        "~",
        "$HOME",
        "%s",
        "'",
        '"',
        "\\",
        "a\rb",
        "&",
        "|",
        ">injected",
    ),
)


def _hostile_folder(arena: Arena, attack: Attack) -> Ran:
    """Submits, as a user would, a folder with such a name and such files in it."""
    facts, output = arena.facts(), []
    with tempfile.TemporaryDirectory() as top:
        for folder_name in ("$(touch injected); touch injected", "x\x1b]0;syntitle\x07\u202e"):
            folder = Path(top) / folder_name
            folder.mkdir()
            for name in _FILES:
                (folder / name).write_text("syn")
            (folder / "evil.mk").write_text("$(shell touch injected)\n")
            (folder / "attacker.py").write_text(
                (Path(__file__).with_name("inside") / "attacker.py").read_text()
            )
            (folder / "facts.json").write_text("{}")
            (folder / "master.py").write_text(attack.master)
            (folder / "Makefile").write_text("master:\n\t@exec python3 master.py\n")
            done = arena.cluster.ctl("submit", str(folder), "-n", "1", "--no-client", "--follow")
            output += [done.stdout, done.stderr]
            assert done.returncode == 0, done.stderr
    told = "".join(output)
    # The listing that the job prints is its own output: it too is shown harmlessly.
    seen = [f"shown: {found[0]!r}"] if (found := _UNSAFE.search(told)) else []
    if "got it: " in told or Path("injected").exists():
        seen.append("a name was run")
    return Ran(arena, "done", facts={**facts, "taken": seen})


ATTACKS = (
    Attack(
        id="escape-codes",
        tries="ANSI, OSC, DCS, C1, bidi, unseen letters and heaps of marks in output, results and errors",
        held_by="the command line shows control characters and the like as escapes",
        master=script("escapes"),
        client=script("escapes_client"),
        client_files={"escapes.py": script("escapes")},
        run=_escapes,
        ends=("failed client_failed",),
        got=shown,
        because="the command line is no daemon to be started otherwise; that they came as far is asserted",
    ),
    Attack(
        id="job-names",
        tries="shell, make, environment lines, paths, formats and options in the name of a job",
        held_by="the manager takes names of a to z, 0 to 9 and `-`; the environment is data, line by line",
        files={
            "Makefile": "master:\n\t@echo $(SYNDICATE_JOB_NAME)\n\t@exec python3 master.py\n",
        },
        master=script("names_look"),
        run=_names,
        got=injected,
        without="words/names",
    ),
    Attack(
        id="other-names",
        tries="the same for users, teams, tokens, tasks, and the digests of sources",
        held_by="names of a to z, 0 to 9 and `-`; digests of 64 hexadecimal digits; tasks that the job has",
        run=_other_names,
        ends=("done",),
        got=injected,
        because="each has a rule of its own, which the tests of the manager show to be what refuses",
    ),
    Attack(
        id="file-names",
        tries="options of make and tar, shell, newlines, escape codes and bidi as names of files and folders",
        held_by="no name of a file becomes an argument or a line of a shell; the command line shows escapes",
        master="import os\nprint(sorted(os.listdir('.')))\n"
        "for name in os.listdir('.'):\n    print(name)\n" + script("names_look"),
        run=_hostile_folder,
        ends=("done",),
        got=injected,
        because="nothing is there to switch off: no program is given a name of a file",
    ),
)


@each(ATTACKS)
def test_attack_is_repelled(arena: Arena, attack: Attack) -> None:
    """It gets nothing, and all beside it is unharmed."""
    arena.assert_repelled(attack)


@each_shown(ATTACKS)
def test_attack_succeeds_without_its_defence(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets what it is after where its defence is gone, so that it is a real attack."""
    weak_arena.assert_succeeds(attack)
