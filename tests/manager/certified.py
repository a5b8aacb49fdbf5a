"""A manager with TLS and its authority, for tests that come with certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from syndicate.manager.control import tell_manager
from syndicate.manager.pki import Office

from tests.manager.authorities import Pair, of_bundle, office
from tests.manager.conftest import Running, Start
from tests.manager.scripted import ScriptedVolunteer

LOCAL = [("grpc.use_local_subchannel_pool", 1)]


class Place:
    """A manager with TLS, and its authority."""

    def __init__(self, manager: Running, at_work: Office) -> None:
        self.manager = manager
        self.office = at_work
        self.ca = (at_work.folder.path / "ca.pem").read_bytes()

    def users(self) -> grpc.aio.Channel:
        """As a user connects."""
        return grpc.aio.secure_channel(
            self.manager.users, grpc.ssl_channel_credentials(self.ca), options=LOCAL
        )

    def volunteers(self, pair: Pair) -> grpc.aio.Channel:
        """As a volunteer connects."""
        return grpc.aio.secure_channel(self.manager.volunteers, pair.channel(self.ca), options=LOCAL)

    def volunteer(self, name: str, pair: Pair | None = None) -> ScriptedVolunteer:
        """A scripted volunteer with a certificate; with its own one unless another is given."""
        pair = pair or of_bundle(self.office.renew(name, ()).identity)
        made = ScriptedVolunteer("", self.manager.volunteers, volunteer_id=name)
        made.credentials = pair.channel(self.ca)
        return made

    async def reload(self) -> list[str]:
        """What `certs` commands do at their end."""
        cut = await asyncio.to_thread(tell_manager, self.office.folder.path)
        assert cut is not None
        return cut


@asynccontextmanager
async def running(start: Start, tmp_path: Path) -> AsyncIterator[Place]:
    """It, with an authority of its own."""
    state = tmp_path / "state"
    at_work = office(state)
    async with start(state_dir=state, insecure=False) as manager:
        yield Place(manager, at_work)


async def attach(place: Place, pair: Pair, name: str = "node-a") -> None:
    """Attaches and is welcomed. Raises AioRpcError."""
    await place.reload()
    volunteer = place.volunteer(name, pair)
    async with volunteer.attached():
        ended = volunteer.ended
    # Its own leaving ends it too, without an error.
    if not volunteer.welcome.session:
        error = ended.result()
        assert error is not None
        raise error
