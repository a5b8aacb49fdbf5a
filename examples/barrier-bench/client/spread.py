"""Hears from all members when they started, round by round, and prints how far apart that was.

The times are of each machine's own clock: between machines the spread holds their difference, too.
"""

import os
import selectors
import socket
import statistics

from syndicate.client_api import Chaos

PORT = 7100
DEADLINE_S = 60.0


def told(members: int) -> list[str]:
    """All lines of all members, once each has ended its connection."""
    lines: list[str] = []
    unread: dict[socket.socket, bytes] = {}
    ended = 0
    place = os.environ["SYNDICATE_ADDRESS"], PORT
    with socket.create_server(place) as listener, selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        while ended < members:
            events = ready.select(DEADLINE_S)
            if not events:
                raise TimeoutError(f"nothing was heard for {DEADLINE_S:g} s")
            for key, _ in events:
                peer = key.fileobj
                assert isinstance(peer, socket.socket)
                if peer is listener:
                    accepted, _ = listener.accept()
                    unread[accepted] = b""
                    ready.register(accepted, selectors.EVENT_READ)
                    continue
                data = peer.recv(4096)
                unread[peer] += data
                if not data:
                    ready.unregister(peer)
                    peer.close()
                    lines += unread.pop(peer).decode().splitlines()
                    ended += 1
    return lines


def main() -> None:
    """Gathers, prints, finishes."""
    members = 1 + len([slave for slave in os.environ["SYNDICATE_SLAVES"].split(",") if slave])
    starts: dict[int, list[int]] = {}
    for line in told(members):
        number, at_ns = line.split()
        starts.setdefault(int(number), []).append(int(at_ns))
    whole = [times for _, times in sorted(starts.items()) if len(times) == members]
    spreads = [(max(times) - min(times)) / 1e6 for times in whole]
    for number, spread in enumerate(spreads):
        print(f"round {number:>2}   {members} started within {spread:.2f} ms")
    limit = float(os.environ["LIMIT_MS"])
    median, worst = statistics.median(spreads), max(spreads)
    text = (
        f"{len(spreads)} rounds of {members}: started within {median:.2f} ms (median), {worst:.2f} ms (most)"
    )
    print(text, flush=True)
    with Chaos.from_env() as chaos:
        chaos.finish(
            outcome="pass" if median <= limit else "fail",
            score=median,
            metrics={"spread_median_ms": median, "spread_most_ms": worst},
            text=text,
        )


main()
