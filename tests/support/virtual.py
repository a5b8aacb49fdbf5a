"""Virtual machines as Debian comes: its own kernel, systemd, and cgroups of version 2 alone.

QEMU boots them from images that are made once and kept; what a machine writes is gone with it. They have no
network: commands go through Debian's qemu-guest-agent on a virtual serial port. Where the processor lends its
virtualisation they run on KVM, else they are emulated, which takes twenty times as long.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tests.support.booted import PACKAGES, Installed, base_archive, run, software
from tests.support.cluster import JOBS

_PACKAGES = (*PACKAGES, "linux-image-cloud-amd64", "qemu-guest-agent", "e2fsprogs")
# Folders of the machine whose images the tests bring, on the drives after the first.
_BROUGHT = ("/opt/syndicate", "/opt/dependencies", "/opt/jobs")
_MOUNT = """\
[Unit]
DefaultDependencies=no
Requires=dev-vd{drive}.device
After=dev-vd{drive}.device
Before=local-fs.target
[Mount]
What=/dev/vd{drive}
Where={folder}
Type=ext4
Options=ro
[Install]
WantedBy=sysinit.target
"""
_UNITS = {
    f"{folder.strip('/').replace('/', '-')}.mount": _MOUNT.format(drive=drive, folder=folder)
    for drive, folder in zip("bcd", _BROUGHT, strict=True)
}
_KERNEL_LINE = (
    "root=/dev/vda rw console=ttyS0 systemd.hostname=node-a panic=-1 mitigations=off"
    " systemd.default_timeout_start_sec=600"  # an emulated machine on a busy host
)
# Only these two run any kernel: others that /dev/kvm may belong to need one that was made for them.
_LENDERS = (Path("/sys/module/kvm_intel"), Path("/sys/module/kvm_amd"))
_AGENT = "org.qemu.guest_agent.0"
_ENVIRON = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "HOME=/root",
)


def has_kvm() -> bool:
    """Whether any kernel can be run at the speed of this machine."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and any(lender.is_dir() for lender in _LENDERS)


WITHIN_S = 180.0 if has_kvm() else 600.0
"""For what takes a machine seconds, on one that is busy with other things."""


@dataclass(frozen=True)
class Image:
    """Debian for a machine: its disk, and what a boot loader would have taken from it."""

    disk: Path
    kernel: Path
    initrd: Path


def base_image() -> Image:
    """The files beside the base's archive; made where they are not there, some seconds after the archive."""
    archive = base_archive(_PACKAGES, _UNITS)
    kept = archive.with_suffix(".machine")
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            making = archive.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)  # what a run that was killed has left
            tree = making / "tree"
            tree.mkdir(parents=True)
            run("tar", "-C", str(tree), "-xf", str(archive))
            for name in ("vmlinuz", "initrd.img"):
                (found,) = tree.glob(f"boot/{name}-*")
                shutil.copy(found, making / name)
            _image(tree, making / "disk", spare=1 << 30)
            shutil.rmtree(tree)
            making.rename(kept)
    return Image(kept / "disk", kept / "vmlinuz", kept / "initrd.img")


def _image(tree: Path, image: Path, *, spare: int = 64 << 20) -> Path:
    """An image of a folder, with room for so many bytes more; it takes no more than what is in it."""
    held = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    size = (held * 5 // 4 + spare) >> 10
    run("mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), f"{size}k")
    return image


@contextmanager
def virtual_machine(folder: Path, memory_mib: int = 2048) -> Iterator[VirtualMachine]:
    """A machine that has booted; it and its files in this folder are gone afterwards.

    It ends with this process, however that ends.
    """
    programs = software(folder)
    trees = (programs, Path(sysconfig.get_path("purelib")), JOBS)
    drives = [_image(tree, folder / f"drive-{number}") for number, tree in enumerate(trees)]
    base, said = base_image(), folder / "console"
    ours, theirs = socket.socketpair()
    command = ["setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64", *_how(base, drives, memory_mib)]
    command += ["-serial", f"file:{said}", "-chardev", f"socket,id=agent,fd={theirs.fileno()}"]
    environ = {**os.environ, "TMPDIR": str(folder)}  # what the machine writes, unlinked while it is open
    with ours, theirs, (folder / "qemu").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()], env=environ
        )
        try:
            theirs.close()  # so that its end is told
            with ours.makefile("rb") as lines:
                machine = VirtualMachine(ours, lines)
                try:
                    machine.until_booted()
                except (OSError, AssertionError) as error:
                    text = "".join(file.read_text(errors="replace") for file in (folder / "qemu", said))
                    raise AssertionError(f"no boot: {error}\n{text}") from error
                yield machine
        finally:
            process.kill()
            process.wait(WITHIN_S)
            for path in drives:
                path.unlink()
            shutil.rmtree(programs)


def _how(base: Image, drives: Sequence[Path], memory_mib: int) -> list[str]:
    # An emulated processor of few extensions is twice as fast as one that has all.
    how = ["-accel", "kvm", "-cpu", "host"] if has_kvm() else ["-accel", "tcg,thread=multi", "-cpu", "qemu64"]
    how += ["-smp", "2", "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-no-reboot"]
    how += ["-display", "none", "-nic", "none"]
    how += ["-kernel", str(base.kernel), "-initrd", str(base.initrd), "-append", _KERNEL_LINE]
    how += ["-drive", f"file={base.disk},format=raw,if=virtio,snapshot=on"]
    for drive in drives:
        how += ["-drive", f"file={drive},format=raw,if=virtio,readonly=on"]
    how += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    return [*how, "-device", f"virtserialport,chardev=agent,name={_AGENT}"]


class VirtualMachine(Installed):
    """One that runs, by the socket of its agent's port, and the lines that come from it.

    The protocol is JSON, a line each way: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html.
    """

    def __init__(self, port: socket.socket, lines: BinaryIO) -> None:
        port.settimeout(WITHIN_S)
        self._port = port
        self._lines = lines

    def until_booted(self) -> None:
        """Wait until all units have started, or failed; raises OSError, or AssertionError if it ends."""
        self._ask("guest-sync", id=1)  # answered once the agent runs
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """See Installed."""
        asked = {"path": command[0], "arg": command[1:], "env": _ENVIRON, "capture-output": True}
        if text is not None:
            asked["input-data"] = base64.b64encode(text.encode()).decode()
        pid = self._ask("guest-exec", **asked)["pid"]
        deadline = time.monotonic() + WITHIN_S
        while not (ended := self._ask("guest-exec-status", pid=pid))["exited"]:
            assert time.monotonic() < deadline, f"{' '.join(command)}: not within {WITHIN_S:g} s"
            time.sleep(0.02)  # the agent tells nothing by itself
        out, errors = (base64.b64decode(ended.get(key, "")).decode() for key in ("out-data", "err-data"))
        assert not check or ended.get("exitcode") == 0, f"{' '.join(command)}: {out}{errors}"
        return out if check else out + errors

    def _ask(self, command: str, **arguments: Any) -> Any:
        asked = json.dumps({"execute": command, "arguments": arguments})
        self._port.sendall(asked.encode() + b"\n")
        line = self._lines.readline()
        assert line, "the machine ended"
        answer = json.loads(line)
        assert "return" in answer, f"{command}: {answer}"
        return answer["return"]
