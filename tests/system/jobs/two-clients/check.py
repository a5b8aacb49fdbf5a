"""The first client kills the second and passes; the second waits for its end."""

import os
import time

from syndicate.client_api import Chaos

if os.environ["SYNDICATE_TASK"] != "client-0":
    print("waiting", flush=True)
    time.sleep(3600)
with Chaos.from_env() as chaos:
    other = next(m for m in chaos.members() if m.task == "client-1")
    print("killed:", chaos.kill(other.address).processes)
    chaos.disconnect(os.environ["SYNDICATE_ADDRESS"])
    chaos.ping()
    chaos.finish("pass", score=0.5)
