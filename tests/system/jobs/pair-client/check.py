"""Cuts the slave off, sees that nothing arrives in silence, heals, and sees that data flows again."""

import json
import socket
import sys
import time

from syndicate.client_api import Chaos

master, slave = sys.argv[1], sys.argv[2].split(",")[0]


def counts(address: str) -> dict[str, int]:
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection((address, 9000), timeout=2) as connection:
                return json.loads(connection.makefile().read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def until(what: str, condition) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"never: {what}")
        time.sleep(0.02)


def settled(address: str) -> dict[str, int]:
    """Once it has counted what had reached it before: after a heal that is a burst."""
    last = counts(address)
    deadline = time.monotonic() + 40
    while (now := counts(address))["tcp"] != last["tcp"] or now["udp"] != last["udp"]:
        if time.monotonic() > deadline:
            raise SystemExit("never: nothing arrives any more")
        last = now
    return last


with Chaos.from_env() as chaos:
    until("first data", lambda: counts(master)["udp"] > 5 and counts(master)["tcp"] > 5)
    for target in (slave, master):
        chaos.disconnect(target)
        assert chaos.disconnect(target).already
        before, sent = settled(master), counts(slave)
        until("the slave goes on sending", lambda s=sent: counts(slave)["udp"] > s["udp"] + 30)
        after = counts(master)
        assert after["udp"] == before["udp"], ("udp passed a cut", before, after)
        assert after["tcp"] == before["tcp"], ("tcp passed a cut", before, after)
        chaos.reconnect(target)
        assert chaos.reconnect(target).already
        until("udp again", lambda a=after: counts(master)["udp"] > a["udp"])
        until("tcp again", lambda a=after: counts(master)["tcp"] > a["tcp"])
    at_end = counts(slave)
    print("slave:", at_end)
    chaos.finish(
        "pass" if at_end["errors"] == 0 and at_end["loopback"] > 60 else "fail", text=json.dumps(at_end)
    )
