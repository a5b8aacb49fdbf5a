"""The stamp of a fault that holds is never earlier than that it holds: times of faults are taken from it."""

from __future__ import annotations

import asyncio
import signal

from keeper.harness import MEMBERS, SECONDS, Link, TestTask
from keeper.ordeals import begin, python, send_signal
from syndicate.volunteer.local import NetworkState, Role, SetNetwork

_PEER = MEMBERS[1].address
_CUT = NetworkState(cut=(_PEER,), cut_out=(), cut_in=(), reset=(), links=())
_WHOLE = NetworkState(cut=(), cut_out=(), cut_in=(), reset=(), links=())
# Each packet holds the time at which it was made. Each tells the latest of its own when it is asked (USR1).
_ASKED = """
import signal, socket, struct, time
asked = 0
def ask(number, frame):
    global asked
    asked += 1
signal.signal(signal.SIGUSR1, ask)
told = latest = 0
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
"""
_TELLS = f"""
{_ASKED}
link.connect(("{_PEER}", 5000))
print("up", flush=True)
while True:
    wanted = asked  # looked at first: what is told was made since
    latest = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    try:
        link.send(struct.pack("=q", latest))
    except OSError:
        pass  # nobody listens yet
    if told < wanted:
        told += 1
        print(f"{{told}} {{latest}}", flush=True)
    time.sleep(0.00005)
"""
_HEARS = f"""
{_ASKED}
link.bind(("{_PEER}", 5000))
link.settimeout(0.01)
print("up", flush=True)
while True:
    try:
        latest = max(latest, struct.unpack("=q", link.recv(8))[0])
        if not told:
            told = asked = 1
            print("heard", flush=True)
    except TimeoutError:
        if told < asked:
            told += 1
            print(f"{{told}} {{latest}}", flush=True)
"""


async def _latest(task: TestTask, number: int) -> int:
    """What it tells when it is asked for the time of its last packet, now."""
    await send_signal(task, signal.SIGUSR1)
    async with asyncio.timeout(SECONDS):
        while True:
            task.link.listen()
            lines = b"".join(piece.data for piece in (await task.read(1, 0)).pieces).decode().splitlines()
            for line in lines:
                if line.startswith(f"{number} "):
                    return int(line.split()[1])
            await task.link.next_event()


async def test_nothing_passes_after_the_stamp_of_a_cut(link: Link) -> None:
    """No packet is heard that was made after the cut held by its stamp, however often it is tried."""
    hears = link.task(python(_HEARS, "slave"), Role.SLAVE, slot=1)
    tells = link.task(python(_TELLS))
    await begin(hears)
    await begin(tells)
    await hears.said("heard")

    rounds = []
    for number in range(1, 21):
        at = (await link.do(SetNetwork(0, tells.id, _CUT))).at.monotonic_ns
        rounds.append((await _latest(hears, number + 1), at, await _latest(tells, number)))
        await link.do(SetNetwork(0, tells.id, _WHOLE))

    assert all(heard <= at < sent for heard, at, sent in rounds)
    assert rounds[0][1] < rounds[-1][0]  # between the cuts they spoke
