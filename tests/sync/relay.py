"""A relay between UDP clients and a server that loses, doubles and reorders packets."""

from __future__ import annotations

import heapq
import random
import select
import socket
import threading
import time
from itertools import count


class Relay:
    """Runs in a thread from `with` on. `drop`, `double` are chances; packets are held for up to `hold_s`."""

    def __init__(self, server: int, seed: int, drop: float, double: float, hold_s: float) -> None:
        self._random = random.Random(seed)
        self._drop, self._double, self._hold_s = drop, double, hold_s
        self._server = ("127.0.0.1", server)
        self._front = socket.socket(type=socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self.port: int = self._front.getsockname()[1]
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self._held: list[tuple[float, int, socket.socket, tuple[str, int], bytes]] = []
        self._order = count()
        self._end, self._told = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="relay")
        self.lost = self.doubled = 0

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._told.close()
        self._thread.join(60)
        for each in (self._front, self._end, *self._backs.values()):
            each.close()

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            while self._held and self._held[0][0] <= now:
                _, _, by, to, data = heapq.heappop(self._held)
                by.sendto(data, to)
            pause = self._held[0][0] - now if self._held else 1.0
            ready, _, _ = select.select([self._front, self._end, *self._backs.values()], [], [], pause)
            if self._end in ready:
                return
            for each in ready:
                self._carry(each)

    def _carry(self, heard: socket.socket) -> None:
        try:
            data, peer = heard.recvfrom(256)
        except ConnectionError:  # a client that has ended
            return
        if heard is self._front:
            if peer not in self._backs:
                self._backs[peer] = socket.socket(type=socket.SOCK_DGRAM)
                self._backs[peer].bind(("127.0.0.1", 0))
            by, to = self._backs[peer], self._server
        else:
            by, to = self._front, next(each for each, back in self._backs.items() if back is heard)
        if self._random.random() < self._drop:
            self.lost += 1
            return
        copies = 2 if self._random.random() < self._double else 1
        self.doubled += copies - 1
        for _ in range(copies):
            due = time.monotonic() + self._random.random() * self._hold_s
            heapq.heappush(self._held, (due, next(self._order), by, to, data))
