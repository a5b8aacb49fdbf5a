"""Says hello: without an argument as the master, with the master's address as a slave."""

import os
import socket
import sys
import time

PORT = 7000
DEADLINE_S = 60.0


def master() -> None:
    """Answers one line of every slave, then ends."""
    slaves = [slave for slave in os.environ["SYNDICATE_SLAVES"].split(",") if slave]
    with socket.create_server((os.environ["SYNDICATE_ADDRESS"], PORT)) as listener:
        listener.settimeout(DEADLINE_S)
        for _ in slaves:
            connection, _ = listener.accept()
            connection.settimeout(DEADLINE_S)
            with connection, connection.makefile("rw") as lines:
                name = lines.readline().strip()
                print(f"{name} says hello", flush=True)
                lines.write(f"hello {name}, this is the master\n")


def slave(address: str) -> None:
    """Says its name to the master and prints the answer; asks again while nobody listens yet."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            connection = socket.create_connection((address, PORT), timeout=1)
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
    connection.settimeout(DEADLINE_S)
    with connection, connection.makefile("rw") as lines:
        lines.write(f"{os.environ['SYNDICATE_TASK']}\n")
        lines.flush()
        print(lines.readline().strip(), flush=True)


if len(sys.argv) > 1:
    slave(sys.argv[1])
else:
    master()
