"""What the end of a task means: the keeper's raw account in, a reason and one line for people out.

make tells lies: a file named like the target gives exit 0 and nothing is run; a missing target and a failed
recipe are both status 2. So its own last lines are read. A task can print such lines itself; it fools only
itself, since the reason decides nothing that its author could not have by other means.

The texts are those of GNU make 4.3 and 4.4 in the C locale, where quotes are plain; curly ones are read
too. Lines of a sub-make (`make[1]: …`) are the recipe's own output and say nothing about our target.
"""

from __future__ import annotations

import re
from dataclasses import replace
from signal import Signals

from .. import local
from .model import Annotation, Reason, Role, TaskExit

MAX_DETAIL = 300
"""Characters of a line of output that are shown."""

TARGETS = {Role.MASTER: "master", Role.SLAVE: "slave", Role.CLIENT: "client"}

_ANNOTATIONS = {
    local.Annotation.DISK_FULL: Annotation.DISK_FULL,
    local.Annotation.PIDS_LIMIT: Annotation.PIDS_LIMIT,
    local.Annotation.LOG_LIMIT: Annotation.LOG_LIMIT,
}
_QUOTED = r"['‘`]([^'’]*)['’]"
_UP_TO_DATE = re.compile(rf"make: {_QUOTED} is up to date\.")
_NOTHING = re.compile(rf"make: Nothing to be done for {_QUOTED}\.")
_NO_RULE = re.compile(rf"make: \*\*\* No rule to make target {_QUOTED}\.\s+Stop\.")
_NO_MAKEFILE = re.compile(r"make: \*\*\* No targets specified and no makefile found\.\s+Stop\.")
_FAILED = re.compile(r"make: \*\*\* \[[^\n]*\] (?:Error (\d+)|[^\n]+)")
_STOPPED = re.compile(r"(?:make: |[^\s:]+:\d+: )\*\*\* [^\n]*Stop\.")


def classify(ended: local.Exit, role: Role, stopping: bool = False) -> TaskExit:
    """Says why a generation ended. `stopping`: its slot was being released, so a kill was no fault."""
    annotations = tuple(_ANNOTATIONS[each] for each in ended.annotations)
    return replace(_classify(ended, role, stopping), annotations=annotations)


def _classify(ended: local.Exit, role: Role, stopping: bool) -> TaskExit:
    if ended.killed:
        return _killed(ended, stopping)
    if ended.status >= 128:
        return TaskExit(Reason.SIGNALED, ended.status, 0, f"make was ended by {_signal(ended.status - 128)}")
    if ended.status == 0:
        return _succeeded(ended, TARGETS[role])
    return _failed(ended, TARGETS[role])


def _killed(ended: local.Exit, stopping: bool) -> TaskExit:
    if ended.cause == "lease":
        detail = "ended because the volunteer had no manager for longer than its lease"
        return TaskExit(Reason.LEASE_EXPIRED, ended.status, 0, detail)
    if ended.cause == "memory":
        detail = "used more memory than it may and was ended. Let it use less, or ask for more with --memory"
        return TaskExit(Reason.OUT_OF_MEMORY, ended.status, 0, detail)
    if ended.cause == "host-memory":
        detail = "ended because its machine ran out of memory, though the task was within its own bound"
        return TaskExit(Reason.INFRASTRUCTURE, ended.status, 0, detail)
    if ended.cause == "release" or stopping:
        return TaskExit(Reason.STOPPED, ended.status)
    if ended.cause == "kill":
        return TaskExit(Reason.KILLED_BY_FAULT, ended.status)
    return TaskExit(
        Reason.INFRASTRUCTURE, ended.status, 0, f"ended by the keeper: {ended.cause}"[:MAX_DETAIL]
    )


def _succeeded(ended: local.Exit, target: str) -> TaskExit:
    detail = _nothing_run(ended, target)
    return TaskExit(Reason.NOTHING_RUN, 0, 0, detail) if detail else TaskExit(Reason.EXITED_ZERO)


def _nothing_run(ended: local.Exit, target: str) -> str:
    """The remedy where all of the output is make saying that it had nothing to do, else nothing."""
    if ended.log_bytes > len(ended.head):
        return ""
    lines = _text(ended.head).splitlines()
    if len(lines) != 1:  # make was given one target: it has one such line to say
        return ""
    phony = "client" if target == "client" else "master slave"
    if found := _UP_TO_DATE.fullmatch(lines[0]):
        name = found[1]
        return (
            f"make said “'{name}' is up to date” and ran nothing. A file or folder named `{name}` hides the "
            f"target. Add to the Makefile:  .PHONY: {phony}"
        )
    if found := _NOTHING.fullmatch(lines[0]):
        name = found[1]
        return (
            f"make said “nothing to be done for '{name}'” and ran nothing. The target `{name}` has no "
            f"recipe, or only a file of that name is there. Give it a recipe, and add:  .PHONY: {phony}"
        )
    return ""


def _failed(ended: local.Exit, target: str) -> TaskExit:
    text = _text(ended.tail or ended.head)
    if _NO_MAKEFILE.search(text):
        detail = "the source has no Makefile. Put one at the top of the tarball"
        return TaskExit(Reason.NO_MAKEFILE, ended.status, 0, detail)
    if any(found[1] == target for found in _NO_RULE.finditer(text)):
        needs = (
            "A client needs the target `client`"
            if target == "client"
            else ("A job needs the targets `master` and `slave`")
        )
        return TaskExit(Reason.NO_TARGET, ended.status, 0, f"the Makefile has no target `{target}`. {needs}")
    if failures := list(_FAILED.finditer(text)):
        last = failures[-1]
        return TaskExit(Reason.EXITED_NONZERO, ended.status, _recipe_status(last[1]), _shown(last[0]))
    if stops := list(_STOPPED.finditer(text)):
        return TaskExit(Reason.EXITED_NONZERO, ended.status, 0, _shown(stops[-1][0]))
    return TaskExit(Reason.EXITED_NONZERO, ended.status, 0, f"make ended with status {ended.status}")


def _recipe_status(digits: str | None) -> int:
    """make's `Error N`; a number that no process can end with was printed by somebody else."""
    status = int(digits) if digits and len(digits) <= 3 else 0
    return status if status <= 255 else 0


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")


def _shown(line: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in line[:MAX_DETAIL])


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({Signals(number).name})"
    except ValueError:  # real-time signals have no name
        return f"signal {number}"
