"""A second machine beside a cluster's own: keeper and volunteer under another boot id, on the same kernel."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from syndicate.cli import processes
from syndicate.cli.unprivileged import UNPRIVILEGED_UID, unprivileged_command

from tests.support.cluster import BIN, WAIT_S, Cluster, eventually

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
INSTANCE = "syntwo"


class Machine:
    """A keeper with one slot; volunteers are started and ended on it one at a time.

    With this kernel's own `boot_id` it is no second machine, but a second volunteer on the first. `prefix`
    starts the keeper, for instance as on a lesser kernel, and `flags` are the keeper's.
    """

    def __init__(
        self,
        folder: Path,
        cluster: Cluster,
        boot_id: str = "",
        prefix: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.boot_id = boot_id or str(uuid.uuid4())
        self._prefix, self._flags = prefix, flags
        self.log = folder / "two-volunteer.log"
        self._cluster = cluster
        self._run_dir = Path(f"/run/syndicate-{INSTANCE}")
        self._boot_file = folder / "boot_id"
        self._volunteer: processes.Process | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Machine:
        with self._stack:
            self._boot_file.write_text(f"{self.boot_id}\n")
            self._boot_file.chmod(0o644)
            self._run_dir.mkdir(mode=0o755)
            self._stack.callback(shutil.rmtree, self._run_dir)
            self._state = self._made("two-volunteer", UNPRIVILEGED_UID)
            self._start_keeper()
            self._stack.callback(self.end_volunteer)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def state(self) -> Path:
        """The volunteer's state folder."""
        return self._state

    def give(self, name: str, text: str) -> Path:
        """A file that the volunteer alone can read."""
        path = self._state / name
        path.write_text(text)
        path.chmod(0o600)
        os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        return path

    def start_volunteer(self, name: str, *, joins: bool = False, **settings: str) -> None:
        """Attaches to the cluster's manager under a name, with settings from its environment.

        It is given a certificate, unless it `joins`: then it has to get one by itself.
        """
        certificates = self._state / "tls" / name
        if not joins and not certificates.exists():
            self._give_certificate(certificates, name)
        command = [
            str(BIN / "syndicate-volunteer"), "run", "--manager", self._cluster.volunteers_address,
            "--tls-dir", str(certificates), "--keeper", str(self._run_dir / "keeper.sock"),
            "--state-dir", str(self._state), "--run-dir", str(self._run_dir), "--id", name,
        ]  # fmt: skip
        wrapped = unprivileged_command(
            command, writable=[self._state, self._run_dir], readable=[BIN], status_fd=3
        )
        # Over the /proc that bubblewrap makes, so after it and before the command.
        at = wrapped.index("--chdir")
        wrapped[at:at] = ["--ro-bind", str(self._boot_file), str(BOOT_ID)]
        self.log.unlink(missing_ok=True)
        self._volunteer = processes.start_wrapped(wrapped, self.log, self._environ() | settings, WAIT_S)

    def end_volunteer(self) -> None:
        """Ends the one that runs, if any."""
        if self._volunteer is not None:
            processes.stop(self._volunteer, WAIT_S)
            self._volunteer = None

    def told(self, *words: str) -> str:
        """Waits for a line of the volunteer's log that has all these words."""

        def line() -> str:
            text = self.log.read_text() if self.log.exists() else ""
            return next((one for one in text.splitlines() if all(word in one for word in words)), "")

        return eventually(f"{' '.join(words)} in {self.log}", line)

    def _give_certificate(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True)
        for file, text in self._cluster.certs("renew", name, "--bundle")["files"].items():
            (folder / file).write_text(text)
            (folder / file).chmod(0o600)
            os.chown(folder / file, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        for path in (folder, folder.parent):
            os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)

    def _start_keeper(self) -> None:
        log = self.folder / "two-keeper.log"
        keeper = [
            str(BIN / "syndicate-keeper"), "--instance", INSTANCE, "--run-dir", str(self._run_dir),
            "--state-dir", str(self._made("two-keeper", 0)), "--cache-dir", str(self._state / "cache"),
            "--volunteer-uid", str(UNPRIVILEGED_UID), "--uid-base", "240000",
        ]  # fmt: skip
        as_another = 'mount --bind "$0" "$1"; shift; exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", as_another]
        command += [str(self._boot_file), str(BOOT_ID), *self._prefix, *keeper, *self._flags]
        started = processes.start(command, log, self._environ())
        self._stack.callback(processes.stop, started, WAIT_S)
        eventually(f"the keeper (see {log})", (self._run_dir / "keeper.sock").exists)

    def _made(self, name: str, owner: int) -> Path:
        path = self.folder / name
        path.mkdir(mode=0o700)
        os.chown(path, owner, owner)
        return path

    def _environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        path = os.environ["PATH"]
        return {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1", **kept}
