"""Leaves links to the host's folder where a careless remover would walk: in /tmp and /dev/shm."""

import os
import socket
import time

from attacker import FACTS, attempt

if not os.path.exists("/was"):
    for folder in ("/tmp", "/dev/shm"):
        os.makedirs(f"{folder}/a/b")
        for place in (folder, f"{folder}/a", f"{folder}/a/b"):
            os.symlink(FACTS["bait"], f"{place}/link")
            os.symlink(FACTS["bait"] + "/bait", f"{place}/file")
            os.symlink("../" * 40 + FACTS["bait"].lstrip("/"), f"{place}/up")
            os.symlink(f"{place}/loop", f"{place}/loop")
    # The folder itself is a mount point here, and only the keeper sees its name.
    attempt("/tmp", os.rename, "/tmp", "/gone")
    open("/was", "wb").close()
door = socket.create_server(("", 4100))
door.accept()
time.sleep(600)
