"""Secrets stay secret: a whole run of a cluster, and then a search for each of them."""

from __future__ import annotations

import csv
import errno
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, eventually
from tests.support.machine import Machine

pytestmark = pytest.mark.system

PLACES = ("/run", "/var", "/dev/shm", "/etc")


class Run:
    """One run: what was said, and the secrets that came up in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.secrets: dict[bytes, str] = {}

    def do(self, cluster: Cluster, *words: str, code: int = 0) -> str:
        """Runs a command, and keeps what it says."""
        done = cluster.ctl(*words)
        assert done.returncode == code, done.stderr
        self.said += [done.stdout, done.stderr]
        return done.stdout

    def told_once(self, cluster: Cluster, *words: str) -> str:
        """Runs a command whose standard output is to tell a secret, which is not kept as said."""
        told = self.do(cluster, *words)
        self.said.remove(told)
        return told

    def keep(self, what: str, *secrets: str) -> None:
        """These must be found nowhere."""
        self.secrets |= {secret.encode(): what for secret in secrets}

    def keep_keys(self, folder: Path) -> None:
        """Each line of each private key below a folder."""
        for path in files_below(folder):
            if path.suffix in (".key", ".pem") and path.is_file():
                found = keys_in(content(path))
                self.secrets |= dict.fromkeys(found, f"the key in {path}")


def use(run: Run, cluster: Cluster) -> None:
    """Users, tokens, jobs, certificates, and mistakes."""
    roster, tokens = run.folder / "roster.csv", run.folder / "tokens.csv"
    roster.write_text("name,role\nann,student\ntutor,staff\n")
    run.do(cluster, "user", "import", str(roster), "--tokens", str(tokens))
    with tokens.open(newline="") as file:
        run.keep("a token of an import", *(row["token"] for row in csv.DictReader(file)))
    eve = json.loads(run.told_once(cluster, "user", "add", "eve", "--with-token", "--json"))
    run.keep("a user's token", eve["secret"])
    token_file = run.folder / "eve.token"
    token_file.touch(mode=0o600)
    token_file.write_text(eve["secret"])
    run.do(cluster, "jobs", "--token-file", str(token_file))
    run.do(cluster, "user", "list", "--token-file", str(token_file), code=77)
    run.do(cluster, "jobs", "--ca", str(token_file), code=77)
    run.do(cluster, "certs", "add", "node-x", "--out", str(run.folder / "given"))
    run.do(cluster, "certs", "add", "node-x", "--out", str(run.folder / "again"), code=65)
    run.do(cluster, "certs", "renew")
    job = cluster.submit("pair", machines=2, client="pair-client")
    cluster.wait(job)
    run.do(cluster, "show", str(job), "--json")
    run.do(cluster, "logs", str(job))


def join(run: Run, cluster: Cluster) -> None:
    """A machine that joins, and one that is not let in."""
    made = json.loads(run.told_once(cluster, "join-token", "create", "--json"))
    run.keep("a join token", made["token"].partition(".")[2])
    with Machine(run.folder, cluster) as machine:
        token = machine.give("join-token", made["token"])
        settings = {
            "SYNDICATE_VOLUNTEER_JOIN": cluster.address,
            "SYNDICATE_VOLUNTEER_JOIN_TOKEN_FILE": str(token),
            "SYNDICATE_VOLUNTEER_CA_FINGERPRINT": made["ca_fingerprint"],
        }
        machine.start_volunteer("node-j", joins=True, **settings)
        eventually("node-j", lambda: "node-j" in cluster.ctl("nodes").stdout)
        machine.end_volunteer()
        run.said.append(machine.log.read_text())
        machine.start_volunteer("node-k", joins=True, **settings)
        machine.told("join.refused", "is used up")
        run.said.append(machine.log.read_text())
        run.keep_keys(machine.state)
    run.do(cluster, "join-token", "list", "--json")
    run.do(cluster, "certs", "list")
    run.do(cluster, "certs", "revoke", "node-j")
    run.do(cluster, "audit")


def test_secrets_are_nowhere_to_be_read(tmp_path: Path) -> None:
    """In no command line or environment of any process at any time, no log, answer, error or open file."""
    tmp_path.chmod(0o755)
    began, run = time.time() - 1, Run(tmp_path)
    with watched() as seen, Cluster(tmp_path, 3) as cluster:
        run.keep("the admin's token", cluster.token)
        use(run, cluster)
        join(run, cluster)
        run.keep_keys(tmp_path)
        opened = [*readable(tmp_path, 0), *readable(cluster.run_dir, 0)]
        opened += [path for place in PLACES for path in readable(Path(place), began)]
        texts = {f"the file {path}": content(path) for path in opened}
        texts |= {f"the log {path}": content(path) for path in cluster.dir.rglob("*.log")}
    texts |= {f"answer {number}": text.encode() for number, text in enumerate(run.said)}
    texts |= {f"process {number}: {text[:200]!r}": text for number, text in enumerate(seen)}
    kinds = {what.partition(" in ")[0] for what in run.secrets.values()}
    assert kinds == {
        "a join token", "a token of an import", "a user's token", "the admin's token", "the key",
    }  # fmt: skip
    assert any(b"syndicate-manager" in text for text in seen) and len(texts) > 100
    found = [
        f"{what} is in {where}"
        for secret, what in run.secrets.items()
        for where, text in texts.items()
        if secret in text
    ]
    assert found == []


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """Command lines and environments of all processes, looked at over and over."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for process in Path("/proc").iterdir():
                if process.name.isdecimal():
                    seen.update(told_by(process))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(60)


def told_by(process: Path) -> list[bytes]:
    """What everybody may read of a process, and what its user may."""
    found = []
    for part in ("cmdline", "environ"):
        try:
            found.append((process / part).read_bytes())
        except OSError:  # it has ended, or is none that root may look into
            continue
    return found


def keys_in(pem: bytes) -> set[bytes]:
    """The lines of a private key that tell something of it."""
    body = pem.partition(b"-----BEGIN PRIVATE KEY-----")[2].partition(b"-----END")[0]
    return {line for line in body.splitlines()[1:] if len(line) > 20}


def files_below(folder: Path) -> Iterator[Path]:
    """What else runs adds and takes away while this looks."""
    for top, _, names in os.walk(folder):
        yield from (Path(top, name) for name in names)


def readable(folder: Path, since: float) -> list[Path]:
    """The plain files below a folder that everybody may read and that were written since."""
    found = []
    for path in files_below(folder):
        try:
            status = path.lstat()
        except OSError:  # it has gone meanwhile
            continue
        if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_mtime >= since:
            found.append(path)
    return found


def content(path: Path) -> bytes:
    """Nothing of a file that has gone meanwhile, nor of a namespace that another test has bound to one."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return b""
        raise
