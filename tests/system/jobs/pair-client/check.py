"""Cuts the slave off, sees that nothing arrives in silence, heals, and sees that data flows again."""

import json
import socket
import sys
import time

from syndicate.client_api import Chaos

master, slave = sys.argv[1], sys.argv[2].split(",")[0]


def counts(address: str) -> dict[str, int]:
    deadline = time.monotonic() + 40
    while True:
        try:
            with socket.create_connection((address, 9000), timeout=10) as connection:
                return json.loads(connection.makefile().read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def until(what: str, condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"never: {what}")
        time.sleep(0.02)


def goes_on() -> None:
    """The slave sends on, for a third of a second at least."""
    sent = counts(slave)
    until("the slave goes on sending", lambda: counts(slave)["udp"] > sent["udp"] + 30)


def settled(address: str) -> dict[str, int]:
    """Once nothing more arrives of what was under way before: after a heal that is a burst."""
    last = counts(address)
    deadline = time.monotonic() + 40
    while True:
        goes_on()
        now = counts(address)
        if (now["tcp"], now["udp"]) == (last["tcp"], last["udp"]):
            return now
        if time.monotonic() > deadline:
            raise SystemExit("never: nothing arrives any more")
        last = now


with Chaos.from_env() as chaos:
    until("first data", lambda: counts(master)["udp"] > 5 and counts(master)["tcp"] > 5)
    for target in (slave, master):
        chaos.disconnect(target)
        assert chaos.disconnect(target).already
        before = settled(master)
        goes_on()
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
