"""What every attack runs beside: a master and a slave that talk, count, and look after what is theirs.

A line of JSON ten times a second says how far the count is, how long the longest silence was since the line
before, what of its disk is not as it was, and how often a stranger or a signal came.
"""

import ctypes
import json
import os
import select
import signal
import socket
import time

PORT = 4000
ABSTRACT = b"\0syndicate-bystander"
SHM_KEY = 0x53594E44
OWN = b"the bystander's own\n" * 50
PLACES = ("/own", "/tmp/own", "/dev/shm/own")
FOLDERS = ("/", "/tmp", "/dev/shm")
TICK_S, LINE_S, SILENCE_S = 0.05, 0.1, 60.0
IPC_CREAT = 0o1000


def make_shm():
    """A SysV segment that every user may write, with something in it; its address."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    segment = libc.shmget(SHM_KEY, len(OWN), IPC_CREAT | 0o666)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    address = libc.shmat(segment, None, 0)
    ctypes.memmove(address, OWN, len(OWN))
    return address


def listing():
    """What lies in the folders that belong to it alone."""
    return {folder: sorted(os.listdir(folder)) for folder in FOLDERS}


def content(place):
    """What a file holds."""
    with open(place, "rb") as file:
        return file.read()


def changed(before, shm):
    """What is not as it was, in words; empty if all is."""
    found = [place for place in PLACES if content(place) != OWN]
    found += [folder for folder, names in listing().items() if names != before[folder]]
    return " ".join(found + (["shm"] if ctypes.string_at(shm, len(OWN)) != OWN else []))


def connected():
    """The pair's connection, the doors at which strangers would come, and the address of the other."""
    master = os.environ["SYNDICATE_MASTER"]
    peers = os.environ["SYNDICATE_SLAVES"].split(",")
    door = socket.create_server(("", PORT), reuse_port=True)
    local = socket.socket(socket.AF_UNIX)
    local.bind(ABSTRACT)
    local.listen()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", PORT))
    if os.environ["SYNDICATE_ROLE"] == "master":
        link, (address, _) = door.accept()
        assert address in peers, address
    else:
        until = time.monotonic() + SILENCE_S
        while True:
            try:
                link = socket.create_connection((master, PORT), timeout=SILENCE_S)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until, "the master does not listen"
                time.sleep(TICK_S)
    return link, (door, local, datagrams)


def main():
    """Talk until the job is cancelled, or the other is silent for too long."""
    signals = []
    for name in ("HUP", "INT", "TERM", "USR1", "USR2", "CONT"):
        signal.signal(signal.Signals[f"SIG{name}"], lambda number, _: signals.append(number))
    for place in PLACES:
        with open(place, "wb") as file:
            file.write(OWN)
    shm, before = make_shm(), listing()
    link, doors = connected()
    speaks = os.environ["SYNDICATE_ROLE"] == "slave"
    count = strangers = 0
    longest, said_at, last = 0.0, 0.0, time.monotonic()
    if speaks:
        link.sendall(b".")
    while True:
        ready, _, _ = select.select([link, *doors], [], [], SILENCE_S)
        assert ready, "the other is silent"
        for door in ready:
            if door is link:
                assert link.recv(1), "the other is gone"
                count += 1
                time.sleep(TICK_S)
                link.sendall(b".")
            elif door.type == socket.SOCK_DGRAM:
                door.recv(65536)
                strangers += 1
            else:
                door.accept()[0].close()
                strangers += 1
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        if now - said_at >= LINE_S:
            line = {"n": count, "gap_s": round(longest, 3), "changed": changed(before, shm)}
            print(json.dumps(line | {"strangers": strangers, "signals": len(signals)}), flush=True)
            said_at, longest = now, 0.0


main()
