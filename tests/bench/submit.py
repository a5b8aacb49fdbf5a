"""Durable submits a second at 64 callers, beside an echo RPC at 64 callers.

Both are in clear text, or both over TLS.
A volunteer whose slots are taken is attached, so each job is queued and none starts: the figure is of the way
from the call to the disk. Callers sit in a process of their own, for both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.figure import Figure, of
from tests.bench.place import JOBS, cluster
from tests.support.cluster import Cluster

NAMES = ("submit64",)
NAMES_TLS = ("submit64_tls",)
ROUNDS = 5


def callers(*words: str, token: str = "") -> float:
    """Calls a second that one process with 64 callers gets through."""
    line = [sys.executable, "-m", "tests.bench.callers", *words]
    environ = {**os.environ, "TOKEN": token}
    answer = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True, timeout=120, env=environ)
    return float(json.loads(answer.stdout)["per_second"])


def measure() -> Iterator[Figure]:
    """In clear text."""
    with cluster(1, tls=False) as place:
        submits, echoes = rates(place)
    yield of("submit64", "calls/s", submits, "echo RPC at 64 callers", echoes)


def measure_tls() -> Iterator[Figure]:
    """Over TLS, with the same certificate on both sides of the comparison."""
    with cluster(1, tls=True) as place:
        submits, echoes = rates(place)
    yield of("submit64_tls", "calls/s", submits, "echo RPC over TLS at 64 callers", echoes)


def rates(place: Cluster) -> tuple[list[float], list[float]]:
    """Both rates by turns, in five rounds after one that warms up."""
    digest = place.upload(JOBS / "nothing")
    holder = place.submit(JOBS / "nothing", machines=1)
    place.until_running(holder)
    ca = "" if place.insecure else str(place.ca_file)
    identity = [] if place.insecure else [str(place.ca_file.with_name("manager.pem"))]
    line = [sys.executable, "-m", "tests.bench.echo", *identity]
    echo = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        assert echo.stdout is not None
        port = echo.stdout.readline().strip()
        submits, echoes = [], []
        for round_ in range(ROUNDS + 1):
            submit = callers("submit", place.address, ca, digest, token=place.token)
            plain = callers("echo", f"127.0.0.1:{port}", ca)
            if round_:
                submits.append(submit)
                echoes.append(plain)
    finally:
        echo.terminate()
        echo.wait(10)
    return submits, echoes
