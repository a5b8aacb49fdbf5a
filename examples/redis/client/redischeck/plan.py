"""The faults and what is measured under each. Each wait ends on an event and has a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from redischeck.resp import Redis, RedisError, SilentError

POLL_S = 0.05
DEADLINE_S = 30.0


class ChaosCalls(Protocol):
    """What the plan needs of `syndicate.client_api.Chaos`."""

    def kill(self, ip: str) -> Any: ...
    def revive(self, ip: str, with_disk: bool | None = None) -> Any: ...
    def disconnect(self, ip: str) -> Any: ...
    def reconnect(self, ip: str) -> Any: ...


class UndecidedError(Exception):
    """A step did not come to its end in time, so nothing can be said about the rest."""


@dataclass
class Finding:
    """What was wrong in one step, and the faults that led to it, in their order."""

    kind: str  # "stale" or "lost"
    where: str
    count: int
    of: int
    faults: list[str]

    def __str__(self) -> str:
        what = "reads were stale" if self.kind == "stale" else "acknowledged writes were lost"
        return f"{self.count} of {self.of} {what} at {self.where}: {'; '.join(self.faults)}"


@dataclass
class Report:
    """All that was found."""

    operations: int = 0
    findings: list[Finding] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many of a kind, over all steps."""
        return sum(finding.count for finding in self.findings if finding.kind == kind)


class Plan:
    """Breaks a primary and one of its replicas.

    Args:
        names: what each address is called, the primary's first.
        say: prints a line.
        writes: values written under each fault.
        connect: makes a client of a server.
    """

    def __init__(
        self,
        chaos: ChaosCalls,
        names: dict[str, str],
        say: Callable[[float, str], None],
        writes: int,
        connect: Callable[[str], Redis] = Redis,
    ) -> None:
        self._chaos = chaos
        self._names = names
        self._say = say
        self._writes = writes
        self._start = time.monotonic()
        self._waiting = threading.Event()  # never set: its wait is the pause between two questions
        primary, *replicas = names
        if not replicas:
            raise UndecidedError("there is no replica to break: submit with -n 2 or more")
        self._primary = connect(primary)
        self._replicas = [connect(replica) for replica in replicas]
        self._faults: list[str] = []  # of the step that runs
        self.report = Report()

    def run(self) -> Report:
        """All steps.

        Raises:
            UndecidedError: one of them did not come to its end.
        """
        try:
            self._linked()
            self._stale_reads()
            self._kill_with_disk()
            self._kill_without_disk()
        except (SilentError, RedisError) as error:
            raise UndecidedError(f"at {self._now():.2f} s: {error}") from error
        finally:
            for server in (self._primary, *self._replicas):
                server.close()
        return self.report

    # Steps.

    def _stale_reads(self) -> None:
        """A replica that is cut off goes on answering, with what it had."""
        self._faults = []
        replica = self._replicas[-1]
        self._write("stale", "old")
        self._until(
            "the replicas to have the first values", lambda: self._reads(replica, "stale", "old") == 0
        )
        self._cut(replica.address)
        self._write("stale", "new")
        stale = self._reads(replica, "stale", "new")
        self._found("stale", self._named(replica.address), stale)
        self._heal(replica.address)
        self._until(
            f"{self._named(replica.address)} to catch up", lambda: self._reads(replica, "stale", "new") == 0
        )
        self._tell(f"{self._named(replica.address)} caught up")

    def _kill_with_disk(self) -> None:
        """The append-only file is written before the answer, so a kill loses nothing of it."""
        self._faults = []
        self._write("kept", "new")
        self._kill(self._primary.address)
        self._revive(self._primary.address, with_disk=True)
        self._answering()
        self._found("lost", self._named(self._primary.address), self._reads(self._primary, "kept", "new"))
        self._linked()

    def _kill_without_disk(self) -> None:
        """What only the primary has is gone with its disk, and its replicas copy the emptiness."""
        self._faults = []
        replica = self._replicas[-1]
        self._cut(replica.address)
        self._write("lost", "new")
        self._kill(self._primary.address)
        self._revive(self._primary.address, with_disk=False)
        self._answering()
        self._found("lost", self._named(self._primary.address), self._reads(self._primary, "lost", "new"))
        self._heal(replica.address)
        self._linked()
        if left := int(self._count(replica)):
            raise UndecidedError(f"{self._named(replica.address)} still has {left} keys after it was healed")
        self._tell(f"{self._named(replica.address)} copied the empty primary")

    # Faults, and how each is remembered for the report.

    def _cut(self, ip: str) -> None:
        self._fault(f"cut {self._named(ip)} off", self._chaos.disconnect(ip))

    def _heal(self, ip: str) -> None:
        self._fault(f"reconnected {self._named(ip)}", self._chaos.reconnect(ip))

    def _kill(self, ip: str) -> None:
        self._fault(f"killed {self._named(ip)}", self._chaos.kill(ip))

    def _revive(self, ip: str, with_disk: bool) -> None:
        how = "with its disk" if with_disk else "without its disk"
        self._fault(f"revived {self._named(ip)} {how}", self._chaos.revive(ip, with_disk=with_disk))

    def _fault(self, text: str, applied: Any) -> None:
        self._tell(f"{text} (fault {applied.fault_id})")
        self._faults.append(f"{text} at {self._now():.2f} s (fault {applied.fault_id})")

    # Redis.

    def _write(self, prefix: str, value: str) -> None:
        """Writes the step's keys at the primary; each is acknowledged, or the step fails."""
        for number in range(self._writes):
            self._primary.call("SET", f"{prefix}:{number}", value)
            self.report.operations += 1
        self._tell(f"{self._writes} writes acknowledged by {self._named(self._primary.address)}")

    def _reads(self, server: Redis, prefix: str, expected: str) -> int:
        """How many of the step's keys do not show `expected`."""
        self.report.operations += self._writes
        return sum(server.text("GET", f"{prefix}:{number}") != expected for number in range(self._writes))

    def _found(self, kind: str, where: str, count: int) -> None:
        finding = Finding(kind, where, count, self._writes, list(self._faults))
        self.report.findings.append(finding)
        self._tell(
            f"{count} of {self._writes} {'reads stale' if kind == 'stale' else 'writes lost'} at {where}"
        )

    def _count(self, server: Redis) -> int:
        size = server.call("DBSIZE")
        return size if isinstance(size, int) else -1

    def _answering(self) -> None:
        self._until(f"{self._named(self._primary.address)} to answer", self._is_up)

    def _is_up(self) -> bool:
        try:
            return self._primary.call("PING", seconds=0.5) == "PONG"
        except (SilentError, RedisError):  # not listening yet, or loading its file
            return False

    def _linked(self) -> None:
        """Waits until the primary answers and every replica has all that it has."""
        self._answering()
        self._until("every replica to be linked", lambda: all(self._has_all(r) for r in self._replicas))

    def _has_all(self, replica: Redis) -> bool:
        try:
            primary, mine = self._primary.info("replication"), replica.info("replication")
        except (SilentError, RedisError):
            return False
        return (
            mine.get("master_link_status") == "up"
            and mine.get("master_replid") == primary.get("master_replid")
            and int(mine.get("slave_repl_offset", -1)) >= int(primary.get("master_repl_offset", 0))
        )

    def _until(self, what: str, reached: Callable[[], bool]) -> None:
        for _ in range(int(DEADLINE_S / POLL_S)):
            if reached():
                return
            self._waiting.wait(POLL_S)
        raise UndecidedError(f"waited for {what} for {DEADLINE_S:g} s")

    # Words.

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _tell(self, text: str) -> None:
        self._say(self._now(), text)

    def _named(self, ip: str) -> str:
        return f"{self._names[ip]} {ip}"


def story(report: Report) -> Sequence[str]:
    """The findings that matter, then the totals."""
    wrong = [str(finding) for finding in report.findings if finding.count]
    totals = f"{report.operations:,} operations, stale reads: {report.count('stale')}"
    return [*wrong, f"{totals}, lost acknowledged writes: {report.count('lost')}"]
