"""What keeps a client's secrets and the scores from others, and how each of it is switched off for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.attacks.defence import Defence
from tests.attacks.defences.walls import _without_option


def _seen(place: str, folder: list[Path]) -> None:
    """Sandboxes see one more folder of the host's; which, is known when one is made."""
    from syndicate.volunteer.keeper import box

    arguments = box.bwrap_arguments
    box.bwrap_arguments = lambda *given: arguments(*given) + f"--ro-bind\0{folder[0]}\0{place}\0".encode()


def _cache_in_view() -> None:
    from syndicate.volunteer.keeper.ground import Ground

    made, folder = Ground.__init__, []

    def noted(self: Ground, *given: Any) -> None:
        folder[:] = [given[-1].cache]
        made(self, *given)

    Ground.__init__ = noted  # type: ignore[method-assign]
    _seen("/cache", folder)


def _sockets_in_view() -> None:
    from syndicate.volunteer.keeper.view import View

    made, folder = View.__init__, []

    def noted(self: View, place: Path, socket_folder: Path) -> None:
        folder[:] = [socket_folder.parent]
        made(self, place, socket_folder)

    View.__init__ = noted  # type: ignore[method-assign]
    _seen("/sockets", folder)


def _inherited_environment() -> None:
    """The keeper's own environment goes on to tasks."""
    import os

    from syndicate.volunteer.keeper import box

    real = box.command

    def with_environment(*given: Any) -> list[str]:
        told = [f"{name}={value}" for name, value in os.environ.items()]
        return ["/usr/bin/env", *told, *real(*given)]

    box.command = with_environment
    _without_option("--clearenv")


def _any_job() -> None:
    """A client may name the members of every job."""
    from syndicate.manager.core import faults

    requested, caller_of = faults.requested, faults.caller_of

    def anywhere(world: Any, event: Any) -> None:
        jobs = [
            job
            for job in world.active.values()
            for task in job.tasks.values()
            if task.record.address in event.ips
        ]
        client = caller_of(world, event.caller)
        faults.caller_of = lambda *_: (jobs[0], client[1]) if jobs else client
        requested(world, event)

    faults.requested = anywhere


def _never_finished() -> None:
    from syndicate.manager.core import clients, faults

    clients.require_running = faults.require_running = lambda *_: None


def _any_attestation() -> None:
    """Whoever says which task calls is believed."""
    from syndicate.manager.core import clients
    from syndicate.manager.rpc import chaos_callers

    def believed(world: Any, caller: Any) -> Any:
        return world.find(caller.ref)

    async def said(self: chaos_callers.Relayed, context: Any, method: str) -> chaos_callers.ChaosCaller:
        told = dict(context.invocation_metadata() or ())
        ref = chaos_callers._ref(str(told.get("syndicate-task", "")))
        assert ref is not None
        return chaos_callers.ChaosCaller("", ref)

    clients._client = believed
    chaos_callers.Relayed.who = said  # type: ignore[method-assign]


def _open_door() -> None:
    from syndicate.manager.rpc.doors import VolunteersDoor

    VolunteersDoor.known = lambda self, token: None  # type: ignore[method-assign]


def _everybodys_jobs() -> None:
    from syndicate.manager.rpc import scheduler

    scheduler.sees_job = lambda *_: True
    scheduler.check_job = lambda *_: None


def _shown_clients() -> None:
    from syndicate.manager.rpc import viewing

    viewing.hides_clients = lambda *_: False


def _any_role() -> None:
    from syndicate.manager.rpc import doors

    doors.may = lambda *_: None


DEFENCES = {
    "cache": Defence("keeper", "the cache of sources lies in no sandbox's view", _cache_in_view),
    "socket": Defence("keeper", "the client's socket lies in the client's view only", _sockets_in_view),
    "environment": Defence("keeper", "an environment that is made anew", _inherited_environment),
    "membership": Defence("manager", "a client names members of its own job only", _any_job),
    "finished": Defence("manager", "a client that has finished says nothing more", _never_finished),
    "attestation": Defence("manager", "a call's volunteer is known by its own stream", _any_attestation),
    "volunteers-door": Defence("manager", "the volunteers' door takes their token only", _open_door),
    "whose": Defence("manager", "another user's job does not exist", _everybodys_jobs),
    "hidden": Defence("manager", "clients' output is not for students", _shown_clients),
    "roles": Defence("manager", "each method needs its role", _any_role),
}
