"""Has the master killed and revived on its disk; says if that fails or takes long."""

import os
import socket
import time

from attacker import got_it, note
from syndicate.client_api import Chaos, ChaosError

MASTER = os.environ["SYNDICATE_MASTER"]


def await_word():
    """Until the master has done what it wanted to."""
    until = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection((MASTER, 4100), timeout=5).close()
        except OSError:
            assert time.monotonic() < until, "the master is silent"
            time.sleep(0.01)


with Chaos.from_env() as chaos:
    await_word()
    chaos.kill(MASTER)
    began = time.monotonic()
    try:
        chaos.revive(MASTER, with_disk=True)
    except ChaosError as error:
        got_it(f"no revival: {error}")
    else:
        await_word()
    took = time.monotonic() - began
    note(f"the revival took {took:.2f} s")
    if took > 25:
        got_it(f"the revival took {took:.1f} s")
    chaos.finish("pass")
