"""A volunteer whose manager DNS tells, whose name server is away, errs, or has changed its mind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from syndicate.volunteer.app import App
from syndicate.volunteer.finding import Asking, serve
from syndicate.volunteer.settled import BadSettings
from syndicate.volunteer.whereabouts import NoAnswer
from volunteer.fakes import DEADLINE, Bench, bench, eventually


class Names:
    """A name server: gives these answers, and then the last one again; None is silence."""

    def __init__(self, *answers: tuple[str, ...] | None) -> None:
        self.asked = 0
        self.answers = answers

    def ask(self) -> tuple[str, ...]:
        """As `from_dns` does."""
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if answer is None:
            raise NoAnswer("as told")
        return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bench]:
    """Keeper and manager stand; the volunteer does not run yet."""
    async with bench(tmp_path) as made:
        yield made


@pytest.fixture
def nowhere() -> str:
    """An address that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def found(
    world: Bench, names: Names, waits: Callable[[], object] = bool
) -> AsyncIterator[asyncio.Task[None]]:
    """A volunteer that runs where this name server sends it; stopped afterwards as by SIGTERM."""
    stop = asyncio.Event()
    asking = Asking(names.ask, pause_s=0.02, again_s=0.1)
    settings = replace(world.settings(), manager=())
    running = asyncio.create_task(
        serve(settings, stop, lambda there: App(there, world.ready.append), waits, asking)
    )
    try:
        yield running
    finally:
        stop.set()
        async with asyncio.timeout(DEADLINE):
            await running


async def test_silence_is_waited_out(world: Bench) -> None:
    """A machine may boot before its network is there: it says so once, and is no failed service."""
    waits: list[str] = []
    names = Names(None, None, None, (world.manager.target,))
    with structlog.testing.capture_logs() as told:
        async with found(world, names, lambda: waits.append("waits")):
            await world.manager.attached()

    assert waits == ["waits"]
    assert [line["event"] for line in told if line["event"].startswith("manager.")] == [
        "manager.unknown",
        "manager.found",
    ]


async def test_a_name_server_that_knows_no_manager(world: Bench) -> None:
    """Somebody forgot to say where it is: told as any wrong setting is."""
    with pytest.raises(BadSettings, match=r"file.*SYNDICATE_VOLUNTEER_MANAGER.*syndicate\.manager=.*DNS"):
        async with found(world, Names(())) as running:
            await asyncio.wait({running}, timeout=DEADLINE)


async def test_an_answer_that_leads_nowhere_is_not_believed_for_good(world: Bench, nowhere: str) -> None:
    """An old one or a stranger's: the volunteer is at its manager once DNS names it."""
    names = Names((nowhere,), (nowhere,), None, (), (world.manager.target,))
    async with found(world, names):
        await world.manager.attached()
    assert names.asked >= 5  # once more for each tenth of a second that it takes to attach


async def test_a_manager_that_is_there_is_not_left(world: Bench, nowhere: str) -> None:
    """What DNS says meanwhile is not even asked."""
    names = Names((world.manager.target,))
    async with found(world, names):
        await world.manager.attached()
        await asyncio.sleep(0.2)  # in which what it had begun to ask before is answered
        asked, names.answers = names.asked, ((nowhere,),)
        await asyncio.sleep(0.5)  # several times the pause after which it would ask
        assert (names.asked, len(world.manager.streams)) == (asked, 1)


async def test_tasks_run_on_while_it_moves(world: Bench, nowhere: str) -> None:
    """It is as when the volunteer is started again: the manager finds its task in the Hello."""
    names = Names((world.manager.target,), (nowhere,), (world.manager.target,))
    async with found(world, names):
        await world.manager.attached()
        await world.manager.bring_up()
        await world.manager.close()
        await eventually(lambda: names.asked >= 3)
        await world.manager.open()
        stream = await world.manager.attached(2)

    assert [held.task.job_id for held in stream.hello.held] == [7]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a machine of its own")
def test_a_machine_without_a_network_waits(tmp_path: Path) -> None:
    """The real command, with a name server that is not there: it runs, says why, and ends when told."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf; shift; exec "$@"'
    command = ["unshare", "--net", "--mount", "--", "sh", "-ec", script, "sh", str(tmp_path)]
    command += [sys.executable, "-m", "syndicate.volunteer", "run", "--allow-root"]
    command += ["--state-dir", str(tmp_path / "state"), "--log-format", "json"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNDICATE_")}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as volunteer:
        assert volunteer.stderr is not None
        line = volunteer.stderr.readline()
        volunteer.terminate()
        rest = volunteer.communicate(timeout=60)[1]

    assert "manager.unknown" in line and "nobody told where it is" in line, line + rest
    assert (volunteer.returncode, rest) == (0, "")
