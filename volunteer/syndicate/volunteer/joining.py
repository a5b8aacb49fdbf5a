"""The wait for a certificate: a machine that was invited asks for one until it has it, wherever from."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from random import Random

import structlog

from .clock import Clock
from .enrol import Invitation, JoinRefused, ManagerAway, digest, join
from .identity import BadIdentity, load
from .retelling import Retelling
from .settled import Settled

_log = structlog.get_logger()


async def until_joined(settings: Settled, clock: Clock, random: Random, stop: asyncio.Event) -> None:
    """Returns once this machine has a certificate, where it was invited; tries until then, or until `stop`.

    Before each try it is looked whether there is one by now: an operator may have laid it there, or a clock
    that was ahead was set. Raises OSError where it cannot be written.
    """
    if not settings.joins_at or settings.insecure:
        return
    assert settings.join_token_file is not None  # noqa: S101 - the settings say so
    invitation = Invitation(settings.joins_at, settings.join_token_file, settings.ca_fingerprint)
    trouble = Retelling()
    while not stop.is_set() and not _is_good(settings.certificates, settings.ca_fingerprint, clock):
        try:
            await join(invitation, settings.id, settings.certificates, clock)
            return
        except (ManagerAway, JoinRefused) as error:
            refused = isinstance(error, JoinRefused)
            if trouble.tell(str(error), asyncio.get_running_loop().time()) is not None:
                say = _log.error if refused else _log.warning
                event = "join.refused" if refused else "join.manager_away"
                say(event, manager=settings.joins_at, detail=str(error))
        # Its operator has to mend a refusal, by a token that is read at each try, or at the manager.
        least = settings.backoff_most_s / 2 if refused else settings.backoff_first_s
        pause = random.uniform(least, settings.backoff_most_s)
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            continue


def _is_good(folder: Path, fingerprint: str, clock: Clock) -> bool:
    """Whether there is a certificate of the authority that this machine was told, and not expired.

    One that was revoked is not replaced. One of another authority is: of the cluster that this machine was in
    before, or from before its authority was made anew.
    """
    try:
        mine = load(folder)
    except BadIdentity:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=mine.authority.decode("ascii"))
    told = (hashlib.sha256(one).hexdigest() for one in context.get_ca_certs(binary_form=True))
    return digest(fingerprint) in told and mine.not_after > clock.stamp().utc_ns / 1e9
