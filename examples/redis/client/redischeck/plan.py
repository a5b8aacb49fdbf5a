"""The faults, and what is written and read under each. Each wait ends on an event and has a deadline.

Nothing is left to luck. Replication to a replica that is cut off does not happen, so what is written at the
primary is missing there: the order of the steps alone makes the violation. Each key is used in one step only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from syndicate.client_api import ChaosError, Fault
from syndicate.client_api.checkers import FaultWindow, fault_windows
from syndicate.client_api.history import History, Recorded

from redischeck.resp import Redis, RedisError, SilentError

POLL_S = 0.05
DEADLINE_S = 60.0
LEAST_TRIES = 10  # also of a client that stood still until the deadline was over
LOOK_S = 2.0  # for an answer that is asked for again


class ChaosCalls(Protocol):
    """What the plan needs of `syndicate.client_api.Chaos`."""

    def kill(self, ip: str) -> Any: ...
    def revive(self, ip: str, with_disk: bool | None = None) -> Any: ...
    def disconnect(self, ip: str) -> Any: ...
    def reconnect(self, ip: str) -> Any: ...


class UndecidedError(Exception):
    """A step did not come to its end in time, so nothing can be said about the rest."""


class Plan:
    """Breaks a primary and one of its replicas; what its one client does goes into the history.

    Args:
        names: what each address is called, the primary's first.
        say: prints a line.
        connect: makes a client of a server.
    """

    def __init__(
        self,
        chaos: ChaosCalls,
        names: dict[str, str],
        history: History,
        say: Callable[[str], None],
        connect: Callable[[str], Redis] = Redis,
    ) -> None:
        self._chaos = chaos
        self._names = names
        self._history = history
        self._say = say
        self._waiting = threading.Event()  # never set: its wait is the pause between two questions
        primary, *replicas = names
        if not replicas:
            raise UndecidedError("there is no replica to break: submit with -n 2 or more")
        self._primary = connect(primary)
        self._replicas = [connect(replica) for replica in replicas]
        self._replica = self._replicas[-1]
        self._tested: tuple[int, ...] = ()  # lines of the ledger: of the fault that is to be tested

    def windows(self, faults: Sequence[Fault], history: Recorded) -> list[FaultWindow]:
        """When the replica was cut off, on the history's clock.

        By the ledger, and not by when the call was answered: in a replay that says nothing of when it held.
        """
        return fault_windows([fault for fault in faults if fault.fault_id in self._tested], history)

    def run(self) -> None:
        """All steps. Raises UndecidedError when one of them does not come to its end, or is refused."""
        try:
            self._until_linked()
            self._read_where_it_is_old()
            self._kill_with_disk()
            self._kill_without_disk()
        except (SilentError, RedisError, ChaosError) as error:
            raise UndecidedError(str(error)) from error
        finally:
            for server in (self._primary, *self._replicas):
                server.close()

    # Steps.

    def _read_where_it_is_old(self) -> None:
        """A replica that is cut off goes on answering, with what it had: a stale read."""
        replica = self._replica
        self._put("stale", "old")
        self._until("the replica to have it", lambda: replica.text("GET", "stale") == "old")
        self._tested = self._chaos.disconnect(replica.address).fault_ids
        self._say(f"cut {self._named(replica)} off")
        self._put("stale", "new")
        self._get("stale", replica)
        self._chaos.reconnect(replica.address)
        self._until("the replica to catch up", lambda: replica.text("GET", "stale") == "new")
        self._say(f"reconnected {self._named(replica)}: it caught up")

    def _kill_with_disk(self) -> None:
        """The append-only file is written before the answer, so a kill loses nothing."""
        self._put("kept", "new")
        self._chaos.kill(self._primary.address)
        self._chaos.revive(self._primary.address, with_disk=True)
        self._say(f"killed {self._named(self._primary)}, revived it with its disk")
        self._until_up()
        self._get("kept", self._primary)
        self._until_linked()

    def _kill_without_disk(self) -> None:
        """What the primary alone has is gone with its disk, and its replicas copy the emptiness."""
        replica = self._replica
        self._chaos.disconnect(replica.address)
        self._put("lost", "new")
        self._chaos.kill(self._primary.address)
        self._chaos.revive(self._primary.address, with_disk=False)
        self._say(f"killed {self._named(self._primary)}, revived it without its disk")
        self._until_up()
        self._get("lost", self._primary)
        self._chaos.reconnect(replica.address)
        self._until_linked()

    # The operations: one process of the history for each server, so that its lines say which one answered.

    def _put(self, key: str, value: str) -> None:
        process = self._named(self._primary)
        with self._history.operation(process, "put", key, value, definite=(RedisError,)) as operation:
            self._primary.call("SET", key, value)
            operation.ok()
        self._say(f"put {key} {value}: acknowledged by {process}")

    def _get(self, key: str, server: Redis) -> None:
        process = self._named(server)
        with self._history.operation(process, "get", key, definite=(RedisError,)) as operation:
            value = server.text("GET", key)
            operation.ok(value)
        self._say(f"get {key}: {value or 'nothing'}, says {process}")

    # What is waited for.

    def _until_up(self) -> None:
        self._until(f"{self._named(self._primary)} to answer", self._is_up)

    def _is_up(self) -> bool:
        try:
            return self._primary.call("PING", seconds=0.5) == "PONG"
        except (SilentError, RedisError):  # not listening yet, or loading its file
            return False

    def _until_linked(self) -> None:
        """Waits until the primary answers and every replica has all that it has."""
        self._until_up()
        self._until("every replica to be linked", lambda: all(self._has_all(r) for r in self._replicas))

    def _has_all(self, replica: Redis) -> bool:
        try:
            primary, mine = (
                server.info("replication", seconds=LOOK_S) for server in (self._primary, replica)
            )
        except (SilentError, RedisError):
            return False
        return (
            mine.get("master_link_status") == "up"
            and mine.get("master_replid") == primary.get("master_replid")
            and int(mine.get("slave_repl_offset", -1)) >= int(primary.get("master_repl_offset", 0))
        )

    def _until(self, what: str, reached: Callable[[], bool]) -> None:
        end, tries = time.monotonic() + DEADLINE_S, 0
        while time.monotonic() < end or tries < LEAST_TRIES:
            if reached():
                return
            tries += 1
            self._waiting.wait(POLL_S)
        raise UndecidedError(f"waited for {what} for {DEADLINE_S:g} s")

    def _named(self, server: Redis) -> str:
        return self._names[server.address]
