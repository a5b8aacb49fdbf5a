"""Disks that are kept when their job ends, and who reads them."""

from __future__ import annotations

import grpc
from syndicate.v1 import registry_pb2, scheduler_pb2, scheduler_pb2_grpc

from .types import Context


class VolunteersDisks:
    """The part of Registry by which volunteers send disks."""

    async def PutDisk(self, request_iterator: object, context: Context) -> registry_pb2.PutDiskResponse:
        """Keep a disk."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


class UsersDisks(scheduler_pb2_grpc.SchedulerServicer):
    """The part of Scheduler by which users read them."""

    async def ReadDisks(  # type: ignore[override]  # by a generator or by writing: gRPC takes both
        self, request: scheduler_pb2.ReadDisksRequest, context: Context
    ) -> None:
        """Send the disks of a job."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
