"""Many clients of a sync server in one process, on bare sockets and one epoll.

`barrier_load PORT hold N`: N of them, then `go` is read; prints the milliseconds from the last one's request
until the last one has its answer and the end of its connection. With a further word the server is a bare one,
which serves nobody else meanwhile. `barrier_load PORT rounds S`: init and wait by turns for S seconds; prints
rounds a second.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

from syndicate.volunteer.sync.descriptors import raise_limit

WAIT_S = 60.0
INIT, WAIT = 1, 2
DONE = select.EPOLLRDHUP | select.EPOLLHUP


def request(kind: int, count: int = 0, name: bytes = b"bench") -> bytes:
    """What emulab-sync sends."""
    return struct.pack("=64shhii", name, kind, 0, count, 0)


def connected(port: int) -> socket.socket:
    """A connection."""
    peer = socket.socket()
    peer.connect(("127.0.0.1", port))
    return peer


def asked(port: int, data: bytes) -> socket.socket:
    """A connection with a request."""
    peer = connected(port)
    peer.send(data)
    return peer


def answer(peer: socket.socket) -> int:
    """The value, once the server ended the connection; raises ValueError for none."""
    with peer:
        heard = b""
        while data := peer.recv(64):
            heard += data
    (value,) = struct.unpack("=i", heard)
    return int(value)


def round_(port: int, name: bytes = b"bench") -> None:
    """One init and one wait."""
    one = asked(port, request(INIT, 1, name))
    other = asked(port, request(WAIT, 0, name))
    if (answer(one), answer(other)) != (0, 0):
        raise ValueError("an error was answered")


def hold(port: int, waiters: int, settle: bool) -> float:
    """Milliseconds."""
    peers = [asked(port, request(INIT, waiters - 1))]
    peers += [asked(port, request(WAIT)) for _ in range(waiters - 2)]
    last = connected(port)
    peers.append(last)
    if settle:
        # The server takes connections in their order: after these rounds it has taken all of those above.
        for _ in range(2):
            round_(port, b"settle")
    print("held", flush=True)
    if sys.stdin.readline() != "go\n":
        raise EOFError("nobody said go")
    epoll = select.epoll()
    for peer in peers:
        epoll.register(peer, select.EPOLLIN | select.EPOLLRDHUP)
    left = {peer.fileno(): peer for peer in peers}
    data = request(WAIT)
    begin = time.perf_counter()
    last.send(data)
    while left:
        # Without sleeping in between: to be woken for each answer would cost the server, and be measured too.
        if time.perf_counter() - begin > WAIT_S:
            raise TimeoutError(f"{len(left)} were not released")
        for number, event in epoll.poll(0, 1024):
            if event & DONE:
                if left.pop(number).recv(64) != bytes(4):
                    raise ValueError("no answer")
                epoll.unregister(number)
    took = time.perf_counter() - begin
    for peer in peers:
        peer.close()
    return took * 1e3


def rounds(port: int, seconds: float) -> float:
    """Rounds a second."""
    begin = time.perf_counter()
    done = 0
    while (took := time.perf_counter() - begin) < seconds:
        for _ in range(100):
            round_(port)
        done += 100
    return done / took


def main() -> None:
    """See above."""
    port, what, size, *settle = sys.argv[1:]
    raise_limit()
    took = hold(int(port), int(size), settle == []) if what == "hold" else rounds(int(port), float(size))
    print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
