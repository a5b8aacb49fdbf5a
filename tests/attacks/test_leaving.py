"""Ways out of the sandbox, to the host and its kernel."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran, claimed, each, each_shown
from tests.attacks.weak import WeakArena

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("leaving")
_BURST = Path("/proc/sys/kernel/printk_ratelimit_burst")
_X86 = os.uname().machine == "x86_64"


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def bitten(ran: Ran) -> str:
    """What was done to the bait, which stands for all of the host's files."""
    return ran.arena.bitten()


def bitten_or_claimed(ran: Ran) -> str:
    """That, or what the attacker says it opened."""
    return bitten(ran) or claimed(ran)


def _watched_settings(arena: Arena, attack: Attack) -> Ran:
    """Runs it, and puts back what it changed in the kernel's settings."""
    before = _BURST.read_text()
    ran = arena.submit(attack)
    after = _BURST.read_text()
    _BURST.write_text(before)
    return replace(ran, facts={**ran.facts, "changed": "" if before == after else f"{_BURST} is {after}"})


def settings_changed(ran: Ran) -> str:
    """What the host's own look shows, or what the attacker says."""
    return str(ran.facts["changed"]) or claimed(ran)


_REVIVED = {"revived.py": script("revived")}

ATTACKS = (
    Attack(
        id="chroot-fd",
        tries="a folder held or left open, a chroot, and `..`, also in a user namespace of its own",
        held_by="pivot_root: no root lies above; no chroot, for want of capabilities and by the filter",
        master=script("chroot_fd"),
        got=bitten,
        without="walls/pivot-root+walls/uid+walls/filter",
    ),
    Attack(
        id="proc-root",
        tries="`/proc/N/root`, `cwd`, `fd`, `mem`, `environ` and `ns` of process 1 and all others to be seen",
        held_by="a pid namespace with its own /proc; the first process is root's, the task is not",
        master=script("proc_root"),
        got=bitten_or_claimed,
        without="walls/pid+walls/uid",
    ),
    Attack(
        id="user-namespace",
        tries="unshare, clone, clone3, setns and unshare(1) for a user namespace, and a mount in it",
        held_by="the filter",
        master=script("user_namespace"),
        got=claimed,
        without="walls/filter",
    ),
    Attack(
        id="mount-calls",
        tries="devices, cgroups, binds and a writable /usr, umount, pivot_root, the new mount API",
        held_by="no capabilities, and the filter",
        master=script("mounts"),
        got=claimed,
        without="walls/filter+walls/uid",
    ),
    Attack(
        id="loader-as-root",
        tries="ld.so.preload, ld.so.cache and libraries where root's loader would look at a Revive",
        held_by="root's sticky folders and loader files under the task's tree",
        master=script("loader"),
        files=_REVIVED,
        client=script("revive_client"),
        ends=("succeeded client_passed",),
        got=claimed,
        without="walls/skeleton",
    ),
    Attack(
        id="mount-point-swap",
        tries="links to the host in the places of mount points, between Kill and Revive",
        held_by="mount points in root's sticky tree, which no task can rename",
        master=script("mount_points"),
        files=_REVIVED,
        client=script("revive_client"),
        ends=("succeeded client_passed",),
        got=bitten_or_claimed,
        without="walls/skeleton",
    ),
    Attack(
        id="host-paths",
        tries="names of the host's folders in mountinfo, environments, maps, descriptors, /run, /etc",
        held_by="overlays mounted by descriptors, options in a memory file, a cleared environment",
        master=script("host_paths"),
        got=claimed,
        without="walls/layer-names",
    ),
    Attack(
        id="kernel-settings",
        tries="writes to /proc/sys, sysrq-trigger and the like, device nodes, the kernel's addresses",
        held_by="a uid of the task's own; no device nodes for want of capabilities and by the filter",
        master=script("kernel_settings"),
        got=settings_changed,
        run=_watched_settings,
        without="walls/uid",
    ),
    Attack(
        id="socket-families",
        tries="every socket family and netlink protocol: the hypervisor, crypto, the wire, the firewall",
        held_by="the filter; for raw sockets, no capabilities",
        master=script("families"),
        got=claimed,
        without="walls/filter",
    ),
    Attack(
        id="io-uring",
        tries="a ring that opens files and makes forbidden sockets without system calls",
        held_by="the filter: io_uring is not there",
        master=script("io_ring"),
        got=claimed,
        without="walls/filter",
    ),
    Attack(
        id="kernel-calls",
        tries="bpf, perf, userfaultfd, kexec, modules, swap, reboot, clocks and twenty others",
        held_by="the filter, for most of them no capabilities besides",
        master=script("kernel_calls"),
        got=claimed,
        without="walls/filter",
    ),
    Attack(
        id="host-by-handle",
        tries="open_by_handle_at: /usr, and a forged handle of the root of its file system",
        held_by="no capabilities, and the filter",
        master=script("host_by_handle"),
        got=bitten_or_claimed,
        without="walls/filter+walls/uid",
    ),
    Attack(
        id="terminal-input",
        tries="TIOCSTI, TIOCLINUX and line disciplines, on its own and any other terminal there is",
        held_by="no controlling terminal, a /dev without consoles, and the filter",
        master=script("terminal"),
        got=claimed,
        without="walls/filter+walls/uid",
    ),
    Attack(
        id="int80-x32",
        tries="calls with i386's numbers by int 0x80, and with x32's (only on x86-64)",
        held_by="the filter, which ends the process or knows no such call",
        master=script("other_abi"),
        got=claimed,
        without="walls/filter",
    ),
)
_HERE = tuple(attack for attack in ATTACKS if _X86 or attack.id != "int80-x32")


@each(_HERE)
def test_attack_is_repelled(arena: Arena, attack: Attack) -> None:
    """It gets nothing, and all beside it is unharmed."""
    arena.assert_repelled(attack)


@each_shown(_HERE)
def test_attack_succeeds_without_its_defence(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets what it is after where its defence is gone, so that it is a real attack."""
    weak_arena.assert_succeeds(attack)
