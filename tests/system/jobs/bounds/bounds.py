"""Meets a bound: the master that of processors, slave-0 that of processes, slave-1 that of memory."""

import os
import subprocess
import time


def burn():
    """How much of a processor one gets in three seconds that would take a whole one."""
    begun, used = time.monotonic(), time.process_time()
    while time.monotonic() < begun + 3.0:
        pass
    share = (time.process_time() - used) / (time.monotonic() - begun)
    print(f"had {100 * share:.0f} % of a processor")


def fork():
    made = []
    try:
        while len(made) < 100:
            made.append(subprocess.Popen(["sleep", "600"]))
    except BlockingIOError:
        print(f"stopped after {len(made)} processes")
    for process in made:
        process.kill()


def hoard():
    held = []
    while True:
        held.append(bytearray(b"x" * (1 << 20)))


{"master": burn, "slave-0": fork, "slave-1": hoard}[os.uname().nodename]()
