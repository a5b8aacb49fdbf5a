"""Histories that the clients of a job hand over, and who reads them."""

from __future__ import annotations

import grpc
from syndicate.v1 import chaos_pb2, scheduler_pb2, scheduler_pb2_grpc

from .types import Context


class ClientsHistories:
    """The part of ChaosControl by which clients hand histories over and gather them."""

    async def PutHistory(
        self, request: chaos_pb2.PutHistoryRequest, context: Context
    ) -> chaos_pb2.PutHistoryResponse:
        """Keep a piece of a history."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    async def GatherHistories(
        self, request: chaos_pb2.GatherHistoriesRequest, context: Context
    ) -> chaos_pb2.GatherHistoriesResponse:
        """Wait for everybody's histories."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    async def ReadHistory(
        self, request: chaos_pb2.ReadHistoryRequest, context: Context
    ) -> chaos_pb2.ReadHistoryResponse:
        """Give a piece of a history."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


class UsersHistories(scheduler_pb2_grpc.SchedulerServicer):
    """The part of Scheduler by which users read them."""

    async def ReadHistories(  # type: ignore[override]  # by a generator or by writing: gRPC takes both
        self, request: scheduler_pb2.ReadHistoriesRequest, context: Context
    ) -> None:
        """Send the histories of a job."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
