"""Says to the client that the daemons are there; the client may still be starting."""

import os
import socket
import time

deadline = time.monotonic() + 30
while True:
    try:
        socket.create_connection((os.environ["SYNDICATE_CLIENTS"], 9100), 5).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
