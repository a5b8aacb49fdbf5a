"""`syndicate-volunteer audit`: what a keeper has on its host."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from . import local
from .keeper_client import KeeperClient, KeeperGone

NOTHING_LEFT = 0
SOMETHING_LEFT = 1
KEEPER_AWAY = 69
_ANSWER_S = 30.0


async def ask(keeper: Path) -> local.Audited:
    """Asks the keeper. Raises KeeperGone, also where it answers something else."""
    async with await KeeperClient.connect(keeper) as client:
        try:
            reply = await client.request(local.Audit(), _ANSWER_S)
        except TimeoutError:
            raise KeeperGone(f"no answer from the keeper within {_ANSWER_S:g} s") from None
    if not isinstance(reply, local.Audited):
        raise KeeperGone(f"the keeper answered {reply}")
    return reply


def run(keeper: Path, as_json: bool) -> int:
    """Prints what there is; the exit status says whether anything is."""
    try:
        found = asyncio.run(ask(keeper))
    except KeeperGone as error:
        sys.stderr.write(f"error: {error}\n  Does `syndicate-keeper` run here, and is this its socket?\n")
        return KEEPER_AWAY
    if as_json:
        sys.stdout.write(json.dumps({"in_use": found.in_use, "left": found.left}) + "\n")
    else:
        for kind, lines in (("in use", found.in_use), ("left", found.left)):
            sys.stdout.writelines(f"{kind:<8}{line}\n" for line in lines)
        if not found.in_use and not found.left:
            sys.stdout.write("nothing is left\n")
    return SOMETHING_LEFT if found.in_use or found.left else NOTHING_LEFT
