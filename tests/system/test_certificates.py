"""Identity on a whole cluster: machines that join, renew and are revoked; and secrets that stay secret."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from syndicate.cli.unprivileged import UNPRIVILEGED_UID
from syndicate.manager.pki import Folder
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.authorities import DAY, signed
from tests.support.cluster import Cluster, ended, eventually, processes_in
from tests.support.machine import Machine
from tests.support.sshd import path_with, sshd

pytestmark = pytest.mark.system


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that a test may do anything to."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)  # the unprivileged daemons have their state in it
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


def test_a_wrong_token_or_fingerprint_is_told_and_tried_again(own: Cluster, tmp_path: Path) -> None:
    """In one line; it does not exit, and joins when its operator has laid the right token there."""
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
            assert "nonsense" not in machine.told("join.refused", says)
            assert node(own, "node-j") is None
            machine.end_volunteer()
        machine.start_volunteer(
            "node-j", joins=True, **invitation, SYNDICATE_VOLUNTEER_CA_FINGERPRINT=fingerprint
        )
        machine.told("join.refused", "no such join token")
        machine.give("join-token", json.loads(own.ctl("join-token", "create", "--json").stdout)["token"])
        eventually("node-j", lambda: node(own, "node-j") is not None)


def test_a_renewal_loses_no_task(own: Cluster) -> None:
    """In the last third of its certificate's life a volunteer gets the next one while its job runs on."""
    job = own.submit("idle", machines=3)
    own.until_idle(job)
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
    # By the cut: else it would go on saying that it is there, for as long as its stream stands.
    eventually("its going", lambda: not is_ready(own, "local"))
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


def test_add_over_ssh_makes_a_volunteer_of_another_machine(own: Cluster, tmp_path: Path) -> None:
    """By real ssh: files of the volunteer's own there, and it is let in; a renewal replaces them."""
    (tmp_path / "ssh").mkdir()
    with Machine(tmp_path, own) as machine, sshd(tmp_path / "ssh", "there") as commands:
        own.environment["PATH"] = path_with(commands)
        there = machine.state / "tls" / "node-s"
        there.parent.mkdir()
        os.chown(there.parent, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
        words = ("--ssh", "there", "--ssh-folder", str(there))
        days = [good_until()]
        added = own.ctl("certs", "add", "node-s", *words)
        days.append(good_until())  # it may be midnight meanwhile
        told = f"node-s   key and certificate in there:{there}\nGood until {{}}; it renews itself.\n"
        assert added.returncode == 0, added.stderr + (tmp_path / "ssh" / "sshd.log").read_text()
        assert added.stdout in [told.format(day) for day in days]
        assert {path.name: owned(path) for path in (there, *there.iterdir())} == {
            "node-s": (0o700, UNPRIVILEGED_UID),
            "ca.pem": (0o644, UNPRIVILEGED_UID),
            "identity.pem": (0o600, UNPRIVILEGED_UID),
        }
        machine.start_volunteer("node-s", joins=True)
        eventually("node-s", lambda: is_ready(own, "node-s"))
        first = (there / "identity.pem").read_bytes()
        assert own.ctl("certs", "renew", "node-s", *words).returncode == 0
        assert (there / "identity.pem").read_bytes() != first
        assert sorted(path.name for path in there.iterdir()) == ["ca.pem", "identity.pem"]
        # No name server is asked, which may take its time to say that there is no such machine.
        with (tmp_path / "ssh" / "ssh_config").open("a") as config:
            config.write("Host nowhere.invalid\nProxyCommand /bin/false\n")
        refused = own.ctl("certs", "add", "node-t", "--ssh", "nowhere.invalid")
        assert refused.returncode == 71 and "what arrived there is worth nothing" in refused.stderr
    listed = {one["name"]: one["state"] for one in own.certs("list")["certificates"]}
    assert (listed["node-s"], listed["node-t"]) == ("good", "revoked")


def good_until() -> str:
    """The day of UTC on which a certificate of now ends."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + 90 * DAY))


def owned(path: Path) -> tuple[int, int]:
    """Mode and owner."""
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid
