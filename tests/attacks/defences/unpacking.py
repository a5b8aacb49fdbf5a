"""What guards unpacking, and how each of it is switched off for a test."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tests.attacks.defence import Defence


def _on_the_host() -> None:
    """Root's tar, outside of any sandbox, into the task's root: what a plain judge would do."""
    from syndicate.volunteer.keeper import ground
    from syndicate.volunteer.keeper.unpack import Unpacked

    here = threading.local()
    lay_out = ground.Ground._lay_out

    def lay_out_here(self: ground.Ground, *rest: Any) -> str:
        here.ground = self
        return lay_out(self, *rest)

    def unpack(box: object, source: int, deadline: float, meanwhile: Callable[[], None]) -> Unpacked:
        meanwhile()
        # A child of this thread has the mounts of the thread, where the disk is.
        command = ["tar", "-P", "--extract", "--file=-", "-C", str(here.ground._standby.disk.root)]
        subprocess.run(command, stdin=source, check=False, timeout=30)
        return Unpacked("")

    ground.Ground._lay_out = lay_out_here  # type: ignore[method-assign]
    ground.unpack = unpack  # type: ignore[assignment]
    ground.unpacker_of = lambda _: ground.Unpacker.KEPT  # the sandbox itself finds all unpacked


def _devices_work() -> None:
    from syndicate.volunteer.keeper import box, disk, mounts

    disk._FLAGS = mounts.NOSUID
    arguments = box.bwrap_arguments

    def with_devices(programs: Any, root: Any, *rest: Any) -> bytes:
        bind = b"--bind\0" + str(root).encode() + b"\0/\0"
        options = arguments(programs, root, *rest)
        assert bind in options
        return options.replace(bind, bind.replace(b"--bind", b"--dev-bind"))

    box.bwrap_arguments = with_devices


def _any_file_size() -> None:
    from syndicate.volunteer.keeper import ground

    orders_of = ground.orders_of
    ground.orders_of = lambda *given: dataclasses.replace(orders_of(*given), file_bytes=1 << 50)


def _any_inodes() -> None:
    from syndicate.volunteer.keeper import ground
    from syndicate.volunteer.keeper.disk import DiskSize

    ground._size = lambda limits: DiskSize(limits.disk_bytes, 10_000_000)  # more than any attack makes


def _any_bytes() -> None:
    from syndicate.volunteer.keeper import ground
    from syndicate.volunteer.keeper.disk import DiskSize

    # The guard of the test's own: to the machine this is still a bound.
    ground._size = lambda limits: DiskSize(512 << 20, limits.disk_inodes)


def _any_memory() -> None:
    from syndicate.volunteer.keeper import ground

    bound = ground.Ground._bound

    def bound_but_memory(self: ground.Ground, bounds: Any) -> None:
        bound(self, dataclasses.replace(bounds, memory_bytes=0))

    ground.Ground._bound = bound_but_memory  # type: ignore[method-assign]


def _unread_source() -> None:
    from syndicate.manager.rpc import upload

    upload.check_source = lambda *_: None


def _hostile_tar() -> None:
    """In the place of tar a program that looks for its job's other slots before it unpacks."""
    from syndicate.volunteer.keeper import sandbox

    tar = sandbox._tar
    sandbox._tar = lambda: "{ python3 -c '" + _LISTENS_AND_CALLS + "'; " + tar() + "; }"


# No single quote may stand in it. What it hears is left on the disk, for the task to tell.
_LISTENS_AND_CALLS = """
import os, select, socket, time
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind(("", 5001))
peers = (os.environ["SYNDICATE_MASTER"] + "," + os.environ["SYNDICATE_SLAVES"]).split(",")
until = time.monotonic() + 1.5
while time.monotonic() < until:
    for peer in peers:
        try:
            door.sendto(b"here", (peer, 5001))
        except OSError:
            pass
    if select.select([door], [], [], 0.05)[0]:
        _, (sender, _) = door.recvfrom(64)
        if sender != os.environ["SYNDICATE_ADDRESS"]:
            open("/heard", "w").write(sender)
            time.sleep(0.2)
            break
"""


def _not_held() -> None:
    from syndicate.volunteer.keeper.standby import Standby

    Standby.hold = lambda self: None  # type: ignore[method-assign]


DEFENCES = {
    "sandbox": Defence("keeper", "sources are unpacked in the sandbox, as the slot's uid", _on_the_host),
    "nodev": Defence("keeper", "the disk is mounted nodev", _devices_work),
    "file-size": Defence("keeper", "no file is larger than the disk, also while unpacking", _any_file_size),
    "inodes": Defence("keeper", "the disk has a bound of inodes", _any_inodes),
    "disk-bytes": Defence("keeper", "the disk has a bound of bytes", _any_bytes),
    "memory": Defence("keeper", "the task's bound of memory, which holds from unpacking on", _any_memory),
    "source-check": Defence("manager", "the manager reads a source before it keeps it", _unread_source),
    "hostile-tar": Defence("keeper", "tar is Debian's own", _hostile_tar),
    "held": Defence("keeper", "a slot is cut off while its source is unpacked", _not_held),
}
