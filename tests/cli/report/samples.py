"""Runs to report on: pure values, seeded."""

from __future__ import annotations

import random
from dataclasses import replace

from syndicate.cli.report.run import (
    FaultLine,
    LogMark,
    Logs,
    Op,
    Recording,
    Run,
    Said,
    Suffering,
    TaskLane,
    TaskTime,
    Verdict,
)

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{7*7}}<!--"


def fault(
    number: int, kind: str, task: str, at: float | None, healed: float | None = None, **more: object
) -> FaultLine:
    """A fault that client-0 asked for."""
    line = FaultLine(
        fault_id=number,
        call_id=number,
        kind=kind,
        what={"disconnect": "cut", "kill": "killed", "pause": "paused"}.get(kind, kind),
        text=f"{kind} {task}",
        task=task,
        by="client-0",
        requested_s=at or 0.0,
        applied_s=at,
        error_s=0.0002,
        duration_s=0.0009,
        healed_s=healed,
        healed_error_s=0.0002,
        healed_by="client-0" if healed is not None else "",
        failure="",
    )
    return replace(line, **more)  # type: ignore[arg-type]  # each name is a field


FAULTS = (
    fault(1, "disconnect", "slave-1", 3.02, 8.2),
    fault(2, "kill", "slave-0", 5.1),
    fault(3, "revive", "slave-0", 7.0),
    fault(4, "pause", "slave-2", 9.0, 10.5),
    fault(5, "partition", "slave-1", 11.0, 13.2, what="partition majority-ring"),
    fault(6, "degrade", "slave-0", 13.5, 14.6, what="loss 10 % to slave-1"),
    fault(7, "signal", "slave-2", 14.8),
)


def operations(count: int, length_s: float = 15.4, seed: int = 1) -> tuple[Op, ...]:
    """Puts and gets of eight processes; slower and partly failing while slave-1 is cut."""
    dice = random.Random(seed)
    told = []
    for place in range(count):
        begin = place * length_s / count
        kind = ("put", "get", "cas")[dice.randrange(3)]
        latency = dice.lognormvariate(-5.5, 0.5)
        outcome = "ok"
        if 3.02 < begin < 8.2 and dice.random() < 0.2:
            outcome, latency = ("fail", 0.05) if dice.random() < 0.6 else ("info", 1.0)
        end = None if outcome == "info" and dice.random() < 0.3 else begin + latency
        told.append(Op(begin, end, kind, outcome, f"client-0/{place % 8}", f"{kind} x{place % 5}"))
    return tuple(told)


def lane(name: str, number: int, **more: object) -> TaskLane:
    """A task that runs from the start to the end."""
    made = TaskLane(
        name,
        f"10.77.0.{11 + number}",
        "node-a",
        (TaskTime(1, 0.0, 15.4, "stopped with the job"),),
    )
    return replace(made, **more)  # type: ignore[arg-type]  # each name is a field


def run(count: int = 0, *, lines: int = 200, text: str = "all acknowledged writes were there") -> Run:
    """A job of four members and a client that suffered every kind of fault; without operations for 0."""
    lanes = (
        lane("master", 0),
        lane(
            "slave-0",
            1,
            times=(
                TaskTime(1, 0.0, 5.1, "killed by a fault"),
                TaskTime(2, 7.0, 15.4, "stopped with the job"),
            ),
            kills_s=(5.1,),
            revivals=((7.0, "disk kept"),),
            sufferings=(Suffering(13.5, 14.6, "degraded", "loss 10 % to slave-1"),),
        ),
        lane(
            "slave-1",
            2,
            sufferings=(
                Suffering(3.02, 8.2, "cut", "cut"),
                Suffering(11.0, 13.2, "cut", "partition majority-ring"),
            ),
        ),
        lane(
            "slave-2",
            3,
            sufferings=(Suffering(9.0, 10.5, "paused", "paused"),),
            signals=((14.8, "signal QUIT"),),
        ),
        lane("client-0", 4, ended_s=15.3, ending="finished: pass"),
    )
    dice = random.Random(2)
    marks = sorted(
        (
            LogMark(
                dice.uniform(0, 15.4), lanes[place % 5].task, f"line {place}: became leader, term {place}"
            )
            for place in range(lines)
        ),
        key=lambda mark: mark.at_s,
    )
    verdict = Verdict(
        "SUCCEEDED",
        "pass",
        "CLIENT_PASSED",
        "",
        0.97,
        tuple(text.split("\n")),
        (("operations", 42310.0), ("lost", 0.0)),
        (Said("client-0", "pass", 0.97, (text,), 15.3),),
    )
    return Run(
        job_id=12,
        name="raft-kv",
        owner="alice",
        team="red",
        attempt=1,
        submitted="2026-11-21 12:00:00 UTC",
        submitted_utc_s=1.75e9,
        waited_s=3.1,
        length_s=15.4,
        ended=True,
        verdict=verdict,
        lanes=lanes,
        faults=FAULTS,
        logs=Logs(tuple(marks), 1234 if lines else 0),
        recording=Recording(operations(count), ("client-0: on the manager's own clock, intervals exact",))
        if count
        else None,
    )


BAD_TEXT = """false: get x returned 1, but put x 2 had ended before
  812.300 ms – 815.204 ms  process client-0/3  put x 2  ok
  820.100 ms – 822.000 ms  process client-0/1  get x  -> 1
  meanwhile:
    819.000 ms – …  process client-0/2  put y 1  unknown"""


def failed_run(count: int) -> Run:
    """The same with a counterexample, which two of its operations are taken for."""
    made = run(count, text=BAD_TEXT)
    recording = made.recording
    verdict = replace(made.verdict, state="FAILED", outcome="fail", reason="CLIENT_FAILED", score=None)
    marked = replace(recording, bad=(count // 3, count // 3 + 4)) if recording is not None else None
    return replace(made, verdict=verdict, recording=marked)


def hostile_run(count: int) -> Run:
    """The same, and whatever somebody else may have chosen is an attack."""
    made = run(count, text=f"{HOSTILE}\n{HOSTILE}")
    recording = made.recording
    ops = recording.operations if recording is not None else ()
    ops = tuple(replace(op, kind=HOSTILE, process=HOSTILE, words=HOSTILE) for op in ops)
    verdict = replace(
        made.verdict,
        detail=HOSTILE,
        metrics=((HOSTILE, 1.0),),
        clients=tuple(Said(HOSTILE, "fail", None, (HOSTILE,), 1.0) for _ in range(2)),
    )
    return replace(
        made,
        name=HOSTILE,
        owner=HOSTILE,
        verdict=verdict,
        lanes=tuple(
            replace(one, task=f"{HOSTILE}{place}", address=HOSTILE, volunteer=HOSTILE, ending=HOSTILE)
            for place, one in enumerate(made.lanes)
        ),
        faults=tuple(replace(one, what=HOSTILE, text=HOSTILE, task=HOSTILE, by=HOSTILE) for one in FAULTS),
        logs=Logs(tuple(LogMark(1.0, f"{HOSTILE}{place}", HOSTILE) for place in range(5)), 3),
        recording=Recording(ops, (HOSTILE,)) if ops else None,
    )
