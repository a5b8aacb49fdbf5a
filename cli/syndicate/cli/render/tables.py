"""Tables of plain text: columns aligned, no boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from syndicate.cli.render import words
from syndicate.cli.render.fit import UNLIMITED, elided, hung
from syndicate.cli.render.job_lines import state_word
from syndicate.cli.render.limits import limits_text
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.quantities import age_text, duration_text, plural, seconds_between
from syndicate.v1.common_pb2 import Stamp
from syndicate.v1.scheduler_pb2 import GetClusterResponse, Job, Node

_LEAST_CELL = 8
_MOST_JOBS = 3
_MOST_ALIGNED = 16
_DAY_S = 86_400
_SOON_S = 14 * _DAY_S


@dataclass(frozen=True, slots=True)
class Fit:
    """How a table is made to fit ``room`` columns: which of its own go first, which are shortened then."""

    room: int = UNLIMITED
    more: str = "…"
    """Stands for what was cut off."""
    dispensable: tuple[str, ...] = ()
    elastic: tuple[str, ...] = ()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], fit: Fit = Fit()) -> list[str]:
    """Left-aligned columns, three blanks apart, or two where it is tight; the last one ends the line."""
    columns = {name: [name, *(row[index] for row in rows)] for index, name in enumerate(header)}
    widths = {name: max(map(len, cells)) for name, cells in columns.items()}

    def over(gap: int) -> int:
        return sum(widths.values()) + gap * (len(widths) - 1) - fit.room

    gap = 3 if over(3) <= 0 else 2
    for name in fit.dispensable:
        if over(gap) > 0:
            del widths[name]
    elastic = [name for name in fit.elastic if name in widths]
    while over(gap) > 0 and (widest := max(elastic, key=lambda name: widths[name], default="")):
        if widths[widest] <= _LEAST_CELL:
            break
        widths[widest] -= 1
    return [
        (" " * gap)
        .join(f"{elided(columns[name][index], width, fit.more):<{width}}" for name, width in widths.items())
        .rstrip()
        for index in range(len(rows) + 1)
    ]


def jobs_table(
    jobs: Sequence[Job], now: Stamp, palette: Palette = PLAIN, room: int = UNLIMITED, more: str = "…"
) -> list[str]:
    """ID, NAME, OWNER, STATE, SLOTS, RESULT, AGE, RAN, of each job."""
    rows = [_job_row(job, now) for job in jobs]
    if not rows:
        return ["no jobs"]
    header = ("ID", "NAME", "OWNER", "STATE", "MACHINES", "RESULT", "AGE", "RAN")
    drawn = table(header, rows, Fit(room, more, elastic=("NAME", "OWNER")))
    return [drawn[0], *(_coloured(line, job, palette) for line, job in zip(drawn[1:], jobs, strict=True))]


def _coloured(line: str, job: Job, palette: Palette) -> str:
    word = words.job_state(job.state)
    return line.replace(word, state_word(job, palette), 1)


def _job_row(job: Job, now: Stamp) -> tuple[str, ...]:
    clients = f"+{job.spec.clients}" if job.spec.clients else ""
    result = words.outcome(job.result.outcome) if job.HasField("result") else ""
    if job.HasField("result") and job.result.HasField("score"):
        result += f" {job.result.score:g}"
    ran = ""
    if job.HasField("started_at"):
        end = job.ended_at if job.HasField("ended_at") else now
        ran = duration_text(max(0.0, seconds_between(job.started_at, end)))
    return (
        str(job.job_id),
        neutralise_text(job.spec.name),
        neutralise_text(job.owner),
        words.job_state(job.state),
        f"{job.spec.machines}{clients}",
        result,
        age_text(seconds_between(job.submitted_at, now)),
        ran,
    )


def nodes_table(nodes: Sequence[Node], now: Stamp, room: int = UNLIMITED, more: str = "…") -> list[str]:
    """ID, STATE, SLOTS (free of all), JOBS, CPUS, MEMORY, HEARD, VERSION, of each volunteer.

    And CERTIFICATE, the time until it expires, where they have any; CANNOT, where one of them cannot do some
    fault; UNSAFE, where isolation of tasks lacks something on one of them. Where it is too wide, VERSION,
    CPUS, MEMORY and CERTIFICATE go first; ids are shortened last. Certificates that expire within two weeks
    are told below.
    """
    if not nodes:
        return ["no volunteers"]
    rows = []
    for node in nodes:
        jobs = sorted({slot.job_id for slot in node.slots if slot.job_id})
        # An older manager tells by the job alone that a slot is busy.
        free = sum(1 for slot in node.slots if not (slot.busy or slot.job_id))
        others = any(slot.busy and not slot.job_id for slot in node.slots)
        heard = seconds_between(node.last_heard_at, now) if node.HasField("last_heard_at") else None
        rows.append(
            (
                neutralise_text(node.volunteer_id),
                words.node_state(node.state),
                f"{free} of {len(node.slots)} free",
                _jobs_of(jobs, others, room),
                str(node.total.cpus),
                f"{node.total.memory_bytes / (1 << 30):.1f} GiB",
                f"{age_text(heard)} ago" if heard is not None else "never",
                neutralise_text(node.version),
                _certificate_text(node, now),
                neutralise_text(", ".join(each.capability for each in node.cannot)) or "-",
                neutralise_text(", ".join(node.unsafe)) or "-",
            )
        )
    header = ["ID", "STATE", "SLOTS", "JOBS", "CPUS", "MEMORY", "HEARD", "VERSION", "CERTIFICATE"]
    header += ["CANNOT", "UNSAFE"]
    without = [] if any(node.unsafe for node in nodes) else ["UNSAFE"]
    if not any(node.cannot for node in nodes):
        without.append("CANNOT")
    if not any(node.HasField("certificate_expires_at") for node in nodes):
        without.append("CERTIFICATE")
    kept = [index for index, name in enumerate(header) if name not in without]
    dispensable = ("VERSION", "CPUS", "MEMORY", "CERTIFICATE")
    drawn = table(
        [header[index] for index in kept],
        [[row[index] for index in kept] for row in rows],
        Fit(room, more, dispensable, elastic=("CANNOT", "ID")),
    )
    return [*drawn, *_expiring(nodes, now)]


def cannot_lines(nodes: Sequence[Node], room: int = UNLIMITED) -> list[str]:
    """What volunteers cannot do and why: what the same ones cannot do for one reason is one line."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        for each in node.cannot:
            why = each.why.removeprefix(f"{each.capability}: ")  # which the line begins with as it is
            lacking.setdefault((each.capability, why), []).append(node.volunteer_id)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (capability, why), names in lacking.items():
        alike.setdefault((why, tuple(names)), []).append(capability)
    rows = [
        (neutralise_text(", ".join(what)), f"{neutralise_text(', '.join(names))}: {neutralise_text(why)}")
        for (why, names), what in alike.items()
    ]
    widest = max((len(what) for what, _ in rows), default=0)
    if widest > _MOST_ALIGNED:  # beside so long a list there would be no room for the reason
        return [line for what, text in rows for line in hung("cannot ", f"{what}   {text}", room)]
    return [line for what, text in rows for line in hung(f"cannot {what:<{widest}}   ", text, room)]


def _left_s(node: Node, now: Stamp) -> float | None:
    """Seconds until a volunteer's certificate expires; None where it has none."""
    if not node.HasField("certificate_expires_at"):
        return None
    return (node.certificate_expires_at.utc_ns - now.utc_ns) / 1e9


def _certificate_text(node: Node, now: Stamp) -> str:
    left = _left_s(node, now)
    if left is None:
        return "-"
    return f"{left / _DAY_S:.0f} days" if left >= 2 * _DAY_S else f"{max(0.0, left) / 3600:.0f} h"


def _expiring(nodes: Sequence[Node], now: Stamp) -> list[str]:
    """A line for volunteers that should have renewed by themselves long ago."""
    lefts = {node.volunteer_id: _left_s(node, now) for node in nodes}
    soon = [name for name, left in lefts.items() if left is not None and left < _SOON_S]
    if not soon:
        return []
    names = neutralise_text(", ".join(soon))
    return [f"certificates that expire soon: {names}   syndicatectl certs renew HOST"]


def _jobs_of(job_ids: Sequence[int], others: bool, room: int) -> str:
    """``3, 4, 7``; on a terminal the first three and how many more.

    With ``others``, jobs that one may not see: ``3, 4, others``.
    """
    shown = list(job_ids if room == UNLIMITED or len(job_ids) <= _MOST_JOBS else job_ids[:_MOST_JOBS])
    text = ", ".join(map(str, shown))
    if len(shown) < len(job_ids):
        text += f" +{len(job_ids) - len(shown)}"
    return ", ".join([*filter(None, [text]), *(["others"] if others else [])]) or "-"


def cluster_lines(cluster: GetClusterResponse, room: int = UNLIMITED) -> list[str]:
    """The cluster in numbers, a line each."""
    drained = f", {cluster.drained_slots} more drained" if cluster.drained_slots else ""
    client = cluster.default_client_sha256
    default = f"sha256:{client[:8]}…, {plural(cluster.default_clients, 'client')} a job" if client else "none"
    return [
        f"cluster        {neutralise_text(cluster.cluster_id)}, epoch {cluster.epoch}",
        f"slots          {cluster.free_slots} of {cluster.slots} free{drained}",
        f"jobs           {cluster.active_jobs} active, {cluster.queued_jobs} queued",
        f"default client {default}",
        f"source limit   {cluster.max_source_bytes / (1 << 20):g} MiB",
        *_limits_lines(cluster, room),
        f"version        {neutralise_text(cluster.version)}",
    ]


def _limits_lines(cluster: GetClusterResponse, room: int) -> list[str]:
    """What a task may use that asks for nothing, and at most; of a manager that says so."""
    if not cluster.HasField("default_limits"):
        return []
    return [
        *hung("limits         ", f"of a task: {limits_text(cluster.default_limits)}", room),
        *hung("               ", f"at most: {limits_text(cluster.max_limits)}", room),
    ]
