"""What the edge writes into the audit log: calls that were denied, and uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from ..core.access import Caller
from ..core.audit import Denials
from ..core.errors import CoreError
from ..core.names import is_name
from ..core.tally import Count
from ..core.user_events import Audited, WriteAudit
from ..engine import Engine
from ..pki import Deed, day

# Who works on the manager's machine itself calls from there.
_HERE: Final = "local"
_LATE_S: Final = 60


class AuditLog:
    """Denied calls are told once a minute and kind; see `core.audit`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._denials = Denials()
        self.by_reason = Count()

    def denied(
        self,
        error: CoreError,
        caller: Caller | None,
        token_id: str,
        peer: str,
        method: str,
        request: object = None,
        named: int = 0,
        volunteer: str = "",
    ) -> None:
        """A call was denied.

        `token_id` is of the token whose secret was sent, where its user is not let in, `named` the job that
        the call names beside its request (0 for none), `volunteer` the name in the certificate that it came
        with.
        """
        self.by_reason.add(error.reason)
        subject, job_id = subject_of(request)
        if not subject and named > 0:
            subject, job_id = f"job {named}", named
        if self._engine.machine.token(token_id) is None:
            token_id = ""  # whatever was sent: the log holds what is known
        who = caller.name if caller is not None else _node(volunteer) or self._user_of(token_id)
        denial = Audited(who, token_id, peer, method, subject, False, error.reason, job_id)
        self._write(self._denials.note(denial, self._now_ns()))

    def done(self, caller: Caller, peer: str, method: str, subject: str) -> None:
        """A call that the machine knows nothing of changed something."""
        self._write([Audited(caller.name, caller.token_id, peer, method, subject, True)])

    async def kept(self) -> None:
        """Until all that was written would survive a crash: before that, who called is told of nothing.

        Raises Away.
        """
        if (stopping := self._engine.stopping) is not None:
            raise stopping  # nothing was written any more
        await self._engine.durable()

    def signed(self, volunteer_id: str, peer: str, method: str) -> None:
        """A volunteer was given a certificate."""
        node = _node(volunteer_id)
        self._write([Audited(node, "", peer, method, node, True)])

    async def did(self, deeds: Sequence[Deed]) -> bool:
        """Operators did this by commands on this machine; whether it is written down for good."""
        if self._engine.stopping is not None:
            return False
        now = self._engine.clock.now().utc_ns // 10**9
        self._write(
            [Audited(one.who, "", _HERE, one.method, one.subject + _when(one.at, now), True) for one in deeds]
        )
        try:
            await self._engine.durable()
        except CoreError:  # it stops: they are told to the next manager
            return False
        return True

    def sweep(self) -> None:
        """Writes what the last minute had too much of; to be called every few seconds."""
        self._write(self._denials.due(self._now_ns()))

    def close(self) -> None:
        """Writes what is left."""
        self._write(self._denials.rest())
        if self._engine.stopping is None:
            self._engine.handle(WriteAudit())

    def _user_of(self, token_id: str) -> str:
        token = self._engine.machine.token(token_id)
        return "" if token is None else token.user

    def _now_ns(self) -> int:
        return self._engine.clock.now().monotonic_ns

    def _write(self, lines: list[Audited]) -> None:
        if self._engine.stopping is None:
            for line in lines:
                self._engine.handle(line)


def _node(volunteer_id: str) -> str:
    """A volunteer as somebody who did something: a user's name has no space, so it looks like nobody's."""
    return f"node {volunteer_id}" if volunteer_id else ""


def _when(at: int, now: int) -> str:
    """When it was done, where the line is much later."""
    return f", on {day(at)}" if abs(now - at) > _LATE_S else ""


def subject_of(request: object) -> tuple[str, int]:
    """What a request is about: a line for people, and the job's id or 0."""
    if not isinstance(request, Message):
        return "", 0
    fields = request.DESCRIPTOR.fields_by_name
    if "job_id" in fields:
        job_id = int(getattr(request, "job_id"))  # noqa: B009 - a message of whichever type
        return f"job {job_id}", job_id if job_id > 0 else 0
    for field, noun in (("volunteer_id", "node"), ("token_id", "token"), ("user", "user")):
        if field in fields and is_name(name := str(getattr(request, field))):
            return f"{noun} {name}", 0
    return "", 0
