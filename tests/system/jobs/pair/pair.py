"""The master counts what it gets, the slave what it sends and what failed; both tell their counts."""

import json
import os
import socket
import sys
import threading
import time

counts = {"udp": 0, "tcp": 0, "errors": 0, "loopback": 0}
own = os.environ["SYNDICATE_ADDRESS"]


def status() -> None:
    server = socket.create_server((own, 9000))
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(json.dumps(counts).encode())


def count_udp() -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((own, 9001))
    while True:
        receiver.recv(100)
        counts["udp"] += 1


def count_tcp() -> None:
    server = socket.create_server((own, 9002))
    while True:
        connection, _ = server.accept()
        threading.Thread(target=drain, args=(connection,), daemon=True).start()


def drain(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        counts["tcp"] += len(data)


def listen() -> None:
    threading.Thread(target=count_udp, daemon=True).start()
    threading.Thread(target=count_tcp, daemon=True).start()
    status()


def send_udp(master: str) -> None:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    myself = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    myself.bind((own, 9003))
    myself.settimeout(1)
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
