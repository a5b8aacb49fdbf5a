"""For attacks that need a Kill and a Revive between two of their steps: the master's side."""

import os
import socket

LAID = "/laid"
PORT = 4100


def revived(before, after):
    """Run `before` in the first generation, wait to be killed, and run `after` in the second."""
    if os.path.exists(LAID):
        after()
    else:
        before()
        open(LAID, "w").close()
    with socket.create_server(("", PORT)) as door:
        door.accept()[0].close()
        if not os.path.exists(LAID + "-twice"):
            open(LAID + "-twice", "w").close()
            os.read(os.pipe()[0], 1)  # until it is killed
