"""What `make` would run, whoever runs the tests."""

from __future__ import annotations

import os
import subprocess

from tests.support.cluster import ROOT


def dry_run(*words: str) -> subprocess.CompletedProcess[str]:
    """`make -n` in the repository; under a `make test` it knows nothing of that one nor of its seed."""
    inherited = ("MAKE", "MFLAGS", "TEST_SEED")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    command = ["make", "-n", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
