"""A client that finds the job wanting, once the others have tried what they would."""

import socket

from syndicate.client_api import Chaos

door = socket.create_server(("", 5401))
door.settimeout(80)
door.accept()
with Chaos.from_env() as chaos:
    chaos.finish("fail", 0.0, text="the client's own word")
