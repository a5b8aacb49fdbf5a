"""Waits until the slave has daemonised its processes, and ends them all with one Kill."""

import sys
import time
import urllib.error
import urllib.request

from syndicate.client_api import Chaos

slave = sys.argv[1].split(",")[0]
deadline = time.monotonic() + 60
while True:
    try:
        urllib.request.urlopen(f"http://{slave}:9000/all-there", timeout=10)
        break
    except (urllib.error.URLError, OSError):
        assert time.monotonic() < deadline
        time.sleep(0.05)
with Chaos.from_env() as chaos:
    killed = chaos.kill(slave)
    print("processes ended:", killed.processes)
    chaos.finish("pass" if killed.processes >= 201 else "fail", metrics={"processes": killed.processes})
