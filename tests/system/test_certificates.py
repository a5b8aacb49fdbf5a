"""Identity on a whole cluster: machines that join, renew and are revoked; and secrets that stay secret."""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.cli.unprivileged import UNPRIVILEGED_UID
from syndicate.manager.pki import Folder
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.authorities import DAY, signed
from tests.support.cluster import Cluster, ended, eventually, processes_in
from tests.support.machine import Machine

pytestmark = pytest.mark.system


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that a test may do anything to."""
    tmp_path.chmod(0o755)
    with Cluster(tmp_path, 3) as made:
        yield made


def node(cluster: Cluster, name: str) -> scheduler.Node | None:
    """A volunteer as the manager sees it."""
    return next((one for one in cluster.users.nodes() if one.volunteer_id == name), None)


def is_ready(cluster: Cluster, name: str) -> bool:
    """Whether it can be used."""
    found = node(cluster, name)
    return found is not None and found.state == scheduler.NODE_STATE_READY


def test_a_machine_joins_by_a_token_and_comes_back_without_it(own: Cluster, tmp_path: Path) -> None:
    """Token and fingerprint are all that it has; later its certificate does, also after a restart."""
    made = own.ctl("join-token", "create", "--json")
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    with Machine(tmp_path, own) as machine:
        token = machine.give("join-token", said["token"] + "\n")
        invitation = {
            "SYNDICATE_VOLUNTEER_JOIN": own.address,
            "SYNDICATE_VOLUNTEER_JOIN_TOKEN_FILE": str(token),
            "SYNDICATE_VOLUNTEER_CA_FINGERPRINT": said["ca_fingerprint"],
        }
        machine.start_volunteer("node-j", joins=True, **invitation)
        eventually("node-j", lambda: is_ready(own, "node-j"))
        machine.end_volunteer()
        token.unlink()
        eventually("its going", lambda: not is_ready(own, "node-j"))
        machine.start_volunteer("node-j", joins=True)
        eventually("node-j again", lambda: is_ready(own, "node-j"))
        assert said["token"].partition(".")[2] not in machine.log.read_text()
    listed = json.loads(own.ctl("join-token", "list", "--json").stdout)
    assert [one["used_by"] for one in listed["tokens"]] == [["node-j"]]
    found = node(own, "node-j")
    assert found is not None and found.certificate_expires_at.utc_ns > (time.time() + 80 * DAY) * 1e9


def test_a_wrong_token_or_fingerprint_ends_the_volunteer_with_one_line(own: Cluster, tmp_path: Path) -> None:
    """It would never be let in: a restart is the operator's, or systemd's."""
    fingerprint = own.certs("list")["fingerprint"]
    with Machine(tmp_path, own) as machine:
        token = machine.give("join-token", "abcd1234.nonsense\n")
        invitation = {
            "SYNDICATE_VOLUNTEER_JOIN": own.address,
            "SYNDICATE_VOLUNTEER_JOIN_TOKEN_FILE": str(token),
        }
        for pin, says in (
            (fingerprint, "no such join token"),
            ("0" * 64, "shows no authority of the fingerprint"),
        ):
            machine.start_volunteer(
                "node-j", joins=True, **invitation, SYNDICATE_VOLUNTEER_CA_FINGERPRINT=pin
            )
            assert "nonsense" not in machine.told("error:", says)
            machine.end_volunteer()
    assert node(own, "node-j") is None


def test_a_renewal_loses_no_task(own: Cluster) -> None:
    """In the last third of its certificate's life a volunteer gets the next one while its job runs on."""
    job = own.submit("idle", machines=3)
    own.until_running(job)
    before = processes_in(own.cgroup_name)
    folder = own.dir / "volunteer" / "tls"
    pair = signed(Folder(own.ca_file.parent), uri=cluster_uri(own, "local"), begin=-3 * DAY, end=DAY)
    own.take_register()
    (folder / "identity.pem").write_bytes(pair.key + pair.certificate)
    os.chown(folder / "identity.pem", UNPRIVILEGED_UID, UNPRIVILEGED_UID)

    own.daemons["volunteer"].kill()
    own.daemons["volunteer"].restart()
    eventually(
        "a new certificate", lambda: (folder / "identity.pem").read_bytes() != pair.key + pair.certificate
    )

    log = own.dir / "volunteer.log"
    eventually("its word", lambda: "certificate.renewed" in log.read_text())
    # No stream came after it: the one that stood goes on.
    assert log.read_text().index("certificate.renewed") > log.read_text().rindex("link.up")
    assert processes_in(own.cgroup_name) == before
    found = own.users.job(job)
    assert ended(found) == "running" and found.attempt == 1
    own.users.cancel(job)
    own.wait(job)


def cluster_uri(cluster: Cluster, name: str) -> str:
    """The name of a volunteer in its certificate."""
    return f"syndicate://{cluster.certs('list')['cluster']}/volunteer/{name}"


def test_a_revoked_volunteer_is_gone_at_once_and_stays_so(own: Cluster) -> None:
    """`certs revoke` tells that it was cut off; the volunteer says why; a new certificate brings it back."""
    told = own.ctl("certs", "revoke", "local")
    assert (told.returncode, told.stdout) == (0, "local   revoked; cut off\n"), told.stderr
    assert not is_ready(own, "local")
    log = own.dir / "volunteer.log"
    eventually("its word", lambda: "link.refused" in log.read_text())
    assert "the certificate of local is revoked" in log.read_text()
    assert own.ctl("certs", "revoke", "local").returncode == 66

    made = own.certs("renew", "local", "--bundle")["files"]["identity.pem"]
    path = own.dir / "volunteer" / "tls" / "identity.pem"
    path.write_text(made)
    eventually("its return", lambda: is_ready(own, "local"))


def test_nodes_show_when_certificates_expire(own: Cluster) -> None:
    """In the table and in JSON; one that should have been renewed long ago has a line of its own."""
    assert "CERTIFICATE" in (shown := own.ctl("nodes").stdout) and "365 days" in shown
    (only,) = json.loads(own.ctl("nodes", "--json").stdout)["nodes"]
    assert only["certificate_expires_at"]["utc_ns"] > (time.time() + 360 * DAY) * 1e9
    assert "expire soon" not in shown


def test_up_keeps_its_authority_over_a_restart(own: Cluster) -> None:
    """`down --keep-state && up`: whoever has its certificate need not get it again."""
    before = own.ca_file.read_bytes()
    down = own.ctl("down", "--keep-state", "--dir", str(own.dir))
    assert down.returncode == 0, down.stderr
    port, volunteers = own.address.rpartition(":")[2], own.volunteers_address.rpartition(":")[2]
    up = own.ctl("up", "--slots", "3", "--dir", str(own.dir), "--port", port, "--volunteer-port", volunteers)
    assert up.returncode == 0, up.stderr
    assert own.ca_file.read_bytes() == before
    assert is_ready(own, "local")


def test_secrets_are_nowhere_to_be_read(own: Cluster, tmp_path: Path) -> None:
    """After a full run: in no command line, environment, log, answer or file that others can read."""
    token = json.loads(own.ctl("join-token", "create", "--json").stdout)["token"]
    wrong = own.ctl("jobs", "--token", "wrong-" + uuid.uuid4().hex)
    said = [wrong.stdout, wrong.stderr, own.ctl("certs", "list").stdout, own.ctl("join-token", "list").stdout]
    given = tmp_path / "given"
    said.append(own.ctl("certs", "add", "node-x", "--out", str(given)).stdout)
    job = own.submit("pair", machines=2, client="pair-client")
    argv = command_lines()
    own.wait(job)
    said += [own.ctl("show", str(job), "--json").stdout, own.ctl("logs", str(job)).stdout]
    said.append(own.ctl("certs", "revoke", "node-x").stdout)
    secrets = secrets_of(own) | {token.partition(".")[2].encode()}
    secrets |= keys_in((given / "identity.pem").read_bytes())
    assert len(secrets) >= 5
    logs = [path.read_bytes() for path in own.dir.glob("*.log")]
    for secret in secrets:
        assert secret not in argv
        assert not any(secret in text.encode() for text in said)
        assert not any(secret in text for text in logs)
    for path in [*readable(own.dir), *readable(own.run_dir), *readable(tmp_path)]:
        data = path.read_bytes()
        assert not any(secret in data for secret in secrets), path


def secrets_of(cluster: Cluster) -> set[bytes]:
    """The admin's token, and each line of each key."""
    found = {cluster.token.encode()}
    for path in cluster.dir.rglob("*"):
        if path.suffix in (".key", ".pem") and path.is_file():
            found |= keys_in(path.read_bytes())
    return found


def keys_in(pem: bytes) -> set[bytes]:
    """The lines of a private key that tell something of it."""
    body = pem.partition(b"-----BEGIN PRIVATE KEY-----")[2].partition(b"-----END")[0]
    return {line for line in body.splitlines()[1:] if len(line) > 20}


def command_lines() -> bytes:
    """Of all processes, with their environments."""
    found = b""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            for part in ("cmdline", "environ"):
                try:
                    found += (process / part).read_bytes()
                except OSError:  # it has ended, or is none that root may look into
                    continue
    return found


def readable(folder: Path) -> list[Path]:
    """The plain files below a folder that everybody may read, whatever the folders above allow."""
    return [
        path
        for path in folder.rglob("*")
        if not path.is_symlink() and stat.S_ISREG(path.stat().st_mode) and path.stat().st_mode & stat.S_IROTH
    ]
