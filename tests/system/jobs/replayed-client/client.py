"""Some seconds of a nemesis and some calls by hand; prints what was refused, and passes.

The file `room` says how many seconds lie between the two.
"""

import json
import time
from pathlib import Path

from syndicate.client_api import Chaos, Nemesis, nemesis

KINDS = (
    nemesis.kill(rate=1, duration=("300ms", "600ms")),
    nemesis.pause(rate=1, duration="300ms"),
    nemesis.disconnect(rate=1, duration="300ms"),
    nemesis.reset(rate=1, duration="300ms"),
    nemesis.partition("random-halves", rate=1, duration="300ms"),
    nemesis.degrade(loss="20%", bandwidth="2Mbit", rate=1, duration="300ms"),
    nemesis.disk_full(rate=0.5, duration="300ms"),
)

with Chaos.from_env() as chaos:
    monkey = Nemesis(chaos, seed=4711, faults=KINDS)
    monkey.run(4)
    time.sleep(float(Path("room").read_text()))  # for a manager that is killed in a replay, and comes back
    master, *slaves = [member.address for member in chaos.members() if member.role != "client"]
    # One that ends nothing: how soon an end is known, and so what comes of the next call, is not reproduced.
    chaos.signal(master, "WINCH")
    split = chaos.partition([[master], slaves], one_way=True, lease=30)
    chaos.pause(slaves, lease=0.5)
    time.sleep(0.7)
    chaos.heal(*split.fault_ids)
    chaos.kill(slaves)
    chaos.revive(slaves, with_disk=False)
    chaos.disconnect(master)
    time.sleep(0.2)
    chaos.heal()
    chaos.heal()
    print(json.dumps({"refused": len(monkey.refused()), "unhealed": monkey.unhealed()}))
    chaos.finish("pass", metrics=monkey.metrics())
