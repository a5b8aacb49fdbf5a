"""Waiting on the loop until a descriptor can be read."""

from __future__ import annotations

import asyncio


async def readable(descriptor: int) -> None:
    """Return once `descriptor` has something to read, or is at its end."""
    loop = asyncio.get_running_loop()
    told = loop.create_future()

    def tell() -> None:
        if not told.done():
            told.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await told
    finally:
        loop.remove_reader(descriptor)
