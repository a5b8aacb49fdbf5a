"""Forks in every way there is, each child anew, and counts how many live at a time."""

import os
import select
import signal
import threading
import time

from attacker import end, got_it, note

ENOUGH, BOUND = 300, 60
told, tell = os.pipe()
os.set_blocking(told, False)


def bomb():
    """Tell of oneself, and fork for ever; whom a fork fails tries again."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.write(tell, b".")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        try:
            if os.fork() == 0:
                os.setsid()
                os.write(tell, b".")
        except OSError:
            time.sleep(0.01)
    end()


def threads():
    """As many threads as there can be, each of which counts as a process."""
    while True:
        try:
            threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
            os.write(tell, b".")
        except RuntimeError:
            return


for kind in (threads, bomb):
    if os.fork() == 0:
        kind()
        time.sleep(3)
        end()
count, until = 0, time.monotonic() + 1.5
while time.monotonic() < until and count < ENOUGH:
    if select.select([told], [], [], 0.05)[0]:
        count += len(os.read(told, 4096))
note(f"{count} lived at a time")
if count > BOUND:
    got_it(f"{count} processes")
end()
