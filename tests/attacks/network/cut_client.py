"""Cuts a slave off and tells the master when; what is sent from then on must come nowhere."""

import os
import socket
import time

from syndicate.client_api import Chaos

MASTER, PORT = os.environ["SYNDICATE_MASTER"], 5200
SLAVE = os.environ["SYNDICATE_SLAVES"].split(",")[0]
said = socket.create_server(("", PORT))
with Chaos.from_env() as chaos:
    talk, _ = said.accept()  # the two talk with each other
    chaos.disconnect(SLAVE)
    talk.sendall(b"%d\n" % time.monotonic_ns())
    talk.settimeout(60)
    talk.recv(1)  # until the master has tried all
    chaos.finish("pass")
