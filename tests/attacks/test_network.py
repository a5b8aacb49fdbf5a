"""Ways past a slot's own network, to other jobs, the host, and members that a fault cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran, claimed, each, each_given, each_shown
from tests.attacks.bystander import pids_of
from tests.attacks.weak import WeakArena

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("network")
_SILENT_S = 20.0  # longer than what its words pass through stands still
_AS_ROOT = "walls/uid+walls/filter"  # a task that may write whole frames
_SERVICE = """
import socket, subprocess
subprocess.run(["ip", "address", "add", "169.254.169.254/32", "dev", "eth0"], check=True)
door = socket.create_server(("169.254.169.254", 80))
print("ready", flush=True)
while True:
    talk, _ = door.accept()
    talk.sendall(b"synthetic secret")
    talk.close()
"""


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def strangers(ran: Ran) -> str:
    """What the attacker says of answers, or the bystander noticed of strangers, or that it was silenced."""
    if said := claimed(ran):
        return said
    beside = ran.arena.bystander
    if beside.job_id != ran.facts["bystander_job"]:
        return "the bystander has ended"
    try:
        found = [line["strangers"] for line in beside.since({}, _SILENT_S) if line["strangers"]]
    except AssertionError as error:
        return str(error)
    return f"the bystander was reached {found[-1]} times" if found else ""


def _inside(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _addresses(inside: list[str]) -> list[dict[str, Any]]:
    listed = subprocess.run([*inside, "ip", "-j", "address"], capture_output=True, check=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(listed.stdout)
    return found


def _facts(arena: Arena) -> dict[str, Any]:
    """What is told besides: the host's own addresses, and the hardware addresses of the bystander."""
    facts = arena.facts()
    macs = {
        task: next(link["address"] for link in _addresses(_inside(pids[0])) if link["ifname"] == "eth0")
        for task, pids in facts["bystander_pids"].items()
    }
    hosts = [one["local"] for link in _addresses([]) for one in link["addr_info"]]
    return {**facts, "macs": macs, "host_addresses": hosts}


def _informed(arena: Arena, attack: Attack) -> Ran:
    return arena.submit(attack, _facts(arena))


def _beside_a_service(arena: Arena, attack: Attack) -> Ran:
    """Runs it with a service of a cloud in the place of its slave, on the same bridge."""
    facts = arena.facts()
    job_id = arena.start(attack, facts)
    assert isinstance(job_id, int), job_id
    pid = pids_of(arena.cluster, arena.cluster.until_running(job_id))["slave-0"][0]
    command = [*_inside(pid), sys.executable, "-c", _SERVICE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None and service.stdout.readline() == "ready\n"
            return arena.finished(job_id, facts)
        finally:
            service.kill()


_WIRE = {"wire.py": script("wire")}

ATTACKS = (
    Attack(
        id="other-jobs-address",
        tries="TCP, UDP, pings and broadcasts to the bystander's addresses, also past the routes",
        held_by="chains outside the slot that let pass what is between members of one job",
        master=script("others"),
        got=strangers,
        without="network/default-drop",
    ),
    Attack(
        id="ip-spoof",
        tries="datagrams in the name of another member or the bystander: options, raw sockets, whole frames",
        held_by="no raw sockets; chains that let out nothing but the slot's own address",
        master=script("listen"),
        slave=script("forge_ip"),
        files=_WIRE,
        machines=3,
        got=strangers,
        given=_AS_ROOT,
        without=f"{_AS_ROOT}+network/source",
    ),
    Attack(
        id="arp-spoof",
        tries="claims of another's address by ARP, and the address itself on its own device",
        held_by="no raw sockets, no capabilities; chains that let out ARP about the slot's own address only",
        master=script("listen"),
        slave=script("forge_arp"),
        files=_WIRE,
        machines=3,
        got=strangers,
        given=_AS_ROOT,
        without=f"{_AS_ROOT}+network/source",
    ),
    Attack(
        id="mac-spoof",
        tries="frames with another slot's hardware address, and that address on its own device",
        held_by="chains that let out the slot's own hardware address only; a bridge that learns nothing",
        master=script("listen"),
        slave=script("forge_mac"),
        files=_WIRE,
        machines=3,
        got=strangers,
        given=_AS_ROOT,
        without=f"{_AS_ROOT}+network/hardware",
    ),
    Attack(
        id="raw-sockets",
        tries="raw and packet sockets of every kind, addresses, ARP entries, promiscuity, tunnels",
        held_by="no capabilities; for packet sockets, the filter",
        master=script("raw_sockets"),
        got=claimed,
        without=_AS_ROOT,
    ),
    Attack(
        id="port-scan",
        tries="the manager, the volunteer, all addresses of the host, gateways, 127/8 and slots nearby",
        held_by="a network namespace of the slot's own, with no route but to its job's addresses",
        master=script("port_scan"),
        run=_informed,
        got=strangers,
        without="network/host",
    ),
    Attack(
        id="metadata-service",
        tries="169.254.169.254 and its like, by route and by device, with a service there on the same bridge",
        held_by="no route; chains that let out nothing but what is for the job's addresses",
        master=script("metadata"),
        slave=script("metadata_beside"),
        machines=2,
        run=_beside_a_service,
        got=claimed,
        without="network/default-drop",
    ),
    Attack(
        id="ipv6-link-local",
        tries="IPv6 switched on; pings of ff02::1, and the bystander's link-local addresses",
        held_by="no IPv6 in a slot, a bridge that floods nothing, chains that know IPv4 and ARP only",
        master=script("ipv6"),
        run=_informed,
        got=strangers,
        without="network/ipv6+network/default-drop",
    ),
    Attack(
        id="fragments",
        tries="datagrams for the bystander in fragments: large ones, and overlapping, doubled, backward ones",
        held_by="chains that look at the addresses of each fragment",
        master=script("fragments"),
        files=_WIRE,
        got=strangers,
        given=_AS_ROOT,
        without=f"{_AS_ROOT}+network/default-drop",
    ),
    Attack(
        id="odd-frames",
        tries="tagged frames (802.1Q, 802.1ad, priority, double) with IPv4 in them, MPLS, PPPoE, others",
        held_by="no packet sockets; chains that drop what is neither IPv4 nor ARP, within a job too",
        master=script("odd_frames_heard"),
        slave=script("odd_frames"),
        files=_WIRE,
        machines=2,
        got=strangers,
        given=_AS_ROOT,
        without=f"{_AS_ROOT}+network/default-drop",
    ),
    # That a third member passes words on is the job's own right: only who is cut off from it cannot use it.
    Attack(
        id="cut-evasion",
        tries="words past a cut: old connections, fragments, pings, broadcasts, source routing",
        held_by="the chains of both slots, which drop all IPv4 between those cut off",
        master=script("cut_tries"),
        slave=script("cut_tries"),
        client=script("cut_client"),
        machines=2,
        ends=("succeeded client_passed",),
        got=claimed,
        without="network/cut",
    ),
)


@each(ATTACKS)
def test_attack_is_repelled(arena: Arena, attack: Attack) -> None:
    """It gets nothing, and all beside it is unharmed."""
    arena.assert_repelled(attack)


@each_shown(ATTACKS)
def test_attack_succeeds_without_its_defence(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets what it is after where its defence is gone, so that it is a real attack."""
    weak_arena.assert_succeeds(attack)


@each_given(ATTACKS)
def test_attack_is_repelled_in_what_it_takes_for_granted(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets nothing even where another wall has fallen already."""
    weak_arena.assert_repelled(attack)
