"""Makes one file as large as it can, in every way that leaves most of it empty."""

import os
import resource

from attacker import attempt, end, got_it, note

LIMIT, HUGE = 1 << 20, 1 << 40
try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
except (OSError, ValueError) as error:
    note(error)
for folder in ("/", "/tmp", "/dev/shm", None):
    WAYS = {
        "truncate": lambda file: os.ftruncate(file, HUGE),
        "write far behind": lambda file: os.pwrite(file, b"x", HUGE),
        "allocate": lambda file: os.posix_fallocate(file, 0, LIMIT * 8),
        "write on": lambda file: [os.write(file, b"x" * LIMIT) for _ in range(8)],
        "send": lambda file: os.sendfile(file, os.open("/usr/bin/python3", os.O_RDONLY), 0, LIMIT * 4),
    }
    for name, way in WAYS.items():
        path = f"{folder}/large"
        flags = os.O_RDWR | os.O_CREAT
        file = os.memfd_create("large") if folder is None else os.open(path, flags)
        attempt(f"{path} {name}", way, file)
        size = os.fstat(file).st_size
        note(f"{path} {name}: {size}")
        if size > LIMIT:
            got_it(f"a file of {size:,} bytes")
        os.close(file)
        if folder is not None:
            os.unlink(path)
end()
