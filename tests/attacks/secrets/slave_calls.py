"""A slave that wants to say the score itself, by the client's socket or the daemons' doors."""

import os
import socket
import stat

from attacker import FACTS, attempt, got_it, note
from told import tell

run = FACTS["run_dir"]
paths = {"/run/syndicate/chaos.sock", "/run/syndicate/chaos/chaos.sock", f"{run}/keeper.sock", "\0chaos.sock"}
paths |= {f"{run}/slots/{slot}/chaos.sock" for slot in range(8)} | {os.environ.get("SYNDICATE_CHAOS", "")[5:]}
paths |= {f"/proc/{pid}/root/run/syndicate/chaos.sock" for pid in range(1, 20)}
for folder, names, files in os.walk("/"):
    if folder == "/":
        names[:] = [name for name in names if name not in ("usr", "proc", "sys")]
    for name in files:
        path = os.path.join(folder, name)
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                paths.add(path)
        except OSError:
            continue
found = []
for path in sorted(paths - {""}):
    with socket.socket(socket.AF_UNIX) as made:
        if attempt(f"connect to {path!r}", lambda made=made, path=path: made.connect(path) or True):
            found.append(f"unix:{path}")
doors = [FACTS["manager"], FACTS["volunteers"], os.environ["SYNDICATE_CLIENTS"] + ":5400"]
for door in doors:
    address, _, port = door.rpartition(":")
    place = address, int(port)
    with socket.socket() as made:
        made.settimeout(0.3)
        if attempt(f"connect to {door}", lambda made=made, place=place: made.connect(place) or True):
            found += [door] if door != doors[-1] else []
note(f"found {found}")
if found:
    from syndicate.client_api import Chaos, ChaosError

    for address in found:
        with Chaos(address, timeout=3) as chaos:
            try:
                chaos.finish("pass", 100.0, text="said by a slave")
                got_it(f"Finish by {address}")
            except ChaosError as error:
                note(f"{address}: {error}")
tell()
