"""Runs as a client inside a job: times faults beside an empty call over the same relay, interleaved.

Prints one JSON object: lists of milliseconds by name.
"""

import asyncio
import json
import os
import socket
import time

from syndicate.client_api import AioChaos, Chaos

ROUNDS = 200
KILLS = 24


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def faults() -> dict[str, list[float]]:
    """Empty calls, cuts and heals, one after the other in turn."""
    times: dict[str, list[float]] = {"ping": [], "disconnect": [], "reconnect": []}
    with Chaos.from_env() as chaos:
        slave = next(member for member in chaos.members() if member.task == "slave-0").address
        for round_ in range(ROUNDS + 20):
            sample = {
                "ping": timed(chaos.ping),
                "disconnect": timed(lambda: chaos.disconnect(slave)),
                "reconnect": timed(lambda: chaos.reconnect(slave)),
            }
            if round_ >= 20:  # the first ones warm caches and connections
                for name, took in sample.items():
                    times[name].append(took)
    return times


async def kills(ready: socket.socket) -> dict[str, list[float]]:
    """Four slots at once, ten daemonised processes in each, in turn by one call and by four at once.

    The revivals in between are not timed.
    """
    times: dict[str, list[float]] = {"kill4_caller": [], "kill4_calls": []}
    async with AioChaos.from_env() as chaos:
        members = await chaos.members()
        targets = [member.address for member in members if member.role == "slave"][:4]
        for _ in range(KILLS):
            for name, samples in times.items():
                await asyncio.to_thread(gathered, ready, len(targets))
                start = time.perf_counter()
                if name == "kill4_caller":
                    ended = [member.processes for member in (await chaos.kill(targets)).members]
                else:
                    answers = await asyncio.gather(*(chaos.kill(target) for target in targets))
                    ended = [answer.processes for answer in answers]
                samples.append((time.perf_counter() - start) * 1e3)
                assert all(processes >= 11 for processes in ended), ended
                await chaos.revive(targets)
    return times


def gathered(ready: socket.socket, slaves: int) -> None:
    """Waits until each slave has said that its ten daemons are there, and their start has settled."""
    for _ in range(slaves):
        ready.accept()[0].close()
    time.sleep(0.2)  # not a wait for something: the figure is of a kill, not of what precedes it


with socket.create_server((os.environ["SYNDICATE_ADDRESS"], 9100)) as ready:
    ready.settimeout(60)
    times = faults()
    times |= asyncio.run(kills(ready))
print(json.dumps(times), flush=True)
# The job ends with this, and the client with it.
with Chaos.from_env() as chaos:
    chaos.finish("pass")
