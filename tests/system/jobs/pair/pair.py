"""The master counts what it gets, the slave what it sends and what failed; both tell their counts."""

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator

counts = {"udp": 0, "tcp": 0, "errors": 0, "loopback": 0}
own = os.environ["SYNDICATE_ADDRESS"]


def tell(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(json.dumps(counts).encode())


def status() -> None:
    server = socket.create_server((own, 9000))
    while True:
        tell(server)


def listen() -> None:
    """Alone in its process: whoever asks is told after all that had come before is counted."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((own, 9001))
    receiver.setblocking(False)
    door = socket.create_server((own, 9002))
    door.setblocking(False)
    asked = socket.create_server((own, 9000))
    streams: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([receiver, door, asked, *streams], [], [])
        with contextlib.suppress(BlockingIOError):
            streams.append(door.accept()[0])
        counts["udp"] += sum(1 for _ in pieces(receiver))
        for stream in streams:
            counts["tcp"] += sum(map(len, pieces(stream)))
        if asked in ready:
            tell(asked)


def pieces(source: socket.socket) -> Iterator[bytes]:
    """What is there now."""
    with contextlib.suppress(BlockingIOError):
        while data := source.recv(4096, socket.MSG_DONTWAIT):
            yield data


def send_udp(master: str) -> None:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    myself = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    myself.bind((own, 9003))
    myself.settimeout(30)
    while True:
        try:
            sender.sendto(b"u", (master, 9001))
            sender.sendto(b"me", (own, 9003))
            myself.recv(10)
            counts["loopback"] += 1
            counts["udp"] += 1
        except OSError as error:
            print("udp:", error)
            counts["errors"] += 1
        time.sleep(0.01)


def send_tcp(master: str) -> None:
    while True:
        try:
            connection = socket.create_connection((master, 9002), timeout=60)
            break
        except ConnectionRefusedError:  # the master is still starting
            time.sleep(0.02)
    while True:
        try:
            connection.sendall(b"t")
            counts["tcp"] += 1
        except OSError as error:
            print("tcp:", error)
            counts["errors"] += 1
        time.sleep(0.01)


if sys.argv[1] == "listen":
    listen()
else:
    threading.Thread(target=status, daemon=True).start()
    threading.Thread(target=send_udp, args=(sys.argv[2],), daemon=True).start()
    send_tcp(sys.argv[2])
