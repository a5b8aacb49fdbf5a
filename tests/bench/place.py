"""A cluster to measure on, in a temporary directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import Cluster

JOBS = Path(__file__).with_name("jobs")


@contextmanager
def cluster(slots: int, tls: bool) -> Iterator[Cluster]:
    """A cluster of its own, in clear text or with TLS, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="syndicate-bench-") as folder:
        os.chmod(folder, 0o755)  # the unprivileged daemons have their state in it
        with Cluster(Path(folder), slots, *([] if tls else ["--insecure"])) as made:
            yield made
