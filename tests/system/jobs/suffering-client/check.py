"""Has a slave of the job `probes` suffer each kind of fault once, and tells each that held.

Nothing is measured finely: the machine may be an emulated one, and slow.
"""

import json
import socket
import time

from syndicate.client_api import Chaos

PATIENCE_S = 60.0
SILENCE_S = 1.5
DELAY_S = 0.4


def ask(ip, do, answer_within=2 * PATIENCE_S, **more):
    with socket.create_connection((ip, 4001), timeout=answer_within) as connection:
        connection.settimeout(answer_within)
        connection.sendall(json.dumps({"do": do, **more}).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def is_silent(ip):
    try:
        ask(ip, "look", answer_within=SILENCE_S)
    except TimeoutError:
        return True
    return False


def until_up(ip, met=lambda state: True):
    """Its state, once it answers and the state is so."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            state = ask(ip, "look", answer_within=10 * SILENCE_S)
            if met(state) or time.monotonic() > deadline:
                return state
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def stood_still(state):
    """Its threads go on one after the other: the one that answers may be before the one that ticks."""
    return state["longest_gap_s"] > 1.0


def holds(what, found):
    assert found, what
    print(f"{what} holds", flush=True)


def quickest(master, slave):
    """The shortest of some round trips."""
    return min(ask(master, "say", peer=slave, within=PATIENCE_S) for _ in range(8))


def networks(chaos, master, slave):
    holds("open", ask(master, "dial", peer=slave, within=PATIENCE_S) == "open")
    holds("quick", quickest(master, slave) < DELAY_S)
    chaos.degrade(slave, peers=[master], delay=DELAY_S)
    holds("delay", quickest(master, slave) >= DELAY_S)
    chaos.heal()
    holds("no delay", quickest(master, slave) < DELAY_S)
    chaos.degrade(slave, peers=[master], loss=100)
    holds("loss", ask(master, "say", peer=slave, within=SILENCE_S) == "silence")
    chaos.heal()
    chaos.disconnect(slave)
    holds("disconnect", ask(master, "dial", peer=slave, within=SILENCE_S) == "silence")
    chaos.reconnect(slave)
    holds("reconnect", ask(master, "dial", peer=slave, within=PATIENCE_S) == "open")
    chaos.reset(slave)
    holds("reset of what is open", ask(master, "say", peer=slave, within=PATIENCE_S) == "ECONNRESET")
    holds("reset of what is new", ask(master, "dial", peer=slave, within=PATIENCE_S) == "ECONNREFUSED")
    chaos.reconnect(slave)


def tasks(chaos, slave):
    chaos.pause(slave)
    holds("pause", is_silent(slave))
    chaos.resume(slave)
    holds("resume", stood_still(until_up(slave, stood_still)))
    chaos.disk_full(slave)
    holds("disk full", ask(slave, "write", name="during", size=100_000) == "ENOSPC")
    chaos.heal()
    holds("disk again", ask(slave, "write", name="after", size=100_000) == "written")
    chaos.signal(slave, "USR1")
    holds("signal", until_up(slave, lambda state: state["signals"])["signals"] == 1)
    chaos.kill(slave)
    chaos.revive(slave)
    holds("kill and revive", until_up(slave)["signals"] == 0)


with Chaos.from_env() as chaos:
    master, slave = (member.address for member in chaos.members() if member.role != "client")
    for ip in (master, slave):
        until_up(ip)
    networks(chaos, master, slave)
    tasks(chaos, slave)
    holds("ledger", not any(fault.error for fault in chaos.faults()))
    chaos.finish("pass", text="all held")
