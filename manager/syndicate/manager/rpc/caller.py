"""Who calls: told where the guard looks the method up, in the task that then runs the call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final
from urllib.parse import unquote

from ..core.access import Caller, Origin
from .types import Context

_CALLER: Final[ContextVar[Caller]] = ContextVar("caller")
_NAMED: Final[ContextVar[str]] = ContextVar("named", default="")


def enter(caller: Caller, named: str) -> None:
    """What this task does from now on is the caller's call, who says that it is for the user `named`."""
    _CALLER.set(caller)
    if named:
        _NAMED.set(named)


def current() -> Caller:
    """The caller of the call that this task runs. Raises LookupError in a task that runs none of a user's."""
    return _CALLER.get()


def named() -> str:
    """The user for whom the caller says that it calls; empty where it says nothing, and unchecked."""
    return _NAMED.get()


def origin(context: Context) -> Origin:
    """The caller, and where it calls from."""
    return Origin(_CALLER.get(), host_of(context))


def host_of(context: Context) -> str:
    """The address that a call comes from, without the port: `127.0.0.1`, `::1`, `unix`."""
    # A listener on [::] sees IPv4 as addresses that begin with ::ffff:.
    kind, _, rest = unquote(context.peer()).replace("[::ffff:", "[").partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    return rest.rpartition(":")[0].strip("[]")


def job_named(context: Context) -> int | None:
    """The job that a user's call is about, by its metadata; None where that names none."""
    for key, value in context.invocation_metadata() or ():
        if key == "syndicate-job":
            text = str(value)
            return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
    return None
