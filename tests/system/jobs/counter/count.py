"""Writes a line every 10 ms, 600 in all, and ends with status 7."""

import sys
import time

for n in range(600):
    print(f"line {n}", flush=True)
    time.sleep(0.01)
sys.exit(7)
