from keeper.test_lose_unsynced import *  # noqa
from keeper.test_lose_unsynced import begin, LIMITS
from keeper.harness import Link, makefile
import subprocess

async def test_atk(link: Link) -> None:
    src = """
import os
print("found", sorted(os.listdir("data")), flush=True)
def fill(path, sync):
    n = 0
    f = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while n < 200:
            os.write(f, os.urandom(1 << 20)); n += 1
            if sync: os.fsync(f)
    except OSError as e:
        print(path, n, "MiB", e.strerror, flush=True)
if not os.path.exists("data/first"):
    fill("/tmp/x", False)
    fill("/dev/shm/x", False)
open("data/first", "w").close()
for n in range(3):
    fill("data/big%d" % n, True)
try:
    os.sync()
    fd = os.open("data", os.O_RDONLY); os.fsync(fd)
except OSError as e: print("sync", e, flush=True)
print("written", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
    task = link.task({"Makefile": makefile("@exec python3 it.py"), "it.py": src, "data/": ""})
    await begin(task, Limits(disk_bytes=32 << 20, memory_bytes=256 << 20))
    try:
        await task.said("written")
    finally:
        print(await task.output())
    print(subprocess.run("dmesg | tail -15", shell=True, capture_output=True, text=True).stdout)
    for g in (1, 2):
        print(await task.kill(g))
        try:
            print(await task.revive(g+1))
            await task.said("written", g+1)
        finally:
            try: print(await task.output(g+1))
            except Exception as e: print(repr(e))
