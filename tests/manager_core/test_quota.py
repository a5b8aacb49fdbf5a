"""Quotas of users and teams: what is refused at Submit, what waits, and what it is told to wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from manager_core.harness import SECOND
from manager_core.people import People, student
from syndicate.manager.core.errors import Exhausted
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import JobState, Quota, Stamp, UserRole

DAY = 86_400


def quota(**bounds: int) -> Quota:
    """Bounds where they are named, none elsewhere."""
    return Quota(**{**dict.fromkeys(Quota.__slots__, -1), **bounds})


def refused(reply: Any) -> tuple[str, dict[str, str]]:
    """Reason and metadata of a refusal."""
    assert isinstance(reply, Exhausted), repr(reply)
    return reply.reason, reply.metadata


def states(people: People) -> dict[int, JobState]:
    """The state of each job."""
    return {view.job.job_id: view.job.state for view in reversed(people.cluster.jobs())}


@pytest.fixture
def people() -> People:
    """Four slots; `alice` and `bob` in team `red`, `carol` alone; nobody has a bound."""
    people = People(slots=4)
    people.put(*(student(n, "red", quota()) for n in ("alice", "bob")), student("carol", quota=quota()))
    people.team("red", quota())
    return people


def test_so_many_jobs_wait(people: People) -> None:
    """The next one is refused and nothing is queued; when one has started there is room again."""
    people.put(student("carol", quota=quota(queued_jobs=2)))
    first = [people.cluster.submit(4, owner="carol") for _ in range(3)]  # one has its slots, two wait
    people.cluster.deliver()
    reason, metadata = refused(people.cluster.try_submit(1, owner="carol"))
    assert (reason, metadata) == ("QUOTA_QUEUED", {"most": "2"})
    for task in ("master", "slave-0", "slave-1", "slave-2"):
        people.cluster.exit(task, job_id=first[0])
    assert people.cluster.submit(1, owner="carol")


def test_a_team_waits_together(people: People) -> None:
    """What one of it has queued another cannot queue as well; whoever is not in it can."""
    people.team("red", quota(queued_jobs=1))
    people.cluster.submit(4, owner="carol")
    people.cluster.submit(1, owner="alice")
    assert refused(people.cluster.try_submit(1, owner="bob"))[0] == "QUOTA_QUEUED"
    assert people.cluster.submit(1, owner="carol")


def test_a_job_alone_is_too_large(people: People) -> None:
    """More slots than the quota has: no wait helps, so it is refused; clients count."""
    people.put(student("carol", quota=quota(machines=2)))
    assert refused(people.cluster.try_submit(3, owner="carol")) == ("QUOTA_MACHINES", {"most": "2"})
    assert refused(people.cluster.try_submit(2, 1, owner="carol"))[0] == "QUOTA_MACHINES"
    assert people.cluster.submit(2, owner="carol")


def test_submissions_a_day_come_back_evenly(people: People) -> None:
    """All at once, then one each so many hours; the answer says when."""
    people.put(student("carol", quota=quota(submissions_per_day=4)))
    for _ in range(4):
        people.cluster.submit(1, owner="carol")
    reason, metadata = refused(people.cluster.try_submit(1, owner="carol"))
    assert (reason, metadata["most"]) == ("QUOTA_SUBMISSIONS", "4")
    assert float(metadata["retry_after_s"]) == pytest.approx(DAY / 4, rel=0.01)
    people.cluster.ns += int(DAY / 4 * SECOND)
    assert people.cluster.submit(1, owner="carol")
    assert refused(people.cluster.try_submit(1, owner="carol"))[0] == "QUOTA_SUBMISSIONS"


def test_a_repeat_costs_no_submission(people: People) -> None:
    """It gets the first answer, also where the bucket is empty."""
    people.put(student("carol", quota=quota(submissions_per_day=1)))
    first = people.cluster.submit(1, owner="carol", request_id="same")
    assert people.cluster.submit(1, owner="carol", request_id="same") == first


def test_what_is_refused_costs_no_submission(people: People) -> None:
    """A job that is too large for the cluster can be mended and sent again."""
    people.put(student("carol", quota=quota(submissions_per_day=1)))
    assert not isinstance(people.cluster.try_submit(40, owner="carol"), Exhausted)
    assert people.cluster.submit(1, owner="carol")


def test_a_restart_gives_no_new_day(people: People) -> None:
    """What was submitted lately counts on."""
    people.put(student("carol", quota=quota(submissions_per_day=2)))
    for _ in range(2):
        people.cluster.submit(1, owner="carol")
    people.cluster.restart()
    assert refused(people.cluster.try_submit(1, owner="carol"))[0] == "QUOTA_SUBMISSIONS"


def test_a_reboot_of_the_host_gives_back_what_has_come_back(people: People) -> None:
    """What was submitted before the host's clock began again counts by the calendar: not as of the reboot."""
    people.put(student("carol", quota=quota(submissions_per_day=2)))
    for _ in range(2):
        people.cluster.submit(1, owner="carol")
    cluster, half = people.cluster, DAY * SECOND // 2
    for waited_ns, left in ((0, 0.0), (half, 1.0), (3 * half, 2.0)):
        now = Stamp("next-boot", SECOND, cluster.now.utc_ns + waited_ns)
        config = replace(cluster.config, boot_id="next-boot")
        machine = Machine.restore(config, list(cluster.store.values()), now)
        [(_, used)] = machine.parties("carol", "", now)
        assert used.submissions_left == pytest.approx(left, abs=0.01)


def test_a_job_too_many_waits_and_others_pass(people: People) -> None:
    """With slots free it stays in the queue, is told why and until when, and starts when the first ended."""
    people.put(student("carol", quota=quota(running_jobs=1)))
    first, second, third = (people.cluster.submit(1, owner=owner) for owner in ("carol", "carol", "alice"))
    people.cluster.deliver()
    assert states(people) == {first: JobState.RUNNING, second: JobState.QUEUED, third: JobState.RUNNING}
    told = people.cluster.waits_for(second)
    assert told == f"carol has 1 of 1 running job (job {first} ends in at most 10 min)"
    people.cluster.exit("master", job_id=first)
    assert states(people)[second] is JobState.RUNNING


def test_slots_at_once_hold_up_too(people: People) -> None:
    """Two jobs of two slots do not both fit into three."""
    people.put(student("carol", quota=quota(machines=3)))
    first, second, third = (people.cluster.submit(n, owner="carol") for n in (2, 2, 1))
    people.cluster.deliver()
    assert states(people)[first] is JobState.RUNNING
    assert states(people)[second] is JobState.QUEUED
    assert "carol has 2 of 3 slots at once" in people.cluster.waits_for(second)
    people.cluster.exit("master", job_id=first)
    people.cluster.exit("slave-0", job_id=first)
    assert states(people)[second] is JobState.RUNNING
    assert third in states(people)


def test_a_team_runs_together(people: People) -> None:
    """The team's bound holds beside the users' own, and the text names the team."""
    people.team("red", quota(running_jobs=1))
    first, second = people.cluster.submit(1, owner="alice"), people.cluster.submit(1, owner="bob")
    people.cluster.deliver()
    assert states(people) == {first: JobState.RUNNING, second: JobState.QUEUED}
    assert people.cluster.waits_for(second).startswith("team red has 1 of 1 running job")


def test_whose_end_gives_a_quota_back_is_told_to_those_who_see_that_job(people: People) -> None:
    """Who has left the team keeps his jobs, which wait for its, and sees these no more."""
    people.team("red", quota(running_jobs=1))
    first, second = people.cluster.submit(1, owner="alice"), people.cluster.submit(1, owner="bob")
    people.cluster.deliver()
    wait = people.cluster.job(second).waits_for
    said = "team red has 1 of 1 running job"
    assert wait.told(lambda job: job.job_id == first) == f"{said} (job {first} ends in at most 10 min)"
    assert wait.told(lambda _: False) == f"{said} (another user's job ends in at most 10 min)"


def test_a_larger_quota_lets_it_in_at_once(people: People) -> None:
    """Nobody waits for an event that does not come."""
    people.put(student("carol", quota=quota(running_jobs=1)))
    people.cluster.submit(1, owner="carol")
    second = people.cluster.submit(1, owner="carol")
    people.cluster.deliver()
    people.put(student("carol", quota=quota(running_jobs=2)))
    people.cluster.deliver()
    assert states(people)[second] is JobState.RUNNING


def test_who_is_held_up_holds_up_nobody(people: People) -> None:
    """A large job that a quota holds up is promised no slots: others are not kept from theirs for it."""
    people.put(student("carol", quota=quota(running_jobs=1)))
    people.cluster.submit(1, owner="carol")
    people.cluster.deliver()
    held = people.cluster.submit(4, owner="carol")
    people.cluster.deliver()
    passing = [people.cluster.submit(1, owner="alice", time_limit_s=5000.0) for _ in range(3)]
    people.cluster.deliver()
    assert states(people)[held] is JobState.QUEUED
    assert [states(people)[job] for job in passing] == [JobState.RUNNING] * 3


def test_defaults_are_the_roles(people: People) -> None:
    """0 means the manager's: bounded for students, none for staff and admins."""
    people.put(student("s"), student("t", role=UserRole.STAFF))
    [(s, left)] = people.cluster.machine.parties("s", "", people.cluster.now)
    [(t, _)] = people.cluster.machine.parties("t", "", people.cluster.now)
    assert (s.quota.queued_jobs, s.quota.submissions_per_day, s.quota.machines) == (20, 500, -1)
    assert t.quota == quota()
    assert left.submissions_left == 500.0


def test_who_is_no_user_has_no_bounds(people: People) -> None:
    """An admin submits in a name that nobody has."""
    for _ in range(30):
        people.cluster.submit(1, owner="somebody")
    assert people.cluster.machine.parties("somebody", "", people.cluster.now) == []


def test_a_job_keeps_the_team_that_it_was_submitted_in(people: People) -> None:
    """Who changes teams does not take old jobs along."""
    job_id = people.cluster.submit(1, owner="alice")
    people.put(student("alice", "blue", quota()))
    assert people.cluster.job(job_id).job.team == "red"
    assert people.cluster.job(people.cluster.submit(1, owner="alice")).job.team == "blue"
