"""How an attacker lets the client say its own word, once all was tried."""

import os
import socket
import time


def tell(port=5401, client=0):
    """Connect to a client that waits for it."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(
                (os.environ["SYNDICATE_CLIENTS"].split(",")[client], port), timeout=5
            ).close()
            return
        except OSError:
            time.sleep(0.05)
