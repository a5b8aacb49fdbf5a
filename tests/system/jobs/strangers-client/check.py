"""Names addresses that it may not, calls after its Finish, and says whether each was refused rightly."""

import os

from syndicate.client_api import Chaos, ClientFinished, NoSuchMember, NotAnAddress

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
        try:
            chaos.kill(ip)
        except error:
            refused += 1
    assert chaos.ping().round_trip_ns > 0
    chaos.finish("pass", metrics={"refused": refused})
    try:
        chaos.kill(names["slave-0"].address)
    except ClientFinished:
        print("after Finish: refused")
