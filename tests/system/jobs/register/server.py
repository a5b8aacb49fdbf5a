"""Registers by key, one operation at a time; with a file `lag`, reads see what was there that long ago."""

import json
import socketserver
import threading
import time
from pathlib import Path

LAG = Path("lag")
LAG_S = float(LAG.read_text()) if LAG.exists() else 0.0
lock = threading.Lock()
written: dict[str, list[tuple[float, str]]] = {}


class Handler(socketserver.StreamRequestHandler):
    """One connection: a line for each operation, and a line for its answer."""

    def handle(self) -> None:
        for line in self.rfile:
            kind, key, value = json.loads(line)
            with lock:
                values = written.setdefault(key, [])
                if kind == "put":
                    values.append((time.monotonic(), value))
                    answer = None
                else:
                    seen = [what for when, what in values if when <= time.monotonic() - LAG_S]
                    answer = seen[-1] if seen else None
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """On all addresses."""

    allow_reuse_address = True
    daemon_threads = True


with Server(("0.0.0.0", 7070), Handler) as server:
    server.serve_forever()
