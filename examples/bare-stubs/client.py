"""A client upon the generated stubs alone: grpc and `syndicate.v1`, nothing else. The job is `counter`.

Kills the master and revives it without saying anything about its disk, which means that it is kept: the
master has then counted two starts.
"""

import os
import time
import urllib.request
import uuid

import grpc
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc, common_pb2

DEADLINE_S = 60.0


def starts(address: str) -> int:
    """How many starts a member has counted; asks again while nobody listens yet."""
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:7000/starts", timeout=1) as answer:
                return len(answer.read().splitlines())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def main() -> None:
    """Kill, revive, count, finish."""
    master = os.environ["SYNDICATE_MASTER"]
    with grpc.insecure_channel(os.environ["SYNDICATE_CHAOS"]) as channel:
        chaos = chaos_pb2_grpc.ChaosControlStub(channel)
        before = starts(master)
        killed = chaos.Kill(
            chaos_pb2.KillRequest(request_id=str(uuid.uuid4()), ip=master), timeout=DEADLINE_S
        )
        print(f"killed {master}: {killed.processes} processes", flush=True)
        # with_disk stays unset.
        revived = chaos.Revive(
            chaos_pb2.ReviveRequest(request_id=str(uuid.uuid4()), ip=master), timeout=DEADLINE_S
        )
        after = starts(master)
        print(f"revived {master}: generation {revived.generation}, {before} then {after} starts", flush=True)
        kept = after == before + 1
        result = common_pb2.Result(
            outcome=common_pb2.OUTCOME_PASS if kept else common_pb2.OUTCOME_FAIL,
            score=1.0 if kept else 0.0,
            metrics={"starts": float(after)},
            text="the disk was kept" if kept else "the disk was lost",
        )
        chaos.Finish(chaos_pb2.FinishRequest(request_id=str(uuid.uuid4()), result=result), timeout=DEADLINE_S)


main()
