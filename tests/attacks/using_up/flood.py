"""Writes a gigabyte to its output, on both streams."""

import os
import threading

from attacker import end

HALF = 512 << 20
PIECE = b"x" * 65_535 + b"\n"


def pour(stream):
    """Half of it."""
    for _ in range(HALF // len(PIECE)):
        os.write(stream, PIECE)


both = [threading.Thread(target=pour, args=(stream,)) for stream in (1, 2)]
for each in both:
    each.start()
for each in both:
    each.join()
end()
