"""Starts together with all others, `ROUNDS` times, and tells the job's first client when it did.

The master says how many it waits for, the slaves come: that is all that a barrier takes. In place of what
each would measure it sleeps, and it tells its times after the last round: where members share processors,
whatever one does right after its start can hold up the start of another.
"""

import os
import socket
import time

from syndicate.client_api import sync

PORT = 7100
ROUNDS = 20
MEASURES_S = 0.02
DEADLINE_S = 60.0


def connect(address: str) -> socket.socket:
    """A connection to the client, which is started last: nobody starts up during a round."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=1)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def main() -> None:
    """Meets the others and tells the times."""
    slaves = [slave for slave in os.environ["SYNDICATE_SLAVES"].split(",") if slave]
    master = os.environ["SYNDICATE_ROLE"] == "master"
    client = os.environ["SYNDICATE_CLIENTS"].split(",")[0]
    started_ns = []
    with connect(client) as peer:
        for number in range(ROUNDS):
            name = f"start-{number}"
            if master and slaves:
                sync.init(len(slaves), name, timeout=DEADLINE_S)
            elif not master:
                sync.wait(name, timeout=DEADLINE_S)
            started_ns.append(time.time_ns())
            time.sleep(MEASURES_S)
        lines = [f"{number} {at_ns}\n" for number, at_ns in enumerate(started_ns)]
        peer.sendall("".join(lines).encode())


main()
