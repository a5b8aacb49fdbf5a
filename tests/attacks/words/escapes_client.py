"""The same, in what a client says of the job."""

import subprocess

from syndicate.client_api import Chaos

subprocess.run(["python3", "/escapes.py"], check=True)
with Chaos.from_env() as chaos:
    text = "syn\x1b]0;syntitle\x07\x1b[31;5m\x9b1m\u202egnp\r\nsyn\x1b[2J\b\0"
    chaos.finish("fail", 1.0, {"latency \u0301 p99": 1.0}, text)
