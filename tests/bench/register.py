"""200 volunteers register over mutual TLS, beside as many bare handshakes.

Simulated ones in one process: real streams, each with a connection and a certificate of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure, of
from tests.bench.place import cluster

NAMES = ("register_mtls",)
VOLUNTEERS = 200
ROUNDS = 3


def measure() -> Iterator[Figure]:
    """Seconds until all are welcomed, in three rounds after one that warms up."""
    with cluster(1, tls=True) as place, tempfile.TemporaryDirectory(prefix="syndicate-bench-tls-") as name:
        folder = Path(name)
        shutil.copy(place.ca_file, folder / "ca.pem")
        for machine, identity in place.issue([f"bench-{number}" for number in range(VOLUNTEERS)]).items():
            (folder / f"{machine}.pem").write_bytes(identity)
        registered, handshakes = [], []
        for round_ in range(ROUNDS + 1):
            line = [sys.executable, "-m", "tests.bench.volunteers", place.volunteers_address, name]
            answer = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, timeout=180)
            seconds = json.loads(answer.stdout)
            if round_:
                registered.append(seconds["registered_s"])
                handshakes.append(seconds["handshakes_s"])
    yield of("register_mtls", "s", registered, f"{VOLUNTEERS} handshakes", handshakes)
