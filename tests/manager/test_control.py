"""The socket by which `certs` commands reach the manager that runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from syndicate.manager.control import Control, tell_manager


async def _cut() -> list[str]:
    return ["node-a"]


async def test_its_name_may_be_anothers_once_it_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number in the path by which the folder was named is another descriptor's by then."""
    taken: list[int] = []
    close = os.close

    def close_and_take(descriptor: int) -> None:
        close(descriptor)
        taken.append(os.open(os.devnull, os.O_RDONLY))

    control = Control(tmp_path, _cut)
    with monkeypatch.context() as patched:
        patched.setattr("syndicate.manager.control.os.close", close_and_take)
        await control.start()
    try:
        assert await asyncio.to_thread(tell_manager, tmp_path) == ["node-a"]
    finally:
        await control.close()
        for descriptor in taken:
            close(descriptor)

    assert os.listdir(tmp_path) == []
