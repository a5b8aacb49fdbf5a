"""Starts together with all others, `ROUNDS` times, and tells the job's first client when it did.

The master says how many it waits for, the slaves come: that is all that a barrier takes. What each would
measure is left out; the client looks at how far apart the starts were.
"""

import os
import socket
import time

from syndicate.client_api import sync

PORT = 7100
ROUNDS = 20
DEADLINE_S = 60.0


def connect(address: str) -> socket.socket:
    """A connection to the client, which is started last."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=1)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def main() -> None:
    """Meets the others and tells the time."""
    slaves = [slave for slave in os.environ["SYNDICATE_SLAVES"].split(",") if slave]
    master = os.environ["SYNDICATE_ROLE"] == "master"
    client = os.environ["SYNDICATE_CLIENTS"].split(",")[0]
    with connect(client) as peer:
        for number in range(ROUNDS):
            name = f"start-{number}"
            if master and slaves:
                sync.init(len(slaves), name, timeout=DEADLINE_S)
            elif not master:
                sync.wait(name, timeout=DEADLINE_S)
            started_ns = time.time_ns()
            peer.sendall(f"{number} {started_ns}\n".encode())


main()
