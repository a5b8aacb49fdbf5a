"""Breaks its members, and prints what they suffer: at once, and each time that it is sent USR1.

It passes when they are whole again. In a second attempt it breaks nothing.
"""

import json
import os
import signal

from client import Job, ask, until_up
from syndicate.client_api import Chaos

WRITTEN = "written"


def looked(job):
    """Who hears whom, and whose disk takes a write."""
    disks = {name: ask(ip, "write", name="probe", size=100_000) for name, ip in job.ip.items()}
    return {"reach": job.reach(), "disks": disks}


def is_whole(job, found):
    everybody = {name: sorted(set(job.ip) - {name}) for name in job.ip}
    return found["reach"] == everybody and set(found["disks"].values()) == {WRITTEN}


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
with Chaos.from_env() as chaos:
    job = Job(chaos)
    for ip in job.name:
        until_up(ip)
    if os.environ["SYNDICATE_ATTEMPT"] == "1":
        chaos.partition([job.some("master"), job.some("slave-1")])
        chaos.degrade(job.ip["slave-0"], peers=job.some("slave-1"), loss=100)
        chaos.disk_full(job.ip["slave-0"])
    while True:
        found = looked(job)
        print(json.dumps(found), flush=True)
        if is_whole(job, found):
            break
        if os.environ["SYNDICATE_ATTEMPT"] != "1":
            raise SystemExit("something of the first attempt is left")
        signal.sigwait([signal.SIGUSR1])
    chaos.finish("pass")
