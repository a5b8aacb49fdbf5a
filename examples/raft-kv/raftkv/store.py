"""The replicated state: keys with lists of values, and sessions so that a repeated write happens once."""

from __future__ import annotations

from typing import Any

from raftkv.values import Entry

MAX_SESSIONS = 10_000
MAX_ELECTIONS = 1_000

Result = dict[str, Any]


class Store:
    """What the committed entries add up to; the same on every member that applied as many.

    A session is a client's name and its last write. A write repeated gets its first answer; one older than
    the last is refused (`superseded`). Past MAX_SESSIONS the one that wrote longest ago is forgotten, and a
    later write of it is refused (`no session`) rather than done a second time.
    """

    def __init__(self) -> None:
        self.elections: list[tuple[int, str]] = []  # (term, leader) of each leader that committed something
        self._values: dict[str, list[str]] = {}
        self._sessions: dict[str, tuple[int, Result]] = {}

    def apply(self, entry: Entry) -> Result | None:
        """Applies the next committed entry; the answer for its client, where it has one."""
        body = entry.body
        if body["kind"] == "noop":
            self.elections = [*self.elections[1 - MAX_ELECTIONS :], (entry.term, body["leader"])]
        return self._write(body) if body["kind"] == "do" else None

    def get(self, key: str) -> list[str]:
        """All values of a key, oldest first."""
        return self._values.get(key, [])

    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self._values)

    def _write(self, body: dict[str, Any]) -> Result:
        client, seq = body["client"], body["seq"]
        last, answer = self._sessions.pop(client, (0, {}))
        if seq == last:
            self._sessions[client] = (last, answer)
            return answer
        if seq < last:
            self._sessions[client] = (last, answer)
            return {"ok": False, "error": "superseded"}
        if not last and seq != 1:
            return {"ok": False, "error": "no session"}
        values = self._values.setdefault(body["key"], [])
        if body["op"] == "put":
            values.clear()
        values.append(body["value"])
        answer = {"ok": True, "n": len(values)}
        self._sessions[client] = (seq, answer)  # moves it to the end: dicts keep the order of writing
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return answer
