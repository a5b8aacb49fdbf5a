"""A sandbox from nothing to the end of make in it, beside plain fork and exec of the same make."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from syndicate.volunteer.keeper import mounts
from syndicate.volunteer.keeper.box import Box, Site
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.disk import Disk, DiskSize
from syndicate.volunteer.keeper.launch import Launcher
from syndicate.volunteer.keeper.limits import CONTROLLERS
from syndicate.volunteer.keeper.network import FabricNetwork
from syndicate.volunteer.keeper.sandbox import Layout, Orders, Programs, Unpacker
from syndicate.volunteer.keeper.seccomp import open_filter
from syndicate.volunteer.keeper.skeleton import build
from syndicate.volunteer.keeper.view import View

from tests.bench.figure import Figure, of

NAMES = ("sandbox",)
ROUNDS = 100
UID = 290_000
WAIT_S = 60.0
_MAKEFILE = ".PHONY: master\nmaster:\n\t@/usr/bin/true\n"


def measure() -> Iterator[Figure]:
    """By turns, on one disk: as a revival with disk does it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syn-bench-")))
        folder.chmod(0o755)
        launcher = Launcher.open()
        stack.callback(launcher.close)
        network = FabricNetwork("bench")
        network.open()
        stack.callback(network.close)
        slot = network.make_slot("bench")
        found: list[tuple[list[float], list[float]]] = []
        # In a thread of its own, as a slot's: its mounts end with it.
        thread = threading.Thread(target=lambda: found.append(_measured(folder, launcher, slot.netns_fd)))
        thread.start()
        thread.join()
    ((boxed, plain),) = found
    over = [each - other for each, other in zip(boxed, plain, strict=True)]
    yield of("sandbox", "ms", over, "plain fork and exec of the same make", plain)


def _measured(folder: Path, launcher: Launcher, netns: int | None) -> tuple[list[float], list[float]]:
    mount, bwrap = find_mount(), shutil.which("bwrap")
    if mount is None or bwrap is None:
        raise RuntimeError("there is no cgroup version 2 mount, or no bubblewrap")
    mounts.unshare_mounts()
    mounts.drop_unused(CONTROLLERS)
    for name in ("sockets", "slot"):
        (folder / name).mkdir()
    build(Path("/"), folder / "skeleton")
    view = View(folder / "view", folder / "sockets")
    view.open(UID)
    with ExitStack() as stack:
        disk = Disk.make(folder / "slot", folder / "skeleton", DiskSize(64 << 20, 10_000))
        stack.callback(disk.close)
        (disk.upper / "Makefile").write_text(_MAKEFILE)
        cgroup = Cgroup.make(mount / f"syn-bench-{os.getpid()}")
        stack.callback(cgroup.remove)
        cancel = os.eventfd(0, os.EFD_CLOEXEC)
        stack.callback(os.close, cancel)
        file = open_filter()
        stack.callback(os.close, file)
        site = Site(UID, cgroup, view.folder, Programs(Path(bwrap), Path("/usr")), (), cancel, file, True)
        orders = Orders(Unpacker.KEPT, Layout(), {}, ["master"], 4096, 64 << 20)
        generations = iter(range(1, 2 + ROUNDS))

        def boxed() -> float:
            begin = time.perf_counter()
            box = Box.launch(site, launcher, next(generations), disk, netns)
            box.order(orders, time.monotonic() + WAIT_S)
            box.go()
            ended = box.process.wait(WAIT_S)
            if ended is None or ended.status != 0:
                raise RuntimeError(f"make in the sandbox: {ended}")
            took = time.perf_counter() - begin
            box.dispose()
            return took * 1e3

        def plain() -> float:
            begin = time.perf_counter()
            pid = os.posix_spawn("/usr/bin/make", ["make", "-sC", str(disk.upper), "master"], {})
            _, status = os.waitpid(pid, 0)
            if status:
                raise RuntimeError(f"plain make: {status}")
            return (time.perf_counter() - begin) * 1e3

        boxed()
        samples = [(boxed(), plain()) for _ in range(ROUNDS)]
    return [each for each, _ in samples], [each for _, each in samples]
