"""Leaves on its disk what is hard to pack, to send and to lay down again, and ends."""

import os
import socket
import sys

from attacker import FACTS, note

HOLES, WIDE, DEEP = 400, 20_000, 500

for number in range(HOLES):
    with open(f"/hole-{number}", "wb") as file:
        file.truncate(60 << 20)
os.mkdir("/wide")
for number in range(WIDE):
    os.close(os.open(f"/wide/{number}", os.O_CREAT | os.O_WRONLY))
os.mkfifo("/pipe")
socket.socket(socket.AF_UNIX).bind("/socket")
for name, target in (
    ("bait-link", FACTS["bait"] + "/bait"),
    ("shadow", "/etc/shadow"),
    ("root", "/proc/1/root"),
    ("up", "../../../../../../../.."),
    ("loop", "."),
):
    os.symlink(target, f"/{name}")
for name in ("-rf", "--checkpoint=1", "--checkpoint-action=exec=sh", "two\nlines", "\x1b[31mred", "x" * 255):
    os.close(os.open(f"/{name}", os.O_CREAT | os.O_WRONLY))
with open("/suid", "wb") as file:
    file.write(b"#!/bin/sh\n")
os.chmod("/suid", 0o6777)
os.link("/suid", "/suid-too")
os.mkdir("/closed")
os.close(os.open("/closed/in", os.O_CREAT | os.O_WRONLY))
os.chmod("/closed", 0)
os.mkdir("/deep")
os.chdir("/deep")
for _ in range(DEEP):
    os.mkdir("d")
    os.chdir("d")
note("all is laid out")
sys.exit(0)
