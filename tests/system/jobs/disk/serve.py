"""Answers each connection with how often this disk has seen a start."""

import os
import socket
from pathlib import Path

server = socket.create_server((os.environ["SYNDICATE_ADDRESS"], 9000))
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(Path("starts").read_bytes())
