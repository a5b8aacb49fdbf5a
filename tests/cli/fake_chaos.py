"""ChaosControl as the manager serves it to users: upon fake jobs, for whoever has a token."""

from __future__ import annotations

from typing import Any

import grpc
from syndicate.client_api.testing import FakeJob, answering
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.cli.fake_identity import TOKEN, refuse


class FakeUsersChaos(grpc.GenericRpcHandler):
    """Asks the job that the call's metadata names; the caller is called alice."""

    def __init__(self) -> None:
        self.jobs: dict[int, FakeJob] = {}

    def add(self, job: scheduler.Job) -> FakeJob:
        """A fake job with the members of this one."""
        members = [task.address for task in job.tasks if not task.ref.task.startswith("client-")]
        clients = [task.address for task in job.tasks if task.ref.task.startswith("client-")]
        self.jobs[job.job_id] = FakeJob(members, clients=clients)
        return self.jobs[job.job_id]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        told = dict(handler_call_details.invocation_metadata)
        job = self.jobs.get(int(told.get("syndicate-job", 0)))
        if told.get("authorization") != f"Bearer {TOKEN}" or job is None:
            return grpc.unary_unary_rpc_method_handler(_refuse)
        return answering(job, "alice").service(handler_call_details)


def _refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB", "no job of this id")
    raise AssertionError("refused")
