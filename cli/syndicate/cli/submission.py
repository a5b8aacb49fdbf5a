"""``submit``: packs and checks the sources, sends what the manager lacks, queues the job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from syndicate.cli import exit_codes
from syndicate.cli.failure import NOTHING, CliError
from syndicate.cli.follow import follow, goes_on
from syndicate.cli.render import words
from syndicate.cli.render.job_lines import labelled, queue_text, wrapped
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import bytes_text, plural
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient, Source, Uploaded, pack, require_targets
from syndicate.v1.common_pb2 import JobState
from syndicate.v1.scheduler_pb2 import GetClusterResponse, JobSpec

_BAR_FROM_BYTES = 1 << 20
_MOST = (1 << 31) - 1
"""What the protocol's numbers hold."""


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
    follow: bool = False
    as_json: bool = False


def submit(client: SchedulerClient, wish: Wish, terminal: Terminal) -> int:
    """Submits a job, and follows it if asked to. Returns the exit code."""
    _check_wish(wish)
    cluster = client.cluster()
    _check_against(cluster, wish)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(pack(wish.path, cluster.max_source_bytes))
        require_targets(source, ("master", "slave") if wish.machines > 1 else ("master",))
        client_source = None
        if wish.client is not None:
            client_source = stack.enter_context(pack(wish.client, cluster.max_source_bytes))
            require_targets(client_source, ("client",), who="client")
        _upload(client, source, "uploaded", terminal)
        if client_source is not None:
            _upload(client, client_source, "client", terminal)
        spec = _spec(wish, source, client_source)
    job_id = client.submit(spec)
    return _tell(client, job_id, spec, wish, terminal)


def _tell(client: SchedulerClient, job_id: int, spec: JobSpec, wish: Wish, terminal: Terminal) -> int:
    if wish.as_json:
        answer = {"job_id": job_id, "name": spec.name, "source_sha256": spec.source_sha256}
        answer["client_sha256"] = spec.client_sha256
        terminal.say(document({"event": "submitted", **answer} if wish.follow else answer))
    if wish.follow:
        return follow(client, job_id, terminal, wish.as_json)
    if wish.as_json:
        return exit_codes.OK
    if not terminal.out_is_terminal:
        terminal.say(str(job_id))  # for `id=$(syndicatectl submit …)`
        return exit_codes.OK
    try:
        job = client.job(job_id)
    except KeyboardInterrupt:
        raise goes_on(job_id) from None
    text = queue_text(job) if job.state == JobState.JOB_STATE_QUEUED else words.job_state(job.state).lower()
    first, *others = wrapped(text, terminal.width)
    terminal.say([labelled(f"job {job_id}", first.strip()), *others])
    terminal.say(
        labelled("", f"Follow it:  syndicatectl follow {job_id}     Wait:  syndicatectl wait {job_id}")
    )
    return exit_codes.OK


def _check_wish(wish: Wish) -> None:
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
    return CliError(f"{asked} asked for, {why}", f"{fits}. {NOTHING}", code=exit_codes.BAD_SOURCE)


def _upload(client: SchedulerClient, source: Source, label: str, terminal: Terminal) -> Uploaded:
    with _progress(source, terminal) as progress:
        uploaded = client.upload(source, progress)
    known = ""
    if uploaded.already_known:
        known = "  (already known)" if uploaded.sent_bytes else "  (already known: nothing sent)"
    size = bytes_text(source.size)
    terminal.note(labelled(label, f"{size}  sha256:{uploaded.sha256[:8]}…{known}"))
    return uploaded


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
