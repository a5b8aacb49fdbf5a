"""A client of the store: finds the leader, asks again, and makes each write happen once."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

PORT = 7400
CONNECT_S = 0.5
ANSWER_S = 1.0
BACK_OFF_S = 0.05

Answer = dict[str, Any]


class UnansweredError(Exception):
    """No member answered in time. A write may or may not have happened."""


class Link:
    """One connection to one member, made when it is needed and given up at the first failure."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._sock: socket.socket | None = None
        self._ids = itertools.count(1)

    def ask(self, request: dict[str, Any], seconds: float = ANSWER_S) -> Answer | None:
        """The member's answer; None when there is none within `seconds`."""
        until = time.monotonic() + seconds
        line = json.dumps({"id": next(self._ids), **request}).encode() + b"\n"
        try:
            if self._sock is None:
                self._sock = socket.create_connection((self._address, PORT), min(CONNECT_S, seconds))
            self._sock.sendall(line)
            answer = self._read_line(self._sock, until)
        except (OSError, ValueError):
            self.close()
            return None
        return answer

    def close(self) -> None:
        """Gives the connection up; an answer that is still under way is lost with it."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _read_line(self, sock: socket.socket, until: float) -> Answer:
        data = b""
        while not data.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            sock.settimeout(left)
            piece = sock.recv(1 << 16)
            if not piece:
                raise ConnectionError("the member went away")
            data += piece
        answer = json.loads(data)
        if not isinstance(answer, dict):
            raise ValueError("not an answer")
        return answer


class Session:
    """A client with one operation at a time; not for several threads.

    Args:
        name: unique among all clients of the store.
        pause: waits for some seconds between rounds of asking; returns True to give up.
    """

    def __init__(self, members: Sequence[str], name: str, pause: Callable[[float], bool]) -> None:
        self._links = {member: Link(member) for member in members}
        self._members = list(members)
        self._name = name
        self._pause = pause
        self._seq = 0
        self._leader = members[0]

    def put(self, key: str, value: str, seconds: float) -> None:
        """Makes a value the only one of a key. Raises UnansweredError."""
        self._write("put", key, value, seconds)

    def append(self, key: str, value: str, seconds: float) -> None:
        """Adds a value to a key. Raises UnansweredError."""
        self._write("append", key, value, seconds)

    def get(self, key: str, seconds: float, first: str | None = None) -> list[str]:
        """All values of a key, oldest first; `first` is the member to ask first. Raises UnansweredError."""
        # Who answers a read is not learnt: a store with a bug answers where nothing can be written.
        return list(self._ask({"op": "get", "key": key}, seconds, first or self._leader)[1]["values"])

    def stand(self, member: str, seconds: float) -> int | None:
        """Has a member stand for election, for so long; its term then, None when nobody says that it does."""
        answer = self._links[member].ask({"op": "stand", "seconds": seconds})
        return int(answer["term"]) if answer is not None and answer["ok"] else None

    def status(self, member: str) -> Answer | None:
        """What a member says about itself; None when it says nothing."""
        return self._links[member].ask({"op": "status"}, 0.5)

    def close(self) -> None:
        """Gives all connections up."""
        for link in self._links.values():
            link.close()

    def _write(self, op: str, key: str, value: str, seconds: float) -> None:
        # The store knows by name and number what it has done before: asked again, it happens once.
        self._seq += 1
        numbered = {"client": self._name, "seq": self._seq}
        request = {"op": op, "key": key, "value": value, **numbered}
        self._leader, _ = self._ask(request, seconds, self._leader)

    def _ask(self, request: dict[str, Any], seconds: float, first: str) -> tuple[str, Answer]:
        """Who answered, and what."""
        until = time.monotonic() + seconds
        queue, hint = [first], None
        while (left := until - time.monotonic()) > 0:
            if hint is None and not queue:
                if self._pause(BACK_OFF_S):
                    break
                queue = list(self._members)
            member = hint or queue.pop(0)
            answer = self._links[member].ask(request, min(left, ANSWER_S))
            if answer is not None and answer.get("ok"):
                return member, answer
            named = answer.get("leader") if answer is not None else None
            # Two members that name each other must not be asked in circles without a pause.
            hint = named if hint is None and named in self._links else None
        raise UnansweredError(f"{request['op']} {request['key']}: no answer within {seconds:g} s")
