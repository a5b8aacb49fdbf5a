"""Clients of one register, of which client-0 judges them all; the file `mode` says what goes wrong.

`plain`: nothing. `dies`: client-1 is killed before it hands over. `waits`: client-1 hands half of what it
does over, and the rest when it is sent a signal; a slave is frozen meanwhile. `untouched`: no
fault comes, and a pass is tested. `idles`: nobody does anything while a slave is frozen.
"""

import json
import os
import signal
import socket
import time
import uuid
from contextlib import closing
from pathlib import Path

from syndicate.client_api import Chaos, History, _calls, sync
from syndicate.client_api.checkers import KeyValue, Linearizable

TASK = os.environ["SYNDICATE_TASK"]
MODE = Path("mode").read_text()
ANSWER_S = 60.0
PINGS = 20
MS = 1_000_000


def as_another_machine() -> None:
    """All tasks see this kernel's boot id: where its clock is shifted, they need another one."""
    shifts = [line.split() for line in Path("/proc/self/timens_offsets").read_text().splitlines()]
    if any(int(nanoseconds) for _, _, nanoseconds in shifts):
        Path("boot_id").write_text(str(uuid.uuid5(uuid.NAMESPACE_DNS, "another machine")))
        _calls._BOOT_ID_FILE = Path("boot_id")


def meet() -> None:
    """All clients begin together: of what they do one after the other no clock makes anything else."""
    others = os.environ["SYNDICATE_CLIENTS"].count(",")
    if others and TASK == "client-0":
        sync.init(others, "begin")
    elif others:
        sync.wait("begin")


def connect() -> socket.socket:
    """To the register, once it is there."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            return socket.create_connection((os.environ["SYNDICATE_MASTER"], 7070), timeout=ANSWER_S)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def set_clock(chaos: Chaos, history: History) -> None:
    """By the quickest of some answers: as clients begin together, one may take as long as clocks differ."""
    history.set_clock(min((chaos.ping() for _ in range(PINGS)), key=lambda pong: pong.clock.error_ns))


def work(history: History, rounds: int) -> None:
    """Puts and gets of one key, as fast as its one connection goes."""
    with connect() as there, there.makefile("rwb", buffering=0) as stream:
        for number in range(rounds):
            kind, value = ("get", None) if number % 3 else ("put", f"{TASK}/{history.header.pid}/{number}")
            with history.operation("main", kind, "x", value) as operation:
                stream.write(json.dumps([kind, "x", value]).encode() + b"\n")
                operation.ok(json.loads(stream.readline()))
            time.sleep(0.002)


def judged(chaos: Chaos) -> None:
    """What client-0 does."""
    members = {member.task: member.address for member in chaos.members()}
    with History.open() as history:
        set_clock(chaos, history)
        if MODE == "dies":
            chaos.kill(members["client-1"])
        if MODE == "waits":
            with chaos.healing(chaos.pause(members["slave-0"])):
                begun = time.monotonic()
                work(history, 30)
                while time.monotonic() - begun < 1.5:
                    work(history, 30)
        else:
            work(history, 300)
        if MODE == "idles":
            with chaos.healing(chaos.pause(members["slave-0"])):
                time.sleep(1.5)  # it is the fault that is to last, and nothing that is waited for
            work(history, 30)
        checkers = {"linearizable": Linearizable(KeyValue())}
        chaos.judge(checkers, history, wait_s=90.0, tested=MODE in ("waits", "untouched", "idles"))


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
as_another_machine()
with closing(Chaos.from_env()) as chaos:
    meet()
    if TASK == "client-0":
        judged(chaos)
    else:
        with History.open() as history:
            set_clock(chaos, history)
            work(history, 300)
            if MODE == "dies":
                signal.pause()
            chaos.hand_over(history, final=MODE != "waits")
        print("handed over", flush=True)
        if MODE == "waits":
            signal.sigwait([signal.SIGUSR1])
            with History.open() as history:
                work(history, 30)
                chaos.hand_over(history)
        chaos.finish()
