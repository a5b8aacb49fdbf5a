"""Two volunteers with one id, one address or one prefix: the second is refused, the first is unharmed."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc

from tests.support.cluster import EXAMPLES, Cluster, ended
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system

FABRIC, HOST = registry.NETWORK_KIND_FABRIC, registry.NETWORK_KIND_HOST


@contextmanager
def attached(cluster: Cluster, hello: registry.Hello) -> Iterator[registry.Welcome]:
    """A volunteer of another machine as far as the manager sees it: a Hello and a certificate, on a stream.

    Gives the Welcome; raises grpc.RpcError where it is refused.
    """
    requests: queue.SimpleQueue[registry.AttachRequest | None] = queue.SimpleQueue()
    requests.put(registry.AttachRequest(hello=hello))
    with cluster.channel("volunteers", hello.volunteer_id) as channel:
        attach = registry_grpc.RegistryStub(channel).Attach
        stream = attach(iter(requests.get, None), timeout=120)
        try:
            yield next(stream).welcome
        finally:
            requests.put(None)
            stream.cancel()


def hello_of(name: str, **fields: object) -> registry.Hello:
    """A machine with one slot, just booted."""
    fields.setdefault("network", FABRIC)
    fields.setdefault("slots", [registry.Slot(slot=0)])
    hello = registry.Hello(volunteer_id=name, boot_id=str(uuid.uuid4()), reach_domain=name, **fields)  # type: ignore[arg-type]
    hello.sent_at.boot_id, hello.sent_at.monotonic_ns, hello.sent_at.utc_ns = hello.boot_id, 1, 1
    return hello


def assert_refused(cluster: Cluster, hello: registry.Hello, reason: str, *says: str) -> None:
    """The Hello is answered with this reason, in one line."""
    with pytest.raises(grpc.RpcError) as caught, attached(cluster, hello):
        pass
    call = caught.value
    assert dict(call.trailing_metadata())["syndicate-reason"] == reason, call  # type: ignore[attr-defined]
    details = call.details()  # type: ignore[attr-defined]  # gRPC raises calls
    assert all(word in details for word in says) and "\n" not in details, details


def assert_unharmed(cluster: Cluster) -> None:
    """The volunteer that was there first still runs jobs, in the session that it had."""
    log = (cluster.dir / "volunteer.log").read_text()
    assert "DUPLICATE" not in log, log
    job = cluster.run(EXAMPLES / "hello", machines=4)
    assert ended(job) == "succeeded" and {task.volunteer_id for task in job.tasks} == {"local"}
    assert_nothing_is_left(cluster)


def test_a_second_machine_under_one_id_is_refused(own_cluster: Cluster) -> None:
    """The manager knows it by its boot id, and tells it to take an id of its own."""
    assert_refused(own_cluster, hello_of("local"), "DUPLICATE_VOLUNTEER", "local", "id of its own")
    assert_unharmed(own_cluster)


def test_a_second_prefix_that_overlaps_is_refused(own_cluster: Cluster) -> None:
    """An operator's own prefix must not lie in another volunteer's."""
    with attached(own_cluster, hello_of("first", prefix="10.99.0.0/24")) as welcome:
        assert welcome.prefix == "10.99.0.0/24"
        second = hello_of("second", prefix="10.99.0.128/25")
        assert_refused(own_cluster, second, "DUPLICATE_ADDRESS", "10.99.0.128/25", "first")
    assert_unharmed(own_cluster)


def test_a_second_host_of_one_address_is_refused(own_cluster: Cluster) -> None:
    """With the host's network an address is a machine's own."""
    slots = [registry.Slot(slot=0, fixed_address="10.98.0.7")]
    with attached(own_cluster, hello_of("first", network=HOST, slots=slots)) as welcome:
        assert welcome.session
        second = hello_of("second", network=HOST, slots=slots)
        assert_refused(own_cluster, second, "DUPLICATE_ADDRESS", "10.98.0.7", "first")
        names = {node.volunteer_id: node for node in own_cluster.users.nodes()}
        assert sorted(names) == ["first", "local"]
    assert_unharmed(own_cluster)
