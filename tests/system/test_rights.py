"""Who may do what: the daemons' own rights, the token, and callers without one."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc, registry_pb2, registry_pb2_grpc, scheduler_pb2
from syndicate.v1 import scheduler_pb2_grpc as scheduler_grpc

from tests.support.cluster import Cluster

pytestmark = pytest.mark.system

UNPRIVILEGED = "199999"


def status_of(pid: int) -> dict[str, list[str]]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("name", ["volunteer", "manager"])
def test_what_faces_the_network_has_no_rights(cluster: Cluster, name: str) -> None:
    """All four ids are an unprivileged user's; no group, no capability, and none can be gained."""
    status = status_of(cluster.daemons[name].pid)
    assert status["Uid"] == [UNPRIVILEGED] * 4 and status["Gid"] == [UNPRIVILEGED] * 4
    assert status["Groups"] == [] and status["NoNewPrivs"] == ["1"]
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0, kind


def test_the_keeper_has_no_network(cluster: Cluster) -> None:
    """It is root, and holds no internet socket: only Unix and netlink sockets."""
    pid = cluster.daemons["keeper"].pid
    assert status_of(pid)["Uid"][0] == "0"
    own = {link for fd in Path(f"/proc/{pid}/fd").iterdir() if (link := _target(fd)).startswith("socket:[")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        assert not own & {f"socket:[{row.split()[9]}]" for row in rows}, table


def test_nothing_is_spoken_in_clear_text(cluster: Cluster) -> None:
    """The daemons listen at the manager's two addresses alone, and neither answers HTTP/2 without TLS."""
    listening = {address for daemon in cluster.daemons.values() for address in listens_at(daemon.pid)}
    doors = {cluster.address, cluster.volunteers_address}
    assert listening == doors
    for door in doors:
        host, _, port = door.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as raw:
            raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            said = b""
            with suppress(ConnectionResetError):
                while data := raw.recv(1000):
                    said += data
        assert said[:1] in (b"", b"\x15"), "nothing, or an alert of TLS"


def listens_at(pid: int) -> list[str]:
    """The TCP addresses at which a process listens."""
    own = {_target(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = row.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                host, _, port = words[1].partition(":")
                # gRPC takes an IPv6 socket for an IPv4 address, which stands in it as a mapped one.
                ipv4 = host.removeprefix("0000000000000000FFFF0000")
                known = socket.inet_ntoa(bytes.fromhex(ipv4)[::-1]) if len(ipv4) == 8 else host
                found.append(f"{known}:{int(port, 16)}")
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


def test_the_token_is_its_owners_alone_and_nowhere_told(cluster: Cluster) -> None:
    """Mode 0600, of the manager's user; in no log, no command line, no environment of any process."""
    path = cluster.dir / "manager" / "admin.token"
    assert not path.with_name("volunteer.token").exists()  # volunteers have certificates
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600 and str(found.st_uid) == UNPRIVILEGED
    token = path.read_bytes().strip()
    assert len(token) >= 64
    for log in cluster.dir.glob("*.log"):
        assert token not in log.read_bytes(), log
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        for part in ("cmdline", "environ"):
            try:
                said = (process / part).read_bytes()
            except OSError:  # it has ended, or is none that root may look into
                continue
            assert token not in said, (part, process)


@pytest.fixture(params=["users", "volunteers"])
def channel(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """A connection to one of the two listeners, without a token; to the volunteers' with a certificate."""
    with cluster.channel(request.param) as channel:
        yield channel


@pytest.fixture(params=["users", "volunteers"])
def bare(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[tuple[grpc.Channel, grpc.StatusCode]]:
    """A connection without any credential, and how what comes without one ends there."""
    users = request.param == "users"
    address = cluster.address if users else cluster.volunteers_address
    trusting = grpc.ssl_channel_credentials(cluster.ca_file.read_bytes())
    with grpc.secure_channel(address, trusting, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel, grpc.StatusCode.UNAUTHENTICATED if users else grpc.StatusCode.UNAVAILABLE


def code_of(call: object) -> grpc.StatusCode:
    """The status with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call) if isinstance(call, Iterator) else call()  # type: ignore[operator]  # a stream or a thunk
    return caught.value.code()  # type: ignore[attr-defined]  # gRPC raises calls


@pytest.mark.parametrize("token", [None, "", "Bearer ", "Bearer wrong", "wrong"])
def test_callers_without_a_credential_are_refused_at_both_doors(
    bare: tuple[grpc.Channel, grpc.StatusCode], token: str | None
) -> None:
    """No method of any service answers, reflection neither; the volunteers' listener ends the handshake."""
    channel, refused = bare
    metadata = None if token is None else [("authorization", token)]
    said = {"metadata": metadata, "timeout": 60}
    jobs = scheduler_grpc.SchedulerStub(channel)
    chaos = chaos_pb2_grpc.ChaosControlStub(channel)
    volunteers = registry_pb2_grpc.RegistryStub(channel)
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    calls = [
        lambda: jobs.ListJobs(scheduler_pb2.ListJobsRequest(), **said),
        lambda: jobs.Submit(scheduler_pb2.SubmitRequest(), **said),
        lambda: jobs.UploadSource(iter([scheduler_pb2.UploadSourceRequest(chunk=b"x")]), **said),
        lambda: list(jobs.ReadLogs(scheduler_pb2.ReadLogsRequest(job_id=1), **said)),
        lambda: chaos.Kill(chaos_pb2.KillRequest(ip="10.77.0.1"), **said),
        lambda: list(volunteers.Attach(iter([registry_pb2.AttachRequest()]), **said)),
        lambda: list(volunteers.FetchSource(registry_pb2.FetchSourceRequest(sha256="0" * 64), **said)),
        lambda: list(
            reflection.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), **said
            )
        ),
    ]
    assert {code_of(call) for call in calls} == {refused}


def test_health_is_told_to_everybody(channel: grpc.Channel) -> None:
    """Load balancers have no token; beside volunteers they need a certificate."""
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("door", "theirs", "foreign"),
    [("users", "Scheduler", "Registry"), ("volunteers", "Registry", "Scheduler")],
)
def test_each_door_has_its_own_services(cluster: Cluster, door: str, theirs: str, foreign: str) -> None:
    """With the credential, reflection lists a listener's services; the other one's methods are not there."""
    said = {"metadata": [("authorization", f"Bearer {cluster.token}")], "timeout": 60}
    with cluster.channel(door) as channel:
        wish = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([wish]), **said)
        names = {service.name for service in answer.list_services_response.service}
        assert f"syndicate.v1.{theirs}" in names and f"syndicate.v1.{foreign}" not in names
        jobs = scheduler_grpc.SchedulerStub(channel)
        if door == "volunteers":
            refused = code_of(lambda: jobs.ListJobs(scheduler_pb2.ListJobsRequest(), **said))
        else:
            attach = registry_pb2_grpc.RegistryStub(channel).Attach
            refused = code_of(lambda: list(attach(iter([registry_pb2.AttachRequest()]), **said)))
        assert refused == grpc.StatusCode.UNIMPLEMENTED
