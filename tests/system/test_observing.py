"""A real cluster that is watched: metrics of both daemons, and a bundle of all of it without a secret."""

from __future__ import annotations

import csv
import json
import re
import tarfile
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, ended, eventually, free_port
from tests.support.metrics import families, offences, scrape, value

pytestmark = pytest.mark.system


@pytest.fixture
def watched(own_cluster: Cluster, tmp_path: Path) -> Cluster:
    """Four slots; manager and volunteer serve metrics; one job has run, with a fault."""
    for name in ("manager", "volunteer"):
        daemon = own_cluster.daemons[name]
        daemon.stop()
        daemon.restart(**{f"SYNDICATE_{name.upper()}_METRICS_LISTEN": f"127.0.0.1:{free_port()}"})
        eventually(f"metrics of the {name}", lambda part=name: _answers(address(own_cluster, part)))
    _record(own_cluster)
    _until_ready(own_cluster)
    return own_cluster


def _record(cluster: Cluster) -> None:
    """Writes the processes that this test started into what `up` left."""
    path = cluster.dir / "up.json"
    values = json.loads(path.read_text())
    for name in ("manager", "volunteer"):
        started = cluster.daemons[name].started
        assert started is not None
        values["parts"][name] = {"pid": started.pid, "start_ticks": started.start_ticks}
    path.write_text(json.dumps(values))


def _answers(address: str) -> bool:
    """Whether somebody serves metrics there."""
    try:
        scrape(address)
    except OSError:
        return False
    return True


def _until_ready(cluster: Cluster) -> None:
    eventually("all slots are free", lambda: cluster.users.cluster().free_slots == cluster.slots)


def address(cluster: Cluster, part: str) -> str:
    """Where a daemon serves its metrics."""
    return cluster.daemons[part]._environ[f"SYNDICATE_{part.upper()}_METRICS_LISTEN"]


def test_both_daemons_tell_of_a_job_with_a_fault(watched: Cluster) -> None:
    """Its gang, its fault's latency, its output, the certificates, and no name against the conventions."""
    job = watched.run("disk", machines=2, client="disk-client")
    manager, volunteer = (families(scrape(address(watched, part))[0]) for part in ("manager", "volunteer"))

    assert ended(job) == "succeeded"
    assert value(manager, "syndicate_manager_jobs_ended_total", state="succeeded") == 1
    faults = manager["syndicate_manager_fault_seconds"].samples
    assert sum(one.value for one in faults if one.name.endswith("_count")) >= 1
    assert value(manager, "syndicate_manager_streams", peer="volunteer") == 1
    assert value(volunteer, "syndicate_volunteer_keeper_up") == 1
    assert value(volunteer, "syndicate_volunteer_relay_calls_total", outcome="relayed") >= 1
    expiry = "syndicate_certificate_expiry_timestamp_seconds"
    names = {one.labels["name"] for one in manager[expiry].samples}
    assert names == {"authority", "manager", "volunteer/local"}
    until = value(manager, expiry, name="volunteer/local")
    assert value(volunteer, expiry, name="volunteer/local") == until
    assert offences([*manager.values(), *volunteer.values()]) == []


def test_watching_fits_into_the_memory_that_daemons_may_have(watched: Cluster) -> None:
    """120 MB each, as the bench holds them to without it."""
    for part in ("manager", "volunteer"):
        found = families(scrape(address(watched, part))[0])
        assert value(found, "process_resident_memory_bytes") < 120e6


def test_a_bundle_has_all_of_it_and_no_secret(watched: Cluster, tmp_path: Path) -> None:
    """Each secret that there is, looked for in each of its files, and in the packed file itself."""
    watched.run("disk", machines=2, client="disk-client")
    secrets = {watched.token, watched.token.rpartition("_")[2]}
    roster, tokens = tmp_path / "roster.csv", tmp_path / "tokens.csv"
    roster.write_text("name,team\nanna,red\n")
    assert watched.ctl("user", "import", str(roster), "--tokens", str(tokens)).returncode == 0
    with tokens.open(newline="") as file:
        secrets |= {row["token"] for row in csv.DictReader(file)}
    made = json.loads(watched.ctl("join-token", "create", "--json").stdout)
    secrets.add(made["token"].partition(".")[2])
    for pem in [*watched.dir.glob("*/tls/*.pem")]:
        keys = re.findall(r"PRIVATE KEY-----\n(.*?)\n-----END", pem.read_text(), re.DOTALL)
        secrets |= {line for key in keys for line in key.splitlines() if len(line) > 16}

    path = tmp_path / "bundle.tar.gz"
    done = watched.ctl("debug", "bundle", "-o", str(path), "--dir", str(watched.dir))
    with tarfile.open(path) as tar:
        files = {entry.name.partition("/")[2]: tar.extractfile(entry) for entry in tar.getmembers()}
        texts = {name: file.read().decode() for name, file in files.items() if file is not None}

    assert done.returncode == 0, done.stderr
    assert {
        "versions.json", "machine.json", "settings.json", "doctor.json", "audit.json", "cluster.json",
        "nodes.json", "jobs.json", "logs/manager.log", "logs/volunteer.log", "logs/keeper.log",
        "metrics/manager.txt", "metrics/volunteer.txt",
    } <= set(texts)  # fmt: skip
    assert len(secrets) > 6
    for secret in secrets:
        assert [name for name, text in texts.items() if secret in text] == [], secret[:12]
    assert "job.ended" in texts["logs/manager.log"]
    assert families(texts["metrics/manager.txt"])
    assert json.loads(texts["settings.json"])["manager"]["running"]
