"""Sources that mean harm by being unpacked."""

from __future__ import annotations

import pytest
from syndicate.client_api import SchedulerError

from tests.attacks import archives
from tests.attacks.arena import Arena, limits
from tests.attacks.attack import Attack, Ran, claimed, each, each_given, each_shown
from tests.attacks.outside import watching_peak
from tests.attacks.weak import WeakArena

pytestmark = pytest.mark.system

BAD = ("failed bad_source",)
FULL = ("failed disk_full",)
RUNS = ("succeeded exited_zero",)
_LOOK = "import os\nfrom attacker import *\n"


def bitten(ran: Ran) -> str:
    """The host's folder that stands for all others was written to."""
    return ran.arena.bitten()


def taken(ran: Ran) -> str:
    """The manager kept the source."""
    return "" if ran.end.startswith("refused") else "it was taken"


def upload(arena: Arena, attack: Attack) -> Ran:
    """Sends the source, of which no job is made: what it would do to a task is another attack's."""
    assert attack.raw is not None
    try:
        arena.upload(attack.raw({}))
    except SchedulerError as error:
        return Ran(arena, f"refused {error.reason}", text=str(error))
    return Ran(arena, "taken")


ATTACKS = (
    Attack(
        id="tar-dotdot",
        tries="a member named `../../…/file`",
        held_by="unpacked in the sandbox, above whose root is nothing; tar refuses `..`",
        raw=archives.of(archives.dotdot),
        got=bitten,
        ends=BAD,
        without="unpacking/sandbox",
    ),
    Attack(
        id="tar-absolute",
        tries="a member with an absolute name of the host's",
        held_by="unpacked in the sandbox, whose root is the task's own disk; tar strips the `/`",
        raw=archives.of(archives.absolute),
        got=bitten,
        ends=(*BAD, *RUNS),
        without="unpacking/sandbox",
    ),
    Attack(
        id="tar-symlink-write",
        tries="a link to a folder of the host's, then a file through it",
        held_by="unpacked in the sandbox: the link leads into the task's own root",
        raw=archives.of(archives.through_a_link),
        got=bitten,
        ends=(*BAD, *RUNS),
        without="unpacking/sandbox",
    ),
    Attack(
        id="tar-hardlink-out",
        tries="a hard link to a file of the host's, then other content for it",
        held_by="unpacked in the sandbox; the disk is a file system of its own",
        raw=archives.of(archives.through_a_hard_link),
        got=bitten,
        ends=(*BAD, *RUNS),
        because="the disk is a file system of its own: no hard link leaves it, even where root unpacks",
    ),
    Attack(
        id="tar-realpath-long",
        tries="links too long to resolve, with one at their end that leads out (CVE-2025-4517)",
        held_by="unpacked in the sandbox, by tar, which follows links one by one",
        raw=archives.of(archives.long_real_path),
        got=bitten,
        ends=(*BAD, *RUNS),
        without="unpacking/sandbox",
    ),
    Attack(
        id="tar-device",
        tries="a device node, to be read by the task",
        held_by="unpacked as the slot's uid, which may make none; the disk is nodev",
        raw=archives.of(
            archives.device,
            _LOOK + "if attempt('zeros', lambda: open('/zeros', 'rb').read(8)): got_it('read a device')\n",
        ),
        got=claimed,
        ends=BAD,
        without="unpacking/sandbox+unpacking/nodev",
    ),
    Attack(
        id="tar-setuid",
        tries="a setuid program of root's",
        held_by="unpacked as the slot's uid, who becomes its owner; nosuid; no_new_privs",
        raw=archives.of(
            archives.setuid,
            _LOOK + "import subprocess\nfound = os.stat('/rootly')\n"
            "if found.st_uid == 0 and found.st_mode & 0o4000: got_it('a setuid program of root')\n"
            "said = subprocess.run(['/rootly'], capture_output=True, text=True).stdout\n"
            "if 'uid=0' in said: got_it(said)\n",
        ),
        got=claimed,
        ends=RUNS,
        without="unpacking/sandbox",
    ),
    Attack(
        id="tar-sparse",
        tries="a file of 1 TiB that takes one block, in the format that looks like a plain member",
        held_by="the bound of a file's size, which holds while unpacking too",
        raw=archives.sparse,
        got=claimed,
        ends=FULL,
        without="unpacking/file-size",
    ),
    Attack(
        id="gzip-bomb",
        tries="1 MB that expands to 1.1 GiB",
        held_by="the manager expands a source before it keeps it, up to a bound",
        raw=lambda _: archives.gzip_bomb(),
        run=upload,
        got=taken,
        ends=("refused SOURCE_TOO_LARGE",),
        without="unpacking/source-check",
    ),
    Attack(
        id="zstd-bomb",
        tries="10 KB of zstd, which the manager does not expand, that become 160 MiB on a disk of 64",
        held_by="the disk's bound of bytes; unpacked within the task's bound of memory",
        raw=lambda _: archives.zstd_bomb(),
        limits=limits(disk_bytes=64 << 20),
        got=claimed,
        ends=FULL,
        without="unpacking/disk-bytes",
    ),
    Attack(
        id="tar-memory",
        tries="a member's name of 300 MiB, in zstd, which the manager does not expand",
        held_by="unpacked within the task's bound of memory",
        raw=lambda _: archives.endless_name(),
        run=watching_peak,
        limits=limits(memory_bytes=192 << 20, disk_bytes=64 << 20),
        got=lambda ran: f"{ran.facts['peak']:,} bytes" if ran.facts["peak"] > 200 << 20 else "",
        ends=("failed out_of_memory",),
        without="unpacking/memory",
    ),
    Attack(
        id="tar-loader",
        tries="a file in the place of one that the loader reads for root",
        held_by="unpacked as the slot's uid; those files are root's, in folders with the sticky bit",
        raw=archives.of(
            archives.loaders_files,
            _LOOK + "if b'evil' in open('/etc/ld.so.preload', 'rb').read(): got_it('ld.so.preload')\n",
        ),
        got=claimed,
        ends=(*BAD, *RUNS),
        without="unpacking/sandbox",
    ),
    Attack(
        id="million-files",
        tries="an archive of a million empty files",
        held_by="the manager counts the members of a source",
        raw=lambda facts: archives.many_files(facts, 1_000_000),
        run=upload,
        got=taken,
        ends=("refused SOURCE_TOO_LARGE",),
        without="unpacking/source-check",
    ),
    Attack(
        id="inodes-by-tar",
        tries="more files than the disk may hold, in an archive that the manager takes",
        held_by="the disk's bound of inodes",
        raw=lambda facts: archives.many_files(
            facts, 20_000, _LOOK + "if len(os.listdir('/many')) >= 20_000: got_it('all files')\n"
        ),
        limits=limits(disk_inodes=5_000),
        got=claimed,
        ends=FULL,
        without="unpacking/inodes",
    ),
    Attack(
        id="header-loop",
        tries="100,000 extended headers for a member that never comes",
        held_by="the manager bounds the extended headers of a source",
        raw=lambda _: archives.header_loop(),
        run=upload,
        got=taken,
        ends=("refused ",),
        without="unpacking/source-check",
    ),
    Attack(
        id="header-backwards",
        tries="a member of a size below zero, which leads a reader back to its own header",
        held_by="the manager takes no size below zero",
        raw=lambda _: archives.backwards(),
        run=upload,
        got=taken,
        ends=("refused ",),
        without="unpacking/source-check",
    ),
    Attack(
        id="top-links",
        tries="`usr`, `etc`, `tmp`, `dev`, `proc`, `run` and `job` as links at the top",
        held_by="the sandbox's own folders stand before tar runs; such a source is laid at /job",
        raw=archives.of(
            archives.links_at_the_top,
            _LOOK + "for name in ('usr', 'etc', 'tmp', 'dev', 'proc', 'run', 'run/syndicate', 'dev/shm'):\n"
            "    if os.path.realpath('/' + name) != '/' + name: got_it(name)\n",
        ),
        got=lambda ran: bitten(ran) or claimed(ran),
        ends=(*BAD, *RUNS),
        because="without the rule tar fails at the mount points, and the source is laid at /job all the same",
    ),
    Attack(
        id="unpack-network",
        tries="a program in the place of tar that calls the job's other slots while it unpacks",
        held_by="a slot is cut off while its source is unpacked",
        master=_LOOK + "if os.path.exists('/heard'): got_it(open('/heard').read())\n",
        slave=_LOOK + "if os.path.exists('/heard'): got_it(open('/heard').read())\n",
        machines=2,
        got=claimed,
        given="unpacking/hostile-tar",
        without="unpacking/hostile-tar+unpacking/held",
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
