"""Says what it finds, writes one file with and one without a sync, and waits."""

import os
import signal

os.makedirs("data", exist_ok=True)
print("found", *sorted(os.listdir("data")), flush=True)
for name in ("synced", "lost"):
    file = os.open(f"data/{name}", os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(file, bytes(5000))
    if name == "synced":
        os.fsync(file)
    os.close(file)
print("written", flush=True)
signal.pause()
