"""What a sandbox sees at /run/syndicate: names, libraries, and for a client the relay socket's folder.

    <views>/<slot>/task/hosts, passwd   where /etc/hosts and /etc/passwd lead
    <views>/<slot>/task/lib             leads to the packages in the skeleton
    <views>/<slot>/task/syncserver      where the job's sync server is, if it has one
    <views>/<slot>/task/emulab-syncserver   the same, with the name of its member
    <views>/<slot>/task/chaos           clients only: the folder in which the volunteer makes chaos.sock
    <views>/<slot>/task/chaos.sock      clients only: leads to chaos/chaos.sock
    <views>/<slot>/chaos                that folder, bound so that it can only be read
    <views>/<slot>/dev                  what it sees at /dev; see devices.py

`<views>/<slot>` is a mount of the slot's own namespace, and ends with it. It is shared, so that a sandbox's
copy of it follows: the client's folder can be laid into a sandbox that stands already.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..local import Member, Role
from . import mounts
from .devices import devices_beside, make_devices, renew_devices
from .skeleton import LIB
from .trees import remove_tree

_CHAOS_FLAGS = mounts.RDONLY | mounts.NOSUID | mounts.NODEV | mounts.NOEXEC


class View:
    """One slot's view; it stands while the slot's thread does, and is filled and emptied with each task.

    `place` is its mount point, `socket_folder` where the volunteer makes the slot's sockets.
    """

    def __init__(self, place: Path, socket_folder: Path) -> None:
        self.folder = place / "task"
        self._place = place
        self._staged = place / "chaos"
        self._socket_folder = socket_folder
        self._chaos = self.folder / "chaos"
        self._syncserver = self.folder / "syncserver"
        self._by_name = self.folder / "emulab-syncserver"

    def open(self, uid: int) -> None:
        """Mount it in the calling thread's namespace, with what does not differ by task; raises OSError."""
        self._place.mkdir(parents=True, exist_ok=True)
        flags = mounts.NOSUID | mounts.NODEV
        mounts.mount("syndicate", self._place, "tmpfs", flags, "size=1m,nr_inodes=100,mode=755")
        # Before it is shared: what is laid over these devices in a sandbox is the sandbox's alone.
        make_devices(devices_beside(self.folder))
        mounts.share(self._place)
        self.folder.mkdir()
        (self.folder / "passwd").write_text(_passwd(uid))
        (self.folder / "lib").symlink_to(Path("/") / LIB)
        (self.folder / "hosts").write_text(_hosts("", ()))
        # A copy of a mount has the flags of what it copies, and a sandbox's copies only follow: the read-only
        # one is made here once.
        self._staged.mkdir()
        mounts.bind(self._socket_folder, self._staged, _CHAOS_FLAGS)

    def fill(self, task: str, role: Role, members: Sequence[Member], sync_server: str = "") -> None:
        """Set it for a task; raises OSError."""
        (self.folder / "hosts").write_text(_hosts(task, members))
        if sync_server:
            self._syncserver.write_text(f"{sync_server}\n")
            self._by_name.write_text(f"{_by_name(sync_server, members)}\n")
        if role is Role.CLIENT:
            self._chaos.mkdir()
            mounts.bind(self._staged, self._chaos)
            (self.folder / "chaos.sock").symlink_to("chaos/chaos.sock")

    def empty(self) -> None:
        """Leave nothing of a task in it, nor in the socket folder; raises OSError. Idempotent."""
        self._syncserver.unlink(missing_ok=True)
        self._by_name.unlink(missing_ok=True)
        (self.folder / "chaos.sock").unlink(missing_ok=True)
        if self._chaos.is_dir():
            if os.path.ismount(self._chaos):
                mounts.unmount(self._chaos)
            self._chaos.rmdir()
        (self.folder / "hosts").write_text(_hosts("", ()))
        renew_devices(devices_beside(self.folder))
        for name in os.listdir(self._socket_folder):
            entry = self._socket_folder / name
            if entry.is_dir() and not entry.is_symlink():
                remove_tree(entry)
            else:
                entry.unlink(missing_ok=True)


def _by_name(server: str, members: Sequence[Member]) -> str:
    """`HOST:PORT` with the member's name, which is its host name, too, in place of its address."""
    host, colon, port = server.partition(":")
    return next((member.task for member in members if member.address == host), host) + colon + port


def _passwd(uid: int) -> str:
    return (
        "root:x:0:0:root:/:/usr/sbin/nologin\n"
        f"task:x:{uid}:{uid}:task:/:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    )


def _hosts(task: str, members: Sequence[Member]) -> str:
    own = [f"127.0.0.1 localhost{f' {task}' if task and not members else ''}"]
    return "\n".join(own + [f"{member.address} {member.task}" for member in members]) + "\n"
