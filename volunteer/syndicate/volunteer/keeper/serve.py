"""The serving process: stands up, says that it is ready, serves until SIGTERM or SIGINT, leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

from .cgroups import CgroupError
from .config import Config
from .errors import KeeperError, one_line
from .keeper import Keeper
from .log import Log
from .network import NetworkError

_log = Log()


def main(argv: list[str]) -> int:
    """Run the keeper; 0 after a signal asked for the end, 1 if it cannot stand up."""
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
    keeper = Keeper(config)
    try:
        keeper.prepare_host()
        await keeper.open()
        await _serve(keeper, config)
    finally:
        await keeper.close()


async def _serve(keeper: Keeper, config: Config) -> None:
    """Serve until a signal asks for the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    serving = asyncio.create_task(keeper.serve(ready))

    def stop() -> None:
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
        ):  # the end takes its time; asking again does not hasten it
            loop.add_signal_handler(number, lambda: None)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    up = asyncio.create_task(ready.wait())
    await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        sys.stdout.write(f"ready {config.instance} {config.run_dir / 'keeper.sock'}\n")
        sys.stdout.flush()
        _notify_systemd("READY=1")
    up.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        _log.info("keeper.ended")
    finally:
        _notify_systemd("STOPPING=1")


def _notify_systemd(state: str) -> None:
    """Tell systemd, where the unit has Type=notify; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            link.connect("\0" + address[1:] if address.startswith("@") else address)
            link.send(state.encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
