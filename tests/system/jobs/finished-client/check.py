"""The first client finishes and goes on calling, which nobody must heed; the second keeps the job running."""

import os
import sys
import time

from syndicate.client_api import Chaos, ClientFinished, TaskState


def call_after_finish(chaos: Chaos, slave: str) -> None:
    assert chaos.finish("pass", score=0.5).clients_left == 1
    for call in (chaos.kill, chaos.revive, chaos.disconnect, chaos.reconnect):
        try:
            call(slave)
        except ClientFinished:
            print("refused:", call.__name__)
    try:
        chaos.finish("fail")
    except ClientFinished:
        print("refused:", "finish")
    assert chaos.ping().round_trip_ns > 0
    print("members:", len(chaos.members()))


def wait_for_the_first(chaos: Chaos) -> None:
    deadline = time.monotonic() + 60
    while next(m for m in chaos.members() if m.task == "client-0").state is not TaskState.EXITED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    chaos.finish("pass", score=1.0)


with Chaos.from_env() as chaos:
    if os.environ["SYNDICATE_TASK"] == "client-0":
        call_after_finish(chaos, sys.argv[1].split(",")[0])
    else:
        wait_for_the_first(chaos)
