"""Records become rows and come back the same."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core import model, records
from syndicate.manager.store import rows, schema
from syndicate.manager.store.sqlite import _encode

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
big = st.integers(min_value=-(2**63), max_value=2**63 - 1)
ids = st.integers(min_value=1, max_value=2**53)
stamps = st.builds(model.Stamp, boot_id=names, monotonic_ns=big, utc_ns=big)
maybe_stamp = st.none() | stamps
# What a client reports is anything that fits a double, and text of any kind that protobuf can carry.
numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
sources = st.builds(model.Source, sha256=names, size=ids)
limits = st.builds(model.Limits, *[ids] * len(fields(model.Limits)))
exits = st.builds(
    model.TaskExit,
    reason=st.sampled_from(model.Reason),
    exit_status=st.integers(0, 255),
    recipe_status=st.integers(0, 255),
    detail=texts,
    annotations=st.lists(st.sampled_from(model.Annotation), unique=True).map(tuple),
)
results = st.builds(
    model.Result,
    outcome=st.sampled_from(model.Outcome),
    score=st.none() | numbers,
    metrics=st.lists(st.tuples(texts, numbers), max_size=3).map(tuple),
    text=texts,
)


@st.composite
def specs(draw: st.DrawFn) -> model.JobSpec:
    """A spec that keeps to its contract: clients exactly where there is a client's source."""
    client = draw(st.none() | sources)
    return model.JobSpec(
        name=draw(names),
        source=draw(sources),
        machines=draw(ids),
        client=client,
        clients=draw(ids) if client else 0,
        time_limit_s=draw(st.floats(min_value=0.001, max_value=1e9)),
        limits=draw(limits),
        replay_of=draw(ids),
    )


jobs = st.builds(
    records.JobRecord,
    job_id=ids,
    request_id=names,
    owner=names,
    spec=specs(),
    state=st.sampled_from(model.JobState),
    attempt=ids,
    submitted_at=stamps,
    queued_at=stamps,
    reason=st.sampled_from(model.Reason),
    detail=texts,
    verdict=st.none() | st.sampled_from(model.JobState),
    result=st.none() | results,
    reserved_at=maybe_stamp,
    started_at=maybe_stamp,
    ended_at=maybe_stamp,
    gang_start_ns=ids,
    team=st.just("") | names,
    published=st.booleans(),
    submitter=st.none() | st.tuples(names, names, texts),
)
tasks = st.builds(
    records.TaskRecord,
    job_id=ids,
    attempt=ids,
    task=names,
    role=st.sampled_from(model.Role),
    volunteer_id=names,
    boot_id=names,
    slot=ids,
    state=st.sampled_from(model.TaskState),
    address=names,
    generation=ids,
    exit=st.none() | exits,
    result=st.none() | results,
    finished_at=maybe_stamp,
    finish_request_id=names,
    barriers_told=ids,
)
runs = st.builds(
    records.RunRecord,
    job_id=ids,
    attempt=ids,
    task=names,
    generation=ids,
    started_at=stamps,
    ended_at=maybe_stamp,
    exit=st.none() | exits,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
# Who took a line back, and how exactly that is known, stand with when.
healings = st.just((None, 0, "")) | st.tuples(stamps, big, texts)
faults = st.builds(
    lambda healed, **rest: records.FaultRecord(
        **rest, healed_at_manager=healed[0], healed_error_ns=healed[1], healed_by=healed[2]
    ),
    healed=healings,
    job_id=ids,
    fault_id=ids,
    attempt=ids,
    request_id=names,
    kind=st.sampled_from(model.FaultKind),
    task=names,
    requested_by=texts,
    requested_at=stamps,
    with_disk=st.booleans(),
    generation=ids,
    processes=ids,
    applied_at=maybe_stamp,
    applied_at_manager=maybe_stamp,
    applied_error_ns=big,
    duration_ns=big,
    already=st.booleans(),
    error=texts,
    call_id=ids,
    lease_s=finite,
    heals=st.lists(ids, max_size=3).map(tuple),
    cut_out=st.lists(names, max_size=3).map(tuple),
    cut_in=st.lists(names, max_size=3).map(tuple),
    degradation=st.none() | st.builds(model.Degradation, *[finite] * 7),
    peers=st.lists(names, max_size=3).map(tuple),
    one_way=st.booleans(),
    signal=ids,
    shape=texts,
    seed=big,
    text=texts,
)
plans = st.builds(
    records.PlanRecord,
    job_id=ids,
    number=ids,
    offset_ns=big,
    asked_by=texts,
    kind=st.sampled_from(model.FaultKind),
    parts=st.lists(
        st.builds(
            records.PlannedPart,
            task=names,
            held_ns=big,
            cut_out=st.lists(names, max_size=3).map(tuple),
            cut_in=st.lists(names, max_size=3).map(tuple),
            peers=st.lists(names, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    with_disk=st.booleans(),
    lease_s=finite,
    degradation=st.none() | st.builds(model.Degradation, *[finite] * 7),
    one_way=st.booleans(),
    signal=ids,
    shape=texts,
    seed=big,
    text=texts,
    heals=st.lists(ids, max_size=3).map(tuple),
    everything=st.booleans(),
    over_in=ids,
    claimed_in=ids,
    claimed_by=texts,
)
story = st.builds(
    records.StoryRecord, job_id=ids, sequence=ids, attempt=ids, at=stamps, task=names, event=names, text=texts
)
nodes = st.builds(
    records.NodeRecord,
    volunteer_id=names,
    boot_id=names,
    slots=st.lists(st.tuples(ids, names), max_size=3).map(tuple),
    prefix=names,
    network=names,
    reach_domain=texts,
    capabilities=st.lists(texts, max_size=3).map(tuple),
    version=texts,
    resources=st.builds(model.Resources, cpus=ids, memory_bytes=ids, disk_bytes=ids),
    drained=st.booleans(),
    last_seen_at=stamps,
    forgotten=st.booleans(),
    unsafe=st.lists(names, max_size=3).map(tuple),
    cannot=st.lists(st.tuples(names, texts), max_size=3).map(tuple),
)
quotas = st.builds(model.Quota, *[st.integers(-1, 10**6)] * len(fields(model.Quota)))
users = st.builds(
    records.UserRecord,
    name=names,
    role=st.sampled_from(model.UserRole),
    team=st.just("") | names,
    disabled=st.booleans(),
    quota=quotas,
    created_at=stamps,
)
teams = st.builds(records.TeamRecord, name=names, quota=quotas)
tokens = st.builds(
    records.TokenRecord,
    token_id=names,
    user=names,
    note=texts,
    scope=st.sampled_from(model.TokenScope),
    digest=names,
    created_at=stamps,
    expires_utc_ns=big,
    revoked_at=maybe_stamp,
    last_used_at=maybe_stamp,
    forgotten=st.booleans(),
)
audit = st.builds(
    records.AuditRecord,
    line=ids,
    at=stamps,
    who=names,
    token_id=names,
    peer=texts,
    method=names,
    subject=texts,
    allowed=st.booleans(),
    reason=names,
    job_id=ids,
)
anything: st.SearchStrategy[records.Record] = st.one_of(
    jobs, tasks, runs, faults, plans, story, nodes, users, teams, tokens, audit
)


@settings(deadline=None)
@given(anything)
def test_every_record_survives_its_row(record: records.Record) -> None:
    """What goes through JSON text comes back equal, field for field."""
    table, row = rows.to_row(record)

    *columns, doc = json.loads(_encode(row))

    assert rows.from_row(table, [*columns, doc]) == record


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_lacks_survive(number: float) -> None:
    """A score that is infinite, or none, does not stop the store."""
    result = model.Result(model.Outcome.PASS, score=number, metrics=(("rate", number),))
    stamp = model.Stamp("b", 1, 2)
    spec = model.JobSpec("n", model.Source("0", 1), 1, None, 0, 1.0)
    job = records.JobRecord(
        1, "r", "o", spec, model.JobState.SUCCEEDED, 1, stamp, stamp, result=result, ended_at=stamp
    )

    *columns, doc = json.loads(_encode(rows.to_row(job)[1]))
    found = rows.from_row("job", [*columns, doc])

    assert isinstance(found, records.JobRecord) and found.result is not None
    assert repr(found.result.score) == repr(number)
    assert repr(found.result.metrics[0][1]) == repr(number)


def test_rows_fit_their_tables() -> None:
    """Each kind of record has a table, and the statement's key is as long as the table's primary key."""
    kinds: set[Any] = set(records.Record.__args__)

    assert set(rows.TABLE_OF) == kinds
    for table in rows.TABLE_OF.values():
        assert len(schema.metadata.tables[table].primary_key) == rows.KEY_LENGTH[table]
