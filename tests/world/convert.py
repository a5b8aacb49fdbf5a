"""Between the words of the two cores, by number and name, as `registry.proto` does between the processes."""

from __future__ import annotations

from dataclasses import dataclass

from syndicate.manager.core import effects, events, model
from syndicate.volunteer import local
from syndicate.volunteer.core import model as vmodel


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """To a heartbeat, by the manager's edge."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no new reservation, or take them again."""

    draining: bool


@dataclass(frozen=True, slots=True)
class EventAck:
    """An event is written down."""

    event_id: int


def stamp(at: local.Stamp) -> model.Stamp:
    """A volunteer's stamp in the manager's words."""
    return model.Stamp(at.boot_id, at.monotonic_ns, at.utc_ns)


def ref(task: vmodel.TaskRef) -> model.TaskRef:
    """One run of a member, volunteer's words to manager's."""
    return model.TaskRef(task.cluster_id, task.job_id, task.attempt, task.task, task.generation)


def exit_(end: vmodel.TaskExit) -> model.TaskExit:
    """How a task ended, volunteer's words to manager's."""
    annotations = tuple(model.Annotation(each) for each in end.annotations)
    reason = model.Reason(end.reason)
    return model.TaskExit(reason, end.exit_status, end.recipe_status, end.detail, annotations)


def hello(said: vmodel.Hello) -> model.Hello:
    """Hello, volunteer's words to manager's."""
    return model.Hello(
        volunteer_id=said.volunteer_id,
        boot_id=said.boot_id,
        slots=said.slots,
        resources=model.Resources(
            said.resources.cpus, said.resources.memory_bytes, said.resources.disk_bytes
        ),
        host_address=said.host_address,
        prefix=said.prefix,
        capabilities=said.capabilities,
        held=tuple(
            model.HeldTask(
                ref(h.ref), h.slot, h.address, model.TaskState(h.state), exit_(h.exit) if h.exit else None
            )
            for h in said.held
        ),
        highest_epoch=said.highest_epoch,
        cluster_id=said.cluster_id,
        network=said.network.name.lower(),
        reach_domain=said.reach_domain,
        version=said.version,
        unsafe=said.unsafe,
        instance=said.instance,
        cannot=tuple((one.capability, one.why) for one in said.cannot),
    )


def answer(session: str, said: vmodel.Answer) -> events.AnswerReceived:
    """An answer to a command, as the manager's event."""
    return events.AnswerReceived(
        session,
        said.command_id,
        model.AnswerCode(said.code),
        said.detail,
        said.address,
        said.processes,
        stamp(said.applied_at) if said.applied_at else None,
        said.duration_ns,
    )


def task_event(session: str, said: vmodel.TaskEvent) -> events.TaskExited:
    """The end of a generation, as the manager's event."""
    return events.TaskExited(session, said.event_id, ref(said.ref), stamp(said.at), exit_(said.exit))


def source(named: model.Source) -> vmodel.Source:
    """A source, manager's words to volunteer's."""
    return vmodel.Source(named.sha256, named.size)


def command(said: effects.Command) -> vmodel.Command:
    """A command, manager's words to volunteer's."""
    task = said.ref
    return vmodel.Command(
        said.command_id,
        said.epoch,
        vmodel.TaskRef(task.cluster_id, task.job_id, task.attempt, task.task, task.generation),
        said.slot,
        _action(said.action),
    )


def _action(action: effects.Action) -> vmodel.Action:
    match action:
        case effects.Reserve():
            return vmodel.Reserve(round(action.ttl_s * 1000))
        case effects.Prepare():
            limits = action.limits
            return vmodel.Prepare(
                source(action.source),
                vmodel.Role(action.role),
                tuple(vmodel.Member(m.task, vmodel.Role(m.role), m.address) for m in action.members),
                vmodel.Limits(
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
                action.job_name,
                action.lose_unsynced,
            )
        case effects.Start():
            return vmodel.Start()
        case effects.Kill():
            return vmodel.Kill()
        case effects.Revive():
            return vmodel.Revive(action.with_disk)
        case effects.SetNetwork():
            return vmodel.SetNetwork(network(action))
        case effects.SetTask():
            return vmodel.SetTask(action.paused, action.disk_full)
        case effects.Signal():
            return vmodel.Signal(action.number)
        case effects.Release(keep_disk):
            return vmodel.Release(keep_disk)


def network(wanted: effects.SetNetwork) -> local.NetworkState:
    links = tuple(
        local.LinkState(link.peer, _degradation(link.sent), _degradation(link.heard)) for link in wanted.links
    )
    return local.NetworkState(wanted.cut, wanted.cut_out, wanted.cut_in, wanted.reset, links)


def _degradation(worse: model.Degradation) -> local.Degradation:
    return local.Degradation(
        worse.loss_percent,
        worse.rate_bps,
        worse.delay_ms,
        worse.jitter_ms,
        worse.duplicate_percent,
        worse.corrupt_percent,
        worse.reorder_percent,
    )
