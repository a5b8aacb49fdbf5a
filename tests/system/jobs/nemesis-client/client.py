"""Ten seconds of a nemesis with every kind of fault; prints its schedule, what it did, and the ledger."""

import json

from syndicate.client_api import Chaos, Nemesis, nemesis

KINDS = (
    nemesis.kill(rate=1, duration=("300ms", 1)),
    nemesis.pause(rate=1, duration=("300ms", 1)),
    nemesis.signal("USR2", rate=0.5, duration="500ms"),
    nemesis.disconnect(rate=1, duration=("300ms", 1)),
    nemesis.reset(rate=1, duration=("300ms", 1), whom="minority"),
    nemesis.partition("random-halves", rate=1, duration=("300ms", 1)),
    nemesis.partition("majority-ring", rate=0.5, duration=("300ms", 1)),
    nemesis.degrade(loss="20%", bandwidth="2Mbit", rate=1, duration=("300ms", 1)),
    nemesis.disk_full(rate=0.5, duration=("300ms", 1)),
)

with Chaos.from_env() as chaos:
    monkey = Nemesis(chaos, seed=4711, faults=KINDS)
    monkey.run(10)
    names = [member.task for member in chaos.members() if member.role != "client"]
    again = Nemesis(chaos, seed=4711, faults=KINDS, targets=names).schedule(10)
    members = {member.task: [member.state, member.paused, member.faults] for member in chaos.members()}
    ledger = {}
    for fault in chaos.faults():
        applied, healed = fault.applied_at, fault.healed_at_manager
        ledger[fault.fault_id] = {
            "kind": fault.kind.replace("_", "-"),
            "task": fault.task,
            "applied_ns": applied.monotonic_ns if applied else None,
            "held_ns": healed.monotonic_ns - fault.applied_at_manager.monotonic_ns if healed else None,
            "error": fault.error,
            "in_force": fault.in_force,
            "healed_by": fault.healed_by,
        }
    found = {
        "record": json.loads(monkey.record()),
        "schedule": json.loads(monkey.schedule(10).to_json()),
        "again": again.to_json() == monkey.schedule(10).to_json(),
        "members": members,
        "ledger": ledger,
    }
    print(json.dumps(found))
    chaos.finish("pass", metrics=monkey.metrics())
