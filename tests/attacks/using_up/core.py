"""Crashes with memory full of secrets, after asking for a core of it in every way."""

import ctypes
import os
import resource
import signal

from attacker import attempt, end, got_it, note

PR_SET_DUMPABLE = 4
libc = ctypes.CDLL(None)


def crash(bound, folder):
    """In a child: with this bound, in this folder."""
    os.chdir(folder)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    attempt("coredump_filter", lambda: open("/proc/self/coredump_filter", "w").write("0xff"))
    if bound is not None:
        for pair in ((bound, bound), (bound, resource.RLIM_INFINITY)):
            try:
                resource.setrlimit(resource.RLIMIT_CORE, pair)
            except (OSError, ValueError) as error:
                note(f"setrlimit {pair}: {error}")
    secret = b"a task's own secret " * 100_000
    os.kill(os.getpid(), (signal.SIGSEGV, signal.SIGABRT)[len(secret) % 2])


for folder in ("/", "/tmp", "/dev/shm", "/run", "/proc"):
    for bound in (None, resource.RLIM_INFINITY, 1 << 30, 0):
        child = os.fork()
        if child == 0:
            crash(bound, folder)
            end(1)
        _, status = os.waitpid(child, 0)
        if os.WCOREDUMP(status):
            got_it(f"the kernel dumped a core: {folder}, bound {bound}")
    for name in attempt(folder, os.listdir, folder) or []:
        if name.startswith("core"):
            got_it(f"{folder}/{name}")
end()
