"""Ways to other jobs on the same machine, and to those that come after."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests.attacks import host
from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran, claimed, each, each_shown
from tests.attacks.second_keeper import second_keeper
from tests.attacks.weak import WeakArena

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("neighbours")
_SHM_KEY = 0x53594E44  # the bystander's


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def noticed(ran: Ran) -> str:
    """What the bystander says was done to it, or else the attacker."""
    return str(ran.facts["noticed"]) or claimed(ran)


def _beside(arena: Arena, attack: Attack) -> Ran:
    """Runs it and asks the bystander, whose segment is taken off the host where it has no IPC namespace.

    That it was held up is no evidence here: the machine alone may have done that.
    """
    beside = arena.bystander
    mark = beside.mark()
    ran = arena.submit(attack)
    said = beside.harm(mark)
    listed = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    if any(int(line.split()[0]) == _SHM_KEY for line in listed):
        subprocess.run(["ipcrm", "-M", hex(_SHM_KEY)], check=True, timeout=60)
    return replace(ran, facts={**ran.facts, "noticed": said})


def _on_every_slot_twice(leave: str, find: str) -> dict[str, object]:
    """An attack that leaves something in all free slots, and whose next job on each of them looks for it."""

    def run(arena: Arena, attack: Attack) -> Ran:
        wide = replace(attack, machines=arena.cluster.slots - len(arena.bystander.addresses))
        # What an attack left that succeeded, keys say, may outlive its cluster, and is not this one's.
        facts = {**arena.facts(), "mark": f"syn-{uuid.uuid4().hex}"}
        first = arena.submit(replace(wide, master=script(leave), slave=script(leave)), facts)
        assert first.end == "succeeded exited_zero", f"{first.end}\n{first.output}"
        return arena.submit(replace(wide, master=script(find), slave=script(find)), facts)

    return {"run": run, "got": claimed}


def _uids_of_another(arena: Arena, attack: Attack) -> Ran:
    """Runs it beside one more keeper of the host that is to have the same uids."""
    own = host.slot_uids(arena.cluster)
    with second_keeper(min(own)) as others:
        ran = arena.submit(attack)
    return replace(ran, facts={**ran.facts, "shared": sorted(own & others)})


ATTACKS = (
    Attack(
        id="signal-other",
        tries="kill, tkill, sigqueue, pidfd and SIGIO to the bystander and the daemons, and kill -1",
        held_by="a pid namespace and a uid of the slot's own",
        master=script("signals"),
        got=noticed,
        run=_beside,
        without="walls/pid+walls/one-uid",
    ),
    Attack(
        id="memory-of-others",
        tries="ptrace, process_vm_readv, pidfd_getfd and /proc of the bystander and the daemons",
        held_by="a pid namespace and a uid of the slot's own",
        master=script("memory_of_others"),
        got=claimed,
        without="walls/pid+walls/one-uid",
    ),
    Attack(
        id="abstract-socket",
        tries="the bystander's abstract Unix socket, every name in /proc/net/unix, and the daemons' by path",
        held_by="a network namespace of the slot's own, and no folder of the host's in view",
        master=script("abstract_sockets"),
        got=noticed,
        run=_beside,
        without="walls/network",
    ),
    Attack(
        id="shared-memory",
        tries="the bystander's System V segment by key and number, queues, semaphores, /dev/shm",
        held_by="an IPC namespace",
        master=script("shared_memory"),
        got=noticed,
        run=_beside,
        without="walls/ipc",
    ),
    Attack(
        id="keyring-of-user",
        tries="keys on the session, user, user session and persistent keyrings for the slot's next task",
        held_by="the filter: no keyring calls",
        without="walls/filter",
        **_on_every_slot_twice("keyring_leave", "keyring_find"),
    ),
    Attack(
        id="keyring-of-session",
        tries="the same on the session keyring of the keeper's own starter, which all slots would share",
        held_by="a fresh session keyring for each task, and the filter",
        without="walls/keyring+walls/filter",
        **_on_every_slot_twice("keyring_leave", "keyring_find"),
    ),
    Attack(
        id="leftovers",
        tries="files, pipes, sockets, strange names, shared objects, daemons for the slot's next task",
        held_by="a fresh disk, and fresh namespaces and cgroups that are emptied at the end",
        without="walls/disk",
        **_on_every_slot_twice("leftovers_leave", "leftovers_find"),
    ),
    Attack(
        id="cgroup-escape",
        tries="cgroups mounted or made: to leave its own, and to freeze the bystander's",
        held_by="no capabilities, the filter, and a cgroup namespace without any mount of cgroups",
        master=script("cgroups"),
        got=claimed,
        without="walls/uid+walls/filter+walls/cgroup",
    ),
    Attack(
        id="shared-uid",
        tries="a second keeper on the host that is told to give its slots the same uids",
        held_by="a lock on the uids that a keeper has",
        master=script("whoami"),
        got=lambda ran: f"two keepers' slots are both {ran.facts['shared']}" if ran.facts["shared"] else "",
        run=_uids_of_another,
        without="walls/uid-claim",
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
