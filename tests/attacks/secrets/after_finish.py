"""One client finishes, and goes on; the other watches that nothing comes of it."""

import os
import socket

from attacker import got_it, note
from syndicate.client_api import Chaos, ChaosError
from told import tell

MASTER, OTHER = os.environ["SYNDICATE_MASTER"], os.environ["SYNDICATE_CLIENTS"].split(",")
if os.environ["SYNDICATE_TASK"] == "client-1":
    door = socket.create_server(("", 5402))
    door.settimeout(80)
    door.accept()
    with Chaos.from_env() as chaos:
        chaos.finish("pass", 1.0)
    os._exit(0)
with Chaos.from_env(timeout=20) as chaos:
    chaos.finish("fail", 0.0)
    acts = [
        lambda a=act, w=who: a(w)
        for act in (chaos.disconnect, chaos.kill)
        for who in (MASTER, [MASTER, OTHER[1]])
    ]
    acts += [lambda: chaos.finish("pass", 100.0), lambda: chaos.revive(MASTER, with_disk=False)]
    for number, act in enumerate(acts):
        try:
            act()
            got_it(f"act {number} after Finish")
        except ChaosError as error:
            note(str(error))
    note(f"{len(chaos.members())} members")
tell(5402, client=1)
