"""What it was given beside what it is told of: variables, descriptors, and whatever looks like a token."""

import os
import re

from attacker import FACTS, attempt, got_it, note

KNOWN = {"PATH", "PYTHONPATH", "LC_CTYPE", "TMPDIR", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "CURDIR"}
KNOWN |= {
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "MAKE_TERMERR",
    "MAKE_TERMOUT",
    "MAKEOVERRIDES",
    "MASTER",
    "SLAVES",
}
TOKEN = re.compile(rb"syn_[0-9a-z]{4,}_|Bearer |[0-9A-Za-z_-]{43,}")
for name, value in os.environ.items():
    if name not in KNOWN and not name.startswith("SYNDICATE_"):
        got_it(f"the variable {name}")
    if name != "SYNDICATE_JOB_NAME" and TOKEN.search(value.encode()):
        got_it(f"a token in {name}")
for process in sorted(name for name in os.listdir("/proc") if name.isdecimal()):
    for file in ("environ", "cmdline", "auxv"):
        path = f"/proc/{process}/{file}"
        data = attempt(path, lambda path=path: open(path, "rb").read())
        if data is None:
            continue
        for entry in data.split(b"\0") if file == "environ" else []:
            name = entry.partition(b"=")[0].decode(errors="replace")
            if name and name not in KNOWN and not name.startswith("SYNDICATE_"):
                got_it(f"{path} has {name}")
        if FACTS["state_dir"].encode() in data or FACTS["run_dir"].encode() in data:
            got_it(f"{path} names the host's folders")
    folder = f"/proc/{process}/fd"
    for number in attempt(folder, os.listdir, folder) or []:
        place = attempt(f"{folder}/{number}", os.readlink, f"{folder}/{number}") or ""
        plain = place.startswith(("pipe:", "/dev/null", "/proc/", "/master.py", "/client.py", "/Makefile"))
        if not plain and place:
            got_it(f"{folder}/{number} leads to {place}")
note("looked at all")
