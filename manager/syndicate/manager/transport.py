"""The certificates of a manager that runs: what its listeners show and ask for, read again on a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Final, Literal

import grpc
import structlog

from .pki import (
    SOON_S,
    Certificate,
    Damaged,
    Deed,
    Folder,
    HalfRead,
    Kind,
    Office,
    PkiError,
    Register,
    day,
    read,
    renewal_due,
)
from .rpc.peers import Peers
from .rpc.threads import off

_LOOK_EVERY_S: Final = 3600.0
_log = structlog.get_logger()

Who = Literal["users", "volunteers"]


class Transport:
    """The folder's content in use.

    `on_deeds` writes what operators did into the audit log, and returns whether it stands there for good.
    Raises PkiError and OSError where it cannot be read.
    """

    def __init__(
        self,
        folder: Folder,
        files: Executor,
        on_deeds: Callable[[Sequence[Deed]], Awaitable[bool]] | None = None,
    ) -> None:
        folder.must_exist()
        self.office = Office(folder)
        self._folder = folder
        self._files = files
        self._on_deeds = on_deeds
        # One at a time: a register that was read earlier must not be taken later, or what was revoked in
        # between would be let in.
        self._reading = asyncio.Lock()
        self._signing: set[asyncio.Task[Certificate]] = set()
        self.authority: Certificate = folder.authority_certificate()
        self.peers = Peers(self.authority.cluster, folder.register(), _utc)
        self._configurations: dict[Who, Any] = {}
        self._fresh: set[Who] = set()
        self._take_manager(folder.manager_pem())

    def credentials(self, who: Who) -> Any:
        """What a listener shows, and for volunteers asks for; new handshakes use what was read last."""

        def newer() -> Any:
            # In a thread of gRPC's, at each handshake. None: as before.
            if who not in self._fresh:
                return None
            self._fresh.discard(who)
            return self._configurations[who]

        return grpc.dynamic_ssl_server_credentials(self._configurations[who], newer, who == "volunteers")

    def expires(self, volunteer_id: str) -> int:
        """When a volunteer's certificate does, in seconds since 1970; 0 where it has none."""
        return self.peers.until(volunteer_id)

    def _take_manager(self, pem: bytes) -> None:
        try:
            until = read(_certificates(pem)).not_after
        except Damaged as error:
            name = self._folder.name / "manager.pem"
            raise Damaged(f"{name}: {error}", "Put the file back from a copy.") from None
        # The chain has the authority too: a machine that knows its fingerprint alone finds it there.
        shown = [(pem, _certificates(pem) + self.authority.pem)]
        self._configurations = {
            "users": grpc.ssl_server_certificate_configuration(shown),
            "volunteers": grpc.ssl_server_certificate_configuration(shown, self.authority.pem),
        }
        self._fresh = {"users", "volunteers"}
        self._manager_until = until

    async def reload(self) -> list[str]:
        """Read register and certificate again; the volunteers that were cut off.

        Raises HalfRead where only what was revoked could be taken, PkiError and OSError where nothing was.
        """
        async with self._reading:
            register = await off(self._files, self._folder.register)
            try:
                await off(self._files, self._must_be_ours)  # as in `_register`
            except (PkiError, OSError) as error:
                # Nobody can tell whose register it is. Another cluster's has none of our serial numbers, and
                # nothing to take; of ours what is revoked can be taken all the same, and nothing else.
                if not any(register.find(one.serial) for one in self.peers.register.issued):
                    raise
                cut = self.peers.update(self.peers.register.with_revoked_of(register))
                raise HalfRead(cut, str(error)) from error
            cut = self.peers.update(register)
            try:
                self._take_manager(await off(self._files, self._manager_pem))
            except (PkiError, OSError) as error:
                raise HalfRead(cut, str(error)) from error
            _log.info("certificates.reloaded", cut=cut)
            await self._tell_deeds(register.deeds)
        return cut

    async def _tell_deeds(self, deeds: Sequence[Deed]) -> None:
        if not deeds or self._on_deeds is None or not await self._on_deeds(deeds):
            return
        try:
            await off(self._files, lambda: self.office.forget(deeds))
        except (PkiError, OSError) as error:  # they will be told again: rather twice than never
            _log.error("certificates.trouble", detail=str(error))

    async def catch_up(self) -> None:
        """Read what was changed since this was made and before anybody could be told of it.

        Raises PkiError, OSError.
        """
        if await off(self._files, self._register) != self.peers.register:
            await self.reload()

    def sign(self, work: Callable[[], Certificate]) -> asyncio.Task[Certificate]:
        """Have the office sign, in a thread, and take the register that says so. Raises PkiError, OSError.

        To be awaited shielded: it is done whole also where its caller is gone meanwhile, since what was
        written down must be known here. `close` waits for it.
        """
        task = asyncio.create_task(self._sign(work))
        self._signing.add(task)
        task.add_done_callback(self._signed)
        return task

    async def _sign(self, work: Callable[[], Certificate]) -> Certificate:
        def ours() -> Certificate:
            self._must_be_ours()
            return work()

        made = await off(self._files, ours)
        async with self._reading:
            self.peers.update(await off(self._files, self._register))
        return made

    def _signed(self, task: asyncio.Task[Certificate]) -> None:
        self._signing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("certificates.not_signed", detail=str(error))  # the caller is told, unless it is gone

    async def close(self) -> None:
        """Wait for what is being signed."""
        if self._signing:
            await asyncio.wait(self._signing)

    async def keep_fresh(self, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Renew the manager's certificate in time, and warn of those that nobody renews, until cancelled.

        Begins with what operators did while no manager ran.
        """
        told: set[str] = set()
        while True:
            try:
                if (await off(self._files, self._register)).deeds and self._on_deeds is not None:
                    await self.reload()
                if renewal_due(self._folder.manager(), _utc()):
                    made = await off(self._files, self.office.renew_manager)
                    await self.reload()
                    _log.info("certificate.renewed", name="manager", expires=day(made.not_after))
                await off(self._files, self._folder.authority)  # told where its key is gone
            except (PkiError, OSError) as error:
                _log.error("certificates.trouble", detail=str(error))
            expiring = self._expiring(_utc())
            for name, until in expiring:
                if name not in told:
                    _log.warning("certificate.expires", name=name, expires=day(until))
            told = {name for name, _ in expiring}
            await pause(_LOOK_EVERY_S)

    def _register(self) -> Register:
        found = self._folder.register()
        self._must_be_ours()  # behind it: what was read before the folder was replaced is ours
        return found

    def _manager_pem(self) -> bytes:
        found = self._folder.manager_pem()
        self._must_be_ours()
        return found

    def _must_be_ours(self) -> None:
        """Raises Damaged: what lies beside another authority is of no machine that this manager knows."""
        if self._folder.authority_certificate().fingerprint != self.authority.fingerprint:
            raise Damaged(f"{self._folder.name / 'ca.pem'} was replaced; restart the manager")

    def ends(self) -> list[tuple[str, int]]:
        """When the certificates in use expire, by name, in seconds since 1970; the soonest first."""
        # Also those that have expired: what watches them must not fall silent then. Of one that is attached,
        # what it has: see `Peers.until`.
        newest = self.peers.register.ends()
        ends = [(f"volunteer/{name}", self.peers.until(name) or until) for name, until in newest.items()]
        ends += [("authority", self.authority.not_after), ("manager", self._manager_until)]
        return sorted(ends, key=lambda end: (end[1], end[0]))

    def _expiring(self, now: int) -> list[tuple[str, int]]:
        """What expires within two weeks, though it should have been renewed before."""
        register = self.peers.register
        names = {one.name for one in register.issued if one.kind is Kind.VOLUNTEER and one.is_live(now)}
        ends = [(name, self.peers.until(name)) for name in sorted(names)]
        ends.append(("authority", self.authority.not_after))
        return [(name, until) for name, until in ends if until < now + SOON_S]


def _certificates(pem: bytes) -> bytes:
    """The certificates of a PEM text that holds a key too. Raises Damaged."""
    at = pem.find(b"-----BEGIN CERTIFICATE-----")
    if at < 0:
        raise Damaged("it holds no certificate")
    return pem[at:]


def _utc() -> int:
    return int(time.time())
