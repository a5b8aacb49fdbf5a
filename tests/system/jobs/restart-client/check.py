"""Kills and revives the slave with its disk for eight seconds, under which its volunteer is started again."""

import socket
import sys
import time

from syndicate.client_api import Chaos

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


with Chaos.from_env(timeout=60) as chaos:
    assert starts() == 1
    print("go", flush=True)
    end, rounds = time.monotonic() + 8, 0
    while time.monotonic() < end:
        chaos.kill(slave)
        chaos.revive(slave, with_disk=True)
        rounds += 1
        assert starts() == rounds + 1, "the disk was not kept"
    chaos.finish("pass", metrics={"rounds": rounds})
