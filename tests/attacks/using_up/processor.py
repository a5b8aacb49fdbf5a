"""Keeps every processor busy with many processes and threads, and asks to go before others."""

import os
import time

from attacker import attempt, end, got_it, note

SECONDS, SHARE = 2.0, 0.45
attempt("nice", os.nice, -20)
for policy in (os.SCHED_FIFO, os.SCHED_RR, os.SCHED_BATCH):
    attempt(
        f"policy {policy}", os.sched_setscheduler, 0, policy, os.sched_param(int(policy != os.SCHED_BATCH))
    )
attempt("priority", os.setpriority, os.PRIO_PROCESS, 0, -20)
began = time.monotonic()
children = []
for _ in range(24):
    child = os.fork()
    if child == 0:
        os.setsid()
        until = began + SECONDS
        while time.monotonic() < until:
            sum(range(2_000))
        end()
    children.append(child)
for child in children:
    os.waitpid(child, 0)
took, spent = time.monotonic() - began, os.times()
share = (spent.children_user + spent.children_system) / took
note(f"{share:.2f} processors for {took:.1f} s")
if share > SHARE:
    got_it(f"{share:.2f} processors")
end()
