"""Whether a name did more than to be one."""

import os

from attacker import got_it, note

note(repr(os.environ["SYNDICATE_JOB_NAME"]))
for folder in ("/", "/tmp", "/job"):
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name == "injected":
            got_it(f"{folder}/{name} is there")
