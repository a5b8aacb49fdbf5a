"""Commands to volunteers: made once, sent until answered.

A gang's command is named after the manager's epoch and a counter, so no two ever share a name. A fault's is
named after its line in the ledger, and that of a drop after its caller's request and the barrier, so that a
restarted manager asks again under the same name and gets the first answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from .effects import Action, Command, Send
from .model import TaskRef
from .state import Node, Pending
from .world import World, nanoseconds

_DIGEST_DIGITS: Final = 16


def issue(
    world: World,
    node: Node,
    ref: TaskRef,
    slot: int,
    action: Action,
    *,
    command_id: str = "",
    before_commit: bool = False,
    since_ns: int | None = None,
    together: bool = False,
) -> str:
    """Sends a command, now or when its volunteer is attached; returns its id.

    `since_ns` says when an earlier manager may have sent it first, `together` is that of `Send`.
    """
    since_ns = since_ns if command_id else world.ns
    command_id = command_id or _new_id(world)
    command = Command(command_id, world.config.epoch, ref, slot, action)
    node.pending[command_id] = Pending(command, since_ns, world.ns, node.session)
    if node.session is not None:
        world.emit(Send(node.session, command, before_commit and node.welcomed, together))
        _watch(world, node)
    return command_id


def issue_again(world: World, node: Node, pending: Pending) -> str:
    """A command that failed, under a new id, to be sent after `command_timeout_s`; returns the id."""
    command = replace(pending.command, command_id=_new_id(world))
    node.pending[command.command_id] = Pending(command, world.ns, world.ns, node.session)
    _watch(world, node)
    return command.command_id


def fault_command_id(world: World, job_id: int, fault_id: int) -> str:
    """The lasting name of a fault's command."""
    return f"{world.config.cluster_id}-job-{job_id}-fault-{fault_id}"


def drop_command_id(world: World, job_id: int, request_id: str, barrier: str) -> str:
    """The lasting name of an order to drop barriers; "" for one that nobody can repeat.

    The barrier is part of it: a restarted manager no longer knows that the request was about another one.
    """
    if not request_id:
        return ""
    of_barrier = hashlib.sha256(barrier.encode()).hexdigest()[:_DIGEST_DIGITS]
    return f"{world.config.cluster_id}-job-{job_id}-drop-{request_id}-{of_barrier}"


def forget(node: Node, command_id: str) -> None:
    """The command is not sent again, and its answer means nothing; harmless where it was answered."""
    node.pending.pop(command_id, None)


def resend_all(world: World, node: Node) -> None:
    """Sends every unanswered command through the volunteer's new stream, oldest first."""
    if node.session is None:
        return
    for pending in node.pending.values():
        if pending.session != node.session:
            pending.sent_ns, pending.session = world.ns, node.session
            world.emit(Send(node.session, pending.command))
    _watch(world, node)


def resend_late(world: World, volunteer_id: str) -> None:
    """Sends again what was sent `command_timeout_s` ago; called when the volunteer's timer comes."""
    node = world.nodes.get(volunteer_id)
    if node is None or node.session is None:
        return
    timeout = nanoseconds(world.config.command_timeout_s)
    for pending in node.pending.values():
        if world.ns - pending.sent_ns >= timeout:
            pending.sent_ns, pending.session = world.ns, node.session
            world.emit(Send(node.session, pending.command))
    _watch(world, node)


def _new_id(world: World) -> str:
    world.commands_made += 1
    return f"{world.config.cluster_id}-{world.config.epoch}-{world.commands_made}"


def _watch(world: World, node: Node) -> None:
    key = ("resend", node.record.volunteer_id)
    if node.pending and not world.timers.is_set(key):
        oldest = min(pending.sent_ns for pending in node.pending.values())
        world.timers.set(key, oldest + nanoseconds(world.config.command_timeout_s))
