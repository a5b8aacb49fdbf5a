"""A member that tells what it suffers: who it hears, what its TCP does, its counter, its disk, its signals.

It takes one order a connection on port 4001, one line of JSON, and answers with one.
"""

import errno
import json
import os
import signal
import socket
import socketserver
import threading
import time

UDP, TCP, ECHO = 4000, 4001, 4002
HERE = os.environ["SYNDICATE_ADDRESS"]
state = {"ticks": 0, "longest_gap_s": 0.0, "signals": 0}
held = {}
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
udp.bind((HERE, UDP))
heard = {}


def tick():
    last = time.monotonic()
    while True:
        time.sleep(0.005)
        now = time.monotonic()
        state["ticks"] += 1
        state["longest_gap_s"] = max(state["longest_gap_s"], now - last)
        last = now


def send(order):
    """Sends each of these peers so many datagrams of a round, and waits for no answer.

    Where the kernel has not passed the ones before on, for there to be room for the next.
    """
    data = json.dumps([order["round"], order.get("pad", "")]).encode()
    for _ in range(order.get("count", 1)):
        for peer in order["to"]:
            udp.sendto(data, (peer, UDP))
    return "sent"


def hear(order):
    """From whom how many datagrams of a round are here."""
    while True:
        try:
            data, (peer, _) = udp.recvfrom(2048, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        of_round = heard.setdefault(json.loads(data)[0], {})
        of_round[peer] = of_round.get(peer, 0) + 1
    return heard.get(order["round"], {})


def dial(order):
    """Opens a connection and keeps it."""
    try:
        held[order["peer"]] = socket.create_connection((order["peer"], ECHO), timeout=order["within"])
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode[error.errno]
    return "open"


def say(order):
    """Sends over a connection that is kept, and reads the echo."""
    connection = held[order["peer"]]
    connection.settimeout(order["within"])
    sent = time.monotonic()
    try:
        connection.sendall(b"?" * order.get("size", 1))
        left = order.get("size", 1)
        while left:
            data = connection.recv(65536)
            if not data:
                return "closed"
            left -= len(data)
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode[error.errno]
    return time.monotonic() - sent


def write(order):
    """Writes some bytes to the disk."""
    try:
        with open(order["name"], "wb") as file:
            file.write(b"x" * order["size"])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"


def measure(order):
    """The bytes of a file on the disk; -1 where there is none."""
    try:
        return os.stat(order["name"]).st_size
    except FileNotFoundError:
        return -1


def look(order):
    return dict(state)


ORDERS = {one.__name__: one for one in (send, hear, dial, say, write, measure, look)}


class Orders(socketserver.StreamRequestHandler):
    def handle(self):
        order = json.loads(self.rfile.readline())
        self.wfile.write(json.dumps(ORDERS[order["do"]](order)).encode() + b"\n")


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A connection that a fault ended is no news."""


def count(number, frame):
    state["signals"] += 1


signal.signal(signal.SIGUSR1, count)
for port, handler in ((ECHO, Echo), (TCP, Orders)):
    server = Server((HERE, port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
threading.Thread(target=tick, daemon=True).start()
print("up", flush=True)
while True:
    signal.pause()
