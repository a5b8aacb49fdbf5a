"""Forks in every way there is, each child anew, and counts how many live at a time."""

import os
import select
import signal
import threading
import time

from attacker import end, got_it, note

ENOUGH, BOUND = 300, 60
LEAST_S, MOST_S = 1.5, 20.0
LIFE_S = 60.0  # longer than is counted: nobody comes in the place of one that has ended
told, tell = os.pipe()  # a byte of each that lives
denied, deny = os.pipe()  # and one of whoever was refused another
ready, go = os.pipe()
over = time.monotonic() + LIFE_S


def bomb():
    """Tell of oneself, and fork for ever; whom a fork fails tries again."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.write(tell, b".")
    while time.monotonic() < over:
        try:
            if os.fork() == 0:
                os.setsid()
                os.write(tell, b".")
        except OSError:
            os.write(deny, b"x")
            time.sleep(0.01)


def threads():
    """As many threads as there can be, each of which counts as a process."""
    while True:
        try:
            threading.Thread(target=time.sleep, args=(LIFE_S,), daemon=True).start()
            os.write(tell, b".")
        except RuntimeError:
            os.write(deny, b"x")
            time.sleep(LIFE_S)
            return


for kind in (threads, bomb):
    if os.fork() == 0:
        os.close(go)
        os.read(ready, 1)  # until both are there: the first could leave no room for the second
        kind()
        end()
os.close(go)
count, refused, began = 0, False, time.monotonic()
while count < ENOUGH and (took := time.monotonic() - began) < (LEAST_S if refused else MOST_S):
    heard = select.select([told, denied], [], [], 0.05)[0]
    if told in heard:
        count += len(os.read(told, 4096))
    if denied in heard:
        refused = bool(os.read(denied, 4096))
note(f"{count} lived at a time, after {took:.1f} s")
if count > BOUND:
    got_it(f"{count} processes")
end()
