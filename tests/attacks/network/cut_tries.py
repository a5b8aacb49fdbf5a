"""Both sides of a cut: each goes on sending in every way there is, and tells of what it hears."""

import os
import select
import socket
import struct
import time

from attacker import attempt, got_it, note

ROLE, MASTER = os.environ["SYNDICATE_ROLE"], os.environ["SYNDICATE_MASTER"]
SLAVE, CLIENT = os.environ["SYNDICATE_SLAVES"].split(",")[0], os.environ["SYNDICATE_CLIENTS"].split(",")[0]
OTHER, PORT, CLIENT_PORT = (SLAVE, 5300, 5200) if ROLE == "master" else (MASTER, 5300, 5200)
ECHO = struct.pack("!BBHHH", 8, 0, 0, 1, 0)
SOURCE_ROUTE = b"\x83\x0b\x04" + socket.inet_aton(CLIENT) + socket.inet_aton(OTHER) + b"\0"
EVERYBODY = ["255.255.255.255", OTHER.rsplit(".", 2)[0] + ".255.255", "224.0.0.1"]


def told_when():
    """A connection to the client, over which it says when the cut holds."""
    while True:
        try:
            return socket.create_connection((CLIENT, CLIENT_PORT), timeout=5)
        except OSError:
            time.sleep(0.02)


def connection():
    """One from before the cut."""
    if ROLE == "master":
        return socket.create_server(("", PORT)).accept()[0]
    while True:
        try:
            return socket.create_connection((MASTER, PORT), timeout=5)
        except OSError:
            time.sleep(0.02)


def datagrams():
    """Sockets that send in ways of their own, with where they send to."""
    for options in (
        [],
        [(1, 25, b"eth0")],
        [(0, 4, SOURCE_ROUTE)],
        [(0, 1, 0xB8)],
        [(0, 2, 1)],
        [(0, 2, 255)],
    ):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for one in options:
            attempt(f"option {one}", made.setsockopt, *one)
        yield made


def send_all(stream):
    """Once in each way; the time stands in it."""
    stamp = b"%020d" % time.monotonic_ns()
    attempt("stream", stream.send, stamp)
    for made in senders:
        for size in (20, 1400, 4000, 30000):  # the larger ones go in fragments
            attempt(f"{size} bytes", made.sendto, stamp.ljust(size, b"."), (OTHER, PORT))
    for place in EVERYBODY:
        attempt(place, senders[0].sendto, stamp, (place, PORT))
    attempt("ping", pings.sendto, ECHO + stamp, (OTHER, 0))
    made = socket.socket()  # a new connection too
    made.setblocking(False)
    made.connect_ex((OTHER, PORT + 1))
    late[:] = [*late[-9:], made]
    for one in late:
        attempt("new stream", one.send, stamp)


def judge(data, how):
    """Whether what was heard was sent after the cut held."""
    stamps = [int(data[at : at + 20]) for at in range(0, len(data) - 19, 20) if data[at : at + 20].isdigit()]
    if cut_at and stamps and max(stamps) > cut_at:
        got_it(f"{ROLE} heard by {how} what was sent {(max(stamps) - cut_at) / 1e6:.1f} ms after the cut")
        return True
    return False


late, taken, cut_at = [], [], 0
box = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
box.bind(("", PORT))
door = socket.create_server(("", PORT + 1))
door.setblocking(False)
pings = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)
senders = list(datagrams())
stream = connection()
stream.setblocking(False)
# The slave cannot be told that it is cut off: it only tries, and the master judges what comes.
client = told_when() if ROLE == "master" else None
until = time.monotonic() + 60.0  # its end comes before, with the client's: that hears from the master
done_at = 0.0
while time.monotonic() < until and not (done_at and time.monotonic() > done_at):
    send_all(stream)
    doors = [box, stream, pings, door, *taken] + ([client] if client else [])
    time.sleep(0.02)
    for ready in select.select(doors, [], [], 0.05)[0]:
        if ready is client:
            word = client.recv(100)
            if word.strip():
                cut_at, done_at = int(word), time.monotonic() + 1.2
        elif ready is door:
            taken[:] = [*taken[-49:], door.accept()[0]]
        else:
            how = {box: "datagram", stream: "stream", pings: "ping"}.get(ready, "new stream")
            data = attempt(how, ready.recv, 65536) or b""
            judge(data[8:] if how == "ping" else data, how)
            if ready in taken and not data:
                taken.remove(ready)
if client:
    client.sendall(b".")
note(f"{ROLE} is done")
