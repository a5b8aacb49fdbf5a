"""One takes all memory; whoever sees the kernel end it, and lives on, has survived."""

import os
import signal
import time

from attacker import end, got_it

hog = os.fork()
if hog == 0:
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # the kernel's choice
    held = []
    while True:
        held.append(b"x" * (8 << 20))
for _ in range(30):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
        end()
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(each, signal.SIG_IGN)
_, status = os.waitpid(hog, 0)
assert os.WIFSIGNALED(status), status
time.sleep(20)  # on version 1 of cgroups the others are ended by a process, which may stand still itself
got_it("lived on after the kernel ended a part of the task")
end()
