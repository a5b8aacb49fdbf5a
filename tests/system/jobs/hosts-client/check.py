"""Breaks members on other machines in every way that the host's network allows, and asks them of it.

The members are those of the job `probes`, any number of them.
"""

import json
import os
import socket
import time

from syndicate.client_api import CannotDoIt, Chaos, Shape

HERE = os.environ["SYNDICATE_ADDRESS"]
SETTLE_S = 0.2
SOON_S = 30.0
rounds = iter(range(1_000_000))


def ask(ip, do, within=SOON_S, **more):
    with socket.create_connection((ip, 4001), timeout=within) as connection:
        connection.settimeout(within)
        connection.sendall(json.dumps({"do": do, **more}).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def is_silent(ip):
    try:
        ask(ip, "look", within=0.5)
    except TimeoutError:
        return True
    return False


def until_up(ip, met=lambda state: True):
    """Its state, once it answers and the state is so."""
    deadline = time.monotonic() + 2 * SOON_S
    while True:
        try:
            state = ask(ip, "look", within=5.0)
            if met(state) or time.monotonic() > deadline:
                return state
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def stood_still(state):
    """Its threads go on one after the other: the one that answers may be before the one that ticks."""
    return state["longest_gap_s"] > 0.3


def reach(members, wanted):
    """The pairs (from, to) between which a datagram passes, a moment after all that is wanted came."""
    number = next(rounds)
    for ip in members:
        ask(ip, "send", round=number, to=[peer for peer in members if peer != ip])

    def heard():
        return {(sender, ip) for ip in members for sender in ask(ip, "hear", round=number)}

    deadline = time.monotonic() + SOON_S
    while not heard() >= wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(SETTLE_S)
    return heard()


def whole(members):
    return {(one, other) for one in members for other in members if one != other}


def across(groups):
    """The pairs of different groups."""
    return {
        (one, ip) for group in groups for one in group for rest in groups if rest is not group for ip in rest
    }


def passes(what, members, wanted):
    holds(what, reach(members, wanted), wanted)


def holds(what, found, wanted):
    assert found == wanted, (what, found ^ wanted if isinstance(found, set) else (found, wanted))
    print(what, flush=True)


def cuts(chaos, members):
    first, rest = members[0], members[1:]
    held = chaos.partition([[first], rest])
    passes("partition", members, whole(members) - across([[first], rest]))
    chaos.heal(*held.fault_ids)
    passes("healed", members, whole(members))
    chaos.partition([[first], [rest[0]]], one_way=True)
    passes("one way", members, whole(members) - {(rest[0], first)})
    chaos.heal()
    for shape in Shape if len(members) > 2 else []:
        held = chaos.partition(shape=shape, seed=7)
        ring = {(group[0], peer) for group in held.groups for peer in group[1:]}
        wanted = ring if shape is Shape.MAJORITY_RING else whole(members) - across(held.groups)
        passes(f"shape {shape.value}", members, wanted)
        chaos.heal()
    chaos.disconnect(rest[0])
    passes("disconnect", members, {pair for pair in whole(members) if rest[0] not in pair})
    chaos.reconnect(rest[0])
    chaos.disconnect(members, lease=0.5)
    while chaos.faults(in_force=True):
        time.sleep(0.05)
    passes("lease", members, whole(members))


def client_cut(chaos, members):
    chaos.disconnect(HERE)
    holds("client cut", [is_silent(ip) for ip in members], [True] * len(members))
    chaos.reconnect(HERE)
    holds("client back", [until_up(ip)["ticks"] > 0 for ip in members], [True] * len(members))


def until_signalled(ip):
    """How many signals it has handled, once there is one: it handles them when it comes to it."""
    return until_up(ip, lambda state: state["signals"])["signals"]


def tasks(chaos, members):
    last = members[-1]
    chaos.pause(last)
    holds("pause", is_silent(last), True)
    chaos.resume(last)
    holds("resume", stood_still(until_up(last, stood_still)), True)
    chaos.disk_full(last)
    holds("disk full", ask(last, "write", name="during", size=100_000), "ENOSPC")
    chaos.heal()
    holds("disk again", ask(last, "write", name="after", size=100_000), "written")
    chaos.signal(members, "USR1")
    holds("signal", [until_signalled(ip) for ip in members], [1] * len(members))
    ask(last, "write", name="kept", size=10)
    chaos.kill(members)
    chaos.revive(members)
    holds("killed and revived", [until_up(ip)["signals"] for ip in members], [0] * len(members))
    holds("disk kept", ask(last, "measure", name="kept"), 10)
    chaos.kill(last)
    chaos.revive(last, with_disk=False)
    until_up(last)
    holds("fresh disk", ask(last, "measure", name="kept"), -1)


def refused(chaos, members):
    said = []
    for call in (lambda: chaos.reset(members[0]), lambda: chaos.degrade(members[0], loss=10)):
        try:
            call()
        except CannotDoIt as error:
            said.append("host" in str(error))
    holds("refused", said, [True, True])


with Chaos.from_env() as chaos:
    members = [member.address for member in chaos.members() if member.role != "client"]
    for ip in members:
        until_up(ip)
    if len(members) > 1:
        cuts(chaos, members)
    client_cut(chaos, members)
    tasks(chaos, members)
    refused(chaos, members)
    holds("ledger", [fault.error for fault in chaos.faults() if fault.error], [])
    chaos.finish("pass", text=f"{len(members)} members")
