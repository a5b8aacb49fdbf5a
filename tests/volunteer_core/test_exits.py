"""What the end of a task means, from texts that make really prints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from syndicate.volunteer import local
from syndicate.volunteer.core.exits import classify
from syndicate.volunteer.core.model import Annotation, Reason, Role, TaskExit

STAMP = local.Stamp("boot", 1, 1)


def ended(
    status: int, output: str | bytes = b"", *, killed: bool = False, cause: str = "", more: int = 0
) -> local.Exit:
    """An exit with this output; `more` bytes of it lie between head and tail."""
    raw = output.encode() if isinstance(output, str) else output
    return local.Exit(1, status, killed, cause, STAMP, raw[:4096], raw[-4096:], len(raw) + more)


def really(folder: Path, makefile: str | None, target: str, *files: str) -> TaskExit:
    """Runs make as a sandbox does, and classifies what came of it."""
    if makefile is not None:
        (folder / "Makefile").write_text(makefile)
    for name in files:
        (folder / name).touch()
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["make", target],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return classify(ended(status, done.stdout), Role[target.upper()])


def test_a_recipe_that_ends_well_is_zero(tmp_path: Path) -> None:
    """With or without output."""
    assert really(tmp_path, "master:\n\t@true\n", "master") == TaskExit(Reason.EXITED_ZERO)


def test_a_file_that_hides_the_target_is_nothing_run(tmp_path: Path) -> None:
    """make says that it is up to date and exits 0; the remedy is named."""
    found = really(tmp_path, "master:\n\techo hi\n", "master", "master")

    assert found.reason is Reason.NOTHING_RUN
    assert "“'master' is up to date”" in found.detail
    assert found.detail.endswith("Add to the Makefile:  .PHONY: master slave")


def test_a_file_without_any_rule_is_nothing_run(tmp_path: Path) -> None:
    """make says that nothing is to be done."""
    found = really(tmp_path, "all:\n", "slave", "slave")

    assert found.reason is Reason.NOTHING_RUN
    assert "nothing to be done for 'slave'" in found.detail


def test_a_target_without_recipe_is_nothing_run(tmp_path: Path) -> None:
    """The same words, another cause; the text names both."""
    assert really(tmp_path, "client:\n", "client").reason is Reason.NOTHING_RUN


def test_a_missing_target_is_no_target(tmp_path: Path) -> None:
    """Ours, and named."""
    found = really(tmp_path, "master:\n\techo hi\n", "slave")

    assert (found.reason, found.exit_status) == (Reason.NO_TARGET, 2)
    assert "no target `slave`" in found.detail


def test_a_missing_prerequisite_is_the_recipes_failure(tmp_path: Path) -> None:
    """The target is there; what it needs is not."""
    found = really(tmp_path, "slave: nope\n", "slave")

    assert found.reason is Reason.EXITED_NONZERO
    assert "needed by 'slave'" in found.detail


def test_a_recipes_status_is_shown_behind_makes_own(tmp_path: Path) -> None:
    """make ends with 2 whatever the recipe ended with."""
    found = really(tmp_path, "master:\n\t@exit 7\n", "master")

    assert (found.reason, found.exit_status, found.recipe_status) == (Reason.EXITED_NONZERO, 2, 7)
    assert found.detail == "make: *** [Makefile:2: master] Error 7"


def test_a_sub_makes_words_are_the_recipes_own(tmp_path: Path) -> None:
    """Only the outermost make speaks of our target."""
    found = really(tmp_path, "master:\n\t@$(MAKE) sub\nsub:\n\t@exit 9\n", "master")

    assert (found.reason, found.recipe_status) == (Reason.EXITED_NONZERO, 2)


def test_a_sub_make_with_nothing_to_do_did_run(tmp_path: Path) -> None:
    """Its line is output like any other."""
    found = really(tmp_path, "master:\n\t@$(MAKE) sub\nsub:\n", "master")

    assert found.reason is Reason.EXITED_ZERO


def test_a_recipe_ended_by_a_signal_is_shown(tmp_path: Path) -> None:
    """make says Killed instead of a number."""
    found = really(tmp_path, "master:\n\t@kill -9 $$$$\n", "master")

    assert found.reason is Reason.EXITED_NONZERO
    assert found.detail == "make: *** [Makefile:2: master] Killed"


def test_a_makefile_that_does_not_parse_is_shown(tmp_path: Path) -> None:
    """make's own complaint is the line for people."""
    found = really(tmp_path, "master\n", "master")

    assert found.detail == "Makefile:1: *** missing separator.  Stop."


def test_no_makefile_at_all_reads_as_no_target(tmp_path: Path) -> None:
    """With a target named make says the same in both cases."""
    assert really(tmp_path, None, "master").reason is Reason.NO_TARGET


def test_no_makefile_is_told_where_make_says_so() -> None:
    """The text of a make that was given no target."""
    text = "make: *** No targets specified and no makefile found.  Stop.\n"

    assert classify(ended(2, text), Role.MASTER).reason is Reason.NO_MAKEFILE


@pytest.mark.parametrize("text", ["make: ‘master’ is up to date.\n", "make: `master' is up to date.\n"])
def test_other_quotes_are_read(text: str) -> None:
    """Curly ones, and those of older makes."""
    assert classify(ended(0, text), Role.MASTER).reason is Reason.NOTHING_RUN


@pytest.mark.parametrize(
    "text",
    ["", "hello\nmake: 'master' is up to date.\n", "make[1]: 'master' is up to date.\n"],
    ids=["silence", "more output", "a sub-make"],
)
def test_other_output_means_that_something_ran(text: str) -> None:
    """Only that one line alone says that nothing did."""
    assert classify(ended(0, text), Role.MASTER).reason is Reason.EXITED_ZERO


def test_long_output_means_that_something_ran() -> None:
    """Whatever its head looks like."""
    text = "make: 'master' is up to date.\n"

    assert classify(ended(0, text, more=5000), Role.MASTER).reason is Reason.EXITED_ZERO


def test_a_failure_line_behind_an_unfinished_line_is_found() -> None:
    """Both streams are read as one: the task's last line may lack its end."""
    found = classify(ended(2, "no newlinemake: *** [Makefile:3: slave] Error 3\n"), Role.SLAVE)

    assert found.recipe_status == 3


def test_a_number_that_no_process_ends_with_is_not_believed() -> None:
    """A task may print what it likes."""
    found = classify(ended(2, "make: *** [x] Error 99999999999999999999\n"), Role.MASTER)

    assert found.recipe_status == 0


def test_a_detail_is_one_printable_line() -> None:
    """Escapes of a task do not reach a terminal through it."""
    found = classify(ended(2, b"make: *** [x\x1b[31m] Error 1\n" + b"\xff"), Role.MASTER)

    assert found.detail.isprintable()


def test_a_signal_has_its_name() -> None:
    """128 + 15."""
    found = classify(ended(143), Role.MASTER)

    assert (found.reason, found.detail) == (Reason.SIGNALED, "make was ended by signal 15 (SIGTERM)")


@pytest.mark.parametrize(
    ("cause", "stopping", "reason"),
    [
        ("kill", False, Reason.KILLED_BY_FAULT),
        ("kill", True, Reason.STOPPED),
        ("release", False, Reason.STOPPED),
        ("lease", False, Reason.LEASE_EXPIRED),
        ("lease", True, Reason.LEASE_EXPIRED),
        ("host-memory", False, Reason.INFRASTRUCTURE),
        ("flood", False, Reason.INFRASTRUCTURE),
    ],
)
def test_what_the_keeper_ended_is_told_by_its_cause(cause: str, stopping: bool, reason: Reason) -> None:
    """A kill that is part of a release is no fault."""
    assert classify(ended(137, killed=True, cause=cause), Role.MASTER, stopping).reason is reason


def test_out_of_memory_is_told_with_the_bounds_that_were_met() -> None:
    """A task that ran out of memory has a reason of its own, whatever make's status; bounds come along."""
    annotations = (local.Annotation.PIDS_LIMIT,)
    ended = local.Exit(1, 2, True, "memory", local.Stamp("b", 1, 1), b"", b"", 0, annotations)

    found = classify(ended, Role.MASTER, stopping=True)

    assert (found.reason, found.exit_status) == (Reason.OUT_OF_MEMORY, 2)
    assert "memory" in found.detail
    assert found.annotations == (Annotation.PIDS_LIMIT,)


def test_memory_of_the_machine_is_told_as_the_machines() -> None:
    """Whoever reads it learns that nothing of the job's need be mended."""
    found = classify(ended(2, killed=True, cause="host-memory"), Role.MASTER)

    assert (found.reason, found.exit_status) == (Reason.INFRASTRUCTURE, 2)
    assert found.detail == (
        "ended because its machine ran out of memory, though the task was within its own bound"
    )
