"""Starts one member: `python3 -m raftkv`, told everything by its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from raftkv.node import Node, Settings


def main() -> None:
    """Reads SYNDICATE_ADDRESS, _MASTER and _SLAVES, and works until it is killed."""
    env = os.environ
    try:
        me = env["SYNDICATE_ADDRESS"]
        slaves = [slave for slave in env["SYNDICATE_SLAVES"].split(",") if slave]
        members = (env["SYNDICATE_MASTER"], *slaves)
    except KeyError as missing:
        sys.exit(f"raftkv: {missing.args[0]} is not set; this runs as a job of Syndicate")
    settings = Settings(
        me,
        members,
        Path("data"),
        stale_reads=env.get("STALE_READS") == "1",
        forget_vote=env.get("FORGET_VOTE") == "1",
    )
    Node(settings, say=lambda line: print(line, flush=True)).run()


main()
