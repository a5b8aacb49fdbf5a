"""Parts that crash around a fault, held where they are by SIGSTOP: afterwards all is as the ledger says.

Between intent and effect: the line is written, nothing was done. Between effect and answer: the task stands
still, and nobody was told. Each wait is for what the kernel or the ledger shows.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from pyroute2 import DiagSocket
from pyroute2.netlink.diag import UDIAG_SHOW_NAME, UDIAG_SHOW_RQLEN
from syndicate.client_api import Applied, AttemptEnded, Chaos, Fault, FaultFailed, FaultKind
from syndicate.volunteer import frames, local
from syndicate.volunteer.keeper.cgroups import find_mount

from tests.support.cluster import Cluster, ended, eventually
from tests.system.conftest import assert_nothing_is_left, end_what_runs

pytestmark = pytest.mark.system

LEASE_S = 2.0
ENDS_LATE_S = 30.0
"""A lease may end so much later where the part that ends it was being started."""
Call = Callable[[Chaos, str], Applied]


@pytest.fixture(scope="module")
def broken_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two slots, whose daemons the tests of this module kill."""
    folder = tmp_path_factory.mktemp("crash")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    with Cluster(folder, 2) as cluster:
        yield cluster


@pytest.fixture
def place(broken_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster; nothing is left after the test, and all daemons go on."""
    yield broken_cluster
    for daemon in broken_cluster.daemons.values():
        daemon.resume()
    end_what_runs(broken_cluster)
    assert_nothing_is_left(broken_cluster)


@pytest.fixture
def job(place: Cluster) -> int:
    """A job of two whose members do nothing."""
    job_id = place.submit("idle", machines=2)
    place.until_running(job_id)
    return job_id


class Asked:
    """A call about the slave, under way in a thread."""

    def __init__(self, cluster: Cluster, job: int, call: Call) -> None:
        self._cluster, self._job = cluster, job
        self._before = len(cluster.users.job(job).faults)
        self._pool = ThreadPoolExecutor(1)
        self._answer: Future[Applied] = self._pool.submit(self._ask, call)

    def _ask(self, call: Call) -> Applied:
        with self._cluster.users.chaos(self._job, 120.0) as chaos:
            return call(chaos, address(chaos))

    def until_intended(self) -> None:
        """Waits for its line in the ledger, which is not applied."""
        eventually("its intent", lambda: len(self._cluster.users.job(self._job).faults) > self._before)
        assert not self._cluster.users.job(self._job).faults[-1].HasField("applied_at")

    def answer(self) -> Applied:
        """What it was told in the end; raises what it raised."""
        try:
            return self._answer.result(120)
        finally:
            self._pool.shutdown()


def address(chaos: Chaos) -> str:
    """The slave's."""
    return next(member.address for member in chaos.members() if member.task == "slave-0")


def pause(chaos: Chaos, ip: str) -> Applied:
    """Freezes the slave."""
    return chaos.pause(ip)


def heal(chaos: Chaos, ip: str) -> Applied:
    """Takes everything back."""
    return chaos.heal()


def stands_still(cluster: Cluster) -> bool:
    """Whether a task of the cluster is frozen, as the kernel says."""
    mount = find_mount()
    assert mount is not None
    events = Path(mount, cluster.cgroup_name).glob("slot-*/*/cgroup.events")
    return any("frozen 1" in text_of(file) for file in events)


def text_of(file: Path) -> str:
    """Nothing of a cgroup that is removed meanwhile."""
    try:
        return file.read_text()
    except OSError:
        return ""


def unread_by_keeper(cluster: Cluster) -> int:
    """How many bytes are on their way to the keeper."""
    name = f"{cluster.run_dir}/keeper.sock"
    with DiagSocket() as diag:
        diag.bind()
        found = diag.get_sock_stats(family=socket.AF_UNIX, show=UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN)
        return sum(
            one.get_attr("UNIX_DIAG_RQLEN")["udiag_rqueue"]
            for one in found
            if one["udiag_state"] == 1 and one.get_attr("UNIX_DIAG_NAME") == name
        )


def ledger(cluster: Cluster, job: int) -> tuple[Fault, ...]:
    """The lines of a job."""
    with cluster.users.chaos(job) as chaos:
        return chaos.faults()


def order_at_keeper(cluster: Cluster) -> Callable[[], bool]:
    """Whether an order has come to the keeper, which stands still, since this was called.

    What else comes is a renewal of its lease now and then, which is smaller.
    """
    number = 1 << 32
    renewal = local.Renew(cluster.users.cluster().cluster_id, (1 << 63) - 1)
    most = len(frames.encode(local.RequestFrame(number, renewal)))
    seen = unread_by_keeper(cluster)

    def has_come() -> bool:
        nonlocal seen
        before, seen = seen, unread_by_keeper(cluster)
        return seen - before > most

    return has_come


def until_keeper_did_it(cluster: Cluster, job: int, call: Call, holding: str, frozen: bool) -> Asked:
    """Lets the keeper, which stands still, do what is asked of it while another part is held."""
    has_come = order_at_keeper(cluster)
    asked = Asked(cluster, job, call)
    asked.until_intended()
    eventually("the order at the keeper", has_come)
    cluster.daemons[holding].pause()
    cluster.daemons["keeper"].resume()
    eventually("its effect", lambda: stands_still(cluster) is frozen)
    return asked


def crash(cluster: Cluster, part: str) -> None:
    """Kills a daemon, whether it is stopped or not, and starts it again."""
    cluster.daemons[part].kill()
    cluster.daemons[part].restart()


CALLS = [pytest.param(pause, True, id="pause"), pytest.param(heal, False, id="heal")]


def begun(cluster: Cluster, job: int, frozen: bool) -> None:
    """What a call is about: a heal needs something to take back."""
    if not frozen:
        with cluster.users.chaos(job) as chaos:
            chaos.pause(address(chaos))


def assert_done_once(cluster: Cluster, job: int, told: Applied, frozen: bool) -> None:
    """The caller was told, the ledger says it once, and the kernel agrees; what is left can be healed."""
    lines = ledger(cluster, job)
    assert told.applied_at is not None and not told.already
    assert [line.kind for line in lines] == (
        [FaultKind.PAUSE] if frozen else [FaultKind.PAUSE, FaultKind.HEAL]
    )
    assert all(line.applied_at is not None and not line.error for line in lines), lines
    assert [line.in_force for line in lines] == ([True] if frozen else [False, False])
    assert stands_still(cluster) is frozen
    with cluster.users.chaos(job) as chaos:
        assert [member.paused for member in chaos.members()] == [False, frozen]
        chaos.heal()
    assert not stands_still(cluster)
    assert cluster.users.job(job).attempt == 1


@pytest.mark.parametrize(("call", "frozen"), CALLS)
@pytest.mark.parametrize("part", ["volunteer", "manager"])
def test_a_part_killed_between_intent_and_effect_does_it_once(
    place: Cluster, job: int, part: str, call: Call, frozen: bool
) -> None:
    """The volunteer never got the order; after the crash it gets it, and the caller its answer."""
    begun(place, job, frozen)
    place.daemons["volunteer"].pause()
    asked = Asked(place, job, call)
    asked.until_intended()
    place.daemons[part].kill()
    assert stands_still(place) is not frozen  # looked at while there is nobody to do it
    place.daemons[part].restart()
    place.daemons["volunteer"].resume()
    assert_done_once(place, job, asked.answer(), frozen)


@pytest.mark.parametrize(("call", "frozen"), CALLS)
@pytest.mark.parametrize("part", ["volunteer", "manager"])
def test_a_part_killed_between_effect_and_answer_does_it_once(
    place: Cluster, job: int, part: str, call: Call, frozen: bool
) -> None:
    """The keeper did it and told nobody who lives; what it did is found, not done again."""
    begun(place, job, frozen)
    place.daemons["keeper"].pause()
    asked = until_keeper_did_it(place, job, call, part, frozen)
    crash(place, part)
    assert_done_once(place, job, asked.answer(), frozen)


@pytest.mark.parametrize("effect", [False, True], ids=["before the effect", "after the effect"])
def test_a_keeper_killed_around_a_fault_takes_it_with_the_tasks(
    place: Cluster, job: int, effect: bool
) -> None:
    """The job starts again as its next attempt, with nothing in force, and the caller is told.

    An answer that the keeper wrote before it died is true: it held then. Where the next one comes late its
    volunteer has given the order up by then, and says so.
    """
    place.daemons["keeper"].pause()
    if effect:
        asked = until_keeper_did_it(place, job, pause, "volunteer", frozen=True)
    else:
        asked = Asked(place, job, pause)
        asked.until_intended()
    crash(place, "keeper")
    place.daemons["volunteer"].resume()
    failed: Exception | None = None
    try:
        asked.answer()
    except (AttemptEnded, FaultFailed) as error:
        failed = error
    assert failed is not None or effect, "it was answered, and could not have held"
    assert not isinstance(failed, FaultFailed) or "keeper" in str(failed)
    result = place.watch(job, lambda now: now.attempt == 2 and ended(now) == "running")
    assert not stands_still(place)
    assert not any(fault.in_force for fault in ledger(place, job)), result
    with place.users.chaos(job) as chaos:
        assert not any(member.paused for member in chaos.members())
        assert not chaos.pause(address(chaos)).already
        assert stands_still(place)


@pytest.mark.parametrize("part", ["manager", "volunteer"])
def test_a_lease_ends_by_itself_over_a_crash(place: Cluster, job: int, part: str) -> None:
    """The pause is kept as long as it was to last, and then taken back by nobody's call."""
    with place.users.chaos(job) as chaos:
        chaos.pause(address(chaos), lease=LEASE_S)
    crash(place, part)
    eventually("its end", lambda: not stands_still(place))
    (line,) = eventually(
        "the lease's line", lambda: [one for one in ledger(place, job) if one.healed_by == "lease"]
    )
    assert line.applied_at_manager is not None and line.healed_at_manager is not None
    held_s = (line.healed_at_manager.monotonic_ns - line.applied_at_manager.monotonic_ns) / 1e9
    assert LEASE_S - 0.05 <= held_s <= LEASE_S + ENDS_LATE_S, held_s


def test_a_job_that_ends_while_its_volunteer_is_away_leaves_nobody_down(place: Cluster, job: int) -> None:
    """What was in force is gone with the job, and the next one has whole slots."""
    with place.users.chaos(job) as chaos:
        chaos.pause(address(chaos))
        chaos.disk_full(address(chaos))
        chaos.disconnect(address(chaos))
    place.daemons["volunteer"].kill()
    place.users.cancel(job)
    place.daemons["volunteer"].restart()
    assert ended(place.wait(job)) == "cancelled"
    assert not stands_still(place)
    again = place.submit("idle", machines=2)
    place.until_running(again)
    with place.users.chaos(again) as chaos:
        assert not any(member.paused or member.disconnected for member in chaos.members())
