"""A keeper that is asked for its end before it is ready leaves in order all the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, network_instance
from syndicate.volunteer.keeper.settings import load

_SLOTS = 6


@pytest.mark.parametrize("standing", [0, 1, _SLOTS])
def test_end_is_asked_for_while_it_stands_up(folder: Path, standing: int) -> None:
    """Whatever stands of it by then, it ends without an error and nothing of it is left."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=_SLOTS)
    command = [sys.executable, "-P", "-m", "syndicate.volunteer.keeper.serve"]
    config = load(keeper.arguments()).settled(())
    with keeper.errors.open("w") as errors:
        process = subprocess.Popen([*command, config.encode()], stdout=subprocess.DEVNULL, stderr=errors)
    deadline = time.monotonic() + SECONDS
    while not keeper.cgroup.exists() or len(list(keeper.cgroup.glob("slot-*/g1"))) < standing:
        assert process.poll() is None
        assert time.monotonic() < deadline

    process.send_signal(signal.SIGTERM)

    assert process.wait(SECONDS) == 0, keeper.errors.read_text()
    said = keeper.errors.read_text()
    assert "not_cleared" not in said
    assert "Traceback" not in said
    assert not keeper.cgroup.exists()
    assert not keeper.socket.exists()
