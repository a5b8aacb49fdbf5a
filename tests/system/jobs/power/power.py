"""Says what it finds, and writes, when it is sent USR1, one file with and one without a sync."""

import os
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.makedirs("data", exist_ok=True)
print("found", *sorted(os.listdir("data")), flush=True)
while True:
    signal.sigwait([signal.SIGUSR1])
    for name in ("synced", "lost"):
        file = os.open(f"data/{name}", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(file, bytes(5000))
        if name == "synced":
            os.fsync(file)
        os.close(file)
    print("written", flush=True)
