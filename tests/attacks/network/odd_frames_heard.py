"""A member that would hear odd frames."""

import os
import time

from attacker import attempt, got_it
from wire import packet_socket

wire = attempt("a packet socket", packet_socket)
if wire is None:
    os._exit(0)
wire.settimeout(0.2)
until = time.monotonic() + 2.0
while time.monotonic() < until:
    try:
        data, (_, _, direction, _, _) = wire.recvfrom(4000)
    except TimeoutError:
        continue
    if b"synattack " in data and direction != 4:
        got_it(f"a frame came in: {data.rpartition(b'synattack ')[2]!r} of kind {data[12:14].hex()}")
        break
