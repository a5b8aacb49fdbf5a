"""An OpenSSH server on loopback, with keys of its own, and an `ssh` that knows the way to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import eventually, free_port

_SSHD = "/usr/sbin/sshd"
_SSH = "/usr/bin/ssh"
# Compiled in: the server wants this empty folder, and a package's start script makes it.
_SEPARATION = Path("/run/sshd")
_WITHIN_S = 60.0


@contextmanager
def sshd(folder: Path, host: str) -> Iterator[Path]:
    """Serves root by a key; gives a folder with an `ssh` that reaches it by the name `host`."""
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=30
        )
    port = free_port()
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/user_key.pub\nStrictModes no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n"
    )
    host_key = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    (folder / "ssh_config").write_text(
        f"Host {host}\nHostName 127.0.0.1\nPort {port}\nUser root\nIdentitiesOnly yes\n"
        f"IdentityFile {folder}/user_key\nUserKnownHostsFile {folder}/known_hosts\n"
    )
    commands = folder / "bin"
    commands.mkdir()
    (commands / "ssh").write_text(f'#!/bin/sh\nexec {_SSH} -F {folder}/ssh_config "$@"\n')
    (commands / "ssh").chmod(0o755)
    made = not _SEPARATION.exists()
    _SEPARATION.mkdir(mode=0o755, exist_ok=True)
    line = [_SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "sshd.log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log) as server:
        try:
            said = folder / "sshd.log"
            eventually("sshd", lambda: "Server listening" in said.read_text(), _WITHIN_S)
            yield commands
        finally:
            server.terminate()
            server.wait(_WITHIN_S)
            if made:
                _SEPARATION.rmdir()


def path_with(commands: Path) -> str:
    """A search path where these commands come first."""
    return f"{commands}:{os.environ['PATH']}"
