"""What one user may do at once: calls a second, open calls and streams, uploads and how fast they come.

Staff have ten times what students have, admins have no bound. A call too many is refused and told when to
come again; an upload that is too fast is slowed down, since its sender waits for the network anyway. What may
be sent and changed in a day is bounded, too: sources are kept, and so is the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ..core.access import Caller, UserLimits
from ..core.bucket import Bucket
from ..core.errors import CoreError, Exhausted
from ..core.model import UserRole

_STAFF_SHARE: Final = 10.0
_DAY_S: Final = 86_400.0


@dataclass(slots=True)
class OpenCalls:
    """How many calls are open of those that are counted together.

    A call is open from when its method is looked up until all of its answer is on its way: also while its
    request does not come (the guard waits 10 s for those of callers without a credential), or nobody reads
    the answer. Nothing else ends such a call, and each takes some 25 kB of memory.
    """

    count: int = 0

    def begin(self, most: int, whose: str) -> None:
        """Counts a call until the task that runs it is over. Raises Exhausted (TOO_MANY_CALLS)."""
        if self.count >= most:
            raise Exhausted(
                "TOO_MANY_CALLS",
                f"{most:,} calls of {whose} are open, which is the most; end some, or read their answers",
                most=str(most),
                retry_after_s="1",
            )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gRPC looks a method up in the task that then runs the call
        self.count += 1
        task.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.count -= 1


@dataclass(slots=True)
class _Use:
    """What one user does."""

    calls: Bucket = field(default_factory=Bucket)
    open: OpenCalls = field(default_factory=OpenCalls)
    changes: Bucket = field(default_factory=Bucket)
    uploaded: Bucket = field(default_factory=Bucket)
    stored: Bucket = field(default_factory=Bucket)
    streams: int = 0
    uploads: int = 0


@dataclass(slots=True, eq=False)
class _Live:
    """A stream: whose it is, what ends it, and why it was ended."""

    caller: Caller
    deadline: asyncio.Timeout
    ended: CoreError | None = None


class Usage:
    """What all users do. `now_ns` is a monotonic clock, `changed` says why a caller is let in no more."""

    def __init__(
        self,
        limits: UserLimits,
        now_ns: Callable[[], int],
        changed: Callable[[Caller], CoreError | None],
    ) -> None:
        self._limits = limits
        self._now_ns = now_ns
        self._changed = changed
        # One of each user that ever called: there are no more than there are users.
        self._uses: dict[str, _Use] = {}
        self._live: set[_Live] = set()

    def call(self, caller: Caller) -> None:
        """Counts a call. Raises Exhausted (TOO_MANY_CALLS).

        As many as may come at once may be open at once, beside the streams.
        """
        share = _share(caller)
        if share is None:
            return
        rate, burst = self._limits.calls_per_s * share, self._limits.calls_burst * share
        use = self._use(caller)
        wait_s = use.calls.take(self._now_ns(), rate, burst)
        if wait_s:
            raise Exhausted(
                "TOO_MANY_CALLS",
                f"{caller.name} makes more than {rate:g} calls a second; try again in {wait_s:.2g} s",
                most=f"{rate:g}",
                retry_after_s=f"{wait_s:.3f}",
            )
        use.open.begin(int(burst + self._limits.streams * share), caller.name)

    def change(self, caller: Caller) -> None:
        """Counts a call that may change something. Raises Exhausted (TOO_MANY_CALLS).

        Each makes a line of the audit log, which holds so many: nobody is to push out what others did.
        """
        share = _share(caller)
        if share is None:
            return
        most = self._limits.changes_per_day * share
        wait_s = self._use(caller).changes.take(self._now_ns(), most / _DAY_S, most)
        if wait_s:
            raise Exhausted(
                "TOO_MANY_CALLS",
                f"{caller.name} may change {most:,.0f} things a day and has done so; try again in "
                f"{wait_s:,.0f} s",
                most=f"{most:.0f}",
                retry_after_s=f"{wait_s:.1f}",
            )

    @contextmanager
    def stream(self, caller: Caller) -> Iterator[_Live]:
        """Counts a stream while it lasts. Raises Exhausted (TOO_MANY_STREAMS)."""
        share, use = _share(caller), self._use(caller)
        if share is not None and use.streams >= (most := int(self._limits.streams * share)):
            raise Exhausted(
                "TOO_MANY_STREAMS",
                f"{caller.name} has {most} streams open, which is the most; close some",
                most=str(most),
                retry_after_s="5",
            )
        live = _Live(caller, asyncio.timeout(None))
        use.streams += 1
        self._live.add(live)
        try:
            yield live
        finally:
            self._live.discard(live)
            use.streams -= 1

    @contextmanager
    def upload(self, caller: Caller) -> Iterator[None]:
        """Counts an upload while it lasts. Raises Exhausted (TOO_MANY_STREAMS)."""
        share, use = _share(caller), self._use(caller)
        if share is not None and use.uploads >= (most := int(self._limits.uploads * share)):
            raise Exhausted(
                "TOO_MANY_STREAMS",
                f"{caller.name} uploads {most} sources at once already; wait for one of them",
                most=str(most),
                retry_after_s="1",
            )
        use.uploads += 1
        try:
            yield
        finally:
            use.uploads -= 1

    def store(self, caller: Caller, size: int) -> None:
        """A source of so many bytes is to be stored. Raises Exhausted (QUOTA_UPLOADS)."""
        share = _share(caller)
        if share is None:
            return
        most = self._limits.upload_bytes_per_day * share
        wait_s = self._use(caller).stored.take(self._now_ns(), most / _DAY_S, most, size)
        if wait_s:
            raise Exhausted(
                "QUOTA_UPLOADS",
                f"{caller.name} may send {most:,.0f} bytes of sources a day and has done so; this can go in "
                f"{wait_s:,.0f} s",
                most=f"{most:.0f}",
                retry_after_s=f"{wait_s:.1f}",
            )

    def uploaded(self, caller: Caller, size: int) -> float:
        """So many bytes came: seconds to wait before more are read. A second's worth comes at full speed."""
        share = _share(caller)
        if share is None:
            return 0.0
        rate = self._limits.upload_bytes_per_s * share
        return self._use(caller).uploaded.owe(self._now_ns(), rate, rate, size)

    @property
    def streams(self) -> int:
        """How many streams users have open."""
        return len(self._live)

    def sweep(self) -> None:
        """Ends the streams of those who would not be let in any more; to be called now and then."""
        now = asyncio.get_running_loop().time()
        for live in self._live:
            if live.ended is None and (error := self._changed(live.caller)) is not None:
                live.ended = error
                live.deadline.reschedule(now)

    def _use(self, caller: Caller) -> _Use:
        use = self._uses.get(caller.name)
        if use is None:
            use = self._uses[caller.name] = _Use()
        return use


def _share(caller: Caller) -> float | None:
    """How many times a student's bounds; None for none."""
    if caller.role is UserRole.ADMIN:
        return None
    return _STAFF_SHARE if caller.role is UserRole.STAFF else 1.0
