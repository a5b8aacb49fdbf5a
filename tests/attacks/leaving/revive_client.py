"""For attacks that need a Kill and a Revive between two of their steps: the client's side."""

import os
import socket
import time

from syndicate.client_api import Chaos

MASTER = os.environ["SYNDICATE_MASTER"]
PORT = 4100


def await_word():
    """Until the master's generation has done what it wanted to."""
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((MASTER, PORT), timeout=5).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


with Chaos.from_env() as chaos:
    await_word()
    chaos.kill(MASTER)
    chaos.revive(MASTER, with_disk=True)
    await_word()
    chaos.finish("pass")
