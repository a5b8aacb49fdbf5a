"""Unix sockets of others: abstract ones, which lie in no folder, and those of the daemons by path."""

import os
import socket

from attacker import FACTS, attempt, got_it

names = ["\0syndicate-bystander", "\0syndicate", "\0/tmp/.X11-unix/X0", "\0dbus"]
names += [
    "\0" + line.split()[7][1:] for line in open("/proc/net/unix") if len(line.split()) > 7 and "@" in line
]
run = FACTS["run_dir"]
names += [f"{run}/keeper.sock", f"{run}/slots/0/chaos.sock", "/run/syndicate/chaos.sock", "/run/docker.sock"]
names += ["/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify", "/dev/log"]
for name in sorted(set(names)):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        made = socket.socket(socket.AF_UNIX, kind)
        if attempt(f"connect to {name!r}", lambda made=made, name=name: made.connect(name) or True):
            got_it(f"connected to {name!r}")
if any("bystander" in line for line in open("/proc/net/unix")):
    got_it("the bystander's socket is in /proc/net/unix")
for folder in ("/run", "/tmp", "/dev/shm"):
    for place, _, files in os.walk(folder):
        for file in files:
            path = f"{place}/{file}"
            if os.path.exists(path) and os.stat(path).st_mode & 0o170000 == 0o140000:
                got_it(f"{path} is a socket")
