"""The serving process: stands up, says that it is ready, serves until SIGTERM or SIGINT, leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from .. import notify
from .cgroups import CgroupError
from .config import Config
from .errors import KeeperError, one_line
from .keeper import Keeper
from .log import Log
from .network import NetworkError


def main(argv: list[str]) -> int:
    """Run the keeper; 0 after a signal asked for the end, 1 if it cannot stand up."""
    # Nothing that the keeper's starter left open may come near a task.
    os.closerange(3, (1 << 31) - 1)
    # The slots' threads work for microseconds between waits; beside a busy one each would wait for this long.
    sys.setswitchinterval(0.0005)
    config = Config.decode(argv[0])
    try:
        asyncio.run(_run(config))
    except (KeeperError, CgroupError, NetworkError, OSError) as error:
        sys.stderr.write(f"syndicate-keeper: {one_line(str(error))}\n")
        return 1
    return 0


async def _run(config: Config) -> None:
    # From here on a signal is heard, and waits until what is being made can be unmade in order.
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    keeper = Keeper(config)
    try:
        keeper.prepare_host()
        await keeper.open()
        await _serve(keeper, config, asked)
    finally:
        await keeper.close()


async def _serve(keeper: Keeper, config: Config, asked: asyncio.Event) -> None:
    """Serve until it is asked for the end, which takes its time; asking again does not hasten it."""
    ready = asyncio.Event()
    watchdog = asyncio.create_task(notify.keep_watchdog())
    serving = asyncio.create_task(keeper.serve(ready))
    up = asyncio.create_task(ready.wait())
    end = asyncio.create_task(asked.wait())
    await asyncio.wait({serving, up, end}, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        sys.stdout.write(f"ready {config.instance} {config.run_dir / 'keeper.sock'}\n")
        sys.stdout.flush()
        notify.ready()
    up.cancel()
    await asyncio.wait({serving, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    serving.cancel()  # nothing, if it ended by itself
    try:
        await serving
    except asyncio.CancelledError:
        Log().info("keeper.ended")
    finally:
        notify.stopping()
        watchdog.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
