"""The connection to the keeper: kept up, synced first, and made anew when it ends or does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from . import local
from .core import events
from .keeper_client import KeeperClient, KeeperGone
from .logs import LogPump

_log = structlog.get_logger()

_CONNECT_S = 5.0
_SYNC_S = 10.0
_AGAIN_FIRST_S = 0.05
_AGAIN_MOST_S = 1.0
# The core has deadlines of its own, shorter ones; this one only keeps a question from being kept for ever.
_ANSWER_S = 120.0
_READ_LOG_S = 30.0


class KeeperSession:
    """One keeper at one path; tells the core what happens, and the log pump of output."""

    def __init__(self, path: Path, dispatch: Callable[[events.Event], None]) -> None:
        self._path = path
        self._dispatch = dispatch
        self._client: KeeperClient | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._told = ""

    async def run(self, pump: LogPump) -> None:
        """Keeps a connection until cancelled."""
        wait_s = _AGAIN_FIRST_S
        while True:
            try:
                async with await KeeperClient.connect(self._path, _CONNECT_S) as client:
                    if await self._serve(client, pump):
                        wait_s = _AGAIN_FIRST_S
                why = "the connection ended"
            except KeeperGone as error:
                why = str(error)
            self._tell(why)
            await asyncio.sleep(wait_s)  # the keeper is local: a fixed back-off, no jitter
            wait_s = min(wait_s * 2, _AGAIN_MOST_S)

    async def _serve(self, client: KeeperClient, pump: LogPump) -> bool:
        """One connection; True where it was synced."""
        try:
            account = await client.request(local.Sync(), _SYNC_S)
        except TimeoutError:
            raise KeeperGone(f"no answer to Sync within {_SYNC_S:g} s") from None
        if not isinstance(account, local.Synced):
            raise KeeperGone(f"the keeper answered Sync with {account}")
        try:
            async with asyncio.TaskGroup() as tasks:
                self._client, self._tasks = client, tasks
                self._told = ""
                _log.info("keeper.up", instance=account.instance, slots=len(account.slots))
                pump.synced(account)
                self._dispatch(events.KeeperSynced(account))
                async for event in client.events():
                    if isinstance(event, local.LogGrew):
                        pump.grew(event)
                    else:
                        # Growth is told a moment late, and not any more once the generation has ended.
                        ended = event.exit
                        pump.grew(local.LogGrew(event.slot, event.task, ended.generation, ended.log_bytes))
                        self._dispatch(events.KeeperTold(event))
                self._client = None
        finally:
            self._client = self._tasks = None
            self._dispatch(events.KeeperLost())
        return True

    def ask(self, call: int, request: local.Request) -> None:
        """Sends a question; its answer is told as KeeperReplied, or never where the connection ends."""
        if self._client is not None and self._tasks is not None:
            self._tasks.create_task(self._ask(self._client, call, request))

    async def _ask(self, client: KeeperClient, call: int, request: local.Request) -> None:
        try:
            reply = await client.request(request, _ANSWER_S)
        except (KeeperGone, TimeoutError):
            return  # KeeperLost tells, or the core's own deadline has
        if self._client is client:
            self._dispatch(events.KeeperReplied(call, reply))

    async def read_log(self, request: local.ReadLog) -> local.Reply | None:
        """A piece of output; None while the keeper is away."""
        if self._client is None:
            return None
        try:
            return await self._client.request(request, _READ_LOG_S)
        except (KeeperGone, TimeoutError):
            return None

    async def reset(self) -> None:
        """Ends the connection; `run` makes another."""
        if self._client is not None:
            await self._client.close()

    def _tell(self, why: str) -> None:
        """One line for each change, not for each try."""
        if why != self._told:
            self._told = why
            _log.warning("keeper.down", detail=why)
