"""``debug bundle``: one file with what a developer needs, and without what is nobody's business.

Each item is collected for itself: one that cannot be had is named with the reason, and the others are there
all the same. Nothing reads a token, a key, a source or the output of a task; what is collected goes through
`secrets_out` besides.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from syndicate.cli import debug_items as items
from syndicate.cli import exit_codes
from syndicate.cli.context import Given, context_path, read_context, resolve
from syndicate.cli.debug_items import Left, Place
from syndicate.cli.failure import CliError
from syndicate.cli.local_cluster import DEFAULT_DIRECTORY, read_running
from syndicate.cli.private_files import create_private
from syndicate.cli.render.job_lines import labelled, labelled_text
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import bytes_text, plural
from syndicate.cli.secrets_out import without_secrets
from syndicate.cli.terminal import Terminal

_ALWAYS_LEFT_OUT = (
    ("secrets", "tokens, keys and certificates' keys are never read"),
    ("sources and output of tasks", "they are their users' own:  syndicatectl logs JOB"),
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    output: str
    directory: str | None
    log_bytes: int
    as_json: bool


@dataclass(slots=True)
class Collected:
    """The files of a bundle by name, and what is not in it with the reason."""

    known: list[str]
    """Secrets that this command itself holds."""
    files: dict[str, bytes] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=lambda: list(_ALWAYS_LEFT_OUT))

    def add(self, name: str, make: Callable[[], str]) -> None:
        """One file; where it cannot be had, why."""
        try:
            text = make()
        except Left as why:
            self.left_out.append((name, without_secrets(str(why), self.known)))
        else:
            self.files[name] = without_secrets(text, self.known).encode()


def bundle(given: Given, terminal: Terminal, wish: Wish) -> int:
    """Collects, writes and tells. Raises CliError where the file cannot be written."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = Path(wish.output or f"syndicate-debug-{stamp}.tar.gz")
    place = _place(wish)
    with _created(path) as descriptor:
        collected = _collect(given, terminal, place, wish)
        data = _packed(f"syndicate-debug-{stamp}", collected)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
    if wish.as_json:
        left = [{"what": what, "why": why} for what, why in collected.left_out]
        values = {"file": str(path), "bytes": len(data), "files": sorted(collected.files)}
        terminal.say(document({**values, "left_out": left}))
        return exit_codes.OK
    count = plural(len(collected.files), "file")
    terminal.say(labelled("bundle", f"{path}  {bytes_text(len(data))}, {count}, mode 0600"))
    for label, (what, why) in zip(("left out", *[""] * 100), collected.left_out, strict=False):
        terminal.say(labelled_text(label, f"{what}: {why}", terminal.room))
    terminal.say(
        labelled_text("", "Read it before you send it: it names users, jobs and machines.", terminal.room)
    )
    return exit_codes.OK


def _place(wish: Wish) -> Place:
    """The cluster on this machine: that of `up`, or what systemd runs."""
    context = read_context(context_path(os.environ))
    directory = Path(wish.directory or (context.directory if context else DEFAULT_DIRECTORY)).resolve()
    try:
        running = read_running(directory) if directory.is_dir() else None
    except CliError:  # of another user, or damaged: then there is nothing to be had from it
        if wish.directory is not None:
            raise
        running = None
    if running is None and wish.directory is not None:
        raise CliError(
            f"no cluster is up in {directory}",
            "Without --dir the units of systemd are looked at.",
            code=exit_codes.NOT_FOUND,
        )
    return Place(directory if running is not None else None, running)


def _collect(given: Given, terminal: Terminal, place: Place, wish: Wish) -> Collected:
    try:
        target = resolve(given, os.environ)
        known, why = [target.token, os.environ.get("SYNDICATE_TOKEN", "")], ""
    except CliError as error:
        target, known, why = None, [os.environ.get("SYNDICATE_TOKEN", "")], error.message
    collected = Collected(known)
    collected.add("versions.json", items.versions)
    collected.add("machine.json", items.machine)
    collected.add("settings.json", lambda: items.settings(place))
    collected.add("doctor.json", items.doctor)
    collected.add("audit.json", lambda: items.audit(place))
    for part in items.PARTS:
        collected.add(f"logs/{part}.log", lambda part=part: items.log(place, part, wish.log_bytes))  # type: ignore[misc]  # a default binds the name
        if part != "keeper":
            collected.add(f"metrics/{part}.txt", lambda part=part: items.metrics(place, part))  # type: ignore[misc]  # as above
    if target is None:
        collected.left_out.append(("cluster.json, nodes.json, jobs.json", why))
    else:
        with target.connect(terminal) as client:
            collected.add("cluster.json", lambda: items.asked(lambda: items.cluster(client)))
            name, why = collected.left_out[-1]
            if name == "cluster.json":  # it would be asked for as long again, and again in vain
                collected.left_out[-1] = ("cluster.json, nodes.json, jobs.json", why)
            else:
                collected.add("nodes.json", lambda: items.asked(lambda: items.nodes(client)))
                collected.add("jobs.json", lambda: items.asked(lambda: items.jobs(client)))
    return collected


def _packed(folder: str, collected: Collected) -> bytes:
    """The archive. Its first file says what is in it, and what is not."""
    left = [{"what": what, "why": why} for what, why in collected.left_out]
    contents = document({"files": sorted(collected.files), "left_out": left}) + "\n"
    buffer = io.BytesIO()
    now = int(time.time())
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=now) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, data in {"contents.json": contents.encode(), **collected.files}.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, now
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@contextmanager
def _created(path: Path) -> Iterator[int]:
    """A new file of its owner's alone; gone again where it was not filled."""
    descriptor = create_private(path)
    try:
        yield descriptor
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
