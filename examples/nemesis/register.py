"""Registers by key: without an argument they are kept here, with the master's address it is asked.

A line of JSON for each operation, `["put", "x", "5"]` or `["get", "x", null]`, and a line for its answer.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import sys
import threading

PORT = 7000
ANSWER_S = 1.0

kept: dict[str, str] = {}
lock = threading.Lock()


def keep(line: bytes) -> bytes:
    """Does one operation here."""
    kind, key, value = json.loads(line)
    with lock:
        if kind == "put":
            kept[key] = value
        answer = kept.get(key) if kind == "get" else None
    return json.dumps(answer).encode() + b"\n"


def pass_on(line: bytes) -> bytes:
    """Has the master do it. Raises OSError where it does not answer."""
    with socket.create_connection((sys.argv[1], PORT), timeout=ANSWER_S) as master:
        master.sendall(line)
        with master.makefile("rb") as answers:
            if not (answer := answers.readline()).endswith(b"\n"):
                raise ConnectionError("the master went away")
    return answer


class Handler(socketserver.StreamRequestHandler):
    """One connection. It ends where there is no answer: whoever asked does not know what came of it."""

    def handle(self) -> None:
        """Answers line by line."""
        answered = pass_on if len(sys.argv) > 1 else keep
        try:
            for line in self.rfile:
                self.wfile.write(answered(line))
        except (OSError, ValueError):
            return


class Server(socketserver.ThreadingTCPServer):
    """On this member's address."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


with Server((os.environ["SYNDICATE_ADDRESS"], PORT), Handler) as server:
    server.serve_forever()
