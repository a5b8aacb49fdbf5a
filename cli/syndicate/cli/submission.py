"""``submit``: packs and checks the sources, sends what the manager lacks, queues the job."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from syndicate.cli import exit_codes
from syndicate.cli.failure import NOTHING, CliError
from syndicate.cli.follow import follow, goes_on
from syndicate.cli.render import words
from syndicate.cli.render.job_lines import advice, labelled, labelled_text, queue_text
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import bytes_text, plural
from syndicate.cli.terminal import Terminal
from syndicate.client_api import (
    IGNORE_FILE,
    BadRequest,
    SchedulerClient,
    Source,
    SourceRefused,
    Uploaded,
    pack,
    require_targets,
)
from syndicate.v1.common_pb2 import JobState, Limits
from syndicate.v1.scheduler_pb2 import GetClusterResponse, JobSpec

_BAR_FROM_BYTES = 1 << 20
_MOST = (1 << 31) - 1
"""What the protocol's numbers hold."""
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_OPTIONS = {
    "machines": "-n",
    "clients": "--clients",
    "name": "--name",
    "keep_disks": "--keep-disks",
    "time_limit_s": "--time-limit",
    "limits.memory_bytes": "--memory",
    "limits.cpu_millis": "--cpus",
    "limits.pids": "--pids",
    "limits.disk_bytes": "--disk",
    "limits.disk_inodes": "--inodes",
    "limits.open_files": "--files",
    "limits.file_bytes": "--file-size",
    "limits.log_head_bytes": "--log",
}
"""The options that fill the fields of a job."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. None stands for the manager's default."""

    path: str
    machines: int = 1
    client: str | None = None
    clients: int | None = None
    no_client: bool = False
    name: str = ""
    time_limit_s: float = 0.0
    everything: bool = False
    follow: bool = False
    as_json: bool = False
    limits: Limits = field(default_factory=Limits)
    """Bounds of each task; 0 for the manager's default."""
    keep_disks: bool = False
    lose_unsynced: bool = False


def submit(client: SchedulerClient, wish: Wish, terminal: Terminal) -> int:
    """Submits a job, and follows it if asked to. Returns the exit code."""
    _check_wish(wish)
    cluster = client.cluster()
    _check_against(cluster, wish)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(pack(wish.path, cluster.max_source_bytes, everything=wish.everything))
        require_targets(source, ("master", "slave") if wish.machines > 1 else ("master",))
        client_source = None
        if wish.client is not None:
            client_source = stack.enter_context(
                pack(wish.client, cluster.max_source_bytes, everything=wish.everything)
            )
            require_targets(client_source, ("client",), who="client")
        spec = _spec(wish, source, client_source)
        sources = [("uploaded", source)] + ([("client", client_source)] if client_source is not None else [])
        for label, each in sources:
            _tell_left_out(each, each.name if label == "uploaded" else "the client", terminal)
        try:
            job_id = _queue(client, spec, sources, terminal)
        except BadRequest as error:
            raise _bad_field(error) from None
    return _tell(client, job_id, spec, wish, terminal)


def _queue(
    client: SchedulerClient, spec: JobSpec, sources: Sequence[tuple[str, Source]], terminal: Terminal
) -> int:
    """Submits before anything is sent: the manager says what else is wrong before it asks for the sources."""
    request_id = str(uuid.uuid4())
    try:
        job_id = client.submit(spec, request_id=request_id)
    except SourceRefused as error:
        if error.reason != "NO_SUCH_SOURCE":
            raise
    else:
        for label, source in sources:
            _tell_uploaded(Uploaded(source.sha256, source.size, True, 0), label, terminal)
        return job_id
    for label, source in sources:
        with _progress(source, terminal) as progress:
            uploaded = client.upload(source, progress)
        _tell_uploaded(uploaded, label, terminal)
    return client.submit(spec, request_id=request_id)


def _bad_field(error: BadRequest) -> BadRequest | CliError:
    """The same in the command's words: the option's name for the field's."""
    option = _OPTIONS.get(error.metadata.get("field", ""))
    if option is None:
        return error
    _, _, text = str(error).partition(" ")
    hint = error.metadata.get("hint", "").rstrip(".")
    return CliError(f"{option} {text}", f"{hint}. {NOTHING}" if hint else NOTHING, code=exit_codes.USAGE)


def _tell(client: SchedulerClient, job_id: int, spec: JobSpec, wish: Wish, terminal: Terminal) -> int:
    answer = {"name": spec.name, "source_sha256": spec.source_sha256, "client_sha256": spec.client_sha256}
    return tell_submitted(client, job_id, answer, terminal, following=wish.follow, as_json=wish.as_json)


def tell_submitted(
    client: SchedulerClient,
    job_id: int,
    answer: Mapping[str, object],
    terminal: Terminal,
    *,
    following: bool,
    as_json: bool,
) -> int:
    """Prints the new job's id, or follows it. ``answer`` is what JSON tells of it."""
    if as_json:
        answer = {"job_id": job_id, **answer}
        terminal.say(document({"event": "submitted", **answer} if following else answer))
    if following:
        return follow(client, job_id, terminal, as_json)
    if as_json:
        return exit_codes.OK
    if not terminal.out_is_terminal:
        terminal.say(str(job_id))  # for `id=$(syndicatectl submit …)`
        return exit_codes.OK
    try:
        job = client.job(job_id)
    except KeyboardInterrupt:
        raise goes_on(job_id) from None
    text = queue_text(job) if job.state == JobState.JOB_STATE_QUEUED else words.job_state(job.state).lower()
    terminal.say(labelled_text(f"job {job_id}", text, terminal.room))
    terminal.say(
        advice(
            f"Follow it:  syndicatectl follow {job_id}     Wait:  syndicatectl wait {job_id}", terminal.room
        )
    )
    return exit_codes.OK


def _check_wish(wish: Wish) -> None:
    if wish.name and not _NAME.fullmatch(wish.name):
        raise CliError(
            f"--name {wish.name!r} is no name of a job",
            f"It is written with a-z, 0-9 and -, at most 63 of them. {NOTHING}",
            code=exit_codes.USAGE,
        )
    if wish.no_client and (wish.client is not None or wish.clients):
        raise CliError("--no-client excludes --client and --clients", code=exit_codes.USAGE)
    if wish.clients is not None and wish.clients < 1:
        raise CliError(
            f"{wish.clients} clients asked for; at least 1 is needed",
            "For a job without clients:  --no-client",
            code=exit_codes.USAGE,
        )


def _spec(wish: Wish, source: Source, client_source: Source | None) -> JobSpec:
    return JobSpec(
        name=wish.name or source.name,
        source_sha256=source.sha256,
        machines=wish.machines,
        client_sha256=client_source.sha256 if client_source is not None else "",
        clients=wish.clients,
        time_limit_s=wish.time_limit_s,
        no_client=wish.no_client,
        limits=wish.limits,
        keep_disks=wish.keep_disks,
        lose_unsynced=wish.lose_unsynced,
    )


def _clients(wish: Wish, cluster: GetClusterResponse) -> int:
    """How many slots the clients of the job will take."""
    if wish.no_client:
        return 0
    if wish.client is not None:
        return 1 if wish.clients is None else wish.clients
    if not cluster.default_client_sha256:
        return 0
    return cluster.default_clients if wish.clients is None else wish.clients


def _check_against(cluster: GetClusterResponse, wish: Wish) -> None:
    """Refuses before anything is packed what cannot be meant; what fits, the manager decides."""
    if wish.clients is not None and wish.client is None and not cluster.default_client_sha256:
        raise CliError(
            "--clients needs a client: none was given, and the manager has no default one",
            "Name its source:  --client PATH",
            code=exit_codes.USAGE,
        )
    if wish.machines < 1:
        raise _impossible(wish, cluster, "a job needs at least 1")
    if max(wish.machines, _clients(wish, cluster)) > _MOST:
        raise _impossible(wish, cluster, f"the cluster has {plural(cluster.slots, 'slot')}")


def _impossible(wish: Wish, cluster: GetClusterResponse, why: str) -> CliError:
    clients = _clients(wish, cluster)
    asked = plural(wish.machines, "machine") + (f" and {plural(clients, 'client')}" if clients else "")
    largest = cluster.slots - clients
    fits = f"At most -n {largest} fits now" if largest > 0 else "Nothing fits now"
    return CliError(f"{asked} asked for, {why}", f"{fits}. {NOTHING}", code=exit_codes.REFUSED)


def _tell_uploaded(uploaded: Uploaded, label: str, terminal: Terminal) -> None:
    known = ""
    if uploaded.already_known:
        known = "  (already known)" if uploaded.sent_bytes else "  (already known: nothing sent)"
    terminal.note(labelled(label, f"{bytes_text(uploaded.size)}  sha256:{uploaded.sha256[:8]}…{known}"))


def _tell_left_out(source: Source, whose: str, terminal: Terminal) -> None:
    """What of a folder is not sent: by its name what the command chose, as a number what the user chose."""
    names, own = source.left_out.by_default, len(source.left_out.by_pattern)
    parts = []
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"{', '.join(names[:_NAMED])}{more} of {whose} (--all sends them)")
    if own:
        parts.append(f"{plural(own, 'entry', 'entries')} of {whose} ({IGNORE_FILE})")
    if parts:
        terminal.note(labelled_text("left out", "; ".join(parts), terminal.err_room))


@contextlib.contextmanager
def _progress(source: Source, terminal: Terminal) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, for a source large enough to wait for and a terminal to show it."""
    if not terminal.err_is_terminal or source.size < _BAR_FROM_BYTES:
        yield None
        return
    bar = Progress(
        TextColumn("uploading "), BarColumn(), DownloadColumn(),
        console=Console(file=terminal.err), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("upload", total=source.size)
        yield lambda sent, size: bar.update(task, completed=sent, total=size)
