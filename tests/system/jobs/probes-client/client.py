"""Makes every call of ChaosControl, asks the members what they suffer, and prints what it found."""

import itertools
import json
import socket
import sys
import time
import traceback

from syndicate.client_api import CannotDoIt, Chaos, ChaosError, Shape

WITHIN = 0.4
"""How long silence is waited for."""
SOON = 30.0
"""How long what will come is waited for."""
QUIET = 0.3
"""How long nothing more has come where nothing more will."""
LEASE = 4.0
"""How long faults last that nobody heals."""
LONGEST = 20.0
"""How long they last at most, where nothing stands still."""
PAD = "-" * 1200
"""Makes a datagram long: in a short one the bit turned over may be the only one of its checksum that was set,
and one without a checksum is whole to UDP.
"""
rounds = itertools.count()


def ask(ip, do, **more):
    """One order to a member."""
    within = more.pop("answer_within", SOON)
    with socket.create_connection((ip, 4001), timeout=within) as connection:
        connection.settimeout(within)
        connection.sendall(json.dumps({"do": do, **more}).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def until_up(ip):
    """Waits until a member takes orders."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(ip, "look", answer_within=5.0)
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Job:
    """The members, by names, and who reaches whom."""

    def __init__(self, chaos):
        self.chaos = chaos
        self.ip = {member.task: member.address for member in chaos.members() if member.role != "client"}
        self.name = {ip: name for name, ip in self.ip.items()}

    def some(self, *names):
        return [self.ip[name] for name in names]

    def reach(self):
        """Of each member those that hear it: all, or who does when nothing more has come for a while.

        That is known by looks that begin later than that, and not by the time alone, in which this client may
        have stood still.
        """
        number = next(rounds)
        for ip in self.name:
            ask(ip, "send", round=number, to=[peer for peer in self.name if peer != ip])
        found, last = set(), time.monotonic()
        while len(found) < len(self.name) * (len(self.name) - 1):
            begun = time.monotonic()
            now = {(sender, ip) for ip in self.name for sender in ask(ip, "hear", round=number)}
            if now > found:
                found, last = now, time.monotonic()
            elif begun > last + QUIET:
                break
            time.sleep(0.01)
        return {
            name: sorted(self.name[hearer] for sender, hearer in found if sender == ip)
            for name, ip in self.ip.items()
        }

    def groups(self, partitioned):
        return [[self.name[ip] for ip in group] for group in partitioned.groups]

    def in_force(self):
        return [fault.kind for fault in self.chaos.faults(in_force=True)]


def groups(job):
    held = job.chaos.partition(
        [[job.ip["master"], job.ip["slave-0"]], [job.ip["slave-1"], job.ip["slave-2"]]]
    )
    found = {"groups": job.groups(held), "reach": job.reach()}
    healed = job.chaos.heal(held.fault_ids[0])
    return {**found, "healed": len(healed.healed), "lines": len(held.fault_ids), "after": job.reach()}


def shapes(job):
    found = {}
    for shape in Shape:
        held = job.chaos.partition(shape=shape, seed=7)
        found[shape.value] = {"groups": job.groups(held), "reach": job.reach()}
        job.chaos.heal()
    return {"shapes": found, "after": job.reach()}


def one_way(job):
    held = job.chaos.partition([[job.ip["master"]], [job.ip["slave-0"]]], one_way=True)
    found = job.reach()
    job.chaos.heal(*held.fault_ids)
    return {"reach": found, "after": job.reach()}


def disconnect(job):
    master, slave = job.ip["master"], job.ip["slave-0"]
    ask(master, "dial", peer=slave, within=SOON)
    job.chaos.disconnect(slave)
    found = {"reach": job.reach(), "said": ask(master, "say", peer=slave, within=WITHIN)}
    job.chaos.reconnect(slave)
    return {**found, "after": job.reach()}


def reset(job):
    master, slave = job.ip["master"], job.ip["slave-1"]
    opened = ask(master, "dial", peer=slave, within=SOON)
    job.chaos.reset(slave)
    found = {
        "opened": opened,
        "said": ask(master, "say", peer=slave, within=SOON),
        "dialled": ask(master, "dial", peer=slave, within=SOON),
        "reach": job.reach(),
    }
    job.chaos.reconnect(slave)
    return {**found, "again": ask(master, "dial", peer=slave, within=SOON), "after": job.reach()}


def compose(job):
    """A slot is cut by a disconnect, a partition and a degradation, and each goes by itself."""
    slave = job.ip["slave-0"]
    partitioned = job.chaos.partition([[job.ip["master"]], [slave]])
    job.chaos.disconnect(slave)
    both = job.reach()["slave-0"]
    job.chaos.reconnect(slave)
    one = job.reach()["slave-0"]
    job.chaos.degrade(slave, peers=[job.ip["slave-1"]], loss=100)
    two = job.reach()["slave-0"]
    job.chaos.heal(*partitioned.fault_ids)
    three = job.reach()["slave-0"]
    job.chaos.kill(slave)
    job.chaos.revive(slave)
    until_up(slave)
    revived = job.reach()["slave-0"]
    job.chaos.heal()
    return {"both": both, "one": one, "two": two, "three": three, "revived": revived, "after": job.reach()}


def loss(job):
    """Between two members alone: what is lost of this client's own TCP is sent again too late."""
    sender, hearer = job.ip["master"], job.ip["slave-0"]
    job.chaos.degrade(sender, peers=[hearer], loss="30%")
    number, arrived = next(rounds), 0
    for _ in range(50):  # no more at a time than there is room for where they wait to be read
        ask(sender, "send", round=number, to=[hearer], count=100)
        arrived = heard(hearer, sender, number, arrived + 1)
    job.chaos.heal()
    return {"lost": 1 - heard(hearer, sender, number, 5000, WITHIN) / 5000}


def rate(job):
    sender, hearer = job.ip["slave-1"], job.ip["slave-2"]
    ask(sender, "dial", peer=hearer, within=SOON)
    free = min(ask(sender, "say", peer=hearer, size=200_000, within=SOON) for _ in range(5))
    job.chaos.degrade(sender, rate="2Mbit", one_way=True)
    took = [ask(sender, "say", peer=hearer, size=200_000, within=SOON) for _ in range(3)]
    job.chaos.heal()
    return {"free_s": free, "took_s": took}


def delay(job):
    sender, hearer = job.ip["slave-1"], job.ip["slave-2"]
    ask(sender, "dial", peer=hearer, within=SOON)
    job.chaos.degrade(sender, peers=[hearer], delay="50ms", one_way=True)
    times = [ask(sender, "say", peer=hearer, within=SOON) for _ in range(20)]
    job.chaos.heal()
    after = min(ask(sender, "say", peer=hearer, within=SOON) for _ in range(20))
    return {"least_s": min(times), "after_s": after}


def heard(hearer, sender, number, wanted, within=SOON):
    """How many datagrams of a round came, once it is so many, or after a while."""
    deadline = time.monotonic() + within
    while True:
        count = ask(hearer, "hear", round=number).get(sender, 0)
        if count >= wanted or time.monotonic() > deadline:
            return count
        time.sleep(0.01)


def worse(job):
    """The faults of a network that packets are held back for, each by itself."""
    sender, hearer, other = job.some("master", "slave-0", "slave-1")
    found = {}
    for name, copies in (("duplicate", 2), ("corrupt", 0)):
        job.chaos.degrade(sender, peers=[hearer], one_way=True, **{name: 100})
        number = next(rounds)
        for sent in range(40, 240, 40):  # no more at a time than there is room for where they wait to be read
            ask(sender, "send", round=number, to=[hearer, other], count=40, pad=PAD)
            whole = heard(other, sender, number, sent)
            heard(hearer, sender, number, copies * sent)
        found[name] = [heard(hearer, sender, number, copies * sent + 1, WITHIN), whole]
        job.chaos.heal()
    ask(sender, "dial", peer=hearer, within=SOON)
    for name, how in (("jitter", {"jitter": "60ms"}), ("reorder", {"reorder": "50%"})):
        job.chaos.degrade(sender, peers=[hearer], delay="60ms", one_way=True, **how)
        found[name] = [ask(sender, "say", peer=hearer, within=SOON) for _ in range(40)]
        job.chaos.heal()
    return found


def pause(job):
    slave = job.ip["slave-2"]
    before = ask(slave, "look")["ticks"]
    held = job.chaos.pause(slave)
    again = job.chaos.pause(slave)
    paused = [member.task for member in job.chaos.members() if member.paused]
    try:
        silent = ask(slave, "look", answer_within=WITHIN)
    except TimeoutError:
        silent = "silence"
    job.chaos.resume(slave)
    after, deadline = ask(slave, "look"), time.monotonic() + SOON
    # Its threads go on one after the other: the one that answers may be before the one that ticks.
    while (after["ticks"] <= before or after["longest_gap_s"] < WITHIN) and time.monotonic() < deadline:
        after = ask(slave, "look")
    return {
        "lines": len(held.fault_ids), "again": again.already, "paused": paused, "silent": silent,
        "went_on": after["ticks"] > before, "gap_s": after["longest_gap_s"],
    }  # fmt: skip


def disk_full(job):
    slave = job.ip["slave-0"]
    before = ask(slave, "write", name="before", size=100_000)
    job.chaos.disk_full(slave)
    full = ask(slave, "write", name="during", size=100_000)
    job.chaos.heal()
    return {"before": before, "full": full, "after": ask(slave, "write", name="after", size=100_000)}


def signal(job):
    both = [job.ip["master"], job.ip["slave-0"]]
    sent = job.chaos.signal(both, "USR1")
    counts, deadline = [], time.monotonic() + SOON
    while counts != [1, 1] and time.monotonic() < deadline:
        counts = [ask(ip, "look")["signals"] for ip in both]
    return {"sent": [member.processes for member in sent.members], "counts": counts}


def leases(job):
    """Faults that nobody heals end by themselves.

    Where something stood still for as long as a lease they may have ended before they were looked at, or long
    after they were due: that says nothing, and is done again.
    """
    for _ in range(5):
        begun = time.monotonic()
        calls = (
            job.chaos.pause(job.ip["slave-1"], lease=f"{LEASE:g}s"),
            job.chaos.disconnect(job.ip["slave-2"], lease=LEASE),
            job.chaos.disk_full(job.ip["slave-0"], lease=f"{1000 * LEASE:g}ms"),
        )
        before = sorted(job.in_force())
        in_time = time.monotonic() < begun + LEASE
        deadline = time.monotonic() + 60
        while job.in_force() and time.monotonic() < deadline:
            time.sleep(0.02)
        own = {number for call in calls for number in call.fault_ids}
        held = {
            fault.kind: (fault.healed_at_manager.monotonic_ns - fault.applied_at_manager.monotonic_ns) / 1e9
            for fault in job.chaos.faults()
            if fault.fault_id in own and fault.healed_by == "lease"
        }
        if in_time and all(held_s < LONGEST for held_s in held.values()):
            break
    return {
        "before": before, "in_force": job.in_force(), "held_s": held, "reach": job.reach(),
        "write": ask(job.ip["slave-0"], "write", name="lease", size=10_000),
    }  # fmt: skip


def rollback(job):
    """One of three is dead: none is paused. One disk cannot be: none is."""
    job.chaos.kill(job.ip["slave-2"])
    alive = [job.ip["slave-0"], job.ip["slave-1"]]
    try:
        job.chaos.pause([*alive, job.ip["slave-2"]])
        refused = ""
    except ChaosError as error:
        refused = error.reason
    paused = [member.task for member in job.chaos.members() if member.paused]
    answers = [ask(ip, "look")["ticks"] > 0 for ip in alive]
    job.chaos.revive(job.ip["slave-2"])
    until_up(job.ip["slave-2"])
    return {"refused": refused, "paused": paused, "answers": answers, "in_force": job.in_force()}


def together(job):
    """Several in one call, of which all that holds is listed and healed as one."""
    held = job.chaos.disconnect(list(job.ip.values()), lease=60)
    found = {"reach": job.reach(), "lines": len(held.fault_ids), "in_force": job.in_force()}
    job.chaos.heal(held.fault_ids[1])
    return {**found, "after": job.reach(), "left": job.in_force()}


def bad(job):
    """What is refused, each with a reason."""
    master, slave = job.ip["master"], job.ip["slave-0"]
    calls = {
        "overlap": lambda: job.chaos.partition([[master], [slave, master]]),
        "stranger": lambda: job.chaos.partition([[master], ["10.99.99.99"]]),
        "one group": lambda: job.chaos.partition([[master]]),
        "over 100": lambda: job.chaos.degrade(master, loss=120),
        "negative": lambda: job.chaos.degrade(master, loss=-1),
        "lease 0": lambda: job.chaos.pause(master, lease=0),
        "shape": lambda: job.chaos.partition(shape="ring-of-fire"),
        "KILL": lambda: job.chaos.signal(master, "KILL"),
        "no line": lambda: job.chaos.heal(99_999),
        "twice": lambda: job.chaos.pause([slave, slave]),
        "nobody": lambda: job.chaos.pause([]),
    }
    said = {}
    for name, call in calls.items():
        try:
            call()
            said[name] = ["accepted", ""]
        except (ChaosError, ValueError) as error:
            said[name] = [type(error).__name__, str(error)]
    return {"said": said, "in_force": job.in_force()}


SCENARIOS = (
    groups, shapes, one_way, disconnect, reset, compose, loss, rate, delay, worse, pause, disk_full, signal,
    leases, rollback, together, bad,
)  # fmt: skip


def main():
    with Chaos.from_env() as chaos:
        job = Job(chaos)
        for ip in job.name:
            until_up(ip)
        failed = []
        for scenario in SCENARIOS:
            begun = time.monotonic()
            try:
                found = scenario(job)
            except CannotDoIt as error:
                found = {"cannot": str(error)}
            except Exception:  # noqa: BLE001 - told in the scenario's line, and the others go on
                found = {"error": traceback.format_exc()}
                failed.append(scenario.__name__)
            print(f"{scenario.__name__} took {time.monotonic() - begun:.2f} s", file=sys.stderr)
            print(json.dumps({"scenario": scenario.__name__, **found}), flush=True)
            chaos.heal()
        # What is left in force is healed by the end of the job.
        chaos.disconnect(job.ip["slave-0"])
        chaos.finish("fail" if failed else "pass", text=", ".join(failed))


if __name__ == "__main__":
    main()
