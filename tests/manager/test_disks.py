"""Disks that are kept when a job ends: taken from who holds the slot, shown to who sees the task's output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.manager.core.errors import Exhausted
from syndicate.manager.disks import DiskBounds, DiskStore, Kept
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc as scheduler_grpc

from tests.manager.conftest import Running, Start
from tests.manager.people import join, new_id
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, reason, tarball, upload

HEADER = registry.PutDiskHeader


class Releasing(ScriptedVolunteer):
    """A volunteer that answers a Release when the test says so."""

    def _obey(self, command: registry.Command) -> None:
        if not command.HasField("release"):
            super()._obey(command)

    def release_all(self) -> None:
        """Answer each of them."""
        for command in self.commands("release"):
            self.answer(command)

    async def asked(self, tasks: int = 1) -> list[registry.Command]:
        """The Releases, once so many came."""
        await self.until(lambda: len(self.commands("release")) >= tasks)
        return self.commands("release")

    def kept_by(self, name: str) -> common.TaskRef:
        """The task that a Release is about."""
        return next(command.task for command in self.commands("release") if command.task.task == name)

    async def put(
        self, *parts: registry.PutDiskRequest | bytes, session: str | None = None
    ) -> registry.PutDiskResponse:
        """Hand a disk over, in these parts."""
        messages = [
            registry.PutDiskRequest(chunk=part) if isinstance(part, bytes) else part for part in parts
        ]
        said = (*bearer(self.token), ("syndicate-session", session or self.welcome.session))
        async with self._channel() as channel:
            stub = registry_grpc.RegistryStub(channel)
            return await stub.PutDisk(_each(messages), metadata=said, timeout=WAIT_S)


async def _each(messages: list[registry.PutDiskRequest]) -> AsyncIterator[registry.PutDiskRequest]:
    for message in messages:
        yield message


def header(task: common.TaskRef, missing: str = "") -> registry.PutDiskRequest:
    return registry.PutDiskRequest(header=HEADER(task=task, missing=missing))


@asynccontextmanager
async def stopping(
    manager: Running, machines: int = 1, **spec: object
) -> AsyncIterator[tuple[int, Releasing]]:
    """A job whose tasks have ended and whose slots are being given back."""
    volunteer = Releasing(manager.volunteer_token, manager.volunteers, exit_at_start=True)
    async with volunteer.attached():
        job_id = await manager.submit(machines=machines, **{"no_client": True, "keep_disks": True, **spec})
        await volunteer.asked(machines)
        yield job_id, volunteer


async def disks(
    stub: scheduler_grpc.SchedulerStub, token: str, job_id: int, *tasks: str
) -> dict[str, tuple[bytes, int, str]]:
    """What ReadDisks tells of each task: bytes, size, and why there is none."""
    found: dict[str, tuple[bytes, int, str]] = {}
    request = scheduler.ReadDisksRequest(job_id=job_id, tasks=tasks)
    async for answer in stub.ReadDisks(request, metadata=bearer(token), timeout=WAIT_S):
        data, size, missing = found.get(answer.task, (b"", answer.size, answer.missing))
        found[answer.task] = (data + answer.data, size, missing)
    return found


async def test_a_disk_that_is_handed_over_is_read_back(manager: Running) -> None:
    """Byte for byte, by the owner, once the job has ended."""
    async with stopping(manager) as (job_id, volunteer):
        commands = await volunteer.asked()
        await volunteer.put(header(volunteer.kept_by("master")), b"x" * 500_000, b"yz", b"")
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        found = await disks(manager.scheduler, manager.token, job_id)

    assert [command.release.keep_disk for command in commands] == [True]
    assert found == {"master": (b"x" * 500_000 + b"yz", 500_002, "")}
    assert (await manager.job(job_id)).spec.keep_disks


async def test_a_job_that_does_not_ask_keeps_none(manager: Running) -> None:
    """Its Releases do not ask for disks, a disk that comes is refused, and the reader is told how."""
    async with stopping(manager, keep_disks=False) as (job_id, volunteer):
        commands = await volunteer.asked()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await volunteer.put(header(volunteer.kept_by("master")), b"x", b"")
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        with pytest.raises(grpc.aio.AioRpcError) as none:
            await disks(manager.scheduler, manager.token, job_id)

    assert [command.release.keep_disk for command in commands] == [False]
    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_SUCH_TASK")
    assert (none.value.code(), reason(none)) == (grpc.StatusCode.NOT_FOUND, "NO_DISKS")
    assert "--keep-disks" in (none.value.details() or "")


async def test_why_there_is_none_is_told(manager: Running) -> None:
    """By the volunteer's own word; of one that said nothing, that it said nothing."""
    async with stopping(manager, machines=2) as (job_id, volunteer):
        await volunteer.put(header(volunteer.kept_by("master"), "packing it took longer than 20 s"))
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        found = await disks(manager.scheduler, manager.token, job_id)

    assert found["master"] == (b"", 0, "packing it took longer than 20 s")
    assert found["slave-0"] == (b"", 0, "its volunteer did not hand it over before the job ended")


async def test_a_disk_that_breaks_off_is_none(manager: Running) -> None:
    """Without its last, empty chunk nothing of it is kept, and it may come again."""
    async with stopping(manager) as (job_id, volunteer):
        task = volunteer.kept_by("master")
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            await volunteer.put(header(task), b"half")
        await volunteer.put(header(task), b"whole", b"")
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        found = await disks(manager.scheduler, manager.token, job_id)

    assert broken.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert found["master"][0] == b"whole"
    assert list((manager.state_dir / "disks" / "incoming").iterdir()) == []


async def test_only_who_gives_the_slot_back_hands_it_over(manager: Running) -> None:
    """Another volunteer is refused, so are a stream that nobody has, a task that runs, and one released."""
    async with stopping(manager) as (job_id, volunteer):
        task = volunteer.kept_by("master")
        other = Releasing(manager.volunteer_token, manager.volunteers, "node-b", first_address=40)
        async with other.attached():
            with pytest.raises(grpc.aio.AioRpcError) as stranger:
                await other.put(header(task), b"x", b"")
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await volunteer.put(header(task), b"x", b"", session="0" * 32)
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await volunteer.put(header(task), b"x", b"")
        volunteer.exit_at_start = False
        running = await manager.submit(no_client=True, keep_disks=True)
        await manager.reaches(running, common.JOB_STATE_RUNNING)
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await volunteer.put(header(volunteer.task("master")), b"x", b"")

    assert reason(stranger) == reason(late) == reason(early) == "NO_SUCH_TASK"
    assert reason(unknown) == "MANAGER_AWAY"


@pytest.mark.parametrize(
    "parts",
    [
        (b"x", b""),
        (header(common.TaskRef()), header(common.TaskRef())),
        (registry.PutDiskRequest(),),
        (),
    ],
)
async def test_what_is_no_disk_is_refused(
    manager: Running, parts: tuple[registry.PutDiskRequest | bytes, ...]
) -> None:
    """Each as an error that the volunteer understands."""
    async with stopping(manager) as (_, volunteer):
        with pytest.raises(grpc.aio.AioRpcError) as bad:
            await volunteer.put(*parts)

    assert bad.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


async def test_larger_than_the_bound_is_refused(start: Start) -> None:
    """At the first byte too many; nothing of it stays."""
    async with start(disk_bytes=1000) as manager, stopping(manager) as (_, volunteer):
        with pytest.raises(grpc.aio.AioRpcError) as large:
            await volunteer.put(header(volunteer.kept_by("master")), b"x" * 600, b"x" * 600, b"")

        assert (large.value.code(), reason(large)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "DISK_TOO_LARGE",
        )
        assert list((manager.state_dir / "disks" / "incoming").iterdir()) == []


async def test_students_see_the_disks_of_clients_when_the_job_is_published(manager: Running) -> None:
    """As they see their output: not before, by name refused; staff see all, strangers no job."""
    owner, other = await join(manager, "alice"), await join(manager, "carol")
    source = await upload(manager.scheduler, tarball(Makefile="client:\nmaster:\n"), manager.token)
    volunteer = Releasing(manager.volunteer_token, manager.volunteers)
    async with volunteer.attached():
        job_id = await owner.submit(source.sha256, client_sha256=source.sha256, keep_disks=True)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        volunteer.exit(volunteer.task("client-0"))
        await volunteer.asked(2)
        for name in ("master", "client-0"):
            await volunteer.put(header(volunteer.kept_by(name)), name.encode(), b"")
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_UNKNOWN)
    before = await disks(owner.stub, owner.token, job_id)
    by_staff = await disks(manager.scheduler, manager.token, job_id)
    with pytest.raises(grpc.aio.AioRpcError) as hidden:
        await disks(owner.stub, owner.token, job_id, "client-0")
    with pytest.raises(grpc.aio.AioRpcError) as stranger:
        await disks(other.stub, other.token, job_id)
    request = scheduler.PublishJobRequest(
        request_id="7b0c9ae6-8f4a-4a3f-9f43-0c3d8fcf9f11", job_id=job_id, published=True
    )
    await manager.scheduler.PublishJob(request, **manager.credentials)
    after = await disks(owner.stub, owner.token, job_id)

    assert set(before) == {"master"}
    assert set(by_staff) == set(after) == {"master", "client-0"}
    assert reason(hidden) == "NOT_PUBLISHED"
    assert reason(stranger) == "NO_SUCH_JOB"


async def test_what_is_published_gives_nobody_a_source(start: Start, tmp_path: Path) -> None:
    """It lies on the disks: strangers have none of them, and students none of the client that grades."""
    path = tmp_path / "client.tgz"
    path.write_bytes(tarball(Makefile="client:\n\ttrue\n"))
    async with start(client=path, publish_client_logs=True) as manager:
        owner, other = await join(manager, "alice"), await join(manager, "carol")
        source = await upload(manager.scheduler, tarball(Makefile="master:\n"), manager.token)
        volunteer = Releasing(manager.volunteer_token, manager.volunteers)
        async with volunteer.attached():
            job_id = await owner.submit(source.sha256, keep_disks=True)
            await manager.reaches(job_id, common.JOB_STATE_RUNNING)
            volunteer.exit(volunteer.task("client-0"))
            await volunteer.asked(2)
            for name in ("master", "client-0"):
                await volunteer.put(header(volunteer.kept_by(name)), name.encode(), b"")
            volunteer.release_all()
            await manager.reaches(job_id, common.JOB_STATE_UNKNOWN)
        request = scheduler.PublishJobRequest(request_id=new_id(), job_id=job_id, published=True)
        await manager.scheduler.PublishJob(request, **manager.credentials)
        owners = await disks(owner.stub, owner.token, job_id)
        staffs = await disks(manager.scheduler, manager.token, job_id)
        with pytest.raises(grpc.aio.AioRpcError) as graders:
            await disks(owner.stub, owner.token, job_id, "client-0")
        with pytest.raises(grpc.aio.AioRpcError) as strangers:
            await disks(other.stub, other.token, job_id)

    assert (set(owners), set(staffs)) == ({"master"}, {"master", "client-0"})
    assert reason(graders) == reason(strangers) == "ROLE_TOO_LOW"


async def test_one_volunteer_does_not_keep_the_others_disks_from_coming(manager: Running) -> None:
    """However many it begins, with a header and without, and never ends."""
    one: dict[str, Any] = {"slots": 1, "exit_at_start": True}
    honest = Releasing(manager.volunteer_token, manager.volunteers, **one)
    silent = Releasing(manager.volunteer_token, manager.volunteers, "node-b", first_address=20, **one)
    begun = []
    async with honest.attached(), silent.attached():
        await manager.submit(machines=2, no_client=True, keep_disks=True)
        await honest.asked()
        await silent.asked()
        (mine,) = (command.task for command in honest.commands("release"))
        (theirs,) = (command.task for command in silent.commands("release"))
        async with silent._channel() as channel:
            stub = registry_grpc.RegistryStub(channel)
            said = (*bearer(silent.token), ("syndicate-session", silent.welcome.session))
            for number in range(80):
                call = stub.PutDisk(metadata=said)
                begun.append(call)
                if number % 2:
                    await call.write(header(theirs))
            await begun[1].initial_metadata()
            async with asyncio.timeout(20):  # less than the 30 s that one who says nothing is waited for
                await honest.put(header(mine), b"whole", b"")
            for call in begun:
                call.cancel()
        honest.release_all()
        silent.release_all()


async def test_too_many_tasks_are_refused_by_the_fields_name(manager: Running) -> None:
    """A job whose disks would all be packed at once has a bound."""
    with pytest.raises(grpc.aio.AioRpcError) as many:
        await manager.submit(machines=65, no_client=True, keep_disks=True)

    assert many.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (many.value.details() or "") == "keep_disks is for jobs of at most 64 tasks: this one has 65 tasks"


async def test_before_the_job_has_ended_there_are_none(manager: Running) -> None:
    """The reader is told when there will be."""
    async with stopping(manager) as (job_id, _):
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await disks(manager.scheduler, manager.token, job_id)

    assert reason(early) == "NO_DISKS"
    assert "kept when it ends" in (early.value.details() or "")


async def test_disks_outlive_the_manager(start: Start) -> None:
    """What was kept is there after a restart; what was under way is not."""
    async with start() as manager, stopping(manager) as (job_id, volunteer):
        await volunteer.put(header(volunteer.kept_by("master")), b"kept", b"")
        volunteer.release_all()
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        (manager.state_dir / "disks" / "incoming" / "left").write_bytes(b"half")
    async with start() as manager:
        found = await disks(manager.scheduler, manager.token, job_id)
        left = await asyncio.to_thread(lambda: list((manager.state_dir / "disks" / "incoming").iterdir()))

    assert found["master"][0] == b"kept"
    assert left == []


# ---- the store ------------------------------------------------------------------------------------------


def kept(store: DiskStore, job_id: int, task: str, size: int, owner: str = "alice") -> None:
    """A disk of so many bytes."""
    upload = store.begin(job_id, task, owner)
    try:
        upload.add(b"x" * size)
        upload.finish()
    finally:
        upload.abandon()


def test_disks_of_one_job_have_a_bound_together(tmp_path: Path) -> None:
    """What it has and what arrives counts; what was given up does not."""
    store = DiskStore(tmp_path, DiskBounds(100, 150, 1000))
    kept(store, 1, "master", 90)
    with pytest.raises(Exhausted, match="of the disks of a job"):
        kept(store, 1, "slave-0", 61)
    kept(store, 1, "slave-0", 60)

    assert store.total == 150
    assert store.look(1, "slave-0") == Kept(60)


def test_a_disk_that_was_taken_counts_once(tmp_path: Path) -> None:
    """From the moment at which it is kept, also before its upload is let go."""
    store = DiskStore(tmp_path / "disks", DiskBounds(100, 20, 1000))
    one, other = store.begin(1, "master", "alice"), store.begin(1, "slave-0", "alice")
    one.add(b"x" * 10)
    one.finish()

    other.add(b"x" * 10)
    other.finish()
    one.abandon()
    other.abandon()

    assert store.total == 20
    with pytest.raises(Exhausted):
        store.begin(1, "slave-1", "alice").add(b"x")


def test_the_oldest_jobs_make_room_and_say_so(tmp_path: Path) -> None:
    """Beyond the bound of all the disks of old jobs go; a new one never makes room for an older one."""
    store = DiskStore(tmp_path, DiskBounds(100, 150, 200))
    kept(store, 1, "master", 100)
    kept(store, 2, "master", 100)
    kept(store, 3, "master", 50)

    assert store.look(1, "master") == Kept(missing="it was removed: the disks of newer jobs needed the room")
    assert (store.look(2, "master"), store.look(3, "master")) == (Kept(100), Kept(50))
    with pytest.raises(Exhausted, match="of all disks"):
        kept(store, 1, "slave-0", 100)


def holds(store: DiskStore, jobs: int) -> list[int]:
    """The jobs whose disks are there."""
    told = ((job_id, store.look(job_id, "master")) for job_id in range(1, jobs + 1))
    return [job_id for job_id, one in told if one is not None and not one.missing]


def test_who_has_most_makes_room(tmp_path: Path) -> None:
    """However many jobs one owner has, the older disks of who has less stay; also over a restart."""
    bounds = DiskBounds(100, 100, 400)
    store = DiskStore(tmp_path, bounds)
    kept(store, 1, "master", 100, "bob")
    for job_id in range(2, 9):
        kept(store, job_id, "master", 100, "alice")
    before = holds(store, 8)
    store = DiskStore(tmp_path, bounds)
    for job_id in range(9, 18):
        kept(store, job_id, "master", 100, "alice")
    assert (before, holds(store, 17)) == ([1, 6, 7, 8], [1, 15, 16, 17])

    kept(store, 18, "master", 100, "carol")
    kept(store, 19, "master", 100, "bob")
    assert holds(store, 19) == [16, 17, 18, 19]  # bob had as much as alice: his own go first


def test_what_was_kept_counts_after_a_restart(tmp_path: Path) -> None:
    """The bounds hold over restarts, and a removed job gives its room back."""
    kept(DiskStore(tmp_path, DiskBounds(100, 150, 200)), 1, "master", 100)
    store = DiskStore(tmp_path, DiskBounds(100, 150, 200))
    before = store.total
    store.remove_job(1)

    assert (before, store.total) == (100, 0)
    assert store.look(1, "master") is None


def test_a_disk_that_came_is_not_missing(tmp_path: Path) -> None:
    """Whichever is told first."""
    store = DiskStore(tmp_path, DiskBounds())
    store.miss(1, "master", "too slow\nfor a line")
    told = store.look(1, "master")
    kept(store, 1, "master", 10)
    store.miss(1, "master", "late")

    assert told == Kept(missing="too slow?for a line")
    assert store.look(1, "master") == Kept(10)


@pytest.mark.parametrize("task", ["../1", "", "a/b", "."])
def test_no_name_leads_elsewhere(tmp_path: Path, task: str) -> None:
    """A name that no task has is refused before it becomes a path."""
    store = DiskStore(tmp_path, DiskBounds())
    with pytest.raises(ValueError, match="no name of a task"):
        store.begin(1, task, "alice")
