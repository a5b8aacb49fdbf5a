"""A client or a manager that goes away while a nemesis is at work, over the fake's socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from syndicate.client_api import Chaos, Nemesis
from syndicate.client_api.nemesis import Event
from syndicate.client_api.testing import FakeChaosServer, FakeJob, answering

from tests.client_api.nemesis_jobs import FIVE, WAIT_S, all_is_well, of, until


@pytest.fixture
def job() -> FakeJob:
    return FakeJob(FIVE)


SIGTERM_CLIENT = """
import sys, time
from syndicate.client_api import Chaos, Nemesis
from syndicate.client_api.nemesis import Event, Schedule
names = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
events = (Event(0, 60000, "kill", ("slave-0",)), Event(0, 60000, "pause", ("slave-1",)))
with Chaos.from_env() as chaos:
    with Nemesis.replaying(chaos, Schedule(1, 60000, names, events)).running() as monkey:
        while len(monkey.windows()) < 2:
            time.sleep(0.01)
        print("struck", flush=True)
        time.sleep(60)
"""


AIO_SIGTERM_CLIENT = """
import asyncio
from syndicate.client_api import AioChaos, AioNemesis
from syndicate.client_api.nemesis import Event, Schedule
names = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
events = (Event(0, 60000, "kill", ("slave-0",)), Event(0, 60000, "pause", ("slave-1",)))
async def main():
    async with AioChaos.from_env() as chaos:
        async with AioNemesis.replaying(chaos, Schedule(1, 60000, names, events)).running() as monkey:
            while len(monkey.windows()) < 2:
                await asyncio.sleep(0.01)
            print("struck", flush=True)
            await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("script", [SIGTERM_CLIENT, AIO_SIGTERM_CLIENT], ids=["thread", "asyncio"])
def test_a_client_that_is_terminated_heals(job: FakeJob, script: str) -> None:
    """SIGTERM unwinds the block; the process ends as one that was terminated."""
    with FakeChaosServer(job=job) as server:
        client = subprocess.Popen(
            [sys.executable, "-c", script], env=server.environ, stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "struck\n"
        assert not all_is_well(job)
        os.kill(client.pid, signal.SIGTERM)
        assert client.wait(WAIT_S) == 128 + signal.SIGTERM
        client.stdout.close()
    assert all_is_well(job)


def served(job: FakeJob, address: str) -> grpc.Server:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((answering(job),))
    server.add_insecure_port(address)
    server.start()
    return server


def test_a_manager_that_went_away_is_waited_for(job: FakeJob, tmp_path: Path) -> None:
    """What held when it went is taken back once it is there again."""
    address = f"unix:{tmp_path}/chaos.sock"
    events = [Event(0, 60_000, "kill", ("slave-0",)), Event(0, 60_000, "pause", ("slave-1",))]
    first = served(job, address)
    with Chaos(address) as chaos:
        monkey = Nemesis.replaying(chaos, of(*events, duration_ms=60_000))
        monkey.start()
        until(lambda: len(monkey.windows()) == 2)
        first.stop(None).wait(WAIT_S)
        back = threading.Timer(0.5, lambda: servers.append(served(job, address)))
        servers: list[grpc.Server] = []
        back.start()
        monkey.stop()
        back.join()
    servers[0].stop(None).wait(WAIT_S)
    assert all_is_well(job)
    assert all(window.end_ns for window in monkey.windows())
