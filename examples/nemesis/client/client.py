"""Breaks two slaves by a seeded schedule while the register is used, and has the history judged.

Nothing of what is broken depends on what the client sees: the seed, the kinds of faults and their targets
are all that the schedule is drawn from. So a replay has the same calls at the same times, and comes out as
the original did. Only how soon this process itself comes up is not reproduced: LEAD leaves it some time, so
that the first fault finds it at work in a replay, too.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time

from syndicate.client_api import Chaos, Nemesis, nemesis
from syndicate.client_api.checkers import AvailableAgain, KeyValue, Linearizable
from syndicate.client_api.history import History

PORT = 7000
ANSWER_S = 0.5
PACE_S = 0.01
SERVED_S = 60.0
AVAILABLE_AGAIN_S = 5.0  # less than a run: what succeeds at its end says nothing of its beginning
KEYS = ("x", "y", "z")
TARGETS = ("slave-0", "slave-1")
FAULTS = (
    nemesis.disconnect(rate=0.5, duration=("1.2s", "1.6s")),
    nemesis.pause(rate=0.5, duration=("1.2s", "1.6s")),
    nemesis.kill(rate=0.5, duration=("1.2s", "1.6s")),
)


class User(threading.Thread):
    """Puts and gets through one member, one after the other: one process of the history."""

    def __init__(self, task: str, address: str, history: History, stop: threading.Event) -> None:
        super().__init__(name=task)
        self._address = address
        self._history = history
        self._stopped = stop
        self._sock: socket.socket | None = None
        self.successes = {"put": 0, "get": 0}

    def run(self) -> None:
        """Goes on until told to stop."""
        for number in itertools.count():
            if self._stopped.wait(PACE_S):
                break
            kind, value = ("put", f"{self.name}/{number}") if number % 2 else ("get", None)
            self._do(kind, KEYS[number // 2 % len(KEYS)], value)
        self._close()

    def _do(self, kind: str, key: str, value: str | None) -> None:
        try:
            with self._history.operation(
                self.name, kind, key, value, definite=(ConnectionRefusedError,)
            ) as operation:
                operation.ok(self._ask(kind, key, value))
            self.successes[kind] += 1
        except (OSError, ValueError):
            # Nobody knows what came of it: the history has it so. An answer that is late is not read.
            self._close()

    def _ask(self, kind: str, key: str, value: str | None) -> str | None:
        if self._sock is None:
            self._sock = socket.create_connection((self._address, PORT), timeout=ANSWER_S)
        self._sock.sendall(json.dumps([kind, key, value]).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = self._sock.recv(4096)
            if not piece:
                raise ConnectionError("the member went away")
            data += piece
        answer: str | None = json.loads(data)
        return answer

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def until_served(users: list[User]) -> None:
    """Waits until each has put and got something that it began from now on: also after the last heal."""
    least = [(user, kind, count + 2) for user in users for kind, count in user.successes.items()]
    until = time.monotonic() + SERVED_S
    while any(user.successes[kind] < count for user, kind, count in least) and time.monotonic() < until:
        time.sleep(PACE_S)


def main() -> None:
    """Takes the members from ChaosControl, seed and length from the environment (see the Makefile)."""
    seed, seconds, lead = int(os.environ["SEED"]), float(os.environ["SECONDS"]), float(os.environ["LEAD"])
    with Chaos.from_env() as chaos, History.open() as history:
        history.set_clock(chaos.ping())
        members = {one.task: one.address for one in chaos.members() if one.role != "client"}
        monkey = Nemesis(chaos, seed=seed, faults=FAULTS, targets=TARGETS)
        print(f"seed {seed}: {len(monkey.schedule(seconds))} faults in {seconds:g} s", flush=True)
        stop = threading.Event()
        users = [User(task, address, history, stop) for task, address in members.items()]
        for user in users:
            user.start()
        try:
            time.sleep(lead)
            monkey.run(seconds)
            until_served(users)
        finally:
            stop.set()
            for user in users:
                user.join()
        told = [f"{window.kind} {', '.join(window.targets)}" for window in monkey.windows()]
        print("\n".join([*told, f"{len(monkey.refused())} refused"]), flush=True)
        # By the ledger's windows: in a replay, when a call was answered says nothing of when its fault held.
        chaos.judge(
            {
                "linearizable": Linearizable(KeyValue()),
                "available": lambda windows: AvailableAgain(AVAILABLE_AGAIN_S, windows),
            },
            history,
            metrics=monkey.metrics(),
        )


main()
