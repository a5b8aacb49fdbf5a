"""Kills and revives the slave, three times with its disk and once without, and reads its count of starts."""

import socket
import sys
import time

from syndicate.client_api import Chaos, TaskAlive

slave = sys.argv[1].split(",")[0]


def starts() -> int:
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((slave, 9000), timeout=10) as connection:
                return int(connection.makefile().read())
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


with Chaos.from_env() as chaos:
    assert starts() == 1
    assert chaos.revive(slave).already
    try:
        chaos.revive(slave, with_disk=False)
        raise SystemExit("a live task was revived without its disk")
    except TaskAlive:
        pass
    for expected in (2, 3, 4):
        killed = chaos.kill(slave)
        assert killed.processes >= 1 and not killed.already, killed
        assert chaos.kill(slave).already
        revived = chaos.revive(slave, with_disk=None if expected == 2 else True)
        assert revived.generation == expected, revived
        assert starts() == expected, "the disk was not kept"
    chaos.kill(slave)
    assert chaos.revive(slave, with_disk=False).generation == 5
    assert starts() == 1, "the disk was not emptied"
    chaos.finish("pass", score=1.0, metrics={"generations": 5})
