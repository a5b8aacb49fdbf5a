"""The connection to the keeper: kept up, synced first, and made anew when it ends or does not answer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
_READ_S = 30.0


class KeeperSession:
    """One keeper at one path; tells the core what happens, and the log pump of output."""

    def __init__(self, path: Path, dispatch: Callable[[events.Event], None]) -> None:
        self._path = path
        self._dispatch = dispatch
        self._client: KeeperClient | None = None  # while it is synced
        self._told = ""
        self.connections = 0

    @property
    def is_up(self) -> bool:
        """Whether the keeper is there and has said what it holds."""
        return self._client is not None

    async def run(self, pump: LogPump) -> None:
        """Keeps a connection until cancelled."""
        wait_s = _AGAIN_FIRST_S
        while True:
            try:
                told = functools.partial(self._take, pump)
                async with await KeeperClient.connect(self._path, told, _CONNECT_S) as client:
                    await self._sync(client, pump)
                    wait_s = _AGAIN_FIRST_S
                    why = str(await client.gone())
            except KeeperGone as error:
                why = str(error)
            finally:
                if self._client is not None:
                    self._client = None
                    self._dispatch(events.KeeperLost())
            self._tell(why)
            await asyncio.sleep(wait_s)  # the keeper is local: a fixed back-off, no jitter
            wait_s = min(wait_s * 2, _AGAIN_MOST_S)

    async def _sync(self, client: KeeperClient, pump: LogPump) -> None:
        """Has the keeper say what it has. Raises KeeperGone."""
        synced: asyncio.Future[local.Reply] = asyncio.get_running_loop().create_future()

        def answered(reply: local.Reply) -> None:
            # Here and not behind an await: the events that follow in the same read belong to what it says.
            if isinstance(reply, local.Synced) and not synced.done():
                self._client, self._told = client, ""
                self.connections += 1
                _log.info("keeper.up", instance=reply.instance, slots=len(reply.slots))
                if reply.unsafe:
                    _log.warning("keeper.unsafe", lacks=", ".join(reply.unsafe))
                pump.synced(reply)
                self._dispatch(events.KeeperSynced(reply))
            if not synced.done():
                synced.set_result(reply)

        client.send(local.Sync(), answered)
        gone = asyncio.create_task(client.gone())
        ends: tuple[asyncio.Future[Any], ...] = (synced, gone)
        try:
            await asyncio.wait(ends, timeout=_SYNC_S, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise gone.result()
        finally:
            gone.cancel()
        if not synced.done():
            synced.cancel()
            raise KeeperGone(f"no answer to Sync within {_SYNC_S:g} s")
        if not isinstance(synced.result(), local.Synced):
            raise KeeperGone(f"the keeper answered Sync with {synced.result()}")

    def _take(self, pump: LogPump, event: local.Event) -> None:
        if isinstance(event, local.LogGrew):
            pump.grew(event)
        elif isinstance(event, local.BarriersTold):
            self._dispatch(events.KeeperTold(event))
        else:
            # Growth is told a moment late, and not any more once the generation has ended.
            ended = event.exit
            pump.grew(local.LogGrew(event.slot, event.task, ended.generation, ended.log_bytes))
            self._dispatch(events.KeeperTold(event))

    def ask(self, call: int, request: local.Request) -> None:
        """Sends a question; its answer is told as KeeperReplied, or never where the connection ends.

        The core has deadlines for answers, and starts the connection anew at one that does not come.
        """
        client = self._client
        if client is None:
            return

        def answered(reply: local.Reply) -> None:
            if self._client is client:
                self._dispatch(events.KeeperReplied(call, reply))

        try:
            client.send(request, answered)
        except KeeperGone:
            return  # KeeperLost tells

    def flush(self) -> None:
        """What was asked goes out now."""
        if self._client is not None:
            self._client.flush()

    async def read_log(self, request: local.ReadLog) -> local.Reply | None:
        """A piece of output; None while the keeper is away."""
        return await self._read(request)

    async def read_disk(self, request: local.ReadDisk) -> local.Reply | None:
        """A piece of a packed disk; None while the keeper is away."""
        return await self._read(request)

    async def _read(self, request: local.Request) -> local.Reply | None:
        if self._client is None:
            return None
        try:
            return await self._client.request(request, _READ_S)
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
