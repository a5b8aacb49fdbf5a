"""Between the messages of the stream and the values of the core; enums go by their numbers.

What comes from the manager is checked here: a message that makes no sense raises Malformed, and the stream is
ended with that line rather than acted on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from socket import AF_INET, inet_ntop, inet_pton

from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as pb

from . import local
from .core import model

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LONGEST_ID = 255
_MOST_ADDRESSES = 10_000  # in each list, and as many members as a job can have
_MOST_LINKS = 2_000  # what fits into one request to the keeper
_LEAST_RATE, _MOST_RATE = 8_000, 1 << 50  # bits a second
_LONGEST_DELAY_MS = 600_000  # of all faults together
_MOST_SIGNAL = 64
_LOG_STREAMS = {
    local.LogStream.STDOUT: common.LOG_STREAM_STDOUT,
    local.LogStream.STDERR: common.LOG_STREAM_STDERR,
}


_BARRIER_ENDS = {
    local.BarrierEnd.OPENED: common.BARRIER_END_OPENED,
    local.BarrierEnd.DROPPED: common.BARRIER_END_DROPPED,
    local.BarrierEnd.ABANDONED: common.BARRIER_END_ABANDONED,
    local.BarrierEnd.LEFT: common.BARRIER_END_LEFT,
}


class Malformed(ValueError):
    """A message that makes no sense: one line that says which."""


# ---- to the manager -------------------------------------------------------------------------------------


def stamp_out(stamp: local.Stamp) -> common.Stamp:
    """An instant."""
    return common.Stamp(boot_id=stamp.boot_id, monotonic_ns=stamp.monotonic_ns, utc_ns=stamp.utc_ns)


def ref_out(ref: model.TaskRef) -> common.TaskRef:
    """A run of a task."""
    return common.TaskRef(
        cluster_id=ref.cluster_id,
        job_id=ref.job_id,
        attempt=ref.attempt,
        task=ref.task,
        generation=ref.generation,
    )


def resources_out(resources: model.Resources) -> common.Resources:
    """Processors, memory, disk."""
    return common.Resources(
        cpus=resources.cpus, memory_bytes=resources.memory_bytes, disk_bytes=resources.disk_bytes
    )


def exit_out(ended: model.TaskExit) -> common.TaskExit:
    """How a task ended."""
    return common.TaskExit(
        reason=common.Reason.ValueType(ended.reason),
        exit_status=ended.exit_status,
        recipe_status=ended.recipe_status,
        detail=ended.detail,
        annotations=[common.Annotation.ValueType(each) for each in ended.annotations],
    )


def hello_out(hello: model.Hello) -> pb.AttachRequest:
    """The first message."""
    held = [
        pb.HeldTask(
            task=ref_out(one.ref),
            slot=one.slot,
            address=one.address,
            state=common.TaskState.ValueType(one.state),
            exit=exit_out(one.exit) if one.exit else None,
        )
        for one in hello.held
    ]
    return pb.AttachRequest(
        hello=pb.Hello(
            volunteer_id=hello.volunteer_id,
            boot_id=hello.boot_id,
            slots=[pb.Slot(slot=number, fixed_address=address) for number, address in hello.slots],
            resources=resources_out(hello.resources),
            host_address=hello.host_address,
            prefix=hello.prefix,
            capabilities=hello.capabilities,
            held=held,
            highest_epoch=hello.highest_epoch,
            cluster_id=hello.cluster_id,
            network=pb.NetworkKind.ValueType(hello.network),
            reach_domain=hello.reach_domain,
            version=hello.version,
            sent_at=stamp_out(hello.sent_at),
            unsafe=hello.unsafe,
            instance=hello.instance,
            cannot=[
                common.Incapability(capability=one.capability, why=one.why[: local.MAX_WHY])
                for one in hello.cannot
            ],
        )
    )


def heartbeat_out(beat: model.Heartbeat, free: model.Resources) -> pb.AttachRequest:
    """A sign of life."""
    received_at = beat.last_ack_received_at
    return pb.AttachRequest(
        heartbeat=pb.Heartbeat(
            sequence=beat.sequence,
            sent_at=stamp_out(beat.sent_at),
            free=resources_out(free),
            last_ack_received_at=stamp_out(received_at) if received_at else None,
            last_ack_sequence=beat.last_ack_sequence,
            worn=beat.worn,
        )
    )


def answer_out(answer: model.Answer) -> pb.AttachRequest:
    """The answer to a command."""
    message = pb.AttachRequest()
    message.answers.answers.add(  # in its place: what is passed on is copied
        command_id=answer.command_id,
        code=pb.AnswerCode.ValueType(answer.code),
        detail=answer.detail,
        address=answer.address,
        processes=answer.processes,
        applied_at=stamp_out(answer.applied_at) if answer.applied_at else None,
        duration_ns=answer.duration_ns,
        dropped=answer.dropped,
    )
    return message


def event_out(event: model.TaskEvent) -> pb.AttachRequest:
    """How a generation ended, or what happened at barriers."""
    return pb.AttachRequest(
        event=pb.TaskEvent(
            task=ref_out(event.ref),
            event_id=event.event_id,
            at=stamp_out(event.at),
            exited=exit_out(event.exit) if event.exit else None,
            barriers=barriers_out(event.barriers) if event.barriers else None,
        )
    )


def barriers_out(news: local.BarriersTold) -> pb.BarrierNews:
    """What happened at barriers."""
    return pb.BarrierNews(
        rounds=[_round_out(each) for each in news.rounds],
        total=news.total,
        open=[_open_out(each) for each in news.open],
        more_open=news.more_open,
        trouble=news.trouble,
        last=news.last,
    )


def _round_out(one: local.BarrierRound) -> common.BarrierRound:
    return common.BarrierRound(
        barrier=one.barrier,
        end=_BARRIER_ENDS[one.end],
        began_at=stamp_out(one.began_at),
        ended_at=stamp_out(one.ended_at),
        error=one.error,
        inits=_tasks_out(one.inits),
        tasks=_tasks_out(one.tasks),
        others=one.others,
        left=one.left,
        rounds=one.rounds,
    )


def _open_out(one: local.OpenBarrier) -> common.OpenBarrier:
    return common.OpenBarrier(
        barrier=one.barrier,
        since=stamp_out(one.since),
        remaining=one.remaining,
        inits=_tasks_out(one.inits),
        tasks=_tasks_out(one.tasks),
        others=one.others,
        missing=one.missing,
        more_missing=one.more_missing,
        abandoned=one.abandoned,
        held=_tasks_out(one.held),
    )


def _tasks_out(tasks: Iterable[local.BarrierTask]) -> list[common.BarrierTask]:
    return [common.BarrierTask(task=one.task, count=one.count) for one in tasks]


def log_out(ref: model.TaskRef, piece: local.LogPiece) -> pb.AttachRequest:
    """A piece of output."""
    return pb.AttachRequest(
        log=pb.LogChunk(
            task=ref_out(ref),
            piece=common.LogPiece(
                offset=piece.offset,
                stream=_LOG_STREAMS[piece.stream],
                read_at=stamp_out(piece.at),
                data=piece.data,
                dropped_before=piece.dropped_before,
            ),
        )
    )


# ---- from the manager -----------------------------------------------------------------------------------


def source_in(source: pb.SourceRef) -> model.Source:
    """A source; its digest becomes a file's name, so it is held to its form. Raises Malformed."""
    if not _SHA256.fullmatch(source.sha256):
        raise Malformed(f"not a SHA-256 in 64 hexadecimal digits: {source.sha256!r:.80}")
    return model.Source(source.sha256, source.size)


def ref_in(ref: common.TaskRef) -> model.TaskRef:
    """A run of a task."""
    return model.TaskRef(ref.cluster_id, ref.job_id, ref.attempt, ref.task, ref.generation)


def welcome_in(welcome: pb.Welcome) -> model.Welcome:
    """The manager's first message. Raises Malformed."""
    if not welcome.cluster_id or welcome.heartbeat_interval_s <= 0 or welcome.orphan_after_s <= 0:
        raise Malformed("a Welcome without cluster, heartbeat interval or lease")
    return model.Welcome(
        session=welcome.session,
        cluster_id=welcome.cluster_id,
        epoch=welcome.epoch,
        prefix=welcome.prefix,
        warm=tuple(source_in(source) for source in welcome.warm),
        heartbeat_interval_s=welcome.heartbeat_interval_s,
        orphan_after_s=welcome.orphan_after_s,
    )


def command_in(command: pb.Command) -> model.Command:
    """A command. Raises Malformed, also for what only a newer manager can want."""
    name = command.command_id
    if not name or len(name) > _LONGEST_ID or not name.isprintable():
        raise Malformed(f"a command with the id {name!r:.80}: 1 to {_LONGEST_ID} printable characters")
    return model.Command(name, command.epoch, ref_in(command.task), command.slot, _action_in(command))


def _action_in(command: pb.Command) -> model.Action:
    match command.WhichOneof("action"):
        case "reserve":
            return model.Reserve(command.reserve.ttl_ms)
        case "prepare":
            return _prepare_in(command.prepare)
        case "start":
            return model.Start()
        case "kill":
            return model.Kill()
        case "revive":
            return model.Revive(command.revive.with_disk)
        case "set_network":
            return model.SetNetwork(_network_in(command.set_network))
        case "set_task":
            return model.SetTask(command.set_task.paused, command.set_task.disk_full)
        case "signal":
            return _signal_in(command.signal)
        case "drop_barriers":
            return model.DropBarriers(_barrier_in(command.drop_barriers.barrier))
        case "release":
            return model.Release(command.release.keep_disk)
    raise Malformed("a command that this volunteer does not know: is the manager newer?")


def _barrier_in(name: str) -> str:
    if len(name) > local.LONGEST_BARRIER or not name.isprintable():
        raise Malformed(f"a barrier of the name {name!r:.80}")
    return name


def _prepare_in(prepare: pb.Prepare) -> model.Prepare:
    limits = prepare.limits
    return model.Prepare(
        source=source_in(prepare.source),
        role=_role_in(prepare.role),
        members=tuple(
            model.Member(member.task, _role_in(member.role), member.address) for member in prepare.members
        ),
        limits=model.Limits(
            limits.disk_bytes,
            limits.disk_inodes,
            limits.log_head_bytes,
            limits.log_tail_bytes,
            limits.memory_bytes,
            limits.pids,
            limits.cpu_millis,
            limits.open_files,
            limits.file_bytes,
        ),
        job_name=prepare.job_name,
        lose_unsynced=prepare.lose_unsynced,
        sync_server=_server_in(prepare.sync_server),
        serve_sync=prepare.serve_sync,
    )


def _server_in(text: str) -> str:
    """`HOST:PORT`, or nothing."""
    host, colon, port = text.partition(":")
    if not text or (colon and _PORT.fullmatch(port) and int(port) < 65_536 and _address_in(host) == host):
        return text
    raise Malformed(f"not a sync server, HOST:PORT: {text!r:.80}")


def _signal_in(signal: pb.Signal) -> model.Signal:
    if not 1 <= signal.signal <= _MOST_SIGNAL:
        raise Malformed(f"a signal with the number {signal.signal}: 1 to {_MOST_SIGNAL}")
    return model.Signal(signal.signal)


def _network_in(wanted: pb.SetNetwork) -> model.NetworkState:
    return model.NetworkState(
        cut=_addresses_in(wanted.cut),
        cut_out=_addresses_in(wanted.cut_out),
        cut_in=_addresses_in(wanted.cut_in),
        reset=_addresses_in(wanted.reset),
        links=_links_in(wanted.links),
    )


def _links_in(given: Sequence[pb.LinkDegradation]) -> tuple[local.LinkState, ...]:
    """Those that suffer, in ascending order of their peer."""
    if not given:
        return ()
    if len(given) > _MOST_LINKS:
        raise Malformed(f"a network with {len(given)} links: at most {_MOST_LINKS}")
    links = [_link_in(link) for link in given]
    if len({link.peer for link in links}) < len(links):
        raise Malformed("a network with two links to one address")
    suffering = (one for one in links if (one.sent, one.heard) != (local.UNDEGRADED, local.UNDEGRADED))
    return tuple(sorted(suffering, key=lambda link: link.peer))


def _addresses_in(given: Sequence[str]) -> tuple[str, ...]:
    """Each once, in ascending order of its text, as the keeper's protocol wants them."""
    if not given:
        return ()
    found = {_address_in(text) for text in given}
    if len(found) > _MOST_ADDRESSES:
        raise Malformed(f"a network with {len(found)} addresses: at most {_MOST_ADDRESSES}")
    return tuple(sorted(found))


def _address_in(text: str) -> str:
    try:  # a tenth of the time that ipaddress takes; a network may have thousands
        return inet_ntop(AF_INET, inet_pton(AF_INET, text))
    except (OSError, ValueError):  # ValueError: a zero byte in it
        raise Malformed(f"not an IPv4 address: {text!r:.80}") from None


def _link_in(link: pb.LinkDegradation) -> local.LinkState:
    peer = _address_in(link.peer) if link.peer else ""
    return local.LinkState(peer, _degradation_in(link.sent), _degradation_in(link.heard))


def _degradation_in(given: common.Degradation) -> local.Degradation:
    rate = given.rate_bps
    if rate and not _LEAST_RATE <= rate <= _MOST_RATE:
        raise Malformed(f"a rate of {rate} bits a second: {_LEAST_RATE} to {_MOST_RATE}, or 0 for none")
    return local.Degradation(
        loss_percent=_within(given.loss_percent, 100, "%"),
        rate_bps=rate,
        delay_ms=_within(given.delay_ms, _LONGEST_DELAY_MS, "ms"),
        jitter_ms=_within(given.jitter_ms, _LONGEST_DELAY_MS, "ms"),
        duplicate_percent=_within(given.duplicate_percent, 100, "%"),
        corrupt_percent=_within(given.corrupt_percent, 100, "%"),
        reorder_percent=_within(given.reorder_percent, 100, "%"),
    )


def _within(number: float, most: float, unit: str) -> float:
    if not 0 <= number <= most:  # what is no number lies between no two
        raise Malformed(f"a degradation of {number} {unit}: 0 to {most} {unit}")
    return number


def _role_in(role: int) -> model.Role:
    try:
        return model.Role(role)
    except ValueError:
        raise Malformed(f"a role that is none: {role}") from None
