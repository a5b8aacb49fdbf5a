"""Floods the job's own sync server for some seconds, from each member, in every way that there is."""

import os
import random
import socket
import struct
import threading
import time

from attacker import end, note

HOST, _, PORT = os.environ["SYNDICATE_SYNC_SERVER"].partition(":")
PLACE = (HOST, int(PORT))
ME = os.environ["SYNDICATE_TASK"].encode()
REQUEST = struct.Struct("=64shhii")
EXTENSION = struct.Struct("=2sBBQI")
INIT, WAIT, AT_ONCE = 1, 2, 1
LARGEST = 2**31 - 1
HELD, ROUNDS = 600, 120
over = time.monotonic() + 8.0
done = dict.fromkeys(("silent", "halves", "waiters", "names", "rounds", "huge", "garbage", "datagrams"), 0)


def connected():
    """A connection to the server."""
    peer = socket.create_connection(PLACE, timeout=5)
    peer.settimeout(5)
    return peer


def ask(kind, name, flags=0, count=0, error=0):
    """One request and its answer, if there is one."""
    with connected() as peer:
        peer.sendall(REQUEST.pack(name, kind, flags, count, error))
        peer.recv(4)


def hold(held, said):
    """One connection more that says no more than this; the oldest are let go."""
    held.append(connected())
    held[-1].sendall(said)
    if len(held) > HELD:
        held.pop(0).close()


def silent(number, held):
    """Says nothing."""
    hold(held, b"")


def halves(number, held):
    """Half a request."""
    hold(held, REQUEST.pack(b"half", WAIT, 0, 0, 0)[: 1 + number % 75])


def waiters(number, held):
    """Waits for nobody, at barriers that never open."""
    hold(held, REQUEST.pack(b"never-%s-%d" % (ME, number), WAIT, 0, 0, 239))


def names(number, held):
    """A million names, for each of which the server has to remember a count."""
    ask(INIT, b"name-%s-%d" % (ME, number), AT_ONCE, 1)


def rounds(number, held):
    """A million rounds, each of a name of its own."""
    name = b"round-%s-%d" % (ME, number)
    ask(INIT, name, AT_ONCE, 1)
    ask(WAIT, name)


def huge(number, held):
    """Counts and errors that no number holds."""
    for count in (LARGEST, LARGEST, -1, -LARGEST - 1, 0):
        ask(INIT, b"huge", AT_ONCE, count, random.choice((0, 239, 240, LARGEST, -1)))


def garbage(number, held):
    """Bytes of no meaning, and more of them than were asked for."""
    with connected() as peer:
        peer.sendall(random.randbytes(76))
    with connected() as peer:
        peer.sendall(REQUEST.pack(b"spare", WAIT, 0, 0, 0))
        for _ in range(20):
            peer.sendall(bytes(65_536))


def datagrams(number, held):
    """A storm over UDP: requests with ids of their own, as of the original client, and garbage."""
    if not held:
        held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for offset in range(500):
        name = b"udp-%s-%d" % (ME, number * 500 + offset)
        tail = EXTENSION.pack(b"\xb5S", 1, 0, random.getrandbits(64), 0)
        held[0].sendto(REQUEST.pack(name.ljust(48, b"\0") + tail, WAIT, 0, 0, 0), PLACE)
        held[0].sendto(REQUEST.pack(name, INIT, 0, LARGEST, 0), PLACE)
        held[0].sendto(random.randbytes(random.randrange(200)), PLACE)


def flood(way):
    """This way again and again; what the server or the bounds of the task refuse is tried again."""
    held = []
    while time.monotonic() < over:
        try:
            way(done[way.__name__], held)
            done[way.__name__] += 1
        except OSError:
            time.sleep(0.01)


ways = (silent, halves, waiters, names, rounds, huge, garbage, datagrams)
threads = [threading.Thread(target=flood, args=(way,)) for way in ways]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
# However slow the flood has made the server: so many that a line of the story for each would be too much, and
# not so many at once that some of those of a quarter of a second are counted only.
most, late = done["rounds"] + ROUNDS, time.monotonic() + 40.0
while done["rounds"] < most and time.monotonic() < late:
    try:
        rounds(done["rounds"], [])
        done["rounds"] += 1
    except OSError:
        pass
    time.sleep(0.03)
note(done)
end()
