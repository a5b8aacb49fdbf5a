"""Names addresses that it may not, and sees each refused with the right error."""

import os

from syndicate.client_api import Chaos, NoSuchMember, NotAnAddress

refused = 0
with Chaos.from_env() as chaos:
    names = {member.task: member for member in chaos.members()}
    assert set(names) == {"master", "slave-0", "client-0"}, names
    assert names["client-0"].address == os.environ["SYNDICATE_ADDRESS"]
    for ip, error in (
        ("10.99.99.99", NoSuchMember),
        ("127.0.0.1", NoSuchMember),
        ("::1", NotAnAddress),
        ("", NotAnAddress),
        ("master", NotAnAddress),
    ):
        for call in (chaos.kill, chaos.revive, chaos.disconnect, chaos.reconnect):
            try:
                call(ip)
            except error:
                refused += 1
    assert refused == 5 * 4, refused
    assert chaos.ping().round_trip_ns > 0
    chaos.finish("pass")
